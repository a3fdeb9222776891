"""A tick has one job run, however many daemons look at it."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from dagster._core.storage.tags import SCHEDULED_EXECUTION_TIME_TAG

from aiia_pipelines.jobs.run import NewJobRun, Trigger
from aiia_pipelines.resources.tags import TICK

pytestmark = pytest.mark.integration

# Makes the run of a tick as a scheduler does that has just seen that there is none.
MAKE = """
import json, sys
import dagster as dg
from aiia_pipelines.definitions import defs
with dg.DagsterInstance.get() as instance:
    job = defs().resolve_job_def("sync__shop")
    print("ready", flush=True)
    tags = json.loads(sys.stdin.readline())
    print(*(instance.create_run_for_job(job, tags=tags).run_id for _ in range(3)))
"""


def tags(tick: str) -> dict[str, str]:
    return {
        TICK: tick,
        SCHEDULED_EXECUTION_TIME_TAG: tick,
        "dagster/schedule_name": "schedule__shop",
    }


def test_of_two_processes_that_make_its_run_one_does(rim: Any) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, **rim.environment},
        )
        for _ in range(2)
    ]  # fmt: skip
    told = json.dumps(tags("2031-05-01T02:00:00+00:00"))
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write(f"{told}\n")
        process.stdin.flush()
    made = {run_id for process in processes for run_id in process.communicate()[0].split()}
    assert len(made) == 1
    (run_id,) = made
    assert rim.history(
        "select count(*) from aiia.job_runs where connector = 'shop' and tick = '2031-05-01 02:00Z'"
    ) == [(1,)]
    assert len(rim.instance.get_runs()) >= 1
    rim.instance.report_run_canceled(rim.instance.get_run_by_id(run_id))
    # Also when all is over, for example when a scheduler was killed before it could note its tick.
    again = rim.create(tags=tags("2031-05-01T02:00:00+00:00"))
    assert again.run_id == run_id


def test_a_run_that_is_executed_again_or_tried_out_is_another_one(rim: Any) -> None:
    tick = "2031-05-02T02:00:00+00:00"
    first = rim.create(tags=tags(tick))
    again = rim.create(tags=tags(tick), parent_run_id=first.run_id, root_run_id=first.run_id)
    tried = rim.create(tags={TICK: tick})
    assert len({first.run_id, again.run_id, tried.run_id}) == 3
    found = [rim.row(run.run_id).tick for run in (first, again, tried)]
    assert found == [datetime.fromisoformat(tick), None, None]
    for run in (first, again, tried):
        rim.instance.report_run_canceled(run)


def test_the_store_keeps_the_first(rim: Any) -> None:
    new = NewJobRun(
        connector="shop", title="Shop", streams=("orders",), trigger=Trigger.SCHEDULE,
        triggered_by="", tick=datetime(2031, 5, 3, tzinfo=UTC),
    )  # fmt: skip
    first, second = (rim.store.create(new, run_id=run_id) for run_id in ("one", "two"))
    assert rim.store.row(second) is None
    assert rim.store.run_of_tick("shop", new.tick) == "one"
    assert not rim.store.take(second, new, "two")
    rim.store.request_cancel(first, by="the test")
