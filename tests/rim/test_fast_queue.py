"""Runs that start as they are submitted, and those that the daemon's queue keeps."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator

from aiia_pipelines.resources.admission import admitted

pytestmark = [pytest.mark.integration, pytest.mark.slow]

STARTED = {dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED}
SUBMIT = """
import sys
import dagster as dg
from dagster._core.run_coordinator.base import SubmitRunContext
with dg.DagsterInstance.get() as instance:
    run = instance.get_run_by_id(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    print(instance.run_coordinator.submit_run(SubmitRunContext(run, None)).status.value)
"""


def submit(warmth: Any, run_id: str) -> dg.DagsterRun:
    instance = warmth.rim.instance
    run = instance.get_run_by_id(run_id)
    return instance.run_coordinator.submit_run(SubmitRunContext(run, None))


@pytest.fixture
def busy(warmth: Any) -> Iterator[Any]:
    """A worker whose runs end with the test."""
    instance = warmth.rim.instance
    statuses = [dg.DagsterRunStatus.QUEUED, *STARTED, dg.DagsterRunStatus.CANCELING]
    # Other modules share the instance, and may have left runs that no process executes.
    for run in instance.get_runs(dg.RunsFilter(statuses=statuses)):
        instance.report_run_canceled(run)
    yield warmth
    for run in instance.get_runs(dg.RunsFilter(statuses=statuses)):
        if run.status is dg.DagsterRunStatus.QUEUED:
            instance.report_run_canceled(run)
        else:
            instance.run_launcher.terminate(run.run_id)
    for run in instance.get_runs(dg.RunsFilter(statuses=statuses)):
        warmth.ended(run.run_id)


def test_a_run_with_a_free_slot_starts_without_the_daemon(busy: Any) -> None:
    run = submit(busy, busy.create("shop"))
    assert run.status in {*STARTED, dg.DagsterRunStatus.SUCCESS}
    assert busy.ended(run.run_id).status is dg.DagsterRunStatus.SUCCESS
    row = busy.rim.row(run.run_id)
    assert row.state == "Completed"
    assert row.created_at < row.started_at


def test_a_second_run_of_a_connector_stays_in_the_queue(busy: Any) -> None:
    first, second = (submit(busy, busy.create()) for _ in range(2))
    assert first.status in STARTED
    assert second.status is dg.DagsterRunStatus.QUEUED
    assert busy.state(second.run_id) == "Pending"
    # Another connector is not in its way.
    assert submit(busy, busy.create("shop")).status is not dg.DagsterRunStatus.QUEUED


def test_of_two_processes_that_submit_at_once_one_starts(busy: Any) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SUBMIT, busy.create()], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**os.environ, **busy.rim.environment},
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0].strip() for process in processes]
    assert said.count("QUEUED") == 1, said


@pytest.mark.parametrize(("waiting", "coming", "starts"), [("1", "5", True), ("5", "1", False)])
def test_a_run_overtakes_only_those_of_lower_priority(
    busy: Any, waiting: str, coming: str, starts: bool
) -> None:
    queued = busy.rim.instance.get_run_by_id(busy.create(tags={"dagster/priority": waiting}))
    coordinator = busy.rim.instance.run_coordinator
    QueuedRunCoordinator.submit_run(coordinator, SubmitRunContext(queued, None))
    run = submit(busy, busy.create(tags={"dagster/priority": coming}))
    assert (run.status is not dg.DagsterRunStatus.QUEUED) == starts


def test_a_run_that_the_daemon_took_at_the_same_moment_goes_back(busy: Any) -> None:
    submit(busy, busy.create())
    # As the daemon marks it, having looked before the other one began.
    late = busy.create()
    starting = dg.DagsterEvent(dg.DagsterEventType.PIPELINE_STARTING.value, "sync__crawl")
    busy.rim.instance.report_dagster_event(starting, late)
    run = busy.rim.instance.get_run_by_id(late)
    assert not admitted(busy.rim.instance, run)
    assert busy.rim.instance.get_run_by_id(late).status is dg.DagsterRunStatus.QUEUED


def test_a_launch_is_claimed_once(busy: Any) -> None:
    run = busy.rim.instance.get_run_by_id(busy.create())
    assert admitted(busy.rim.instance, run)
    assert not admitted(busy.rim.instance, run)
    busy.rim.instance.report_run_canceled(run)


def test_without_a_warm_worker_a_run_is_left_to_the_daemon(busy: Any) -> None:
    busy.stop()
    assert submit(busy, busy.create()).status is dg.DagsterRunStatus.QUEUED
