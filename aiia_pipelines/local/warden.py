"""Ends what a vanished `aiia up` leaves behind, even when it was killed without a word."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from aiia_pipelines.local.processes import environment, everyone, session_of

MARK = "AIIA_UP"
_BEGIN = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from aiia_pipelines.local.warden import main; main(sys.argv[2])"
)


def belonging(mark: str | None, sessions: Collection[int] = ()) -> list[int]:
    """Lists the live processes that carry the mark or are in one of the sessions."""
    found = []
    for pid in everyone():
        session = session_of(pid)
        if session is None or pid == os.getpid():
            continue
        # the mark finds those who left the session, the session those who dropped the mark
        if session in sessions or (mark and f"{MARK}={mark}" in environment(pid)):
            found.append(pid)
    return found


def sweep(mark: str, sessions: Collection[int] = (), grace: float = 3.0) -> None:
    """Ends them all: asks first, and after `grace` seconds asks no more."""
    deadline = time.monotonic() + grace
    asked: set[int] = set()
    while left := belonging(mark, sessions):
        patient = time.monotonic() < deadline
        for pid in left:
            if not patient:
                signal_process(pid, signal.SIGKILL)
            elif pid not in asked:
                signal_process(pid, signal.SIGTERM)
                asked.add(pid)
        time.sleep(0.05)


def signal_process(pid: int, sign: signal.Signals) -> None:
    """Signals a process that may be gone by now."""
    with suppress(ProcessLookupError):
        os.kill(pid, sign)


class Warden:
    """A small process that outlives its owner just long enough to clean up."""

    def __init__(self, mark: str) -> None:
        """Starts it."""
        root = str(Path(__file__).parents[2])
        # -I and -S: it needs the standard library only, and starts in no time
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BEGIN, root, mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name != MARK},
            start_new_session=True,
            bufsize=0,
        )

    @property
    def gone(self) -> bool:
        """Tells whether somebody killed it."""
        return self._process.poll() is not None

    def tell(self, name: str, session: int) -> None:
        """Names the session a service lives in now."""
        if self._process.stdin is not None:
            # a warden that was killed is replaced, and told again
            with suppress(BrokenPipeError):
                self._process.stdin.write(f"{name} {session}\n".encode())

    def dismiss(self) -> None:
        """Lets it look one last time, and ends it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def main(mark: str) -> None:
    """Waits for the owner to vanish, which closes the pipe, and sweeps."""
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.SIG_IGN)
    sessions: dict[str, int] = {}
    for line in sys.stdin:
        name, _, session = line.rpartition(" ")
        sessions[name] = int(session)
    sweep(mark, set(sessions.values()))
