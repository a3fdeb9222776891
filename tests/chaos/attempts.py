"""Attempts at a sync in processes of their own, forked from one that has imported everything."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Point:
    """A place in an attempt: before or after the `nth` call of a method, and what happens there.

    `delay` waits so many seconds first, on another thread, while the attempt goes on.
    """

    method: str
    nth: int = 1
    after: bool = False
    action: str = "kill"  # or "stop"
    delay: float = 0.0


@dataclass(frozen=True)
class Order:
    """What an attempt is to do; URLs bear no passwords, libpq finds them."""

    number: int
    uid: str
    connector: dict[str, Any]
    store: str
    destination: str
    point: Point | None = None
    mutation: str = ""
    log: str = ""
    look: str = ""  # a query by which a second reader looks at the destination, from inside
    seen: str = ""


@dataclass
class Zygote:
    """The process that forks attempts.

    An attempt goes by the number of its job run: the system gives process ids to others again.
    """

    process: subprocess.Popen[str]
    ended: dict[int, int] = field(default_factory=dict)
    _pids: dict[int, int] = field(default_factory=dict)
    _news: threading.Condition = field(default_factory=threading.Condition)

    @classmethod
    def start(cls) -> "Zygote":
        process = subprocess.Popen(
            [sys.executable, str(HERE / "attempts.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        found = cls(process)
        threading.Thread(target=found._listen, daemon=True).start()
        return found

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            word, number, what = line.split()
            with self._news:
                known = self._pids if word == "forked" else self.ended
                known[int(number)] = int(what)
                self._news.notify_all()

    def _send(self, order: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        with self._news:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()

    def attempt(self, order: Order) -> None:
        """Start an attempt."""
        self._send(asdict(order))
        with self._news:
            known = self._news.wait_for(lambda: order.number in self._pids, timeout=60)
            assert known, "the zygote is gone"

    def signal(self, number: int, what: signal.Signals) -> None:
        """Send a signal to an attempt, if it is still there."""
        self._send({"signal": int(what), "number": number})

    def wait(self, number: int, seconds: float) -> int | None:
        """Wait for the end of an attempt and give its exit code, minus the signal that ended it."""
        with self._news:
            self._news.wait_for(lambda: number in self.ended, timeout=seconds)
            return self.ended.get(number)

    def stopped(self, number: int, seconds: float) -> bool:
        """Wait until an attempt has stopped itself; False when it ended or goes on."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and number not in self.ended:
            with suppress(OSError):
                stat = Path(f"/proc/{self._pids[number]}/stat").read_text()
                if stat.rpartition(")")[2].split()[0] == "T":
                    return True
            time.sleep(0.005)
        return False

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                # What was written last may not have been taken any more.
                with suppress(OSError):
                    pipe.close()


# -- inside the forked processes ---------------------------------------------------------------


def _serve() -> None:
    _import_all()
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, int] = {}
    lock = threading.Lock()
    threading.Thread(target=_reap, args=(children, lock), daemon=True).start()
    for line in sys.stdin:
        order = json.loads(line)
        # The lock is held over the fork so that no thread holds stdout's lock in the child, and while a
        # signal is sent so that it reaches a child of ours and nobody who was given its number since.
        with lock:
            if "signal" in order:
                for pid in [pid for pid, number in children.items() if number == order["number"]]:
                    os.kill(pid, order["signal"])
                continue
            pid = os.fork()
            if pid:
                children[pid] = order["number"]
                _say("forked", order["number"], pid)
        if not pid:
            point = Point(**order.pop("point")) if order.get("point") else order.pop("point")
            os._exit(_attempt(Order(**order, point=point)))


def _reap(children: dict[int, int], lock: threading.Lock) -> None:
    while True:
        time.sleep(0.002)
        with lock:
            for pid, number in list(children.items()):
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    del children[pid]
                    _say("ended", number, os.waitstatus_to_exitcode(status))


def _say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def _import_all() -> None:
    import adbc_driver_manager  # noqa: F401
    import adbc_driver_postgresql  # noqa: F401
    import boto3  # noqa: F401
    import duckdb  # noqa: F401
    import mutations  # noqa: F401

    import aiia_pipelines.connectors.sql
    import aiia_pipelines.sync.destinations._parquet_s3
    import aiia_pipelines.sync.destinations.duckdb
    import aiia_pipelines.sync.destinations.parquet
    import aiia_pipelines.sync.destinations.postgres
    import aiia_pipelines.sync.engine  # noqa: F401


def _attempt(order: Order) -> int:
    """Do what the product's worker does; 0 when every stream was committed."""
    import mutations

    from aiia_pipelines.config.connector import Connector
    from aiia_pipelines.connectors.base import open_source
    from aiia_pipelines.jobs.recorder import Recorder
    from aiia_pipelines.jobs.store import JobStore
    from aiia_pipelines.sync.destinations import open_destination
    from aiia_pipelines.sync.engine import Engine
    from aiia_pipelines.sync.outcome import Synced

    connector = Connector.model_validate(order.connector)
    if order.point:
        _install(order.point)
    mutations.install(order.mutation)
    if order.look:
        threading.Thread(target=_look, args=(order,), daemon=True).start()
    store = JobStore.open(order.store)
    try:
        with Recorder(store, order.number) as recorder:
            engine = Engine(
                connector=connector,
                source=lambda: open_source(connector.source),
                destination=open_destination(order.destination),
                recorder=recorder,
                uid=order.uid,
            )
            try:
                done = list(engine.run(connector.streams))
            finally:
                store.finish(order.number)
        return 0 if all(isinstance(outcome, Synced) for outcome in done) else 3
    except Exception:  # noqa: BLE001 - an attempt that breaks in an unforeseen way is told, not hidden
        import traceback

        Path(order.log).write_text(traceback.format_exc())
        return 9


def _look(order: Order) -> None:
    """Write down, row by row, every content that a reader in the same process sees."""
    import duckdb

    path, last = order.destination.removeprefix("duckdb://"), None
    with Path(order.seen).open("w") as out:
        while True:
            try:
                with duckdb.connect(path) as db:
                    while True:
                        rows = sorted(db.execute(order.look).fetchall())
                        if rows != last:
                            out.write(json.dumps(rows) + "\n")
                            out.flush()
                        last = rows
                        time.sleep(0.002)
            except duckdb.Error:
                time.sleep(0.01)  # somebody else has the file


def _install(point: Point) -> None:
    """Make a method of the product kill or stop its process."""
    owner, name = _owner(point.method)
    whole: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def struck(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        mine = calls == point.nth
        if mine and not point.after:
            _strike(point)
        result = whole(*args, **kwargs)
        if mine and point.after:
            _strike(point)
        return result

    setattr(owner, name, struck)


def _strike(point: Point) -> None:
    number = signal.SIGKILL if point.action == "kill" else signal.SIGSTOP
    if point.delay:
        threading.Timer(point.delay, os.kill, (os.getpid(), number)).start()
    else:
        os.kill(os.getpid(), number)


def _owner(method: str) -> tuple[Any, str]:
    import psycopg

    from aiia_pipelines.jobs.recorder import Recorder
    from aiia_pipelines.jobs.store import JobStore
    from aiia_pipelines.sync.destinations import duckdb, parquet, postgres
    from aiia_pipelines.sync.pump import Pump

    owners = {
        "postgres": postgres.PostgresLanding,
        "duckdb": duckdb.DuckdbLanding,
        "parquet": parquet.ParquetLanding,
        "s3": parquet.ParquetLanding,
        "pump": Pump,
        "recorder": Recorder,
        "store": JobStore,
        "psycopg": psycopg.Connection,
    }
    owner, _, name = method.partition(".")
    return owners[owner], name


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    _serve()
