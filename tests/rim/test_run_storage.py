import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.errors import DagsterRunAlreadyExists
from dagster._core.execution.api import execute_run
from dagster._core.storage.dagster_run import FINISHED_STATUSES

from aiia_pipelines.config.settings import Settings
from aiia_pipelines.control import cancel
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.resources.job_board import STATE_OF_STATUS

pytestmark = pytest.mark.integration

# One process imports, four forks of it write.
TAG = """
import os, sys
from aiia_pipelines.resources.run_storage import HookedRunStorage
writers = []
for writer in range(4):
    if child := os.fork():
        writers.append(child)
        continue
    storage = HookedRunStorage(sys.argv[1], should_autocreate_tables=False)
    for n in range(20):
        storage.add_run_tags(sys.argv[2], {f"writer{writer}/{n}": "x"})
    os._exit(0)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]) for writer in writers))
"""


def badge(rim: Any, run_id: str) -> str:
    return rim.tags(run_id)["aiia/badge"]


def test_every_status_of_dagster_has_a_state() -> None:
    assert set(STATE_OF_STATUS) == set(dg.DagsterRunStatus)
    finished = {status for status in dg.DagsterRunStatus if status in FINISHED_STATUSES}
    assert {STATE_OF_STATUS[status] for status in finished} == {
        JobState.COMPLETED,
        JobState.FAILED,
        JobState.CANCELLED,
    }


def test_a_queued_run_is_pending_and_a_starting_one_preparing(rim: Any) -> None:
    run = rim.create()
    assert (rim.row(run.run_id).state, badge(rim, run.run_id)) == ("Pending", "Pending")
    rim.instance.report_dagster_event(
        dg.DagsterEvent("PIPELINE_STARTING", "sync__shop"), run.run_id
    )
    assert (rim.row(run.run_id).state, badge(rim, run.run_id)) == ("Preparing", "Pending")
    rim.instance.report_dagster_event(dg.DagsterEvent("PIPELINE_START", "sync__shop"), run.run_id)
    assert (rim.row(run.run_id).state, badge(rim, run.run_id)) == ("Running", "Running")
    rim.instance.report_run_failed(rim.instance.get_run_by_id(run.run_id))


def test_a_run_cancelled_in_the_queue_is_cancelled(rim: Any) -> None:
    run = rim.create()
    rim.instance.report_run_canceled(run)
    row = rim.row(run.run_id)
    assert (row.state, badge(rim, run.run_id)) == ("Cancelled", "Cancelled")
    assert rim.log(row.number) == ["WARNING: Job aborted with state CANCELLED."]
    told = [entry.message for entry in rim.instance.all_logs(run.run_id)]
    assert any("Job aborted with state CANCELLED." in line for line in told)


def test_a_run_failed_from_outside_is_failed_with_a_cause(rim: Any) -> None:
    run = rim.create()
    rim.instance.report_dagster_event(dg.DagsterEvent("PIPELINE_START", "sync__shop"), run.run_id)
    rim.instance.report_run_failed(rim.instance.get_run_by_id(run.run_id))
    row = rim.row(run.run_id)
    assert (row.state, row.failure_code) == ("Failed", "worker-lost")
    assert badge(rim, run.run_id) == "Failed"
    assert rim.log(row.number)[-1] == "FATAL: Job aborted with state FAILED."
    assert {state for _, state in rim.store.tasks_of(row.number)} == {"Failed"}


def test_a_failure_after_completed_changes_nothing(rim: Any) -> None:
    run_id = rim.run().run_id
    number = rim.number(run_id)
    before = rim.log(number)
    rim.instance.report_run_failed(rim.instance.get_run_by_id(run_id))
    assert rim.row(run_id).state == "Completed"
    assert rim.row(run_id).failure_code is None
    assert rim.log(number) == before
    assert badge(rim, run_id) == "Completed"


def test_a_success_after_cancelled_changes_nothing(rim: Any) -> None:
    run = rim.create()
    rim.instance.report_run_canceled(run)
    for kind in ("PIPELINE_START", "PIPELINE_SUCCESS"):
        rim.instance.report_dagster_event(dg.DagsterEvent(kind, "sync__shop"), run.run_id)
    # Dagster itself believes the late event.
    assert rim.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.SUCCESS
    assert (rim.row(run.run_id).state, badge(rim, run.run_id)) == ("Cancelled", "Cancelled")


def test_a_run_whose_job_run_was_cancelled_before_it_began_does_not_touch_the_warehouse(
    rim: Any,
) -> None:
    rim.run()
    before = rim.warehouse("select id, xmin::text from shop.orders order by id")
    rim.source("update public.orders set note = 'changed' where id = 3")
    run = rim.create()
    number = rim.number(run.run_id)
    settings = Settings.load(os.environ, Path.cwd())
    assert cancel(settings, rim.store, number, reason="not today", by="sara")
    assert not execute(rim, run)
    assert rim.warehouse("select id, xmin::text from shop.orders order by id") == before
    row = rim.row(run.run_id)
    assert (row.state, row.cancel_by, row.cancel_reason) == ("Cancelled", "sara", "not today")
    assert rim.log(number)[-1] == "WARNING: Job aborted with state CANCELLED."
    assert badge(rim, run.run_id) == "Cancelled"


def execute(rim: Any, run: dg.DagsterRun) -> bool:
    """Execute a run that was made before, as a run worker does."""
    job = InMemoryJob(rim.definitions.resolve_job_def(run.job_name))
    return execute_run(job, run, rim.instance, raise_on_error=False).success


def test_tags_that_several_processes_add_at_once_are_all_kept(rim: Any) -> None:
    run = rim.create()
    url = rim.environment["AIIA_DATABASE_URL"]

    done = subprocess.run(
        [sys.executable, "-c", TAG, url, run.run_id], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    written = {f"writer{writer}/{n}" for writer in range(4) for n in range(20)}
    assert written <= set(rim.tags(run.run_id))
    rim.instance.report_run_canceled(run)


def test_a_second_run_of_the_same_id_makes_no_second_job_run(rim: Any) -> None:
    run = rim.create()
    with rim.store.engine.connect() as db:
        before = db.exec_driver_sql("select count(*) from aiia.job_runs").scalar_one()
    with pytest.raises(DagsterRunAlreadyExists):
        rim.instance.run_storage.add_run(run)
    with rim.store.engine.connect() as db:
        after = db.exec_driver_sql("select count(*) from aiia.job_runs").scalar_one()
    assert after == before
    rim.instance.report_run_canceled(run)
