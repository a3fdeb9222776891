import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiia_pipelines.jobs.failures import CATALOGUE, Failure
from aiia_pipelines.jobs.log import Level, LogLine, closing
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import NewJobRun
from aiia_pipelines.jobs.state import (
    FINAL,
    LEGAL,
    IllegalTransition,
    JobState,
    StepState,
    TaskState,
    path,
)
from aiia_pipelines.jobs.store import JobStore

pytestmark = pytest.mark.integration
New = Callable[..., NewJobRun]
TIMEOUT = Failure(CATALOGUE["connection-timeout"], "Connection timeout.", "10.0.0.1:5432")
MOVES = [state for state in JobState if state not in FINAL]


def steps_of(store: JobStore, number: int) -> set[str]:
    with store.engine.connect() as db:
        query = "select state from aiia.steps where number = %s"
        return set(db.exec_driver_sql(query, (number,)).scalars())


def endings(store: JobStore, number: int) -> list[str]:
    sentences = {closing(state, 0)[1].split(".")[0] for state in FINAL}
    lines = [line.message for _, line in store.log_after(number, 0)]
    return [line for line in lines if line.split(".")[0] in sentences]


@pytest.fixture
def audited(store: JobStore) -> Iterator[JobStore]:
    """A store whose server notes every state that is stored, in order."""
    with store.engine.begin() as db:
        db.exec_driver_sql(
            """create table public.seen (id serial, number bigint, state text);
            create function public.note() returns trigger language plpgsql as $$ begin
              if tg_op = 'INSERT' or old.state is distinct from new.state then
                insert into public.seen (number, state) values (new.number, new.state);
              end if; return new; end $$;
            create trigger noted after insert or update on aiia.job_runs
              for each row execute function public.note()"""
        )
    yield store
    with store.engine.begin() as db:
        db.exec_driver_sql("drop table public.seen; drop function public.note() cascade")


def seen(store: JobStore, number: int) -> list[JobState]:
    with store.engine.connect() as db:
        query = "select state from public.seen where number = %s order by id"
        return [JobState(state) for state in db.exec_driver_sql(query, (number,)).scalars()]


def test_the_number_always_increases(store: JobStore, request_of: New) -> None:
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda _: store.create(request_of()), range(20)))
    assert len(set(numbers)) == 20
    assert store.create(request_of()) > max(numbers)


def test_creating_the_same_job_run_twice_changes_nothing(store: JobStore, request_of: New) -> None:
    number = store.create(request_of("a"), run_id="first")
    store.move(number, JobState.RUNNING)
    assert store.create(request_of("b"), number=number, run_id="second") == number
    assert store.state_of(number) is JobState.RUNNING
    assert store.tasks_of(number) == [("a", TaskState.SCHEDULED)]
    assert store.numbers_of("first") == {"sap_erp": number}
    assert store.numbers_of("second") == {}


@pytest.mark.parametrize("current", MOVES)
@pytest.mark.parametrize("wanted", MOVES)
def test_only_moves_that_lead_on_are_stored(
    store: JobStore, request_of: New, current: JobState, wanted: JobState
) -> None:
    number = store.create(request_of())
    with store.engine.begin() as db:
        query = "update aiia.job_runs set state = %s where number = %s"
        db.exec_driver_sql(query, (current.value, number))
    passed = path(current, wanted)
    assert store.move(number, wanted) == (wanted if passed else None)
    assert store.state_of(number) is (wanted if passed else current)
    assert all(new in LEGAL[old] for old, new in pairwise((current, *passed)))


@pytest.mark.parametrize("final", sorted(FINAL))
def test_a_final_state_is_reached_by_finish_alone(
    store: JobStore, request_of: New, final: JobState
) -> None:
    number = store.create(request_of())
    with pytest.raises(IllegalTransition):
        store.move(number, final)
    assert store.state_of(number) is JobState.PENDING


@pytest.mark.parametrize("final", sorted(FINAL))
def test_a_final_state_never_changes(store: JobStore, request_of: New, final: JobState) -> None:
    number = store.create(request_of())
    with store.engine.begin() as db:
        query = "update aiia.job_runs set state = %s where number = %s"
        db.exec_driver_sql(query, (final.value, number))
    assert [store.move(number, state) for state in MOVES] == [None] * len(MOVES)
    assert [store.finish(number, state) for state in FINAL] == [None] * len(FINAL)
    assert not store.request_cancel(number, by="sara")
    assert not store.take(number, request_of())
    assert store.state_of(number) is final


@pytest.mark.parametrize(
    ("tasks", "state"),
    [
        ((TaskState.SUCCEEDED, TaskState.SUCCEEDED), JobState.COMPLETED),
        ((TaskState.SUCCEEDED, TaskState.SKIPPED), JobState.COMPLETED),
        ((TaskState.SUCCEEDED, TaskState.ERROR), JobState.PARTIALLY_SUCCEEDED),
        ((TaskState.SUCCEEDED, None), JobState.PARTIALLY_SUCCEEDED),
        ((TaskState.FAILED, TaskState.ERROR), JobState.FAILED),
        ((TaskState.ERROR, TaskState.CANCELLED), JobState.ERROR),
        ((TaskState.CANCELLED, TaskState.CANCELLED), JobState.CANCELLED),
        ((None, None), JobState.FAILED),
    ],
)
def test_the_state_of_a_job_run_is_that_of_its_tasks(
    store: JobStore, request_of: New, tasks: tuple[TaskState | None, ...], state: JobState
) -> None:
    number = store.create(request_of("a", "b"))
    store.move(number, JobState.RUNNING)
    recorder = Recorder(store, number)
    for stream, ending in zip("ab", tasks, strict=True):
        recorder.start_task(stream)
        recorder.count(stream, "validate", 10)
        if ending is not None:
            recorder.end_task(stream, ending)
    line = store.finish(number)
    assert line is not None
    assert store.state_of(number) is state
    succeeded = 10 * tasks.count(TaskState.SUCCEEDED)
    assert (line.level, line.message) == closing(state, succeeded)
    row = store.row(number)
    assert row is not None
    assert row.records == succeeded
    assert steps_of(store, number) <= {"Skipped", "Completed", "Failed"}
    assert TaskState.RUNNING not in dict(store.tasks_of(number)).values()


def test_open_tasks_and_steps_end_with_the_run(store: JobStore, request_of: New) -> None:
    number = store.create(request_of("a", "b"))
    store.move(number, JobState.RUNNING)
    recorder = Recorder(store, number)
    recorder.start_task("a")
    with recorder.step("a", "extract", last=False):
        pass
    store.finish(number, JobState.FAILED, failure=TIMEOUT)
    assert set(dict(store.tasks_of(number)).values()) == {TaskState.FAILED}
    assert steps_of(store, number) == {StepState.FAILED, StepState.SKIPPED}
    attempt = store.attempt_of(number)
    assert attempt is not None
    assert attempt.outcome == "Failed"
    assert [line.message for _, line in store.log_after(number, 0)] == [
        "Connection timeout.",
        "Job aborted with state FAILED.",
    ]


def test_the_cause_is_not_logged_twice(store: JobStore, request_of: New) -> None:
    number = store.create(request_of())
    store.write_log(number, [LogLine.of(Level.ERROR, "It was this.")])
    store.finish(number, JobState.FAILED, failure=TIMEOUT)
    messages = [line.message for _, line in store.log_after(number, 0)]
    assert messages == ["It was this.", "Job aborted with state FAILED."]


def test_a_run_that_is_replaced_ends_as_replaced(store: JobStore, request_of: New) -> None:
    number = store.create(request_of())
    store.finish(number, JobState.REPLACED)
    assert store.state_of(number) is JobState.REPLACED
    assert store.tasks_of(number) == [("rows", TaskState.CANCELLED)]


def test_a_cancelled_run_has_no_failure_however_its_process_ended(
    store: JobStore, request_of: New
) -> None:
    number = store.create(request_of())
    store.request_cancel(number, by="sara", reason="wrong day")
    store.request_cancel(number, by="omar")
    store.finish(number, JobState.FAILED, failure=TIMEOUT)
    row = store.row(number)
    assert row is not None
    assert (row.state, row.failure_code, row.cancel_by) == ("Cancelled", None, "sara")
    assert row.message == "Job aborted with state CANCELLED."


def test_a_run_that_ended_well_has_a_start(store: JobStore, request_of: New) -> None:
    number = store.create(request_of())
    Recorder(store, number).end_task("rows", TaskState.SUCCEEDED)
    store.finish(number)
    row = store.row(number)
    assert row is not None
    assert (row.state, row.started_at is None) == ("Completed", False)


ACTIONS = st.one_of(
    st.tuples(st.just("move"), st.sampled_from(MOVES)),
    st.tuples(st.just("finish"), st.sampled_from([None, *sorted(FINAL)])),
    st.tuples(st.just("cancel"), st.none()),
    st.tuples(st.just("task"), st.sampled_from([TaskState.SUCCEEDED, TaskState.ERROR])),
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(orders=st.lists(st.lists(ACTIONS, max_size=6), min_size=1, max_size=3))
def test_any_order_of_calls_leaves_a_legal_history(
    audited: JobStore, request_of: New, orders: list[list[tuple[str, Any]]]
) -> None:
    number = audited.create(request_of("a", "b"))

    def act(actions: list[tuple[str, Any]]) -> tuple[bool, int]:
        accepted, closed = False, 0
        recorder = Recorder(audited, number)
        for name, argument in actions:
            if name == "move":
                audited.move(number, argument)
            elif name == "cancel":
                accepted = audited.request_cancel(number, by="sara") or accepted
            elif name == "task":
                recorder.end_task(random.choice("ab"), argument)
            else:
                closed += audited.finish(number, argument) is not None
        return accepted, closed

    with ThreadPoolExecutor(len(orders)) as pool:
        results = list(pool.map(act, orders))
    last = audited.finish(number, JobState.FAILED)

    history = seen(audited, number)
    assert all(path(old, new) for old, new in pairwise(history))
    assert [state in FINAL for state in history] == [False] * (len(history) - 1) + [True]
    assert sum(closed for _, closed in results) + (last is not None) == 1
    assert len(endings(audited, number)) == 1
    if any(accepted for accepted, _ in results):
        assert history[-1] is JobState.CANCELLED
    assert not {"Pending", "Running"} & steps_of(audited, number)
