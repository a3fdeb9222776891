"""One PostgreSQL cluster on disk and the server process that serves it."""

import os
import re
import shutil
import signal
import time
from pathlib import Path

from aiia_pipelines.local.binaries import Account, find_binaries
from aiia_pipelines.local.faults import EmbeddedFault, PortRefused
from aiia_pipelines.local.files import last_lines, roll, write_whole
from aiia_pipelines.local.ports import postgres_answers
from aiia_pipelines.local.processes import alive, command, wait_until_gone

HOST = "127.0.0.1"
SUPERUSER = "aiia"
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # one line per checkpoint says nothing to the people who read this log
    "log_checkpoints": "off",
}
_START_SECONDS = 120.0
_ORPHAN_SECONDS = 10.0
# sh leaves at once, so that the server is nobody's child; only its number comes back
_DETACH = '"$@" >&2 & echo $!'


class Cluster:
    """A data folder, its log, and at most one server."""

    def __init__(self, folder: Path) -> None:
        """Only remembers where they are."""
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "log"

    @property
    def account(self) -> Account:
        """Who the server runs as: the owner of the data, once there are data."""
        if not self.data.exists():
            return Account.choose()
        owner = Account.owning(self.data)
        if os.geteuid() not in {0, owner.uid}:
            raise EmbeddedFault(f"{self.data} belongs to another user: run aiia as that user.")
        return owner

    @property
    def pid(self) -> int | None:
        """The live server of this very folder."""
        lines = self._pid_lines()
        return int(lines[0]) if lines and self._is_ours(int(lines[0])) else None

    @property
    def answers(self) -> bool:
        """Tells whether the server is up and takes logins."""
        lines = self._pid_lines()
        ready = len(lines) > 7 and lines[7].strip() == "ready" and self._is_ours(int(lines[0]))
        return ready and postgres_answers(HOST, int(lines[3]))

    @property
    def port(self) -> int | None:
        """The port the server said it listens on."""
        lines = self._pid_lines()
        return int(lines[3]) if len(lines) > 3 else None

    @property
    def initialised(self) -> bool:
        """Tells whether there are data."""
        return (self.data / "PG_VERSION").exists()

    def initialise(self, password: str) -> None:
        """Makes the data folder, whole or not at all.

        Raises:
            EmbeddedFault: initdb failed, or something else is in its place.
        """
        if self.initialised:
            return
        if self.data.exists():
            raise EmbeddedFault(
                f"{self.data} is not a PostgreSQL data folder: "
                "move it away, and aiia makes a new one."
            )
        account = self.account
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(0o700)
        account.own(fresh)
        self._initdb(account, fresh, password)
        fresh.rename(self.data)
        _sync(self.folder)

    def _initdb(self, account: Account, fresh: Path, password: str) -> None:
        words = self.folder / "password.new"
        write_whole(words, password + "\n")
        account.own(words)
        settings = [f"--set={name}={value}" for name, value in _SETTINGS.items()]
        try:
            result = account.run(
                find_binaries(account) / "initdb",
                *(f"--pgdata={fresh}", f"--username={SUPERUSER}", f"--pwfile={words}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", *settings),
            )
        finally:
            words.unlink()
        if result.returncode:
            # what is there is of no use, and the disk may be full
            shutil.rmtree(fresh, ignore_errors=True)
            lines = tuple(result.stderr.decode(errors="replace").strip().splitlines()[-20:])
            raise _fault("The embedded PostgreSQL could not be set up", lines)

    def start(self, port: int) -> None:
        """Starts the server and waits until it takes logins.

        Raises:
            PortRefused: another server has the port.
            EmbeddedFault: the server does not come up.
        """
        # left half started by a process that was killed meanwhile
        if self.pid is not None and self._comes_up(self.pid):
            return
        self._clear_stale_pid()
        patience = time.monotonic() + _ORPHAN_SECONDS
        while True:
            since = roll(self.log)
            if self._comes_up(self._launch(port)):
                return
            lines = last_lines(self.log, since=since)
            text = "\n".join(lines)
            # the helpers of a server that was killed need a moment to notice
            if "pre-existing shared memory" not in text or time.monotonic() > patience:
                break
            time.sleep(0.1)
        if "could not bind" in text:
            raise PortRefused(f"Port {port} of {HOST} is taken by another program.", lines)
        raise _fault("The embedded PostgreSQL did not start", lines)

    def _launch(self, port: int) -> int:
        account = self.account
        server = find_binaries(account) / "postgres"
        self.log.touch(0o600)
        with self.log.open("ab") as log:
            result = account.run(
                *("/bin/sh", "-c", _DETACH, "sh", server, "-D", self.data, "-p", str(port)),
                errors=log,
            )
        return int(result.stdout)

    def _comes_up(self, pid: int) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        while not (self.pid == pid and self.answers):
            if not alive(pid):
                return False
            if time.monotonic() > deadline:
                raise EmbeddedFault(
                    f"The embedded PostgreSQL is still starting after {_START_SECONDS:.0f} s; "
                    f"its log is {self.log}.",
                    last_lines(self.log),
                )
            time.sleep(0.01)
        return True

    def stop(self) -> None:
        """Ends the server, politely first; what was committed stays.

        Raises:
            EmbeddedFault: the server belongs to another user, or does not end.
        """
        # fast, then immediate: both are safe, the second has more to do at the next start
        for sign, seconds in ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0)):
            pid = self.pid
            if pid is None:
                return
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                return
            except PermissionError as fault:
                raise EmbeddedFault(
                    f"The server of {self.data} belongs to another user: stop it as that user."
                ) from fault
            if wait_until_gone(pid, seconds):
                return
        raise EmbeddedFault(f"The server of {self.data} does not end.", last_lines(self.log))

    def _pid_lines(self) -> list[str]:
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        return lines if lines and lines[0].isdigit() else []

    def _is_ours(self, pid: int) -> bool:
        # after a crash the number may belong to anybody
        return alive(pid) and str(self.data) in command(pid)

    def _clear_stale_pid(self) -> None:
        lines = self._pid_lines()
        # the server itself copes with a free number, not with one that a zombie or a stranger has
        if lines and Path("/proc", lines[0]).exists() and not self._is_ours(int(lines[0])):
            (self.data / "postmaster.pid").unlink()


def _fault(what: str, lines: tuple[str, ...]) -> EmbeddedFault:
    text = "\n".join(lines)
    if "No space left on device" in text:
        return EmbeddedFault(f"{what}: the disk is full; free some space and start again.", lines)
    worst = [line for line in lines if re.search(r"\b(FATAL|PANIC|error):", line)]
    reason = re.sub(
        r"^.*?(FATAL|PANIC|error):\s*", "", (worst or lines or ("no reason given",))[-1]
    )
    return EmbeddedFault(f"{what}: {reason}.", lines)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
