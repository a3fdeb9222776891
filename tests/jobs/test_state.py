import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiia_pipelines.jobs.badge import Badge
from aiia_pipelines.jobs.state import (
    FINAL,
    LEGAL,
    STEPS,
    IllegalTransition,
    JobState,
    StepState,
    TaskState,
    advance,
    check,
    family,
    job_state_of,
    path,
)

STATES = st.sampled_from(JobState)
STORED = st.sampled_from([state for state in JobState if state is not JobState.UNKNOWN])
OPEN = {TaskState.SCHEDULED, TaskState.RUNNING, TaskState.RESCHEDULED}

DOCUMENTED = {
    "Scheduled": "Pending, Cancelled, Replaced, Failed",
    "Pending": "Preparing, Running, Scheduled, Cancelled, Replaced, Failed",
    "Preparing": "Running, Failed, Error, Cancelled, Scheduled",
    "Running": "Completed, Partially Succeeded, Failed, Error, Cancelled, Paused, Scheduled",
    "Paused": "Pending, Scheduled, Cancelled, Replaced, Failed",
}


def test_the_legal_transitions_are_the_documented_ones() -> None:
    told = {str(state): {str(new) for new in news} for state, news in LEGAL.items() if news}
    assert told == {state: set(news.split(", ")) for state, news in DOCUMENTED.items()}
    assert set(LEGAL) == set(JobState)


@given(STATES, STATES)
def test_check_accepts_legal_transitions_and_raises_on_all_others(
    current: JobState, new: JobState
) -> None:
    if new in LEGAL[current]:
        check(current, new)
    else:
        with pytest.raises(IllegalTransition, match=f"{current} cannot become {new}"):
            check(current, new)


@given(STORED, st.lists(STATES))
def test_stored_states_are_always_connected_by_legal_transitions(
    state: JobState, wanted: list[JobState]
) -> None:
    for want in wanted:
        steps = path(state, want)
        for step in steps:
            check(state, step)
            state = step
        assert not steps or state is want


@given(st.sampled_from(sorted(FINAL)), st.lists(STATES))
def test_a_final_state_never_changes(state: JobState, wanted: list[JobState]) -> None:
    assert all(advance(state, want) is None for want in wanted)


@given(STORED, st.lists(STATES), st.sampled_from(sorted(FINAL)))
def test_a_final_wanted_state_always_ends_final(
    state: JobState, before: list[JobState], wanted: JobState
) -> None:
    for want in before:
        state = advance(state, want) or state
    assert (advance(state, wanted) or state) in FINAL


@given(STATES)
def test_a_state_that_is_wanted_again_changes_nothing(state: JobState) -> None:
    assert advance(state, state) is None


@given(STATES)
def test_unknown_is_never_stored_and_never_left(state: JobState) -> None:
    assert advance(state, JobState.UNKNOWN) is None
    assert advance(JobState.UNKNOWN, state) is None


@pytest.mark.parametrize("wanted", [JobState.PREPARING, JobState.PENDING])
def test_a_late_event_never_takes_a_running_job_back(wanted: JobState) -> None:
    assert advance(JobState.RUNNING, wanted) is None
    assert advance(JobState.PAUSED, JobState.RUNNING) is None


def test_a_jump_records_the_states_between() -> None:
    assert path(JobState.PENDING, JobState.COMPLETED) == (
        JobState.PREPARING,
        JobState.RUNNING,
        JobState.COMPLETED,
    )
    assert path(JobState.SCHEDULED, JobState.RUNNING) == (JobState.PENDING, JobState.RUNNING)
    assert path(JobState.PENDING, JobState.ERROR) == (JobState.PREPARING, JobState.ERROR)
    assert path(JobState.PAUSED, JobState.COMPLETED)[0] is JobState.PENDING


def test_what_already_started_is_put_back_before_it_is_replaced() -> None:
    assert path(JobState.RUNNING, JobState.REPLACED) == (JobState.SCHEDULED, JobState.REPLACED)


def test_only_a_running_job_can_be_paused() -> None:
    pausable = [state for state in JobState if advance(state, JobState.PAUSED)]
    assert pausable == [JobState.RUNNING]


def test_every_state_belongs_to_a_badge_family() -> None:
    families = {state: family(state) for state in JobState}
    for badge in Badge:
        assert families[JobState(str(badge))] is badge
    assert families[JobState.SCHEDULED] is Badge.PENDING
    assert families[JobState.PREPARING] is Badge.PENDING
    assert families[JobState.PAUSED] is Badge.PENDING
    assert families[JobState.PARTIALLY_SUCCEEDED] is Badge.ERROR
    assert families[JobState.REPLACED] is Badge.CANCELLED


def test_an_unknown_state_keeps_the_badge_of_the_last_known_one() -> None:
    assert family(JobState.UNKNOWN, JobState.RUNNING) is Badge.RUNNING
    assert family(JobState.UNKNOWN, JobState.UNKNOWN) is Badge.PENDING
    assert family(JobState.UNKNOWN) is Badge.PENDING


@given(st.lists(st.sampled_from(TaskState), min_size=1))
def test_the_job_state_follows_from_its_tasks(tasks: list[TaskState]) -> None:
    state = job_state_of(tasks)
    if OPEN & set(tasks):
        assert state is JobState.RUNNING
    else:
        assert state in FINAL
        assert (state is JobState.COMPLETED) == (
            TaskState.SUCCEEDED in tasks and set(tasks) <= {TaskState.SUCCEEDED, TaskState.SKIPPED}
        )


@pytest.mark.parametrize(
    ("tasks", "state"),
    [
        ("Succeeded Skipped", JobState.COMPLETED),
        ("Succeeded Failed", JobState.PARTIALLY_SUCCEEDED),
        ("Succeeded Cancelled", JobState.PARTIALLY_SUCCEEDED),
        ("Failed Error Cancelled", JobState.FAILED),
        ("Error Cancelled Skipped", JobState.ERROR),
        ("Cancelled Skipped", JobState.CANCELLED),
        ("Skipped", JobState.CANCELLED),
        ("Succeeded Rescheduled", JobState.RUNNING),
    ],
)
def test_the_worst_task_names_a_job_without_success(tasks: str, state: JobState) -> None:
    assert job_state_of(TaskState(task) for task in tasks.split()) is state


def test_a_job_without_tasks_has_no_computed_state() -> None:
    with pytest.raises(ValueError, match="without tasks"):
        job_state_of([])


def test_steps_and_their_states_are_the_documented_ones() -> None:
    assert STEPS[0] == "prepare"
    assert STEPS[-2:] == ("commit", "clean_up")
    assert len(STEPS) == 9
    assert [str(s) for s in StepState] == ["Pending", "Running", "Completed", "Skipped", "Failed"]
