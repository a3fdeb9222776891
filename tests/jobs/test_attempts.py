from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiia_pipelines.jobs import attempts
from aiia_pipelines.jobs.failures import CATALOGUE, Failure
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import JobType, NewJobRun
from aiia_pipelines.jobs.state import JobState, TaskState
from aiia_pipelines.jobs.store import JobStore

pytestmark = pytest.mark.integration
New = Callable[..., NewJobRun]
TIMEOUT = Failure(CATALOGUE["connection-timeout"], "Connection timeout.", "10.0.0.1:5432")
WRONG = Failure(CATALOGUE["column-mismatch"], "Column mismatch.")
SOON = datetime.now(UTC) + timedelta(days=300)


@pytest.fixture
def daemon(store: JobStore) -> Iterator[None]:
    """A daemon that gave a sign of life just now."""
    with store.engine.begin() as db:
        db.exec_driver_sql(
            "create table public.daemon_heartbeats (daemon_type text, body text);"
            " insert into public.daemon_heartbeats select 'SENSOR',"
            " jsonb_build_object('timestamp', extract(epoch from clock_timestamp()))::text"
        )
    yield
    with store.engine.begin() as db:
        db.exec_driver_sql("drop table public.daemon_heartbeats")


def begun(store: JobStore, new: NewJobRun, run_id: str = "first") -> int:
    number = store.create(new, run_id=run_id)
    store.move(number, JobState.PREPARING)
    assert store.take(number, new, run_id)
    store.move(number, JobState.RUNNING)
    return number


def due_now(store: JobStore, number: int) -> None:
    with store.engine.begin() as db:
        db.exec_driver_sql(
            "update aiia.job_runs set due_at = now() - interval '1 second' where number = %s",
            (number,),
        )


def failed(store: JobStore, number: int, **ends: Failure | None) -> Any:
    """End the tasks of an attempt, each as its failure says, and then the attempt."""
    with Recorder(store, number) as recorder:
        for stream, failure in ends.items():
            recorder.start_task(stream)
            state = TaskState.SUCCEEDED
            if failure is not None:
                state = TaskState.ERROR if failure is WRONG else TaskState.FAILED
            recorder.end_task(stream, state, failure=failure)
    return store.finish(number)


def test_a_failure_that_may_pass_waits_for_another_attempt(
    store: JobStore, request_of: New, daemon: None
) -> None:
    number = begun(store, request_of("orders", "items"))
    line = failed(store, number, orders=TIMEOUT, items=None)
    row = store.row(number)
    assert (row.state, row.failure_code) == ("Scheduled", "connection-timeout")
    assert 8 <= (row.due_at - datetime.now(UTC)).total_seconds() + 1 <= 13
    assert line.message.startswith("Attempt 1 ended as connection-timeout; the next one starts at")
    assert dict(store.tasks_of(number)) == {"orders": "Rescheduled", "items": "Succeeded"}
    assert attempts.due(store) == []
    due_now(store, number)
    (found,) = attempts.due(store)
    assert (found.number, found.attempt, found.streams) == (number, 2, ("orders",))
    assert attempts.add(store, number, "second") == 2
    assert attempts.add(store, number, "third") is None
    assert store.state_of(number) is JobState.PENDING
    # What the first attempt's process still says is not heard any more.
    assert not store.take(number, request_of("orders"), "first")
    assert store.numbers_of("first", at_work=True) == {}
    assert store.take(number, request_of("orders"), "second")
    store.move(number, JobState.RUNNING)
    assert failed(store, number, orders=None).message.startswith(
        "Job finished with state COMPLETED"
    )
    row = store.row(number)
    assert (row.state, row.failure_code, row.due_at, list(row.streams)) == (
        "Completed", None, None, ["orders", "items"],
    )  # fmt: skip


def test_without_a_daemon_nobody_would_start_another_attempt(
    store: JobStore, request_of: New
) -> None:
    number = begun(store, request_of("orders"))
    failed(store, number, orders=TIMEOUT)
    assert store.state_of(number) is JobState.FAILED


@pytest.mark.parametrize("retry", [{"policy": "never"}, {"max_attempts": 1}])
def test_a_policy_may_forbid_it(
    store: JobStore, request_of: New, daemon: None, retry: dict[str, Any]
) -> None:
    number = begun(store, request_of("orders", config={"retry": retry}))
    failed(store, number, orders=TIMEOUT)
    assert store.state_of(number) is JobState.FAILED


def test_what_cannot_pass_is_not_tried_again_with_what_may(
    store: JobStore, request_of: New, daemon: None
) -> None:
    number = begun(store, request_of("orders", "items"))
    failed(store, number, orders=TIMEOUT, items=WRONG)
    assert dict(store.tasks_of(number)) == {"orders": "Rescheduled", "items": "Error"}
    attempts.add(store, number, "second")
    store.take(number, request_of("orders"), "second")
    failed(store, number, orders=None)
    assert store.state_of(number) is JobState.PARTIALLY_SUCCEEDED


def test_a_dead_process_is_followed_by_another_attempt(
    store: JobStore, request_of: New, daemon: None
) -> None:
    number = begun(store, request_of("orders"))
    lost = Failure(CATALOGUE["worker-lost"], "Worker lost.")
    assert store.finish(number, JobState.FAILED, failure=lost) is not None
    assert (store.row(number).state, store.row(number).failure_code) == ("Scheduled", "worker-lost")
    # Two may see the same process die.
    assert store.finish(number, JobState.FAILED, failure=lost) is None
    assert store.pause(number) is None


def test_a_cancel_is_stronger_than_another_attempt(
    store: JobStore, request_of: New, daemon: None
) -> None:
    number = begun(store, request_of("orders"))
    store.request_cancel(number, by="sara")
    failed(store, number, orders=TIMEOUT)
    assert store.state_of(number) is JobState.CANCELLED
    waiting = begun(store, request_of("orders"), "other")
    failed(store, waiting, orders=TIMEOUT)
    store.request_cancel(waiting, by="sara")
    store.finish(waiting, JobState.CANCELLED)
    assert store.state_of(waiting) is JobState.CANCELLED
    assert attempts.add(store, waiting, "late") is None


def test_attempts_come_to_an_end(store: JobStore, request_of: New, daemon: None) -> None:
    number = begun(store, request_of("orders"), "run-1")
    for attempt in range(2, 8):
        failed(store, number, orders=TIMEOUT)
        if store.state_of(number) is JobState.FAILED:
            break
        assert attempts.add(store, number, f"run-{attempt}") == attempt
        store.take(number, request_of("orders"), f"run-{attempt}")
    assert store.state_of(number) is JobState.FAILED
    assert attempt == 7, "the first and five more"


def test_records_of_earlier_attempts_count(store: JobStore, request_of: New, daemon: None) -> None:
    number = begun(store, request_of("orders", "items"))
    with Recorder(store, number) as recorder:
        recorder.start_task("items")
        recorder.count("items", "validate", 70)
        recorder.end_task("items", TaskState.SUCCEEDED)
        recorder.start_task("orders")
        recorder.end_task("orders", TaskState.FAILED, failure=TIMEOUT)
    store.finish(number)
    attempts.add(store, number, "second")
    store.take(number, request_of("orders"), "second")
    with Recorder(store, number) as recorder:
        recorder.start_task("orders")
        recorder.count("orders", "validate", 30)
        recorder.flush()
        assert store.row(number).records == 100
        recorder.end_task("orders", TaskState.SUCCEEDED)
    assert (
        store.finish(number).message == "Job finished with state COMPLETED. 100 records ingested."
    )


# -- pausing --------------------------------------------------------------------------------


def test_a_waiting_run_is_held_and_goes_on_when_released(store: JobStore, request_of: New) -> None:
    number = store.create(request_of("orders"), run_id="first")
    assert attempts.hold(store, number, by="ada", reason="month end") is JobState.SCHEDULED
    row = store.row(number)
    assert (row.held_by, row.held_reason, row.message) == (
        "ada", "month end", "Job paused by ada: month end",
    )  # fmt: skip
    assert not store.take(number, request_of("orders"), "first")
    assert attempts.add(store, number, "second") is None
    assert attempts.release(store, number)
    assert not attempts.release(store, number)
    assert [each.number for each in attempts.due(store)] == [number]
    assert attempts.add(store, number, "third") == 3


def test_a_running_run_pauses_when_its_process_says_so(store: JobStore, request_of: New) -> None:
    number = begun(store, request_of("orders", "items"))
    with Recorder(store, number) as recorder:
        recorder.start_task("items")
        recorder.end_task("items", TaskState.SUCCEEDED)
        recorder.start_task("orders")
        assert attempts.hold(store, number, by="ada") is JobState.RUNNING
        recorder.flush()
        assert (recorder.held, recorder.cancelled) == (True, False)
        recorder.put_back("orders")
    assert store.pause(number).message == "Job paused by ada."
    assert store.state_of(number) is JobState.PAUSED
    assert dict(store.tasks_of(number)) == {"orders": "Rescheduled", "items": "Succeeded"}
    assert attempts.due(store) == []
    attempts.release(store, number)
    (found,) = attempts.due(store)
    assert (found.attempt, found.streams) == (2, ("orders",))


def test_a_run_whose_window_closed_goes_on_when_it_opens(store: JobStore, request_of: New) -> None:
    number = begun(store, request_of("orders"))
    with Recorder(store, number) as recorder:
        recorder.start_task("orders")
        recorder.closes_at = datetime.now(UTC)
        recorder.flush()
        assert recorder.held
        recorder.put_back("orders")
    line = store.pause(number, SOON)
    assert line.message.startswith("Job paused: its window closed; it goes on at 20")
    assert (store.row(number).state, store.row(number).due_at) == ("Paused", SOON)
    attempts.postpone(store, number, SOON + timedelta(hours=1))
    assert store.row(number).due_at == SOON + timedelta(hours=1)


def test_a_run_with_nothing_left_to_do_ends_instead_of_pausing(
    store: JobStore, request_of: New
) -> None:
    number = begun(store, request_of("orders"))
    attempts.hold(store, number, by="ada")
    with Recorder(store, number) as recorder:
        recorder.start_task("orders")
        recorder.end_task("orders", TaskState.SUCCEEDED)
    store.pause(number)
    assert (store.row(number).state, store.row(number).held_by) == ("Completed", None)


def test_what_cannot_be_paused_is_refused(store: JobStore, request_of: New) -> None:
    ended = begun(store, request_of("orders"))
    failed(store, ended, orders=None)
    assert attempts.hold(store, ended, by="ada") is None
    assert not attempts.release(store, ended)
    sealed = begun(store, request_of("orders"))
    store.seal(sealed)
    assert attempts.hold(store, sealed, by="ada") is None
    test = store.create(request_of(type=JobType.CONNECTION_TEST))
    assert attempts.hold(store, test, by="ada") is None
    assert attempts.hold(store, 10**9, by="ada") is None


# -- runs that are not due ------------------------------------------------------------------


def test_a_run_outside_of_its_window_is_scheduled(store: JobStore, request_of: New) -> None:
    number = store.create(request_of("orders", due_at=SOON), run_id="first")
    assert store.row(number).state == "Scheduled"
    assert not store.take(number, request_of("orders"), "first")
    assert attempts.due(store) == []
    due_now(store, number)
    assert [(each.number, each.attempt) for each in attempts.due(store)] == [(number, 2)]


def test_a_run_that_waited_too_long_expires_as_failed(store: JobStore, request_of: New) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    number = store.create(request_of("orders", due_at=SOON, expires_at=past))
    running = begun(store, request_of("orders", expires_at=past))
    assert attempts.expire(store) == [number]
    assert attempts.expire(store) == []
    row = store.row(number)
    assert (row.state, row.failure_code) == ("Failed", "time-limit")
    assert row.message.startswith("Job expired: it was to run until 20")
    assert store.state_of(running) is JobState.RUNNING


# -- overlap --------------------------------------------------------------------------------


def test_of_two_the_newer_is_skipped(store: JobStore, request_of: New) -> None:
    first = store.create(request_of("orders"), run_id="first")
    second = store.create(request_of("orders"), run_id="second")
    assert attempts.settle(store, first, "skip") == []
    assert attempts.settle(store, second, "skip") == ["second"]
    row = store.row(second)
    assert (row.state, row.replaced_by) == ("Cancelled", first)
    assert row.message == f"Skipped: #{first} of this connector is pending already."
    other = store.create(request_of("orders", connector="crm"))
    assert attempts.settle(store, other, "skip") == []


def test_of_two_that_wait_the_older_is_replaced(store: JobStore, request_of: New) -> None:
    waiting = store.create(request_of("orders"), run_id="waiting")
    running = begun(store, request_of("orders"), "running")
    held = store.create(request_of("orders"), run_id="held")
    attempts.hold(store, held, by="ada")
    newest = store.create(request_of("orders"), run_id="newest")
    assert attempts.settle(store, newest, "queue") == []
    assert attempts.settle(store, newest, "replace") == ["waiting"]
    states = [store.row(number).state for number in (waiting, running, held, newest)]
    assert states == ["Replaced", "Running", "Replaced", "Pending"]
    assert store.row(waiting).message == f"Replaced: #{newest} of this connector is newer."
    assert store.row(held).replaced_by == newest


def test_a_run_that_could_not_be_launched_waits_again(store: JobStore, request_of: New) -> None:
    number = store.create(request_of("orders"), run_id="first")
    store.move(number, JobState.PREPARING)
    store.put_back(number)
    assert store.state_of(number) is JobState.PENDING
    store.move(number, JobState.RUNNING)
    store.put_back(number)
    assert store.state_of(number) is JobState.RUNNING


# -- processes that come back ---------------------------------------------------------------


def test_a_process_that_lost_its_attempt_does_nothing_to_the_next(
    store: JobStore, request_of: New, daemon: None
) -> None:
    number = begun(store, request_of("orders"))
    lost = Failure(CATALOGUE["worker-lost"], "Worker lost.")
    with Recorder(store, number) as stale:
        stale.start_task("orders")
        store.finish(number, JobState.FAILED, failure=lost)
        assert attempts.add(store, number, "second") == 2
        stale.flush()
        assert stale.cancelled, "it learns that what it does is in vain"
        assert store.take(number, request_of("orders"), "second")
        store.move(number, JobState.RUNNING, "second")
        assert not stale.seal()
        assert not store.request_cancel(number, by="a signal", attempt=stale.attempt)
        assert store.finish(number, JobState.CANCELLED, attempt=stale.attempt) is None
        assert store.pause(number, attempt=stale.attempt) is None
        stale.end_task("orders", TaskState.CANCELLED)
    assert (store.row(number).state, store.row(number).cancel_by) == ("Running", None)
    assert dict(store.tasks_of(number)) == {"orders": "Scheduled"}


def test_an_event_of_a_run_that_is_done_with_it_moves_nothing(
    store: JobStore, request_of: New
) -> None:
    number = store.create(request_of("orders"), run_id="first")
    attempts.hold(store, number, by="ada")
    assert store.move(number, JobState.PREPARING, "first") is None
    assert store.state_of(number) is JobState.SCHEDULED


def test_a_refused_attempt_counts_so_that_the_next_request_is_another(
    store: JobStore, request_of: New
) -> None:
    number = store.create(request_of("orders"), run_id="first")
    attempts.hold(store, number, by="ada")
    assert attempts.add(store, number, "second") is None
    assert not store.take(number, request_of("orders"), "second")
    attempts.release(store, number)
    assert [each.attempt for each in attempts.due(store)] == [3]
    assert attempts.add(store, 10**9, "third") is None


def test_a_run_that_nobody_works_on_goes_on(store: JobStore, request_of: New) -> None:
    number = begun(store, request_of("orders"))
    test = begun(store, request_of(type=JobType.CONNECTION_TEST), "test")
    with store.engine.begin() as db:
        db.exec_driver_sql("update aiia.attempts set ended_at = now()")
    assert attempts.take_up(store) == [number, test]
    assert attempts.take_up(store) == []
    assert [each.number for each in attempts.due(store)] == [number]
    assert store.state_of(test) is JobState.FAILED


def test_a_cancel_of_a_run_that_waits_ends_it(store: JobStore, request_of: New) -> None:
    number = store.create(request_of("orders"), run_id="first")
    attempts.hold(store, number, by="ada")
    assert store.request_cancel(number, by="sara")
    assert (store.row(number).state, store.row(number).cancel_by) == ("Cancelled", "sara")


def test_a_run_that_has_not_read_its_file_is_held_too(store: JobStore, request_of: New) -> None:
    number = store.create(request_of(streams=()), run_id="first")
    assert attempts.hold(store, number, by="ada") is JobState.SCHEDULED
    assert store.row(number).message == "Job paused by ada."


def test_what_cannot_come_any_more_is_given_up(store: JobStore, request_of: New) -> None:
    number = store.create(request_of("orders", due_at=SOON))
    assert attempts.give_up(store, number, "There is no connector sap_erp any more.")
    assert not attempts.give_up(store, number, "Again.")
    assert store.row(number).message == "There is no connector sap_erp any more."
