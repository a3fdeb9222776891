"""How a job run ends that Dagster or the kernel ends from outside."""

import socket
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import RunFailureReason
from dagster_shared.error import SerializableErrorInfo

pytestmark = pytest.mark.integration

NOBODY = 99_999_999  # process ids end at 2^22


def working(rim: Any) -> tuple[dg.DagsterRun, int]:
    """Make a run that a process took up which now is gone."""
    run = rim.create()
    number = rim.number(run.run_id)
    report(rim, run, "PIPELINE_START")
    with rim.store.engine.begin() as db:
        db.exec_driver_sql(
            "update aiia.attempts set pid = %s, host = %s, heartbeat_at = now() where number = %s",
            (NOBODY, socket.gethostname(), number),
        )
    return run, number


def report(rim: Any, run: dg.DagsterRun, kind: str, message: str = "") -> None:
    event = dg.DagsterEvent(kind, run.job_name, message=message or None)
    rim.instance.report_dagster_event(event, run.run_id)


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ("was terminated by signal 9 (SIGKILL).", " (SIGKILL)."),
        ("was terminated by signal 99.", " (signal 99)."),
        ("unexpectedly exited with code 3.", " (exit code 3)."),
        ("", "."),
    ],
)
def test_what_dagster_saw_of_the_end_of_a_process_is_told(rim: Any, seen: str, told: str) -> None:
    run, number = working(rim)
    if seen:
        rim.instance.report_engine_event(f"Run execution process for {run.run_id} {seen}", run)
    rim.instance.report_run_failed(run)
    row = rim.store.row(number)
    assert (row.state, row.failure_code) == ("Failed", "worker-lost")
    host = socket.gethostname()
    assert row.message == f"Worker lost. Process {NOBODY} on {host} ended without a word{told}"


def test_a_run_that_dagster_stops_for_its_time_ends_as_failed_at_once(rim: Any) -> None:
    run, number = working(rim)
    why = "Canceling due to exceeding maximum runtime of 60 seconds."
    rim.instance.report_run_canceling(run, message=why)
    row = rim.store.row(number)
    assert (row.state, row.failure_code) == ("Failed", "time-limit")
    assert row.message == "Time limit. The run took longer than 60 seconds."
    rim.instance.report_run_failed(run, "Exceeded maximum runtime of 60 seconds.")
    assert rim.store.row(number) == row
    assert rim.tags(run.run_id)["aiia/badge"] == "Failed"


def test_a_run_that_somebody_stops_in_dagster_is_cancelled(rim: Any) -> None:
    run, number = working(rim)
    rim.instance.report_run_canceling(run)
    rim.instance.report_run_canceled(run)
    row = rim.store.row(number)
    assert (row.state, row.cancel_by, row.failure_code) == ("Cancelled", "Dagster", None)


@pytest.mark.parametrize(
    ("said", "code", "told"),
    [
        ("Run timed out due to taking longer than 120 seconds to start.", "worker-lost",
         "Worker lost. The run did not begin within 120 seconds."),
        ("Broker away. broker:6379 took no run for 10 seconds.", "broker-unavailable",
         "Broker away. broker:6379 took no run for 10 seconds."),
        ("No room.", "unclassified", "The run failed before its job began: No room."),
    ],
)  # fmt: skip
def test_a_run_that_never_began_says_why(rim: Any, said: str, code: str, told: str) -> None:
    run = rim.create()
    rim.instance.report_run_failed(run, said)
    row = rim.row(run.run_id)
    assert (row.state, row.failure_code) == ("Failed", code)
    assert row.message.endswith(told)


def test_a_code_location_that_cannot_be_reached_is_told_as_that(rim: Any) -> None:
    run = rim.create()
    error = SerializableErrorInfo(
        "Could not reach the server.", [], "DagsterUserCodeUnreachableError"
    )
    event = dg.DagsterEvent.job_failure(
        run.job_name, "It could not be launched.", RunFailureReason.UNKNOWN, error
    )
    rim.instance.report_dagster_event(event, run.run_id)
    assert rim.row(run.run_id).failure_code == "code-location-broken"
