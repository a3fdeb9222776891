import socket
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.sensors.job_history import job_history, sweep

pytestmark = pytest.mark.integration

NOBODY = 99_999_999  # process ids end at 2^22


def started(rim: Any) -> tuple[dg.DagsterRun, int]:
    """Make a run whose process began and now is gone."""
    run = rim.create()
    number = rim.number(run.run_id)
    report(rim, run, "PIPELINE_START")
    with rim.store.engine.begin() as db:
        db.exec_driver_sql(
            "update aiia.attempts set pid = %s, host = %s,"
            " heartbeat_at = now() - interval '10 seconds' where number = %s",
            (NOBODY, socket.gethostname(), number),
        )
    return run, number


def report(rim: Any, run: dg.DagsterRun, kind: str) -> None:
    rim.instance.report_dagster_event(dg.DagsterEvent(kind, run.job_name), run.run_id)


def status(rim: Any, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    return rim.instance.get_run_by_id(run.run_id).status


def ended_long_ago(rim: Any, number: int) -> None:
    rim.store.finish(number, JobState.CANCELLED)
    with rim.store.engine.begin() as db:
        db.exec_driver_sql(
            "update aiia.attempts set ended_at = now() - interval '5 minutes' where number = %s",
            (number,),
        )


def test_a_lost_worker_ends_as_failed_in_both_stores_once(rim: Any) -> None:
    run, number = started(rim)
    assert number in sweep(rim.instance, rim.store)
    row = rim.store.row(number)
    assert (row.state, row.failure_code) == ("Failed", "worker-lost")
    assert status(rim, run) is dg.DagsterRunStatus.FAILURE
    assert rim.tags(run.run_id)["aiia/badge"] == "Failed"
    lines = rim.log(number)
    assert lines[-2].startswith(f"ERROR: Worker lost. Process {NOBODY} on ")
    assert lines[-1] == "FATAL: Job aborted with state FAILED."
    events = len(rim.instance.all_logs(run.run_id))
    assert sweep(rim.instance, rim.store) == []
    assert rim.log(number) == lines
    assert len(rim.instance.all_logs(run.run_id)) == events


def test_a_job_run_whose_dagster_run_was_deleted_ends_as_failed(rim: Any) -> None:
    run = rim.create()
    number = rim.number(run.run_id)
    rim.instance.delete_run(run.run_id)
    assert sweep(rim.instance, rim.store) == [number]
    row = rim.store.row(number)
    assert (row.state, row.failure_code) == ("Failed", "worker-lost")
    assert row.message == "The Dagster run was deleted."
    assert sweep(rim.instance, rim.store) == []


@pytest.mark.parametrize(
    ("kind", "state"), [("PIPELINE_FAILURE", "Failed"), ("PIPELINE_CANCELED", "Cancelled")]
)
def test_a_job_run_that_dagster_ended_unseen_ends_the_same_way(
    rim: Any, kind: str, state: str
) -> None:
    run = rim.create()
    number = rim.number(run.run_id)
    # As a process does that knows nothing of job runs.
    storage = rim.instance.run_storage
    event = dg.DagsterEvent(kind, run.job_name)
    super(type(storage), storage).handle_run_event(run.run_id, event)
    assert rim.store.row(number).state == "Pending"
    assert sweep(rim.instance, rim.store) == [number]
    assert rim.store.row(number).state == state
    assert rim.tags(run.run_id)["aiia/badge"] == state
    assert sweep(rim.instance, rim.store) == []


def test_a_dagster_run_whose_job_run_has_ended_gives_its_slot_back(rim: Any) -> None:
    run = rim.create()
    report(rim, run, "PIPELINE_START")
    number = rim.number(run.run_id)
    rim.store.finish(number, JobState.CANCELLED)
    assert sweep(rim.instance, rim.store) == []
    assert status(rim, run) is dg.DagsterRunStatus.STARTED, "it may still be ending by itself"
    ended_long_ago(rim, number)
    sweep(rim.instance, rim.store)
    assert status(rim, run) is dg.DagsterRunStatus.FAILURE
    assert rim.store.row(number).state == "Cancelled"
    assert rim.tags(run.run_id)["aiia/badge"] == "Cancelled"


def test_the_sensor_says_what_it_ended(rim: Any) -> None:
    _, number = started(rim)
    context = dg.build_sensor_context(instance=rim.instance)
    told = job_history(context)
    assert told.skip_message == f"1 job runs ended: [{number}]"
    assert job_history(context).skip_message == "Nothing was lost."


def test_a_queued_run_whose_job_run_was_cancelled_leaves_the_queue(rim: Any) -> None:
    code = GrpcServerCodeLocationOrigin("127.0.0.1", port=1, location_name="aiia_pipelines")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(code, "__repository__"), "sync__shop")
    run = rim.create(status=dg.DagsterRunStatus.QUEUED, remote_job_origin=origin)
    number = rim.number(run.run_id)
    ended_long_ago(rim, number)
    sweep(rim.instance, rim.store)
    assert status(rim, run) is dg.DagsterRunStatus.CANCELED
