"""One sync by this package, as its worker does it: `python ours.py SOURCE DESTINATION STORE none|all [MODE]`."""

import sys

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


def main(source: str, destination: str, store_url: str, checks: str, mode: str = "replace") -> int:
    """Sync the table and tell whether it was committed."""
    stream = {"name": TABLE, "table": f"public.{TABLE}", "mode": mode}
    facts = {"reconcile": "count"}
    if checks == "all":
        stream |= {"key": ["id"], "columns": CHECKS}
        facts = {"reconcile": "totals"}
    if mode == "upsert":
        stream |= {"key": ["id"], "cursor": "updated_at"}
    connector = Connector.model_validate(
        {
            "name": "bench", "title": "Benchmark", "source": {"kind": "sql", "url": source},
            "streams": [stream], **facts,
        }
    )  # fmt: skip
    store = JobStore.open(store_url)
    new = NewJobRun(
        connector="bench", title="Benchmark", streams=(TABLE,), trigger=Trigger.MANUAL, triggered_by="bench",
    )  # fmt: skip
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


if __name__ == "__main__":
    sys.exit(main(*[word for word in sys.argv[1:] if word != "-v"]))
