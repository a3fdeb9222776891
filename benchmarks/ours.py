"""One sync by this package: `python ours.py SOURCE DESTINATION STORE none|all|upsert|streams [N]`.

Without arguments, a process that has everything imported and forks one of its own for each line of arguments, as the
warm worker of an installation does.
"""

import os
import sys
from importlib import import_module

from workload import CHECKS, TABLE

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.connectors.base import open_source
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import NewJobRun, Trigger
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.sync.destinations import open_destination
from aiia_pipelines.sync.engine import Engine
from aiia_pipelines.sync.outcome import Synced


def connector_of(source: str, work: str, count: str) -> Connector:
    """Describe the work: one large table in one of three ways, or `count` small ones."""
    large = {"name": TABLE, "table": f"public.{TABLE}"}
    streams = {
        "none": [large],
        "all": [large | {"key": ["id"], "columns": CHECKS}],
        "upsert": [large | {"mode": "upsert", "key": ["id"], "cursor": "updated_at"}],
        "streams": [{"name": f"t{n}", "table": f"small.t{n}"} for n in range(int(count))],
    }[work]
    return Connector.model_validate(
        {
            "name": "bench", "title": "Benchmark", "source": {"kind": "sql", "url": source},
            "streams": streams, "reconcile": "totals" if work == "all" else "count",
        }
    )  # fmt: skip


def main(source: str, destination: str, store_url: str, work: str, count: str = "1") -> int:
    """Sync the streams and tell whether all of them were committed."""
    connector = connector_of(source, work, count)
    store = JobStore.open(store_url)
    new = NewJobRun(
        connector="bench",
        title="Benchmark",
        streams=tuple(stream.name for stream in connector.streams),
        trigger=Trigger.MANUAL,
        triggered_by="bench",
    )
    number = store.create(new)
    store.take(number, new)
    store.move(number, JobState.RUNNING)
    with Recorder(store, number) as recorder:
        engine = Engine(
            connector=connector,
            source=lambda: open_source(connector.source),
            destination=open_destination(destination),
            recorder=recorder,
        )
        done = list(engine.run(connector.streams))
        store.finish(number)
    if "-v" in sys.argv:
        sys.stderr.write("\n".join(line.message for _, line in store.log_after(number, 0)) + "\n")
    return 0 if all(isinstance(outcome, Synced) for outcome in done) else 3


def serve() -> None:
    """Tell the process of each sync, then its exit code and the CPU seconds that it took."""
    for name in (
        "connectors.sql",
        "connectors._sql_postgresql",
        "connectors._sql_copy",
        "sync.destinations.postgres",
    ):
        import_module(f"aiia_pipelines.{name}")
    say("ready")
    for line in sys.stdin:
        child = os.fork()
        if not child:
            code = 1
            try:
                code = main(*line.split())
            finally:
                os._exit(code)
        say(child)
        _, status, used = os.wait4(child, 0)
        say(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime)


def say(*words: object) -> None:
    """Answer who asked."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) == 1:
        serve()
    else:
        sys.exit(main(*[word for word in sys.argv[1:] if word != "-v"]))
