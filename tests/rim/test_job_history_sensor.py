import json
import socket
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.tags import GRPC_INFO_TAG

from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.sensors.job_history import job_history, sweep
from aiia_pipelines.sensors.unheard import give_up

pytestmark = pytest.mark.integration

HOST = "127.0.0.1"
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


def test_a_process_that_died_before_its_first_sign_of_life_is_given_up(rim: Any) -> None:
    run = rim.create()
    number = rim.number(run.run_id)
    report(rim, run, "PIPELINE_START")
    assert give_up(rim.instance, rim.store) == [], "it may be about to give one"
    assert give_up(rim.instance, rim.store, silence=0) == [run.run_id]
    row = rim.store.row(number)
    assert (row.state, row.failure_code) == ("Failed", "worker-lost")
    assert row.message.startswith("Worker lost. The process of this run ended without a word")
    assert status(rim, run) is dg.DagsterRunStatus.FAILURE


def test_a_process_that_gave_one_is_left_to_others(rim: Any) -> None:
    run, number = started(rim)
    assert run.run_id not in give_up(rim.instance, rim.store, silence=0)
    assert number in sweep(rim.instance, rim.store)


def test_a_run_that_no_code_server_starts_any_more_is_given_up(rim: Any) -> None:
    run = rim.create()
    report(rim, run, "PIPELINE_STARTING")
    # Nobody listens there: whoever started the run is gone, and the process with it.
    rim.instance.add_run_tags(run.run_id, {GRPC_INFO_TAG: json.dumps({"host": HOST, "port": 1})})
    assert give_up(rim.instance, rim.store, silence=0) == [run.run_id]
    assert rim.store.row(rim.number(run.run_id)).failure_code == "worker-lost"


def test_a_run_that_waits_for_the_warm_worker_is_not_given_up(rim: Any) -> None:
    run = rim.create()
    report(rim, run, "PIPELINE_STARTING")
    assert give_up(rim.instance, rim.store, silence=0) == [], "no worker is there to be asked"
    rim.instance.report_run_canceled(run)
