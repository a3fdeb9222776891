"""The warm worker: `python -m aiia_pipelines.worker`. It has imported everything, and forks a process for each run.

It has one thread and no connection to any database, so that a forked process is as good as a new one
(docs/adr/0015).
"""

import gc
import json
import os
import select
import selectors
import signal
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from aiia_pipelines.config.folder import read_folder
from aiia_pipelines.config.settings import Settings
from aiia_pipelines.local import warm
from aiia_pipelines.local.files import make_folder, write_whole
from aiia_pipelines.local.forks import Forked, adopt, fork, open_files
from aiia_pipelines.local.processes import started_at

# Both would start a thread at their import, which a forked process would lack.
_NO_THREADS = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
_EVERYTHING = (
    "aiia_pipelines.forked",
    "aiia_pipelines.resources.run_storage",
    "aiia_pipelines.resources.warm_launcher",
    "aiia_pipelines.resources.fast_queue",
    "aiia_pipelines.sync.engine",
    "aiia_pipelines.sync.destinations.postgres",
    "aiia_pipelines.connectors.sql",
    "aiia_pipelines.connectors._sql_copy",
    "aiia_pipelines.connectors._sql_postgresql",
    "aiia_pipelines.connectors._sql_psycopg",
    "aiia_pipelines.connectors._sql_unusual",
    "aiia_pipelines.sync.destinations._nowhere",
    "aiia_pipelines.sync.portions",
    "adbc_driver_postgresql.dbapi",
    "encodings.idna",
    "pandas",
    "pandera.pandas",
    "psycopg",
    "psycopg2.extras",
    "pyarrow",
)
# What Dagster and others import at their first use; a version without one of them has it elsewhere.
_LATE = (
    "dagster._core.definitions.repository_definition.repository_data_builder",
    "dagster._core.execution.plan.active",
    "dagster._core.executor.in_process",
    "dagster._core.instance.factory",
    "dagster._core.secrets.env_file",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.root",
    "dagster._core.system_config.composite_descent",
    "dagster._core.workspace.autodiscovery",
    "dagster._utils.temp_file",
    "dagster._utils.test.definitions",
    "upath.implementations.local",
    "watchdog.observers.polling",
)
_AGAIN = 5.0  # seconds after which a run that was asked to stop is asked once more
_AT_LAST = 8.0  # seconds after which it is not asked any more
_STOPPING = 6.0  # seconds that runs have to end when the worker stops
_REPORTING = 2.0  # seconds after that until the worker leaves their end to the sensor `job_history`
_REMEMBERED = 10_000
_KEPT_LOGS = 100


@dataclass(slots=True)
class _Run:
    run_id: str
    process: Forked
    asked: bool = False


class Worker:
    """Forks, watches and ends the processes of runs, as it is asked over its socket."""

    def __init__(self, home: Path) -> None:
        """Take the home; the lock goes with the process.

        Raises:
            BlockingIOError: Another worker has it.
        """
        self.home = home
        self.folder = home / warm.FOLDER
        self.logs = home / "logs" / "runs"
        warm.private(self.folder)
        make_folder(self.logs)
        self._kept: frozenset[int] = frozenset()
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        flock(self._lock, LOCK_EX | LOCK_NB)
        self._runs: dict[str, _Run] = {}
        self._reports: dict[int, str] = {}
        # How each run ended; a run that is launched a second time must not start a second time.
        self._ended: OrderedDict[str, str] = OrderedDict()
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._watch = selectors.DefaultSelector()
        self._stop = False

    # -- the loop ---------------------------------------------------------------------------

    def serve(self) -> None:
        """Do what is asked until a signal asks to stop; then end all runs."""
        self._kept = frozenset(open_files() - {self._lock})
        with self._watch, self._listener() as listener:
            self._serve(listener)
            self._end_all()
        os.close(self._lock)

    def _serve(self, listener: socket.socket) -> None:
        with self._woken():
            self._watch.register(listener, selectors.EVENT_READ, self._accept)
            self._adopt()
            while not self._stop:
                self._turn()
            self._watch.unregister(listener)
            warm.place(self.home).unlink(missing_ok=True)

    def _turn(self) -> None:
        wait = max(0.0, min(at for at, _ in self._due) - time.monotonic()) if self._due else None
        for key, _ in self._watch.select(wait):
            key.data(key.fileobj)
        now = time.monotonic()
        ripe = [do for at, do in self._due if at <= now]
        self._due = [(at, do) for at, do in self._due if at > now]
        for do in ripe:
            do()

    def _listener(self) -> socket.socket:
        path = warm.place(self.home)
        warm.private(path.parent)
        # What a predecessor left: it is gone, for the lock is ours.
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(path))
        path.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(path, path.parent.stat().st_uid, -1)
        listener.listen(128)
        listener.settimeout(0)
        return listener

    @contextmanager
    def _woken(self) -> Iterator[None]:
        """Let signals wake the loop."""
        here, there = socket.socketpair()
        with here, there:
            for end in (here, there):
                end.settimeout(0)
            signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
            for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(sign, self._ask_to_stop)
            self._watch.register(here, selectors.EVENT_READ, lambda end: end.recv(4096))
            yield
            signal.set_wakeup_fd(-1)
            self._watch.unregister(here)

    def _ask_to_stop(self, *_: object) -> None:
        self._stop = True

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            talk, _ = listener.accept()
            talk.settimeout(0)
            self._watch.register(talk, selectors.EVENT_READ, self._hear)

    def _hear(self, talk: socket.socket) -> None:
        self._watch.unregister(talk)
        with talk, suppress(OSError):
            packet = talk.recv(warm.PACKET)
            # Whoever has hung up asked somebody else meanwhile.
            if packet and not _has_hung_up(talk):
                talk.sendall(json.dumps(self._answer(packet)).encode())

    # -- what can be asked ------------------------------------------------------------------

    def _answer(self, packet: bytes) -> dict[str, Any]:
        try:
            asked = json.loads(packet)
            do = {"launch": self._launch, "terminate": self._terminate, "state": self._state}
            if asked["do"] == "ready":
                return {"ready": True, "pid": os.getpid(), "runs": sorted(self._runs)}
            return do[asked["do"]](asked)
        except (ValueError, LookupError, TypeError) as fault:
            return {"error": f"This is no request: {fault!r}."}

    def _launch(self, asked: dict[str, Any]) -> dict[str, Any]:
        run_id = str(asked["run_id"])
        if run_id not in self._runs and run_id not in self._ended:
            self._start(run_id)
        return self._state(asked)

    def _state(self, asked: dict[str, Any]) -> dict[str, Any]:
        run = self._runs.get(str(asked["run_id"]))
        if run is not None:
            return {"state": "running", "pid": run.process.pid}
        return {"state": self._ended.get(str(asked["run_id"]), "unknown")}

    def _terminate(self, asked: dict[str, Any]) -> dict[str, Any]:
        run = self._runs.get(str(asked["run_id"]))
        if run is not None and not run.asked:
            run.asked = bool(asked["kill"])
            self._later(_AGAIN, partial(self._signal, run, signal.SIGINT))
            if run.asked:
                self._later(_AT_LAST, partial(self._signal, run, signal.SIGKILL))
        if run is not None:
            run.process.signal(signal.SIGINT)
        return self._state(asked)

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        self._due.append((time.monotonic() + seconds, do))

    def _signal(self, run: _Run, sign: signal.Signals) -> None:
        if self._runs.get(run.run_id) is run:
            run.process.signal(sign)

    # -- processes --------------------------------------------------------------------------

    def _start(self, run_id: str) -> None:
        execute = sys.modules["aiia_pipelines.forked"].execute
        process = self._fork(partial(execute, run_id), self._log(run_id))
        self._follow(_Run(run_id, process))
        # Without the note a successor cannot adopt the run, which is no reason to lose it.
        with suppress(OSError):
            write_whole(self._note(run_id), f"{process.pid} {started_at(process.pid)}")

    def _fork(self, work: Callable[[Callable[[], None]], int], log: Path) -> Forked:
        return fork(work, log=log, keep=self._kept)

    def _follow(self, run: _Run) -> None:
        self._runs[run.run_id] = run
        self._watch.register(run.process.handle, selectors.EVENT_READ, partial(self._over, run))

    def _over(self, run: _Run, _: object) -> None:
        self._watch.unregister(run.process.handle)
        code = run.process.end()
        del self._runs[run.run_id]
        if code == 0:
            self._note(run.run_id).unlink(missing_ok=True)
            self._log(run.run_id).unlink(missing_ok=True)
            self._remember(run.run_id, "ended")
        else:
            self._lost(run.run_id, _how(run, code), cancelled=run.asked)

    def _lost(self, run_id: str, how: str, *, cancelled: bool) -> None:
        with suppress(OSError):
            sys.stderr.write(f"{how}\n")
        self._remember(run_id, "lost")
        report = sys.modules["aiia_pipelines.forked"].report

        def work(let_in: Callable[[], None]) -> int:
            let_in()
            return int(report(run_id, how, cancelled=cancelled))

        process = self._fork(work, self._log(run_id))
        self._reports[process.pid] = run_id
        over = partial(self._reported, run_id, process)
        self._watch.register(process.handle, selectors.EVENT_READ, over)

    def _reported(self, run_id: str, process: Forked, _: object) -> None:
        self._watch.unregister(process.handle)
        del self._reports[process.pid]
        # What could not be reported stays noted for the next worker.
        if process.end() == 0:
            self._note(run_id).unlink(missing_ok=True)
        logs = sorted(self.logs.glob("*.log"), key=lambda path: path.stat().st_mtime)
        for old in logs[:-_KEPT_LOGS]:
            old.unlink(missing_ok=True)

    def _remember(self, run_id: str, how: str) -> None:
        self._ended[run_id] = how
        while len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)

    def _adopt(self) -> None:
        """Go on with the runs that a former worker left: their processes know nothing of its end."""
        for note in self.folder.glob("*.run"):
            pid, _, ticks = note.read_text().partition(" ")
            process = adopt(int(pid), int(ticks)) if ticks.isdigit() else None
            if process is not None:
                self._follow(_Run(note.stem, process))
            else:
                self._lost(note.stem, _ended_unseen(note.stem), cancelled=False)

    def _end_all(self) -> None:
        for run in self._runs.values():
            run.process.signal(signal.SIGTERM)
            self._later(_STOPPING, partial(self._signal, run, signal.SIGKILL))
        end = time.monotonic() + _STOPPING + _REPORTING
        self._later(_STOPPING + _REPORTING, lambda: None)
        while (self._runs or self._reports) and time.monotonic() < end:
            self._turn()

    def _note(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.run"

    def _log(self, run_id: str) -> Path:
        return self.logs / f"{run_id}.log"


def _has_hung_up(talk: socket.socket) -> bool:
    poll = select.poll()
    poll.register(talk, select.POLLIN | select.POLLHUP)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def _how(run: _Run, code: int | None) -> str:
    # These words are read by resources/endings.py, like those of Dagster's code server.
    who = f"[aiia worker] Run execution process for {run.run_id}"
    if code is None:
        return _ended_unseen(run.run_id)
    if code < 0:
        return f"{who} was terminated by signal {-code} ({_name(-code)})."
    return f"{who} unexpectedly exited with code {code}."


def _ended_unseen(run_id: str) -> str:
    return f"[aiia worker] Run execution process for {run_id} died while no worker watched it."


def _name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def warm_up(settings: Settings) -> None:
    """Import what runs need, and what the connectors of this installation need besides."""
    os.environ.update(_NO_THREADS)
    for name in _EVERYTHING:
        import_module(name)
    for name in _LATE:
        with suppress(ImportError):
            import_module(name)
    sys.modules["aiia_pipelines.forked"].rehearse()
    # Reading a file imports the kind of its source.
    read_folder(settings.connectors)
    gc.collect()
    # A collection would touch, and thereby copy, every page that is shared with the forked processes.
    gc.disable()
    gc.freeze()


def main() -> int:
    """Serve until a signal comes; 1 when another worker serves this home."""
    settings = Settings.load(os.environ, Path.cwd())
    try:
        worker = Worker(settings.home)
    except BlockingIOError:
        sys.stderr.write(f"Another warm worker serves {settings.home}; stop that one first.\n")
        return 1
    warm_up(settings)
    if threading.active_count() != 1:
        sys.stderr.write(f"There are threads besides the first one: {threading.enumerate()}\n")
        return 1
    worker.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
