"""A process at work on a job run: `python worker.py STORE [eat]`; with `eat` it takes 2 GiB once it is told to."""

import sys
import time

from aiia_pipelines.jobs.log import Level
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import NewJobRun, Trigger
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore

store = JobStore.open(sys.argv[1])
new = NewJobRun(
    connector="sap_erp", title="SAP ERP DB", streams=("rows",), trigger=Trigger.MANUAL, triggered_by="sara",
)  # fmt: skip
number = store.create(new, run_id="run-1")
store.take(number, new)
store.move(number, JobState.RUNNING)
with Recorder(store, number) as recorder:
    recorder.start_task("rows")
    recorder.log(Level.INFO, "still here")
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()
    if "eat" in sys.argv:
        sys.stdin.readline()
        recorder.flush()
        held = [b"x" * (1 << 20) for _ in range(2048)]
    time.sleep(60)
