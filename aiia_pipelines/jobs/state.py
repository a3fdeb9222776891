"""The states of job runs, tasks and steps, and the moves allowed between them."""

from collections.abc import Iterable
from enum import StrEnum

from aiia_pipelines.jobs.badge import Badge


class JobState(StrEnum):
    """The state of a job run; the values are the texts people read."""

    SCHEDULED = "Scheduled"
    PENDING = "Pending"
    PREPARING = "Preparing"
    RUNNING = "Running"
    PAUSED = "Paused"
    COMPLETED = "Completed"
    PARTIALLY_SUCCEEDED = "Partially Succeeded"
    FAILED = "Failed"
    ERROR = "Error"
    CANCELLED = "Cancelled"
    REPLACED = "Replaced"
    UNKNOWN = "Unknown"


class TaskState(StrEnum):
    """The state of the part of a job run that deals with one stream."""

    SCHEDULED = "Scheduled"
    RUNNING = "Running"
    RESCHEDULED = "Rescheduled"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    ERROR = "Error"
    CANCELLED = "Cancelled"
    SKIPPED = "Skipped"


class StepState(StrEnum):
    """The state of one phase of a task."""

    PENDING = "Pending"
    RUNNING = "Running"
    COMPLETED = "Completed"
    SKIPPED = "Skipped"
    FAILED = "Failed"


STEPS = (
    "prepare",
    "connect",
    "extract",
    "parse",
    "validate",
    "match",
    "reconcile",
    "commit",
    "clean_up",
)

_S = JobState

FINAL: frozenset[JobState] = frozenset(
    {_S.COMPLETED, _S.PARTIALLY_SUCCEEDED, _S.FAILED, _S.ERROR, _S.CANCELLED, _S.REPLACED}
)

# Unknown is what a reader is shown, never what is stored: no move leads to it or away from it.
LEGAL: dict[JobState, frozenset[JobState]] = {
    _S.SCHEDULED: frozenset({_S.PENDING, _S.CANCELLED, _S.REPLACED, _S.FAILED}),
    _S.PENDING: frozenset(
        {_S.PREPARING, _S.RUNNING, _S.SCHEDULED, _S.CANCELLED, _S.REPLACED, _S.FAILED}
    ),
    _S.PREPARING: frozenset({_S.RUNNING, _S.FAILED, _S.ERROR, _S.CANCELLED, _S.SCHEDULED}),
    _S.RUNNING: frozenset(
        {
            _S.COMPLETED,
            _S.PARTIALLY_SUCCEEDED,
            _S.FAILED,
            _S.ERROR,
            _S.CANCELLED,
            _S.PAUSED,
            _S.SCHEDULED,
        }
    ),
    _S.PAUSED: frozenset({_S.PENDING, _S.SCHEDULED, _S.CANCELLED, _S.REPLACED, _S.FAILED}),
    **{state: frozenset() for state in (*FINAL, _S.UNKNOWN)},
}

_FORWARD = (_S.SCHEDULED, _S.PENDING, _S.PREPARING, _S.RUNNING)

_FAMILY: dict[JobState, Badge] = {
    _S.SCHEDULED: Badge.PENDING,
    _S.PENDING: Badge.PENDING,
    _S.PREPARING: Badge.PENDING,
    _S.RUNNING: Badge.RUNNING,
    _S.PAUSED: Badge.PENDING,
    _S.COMPLETED: Badge.COMPLETED,
    _S.PARTIALLY_SUCCEEDED: Badge.ERROR,
    _S.FAILED: Badge.FAILED,
    _S.ERROR: Badge.ERROR,
    _S.CANCELLED: Badge.CANCELLED,
    _S.REPLACED: Badge.CANCELLED,
}


class IllegalTransition(Exception):
    """A job run was asked to make a move that its state does not allow."""


def family(state: JobState, last: JobState | None = None) -> Badge:
    """Return the badge of a state; an unknown one keeps the badge of the last known state."""
    if state is JobState.UNKNOWN:
        return _FAMILY.get(last, Badge.PENDING) if last else Badge.PENDING
    return _FAMILY[state]


def check(current: JobState, new: JobState) -> None:
    """Accept a legal transition.

    Raises:
        IllegalTransition: the move is not one of LEGAL.
    """
    if new not in LEGAL[current]:
        raise IllegalTransition(f"A job run that is {current} cannot become {new}.")


def path(current: JobState, wanted: JobState) -> tuple[JobState, ...]:
    """Return the states to record, in order, to reach the wanted one; empty when it is late."""
    if wanted in LEGAL[current]:
        return (wanted,)
    if current in FINAL or JobState.UNKNOWN in (current, wanted):
        return ()
    if wanted is JobState.REPLACED:
        # What already started is put back first: only a waiting run can be replaced.
        return (JobState.SCHEDULED, JobState.REPLACED)
    if wanted in FINAL or _is_ahead(current, wanted):
        return _walk_forward(current, wanted)
    return ()


def advance(current: JobState, wanted: JobState) -> JobState | None:
    """Return the state to store, or None when the event is late or changes nothing."""
    steps = path(current, wanted)
    return steps[-1] if steps else None


def job_state_of(task_states: Iterable[TaskState]) -> JobState:
    """Return the state of a job run from the states of its tasks.

    Raises:
        ValueError: there is no task to judge by.
    """
    states = set(task_states)
    if not states:
        raise ValueError("The state of a job run without tasks cannot be computed.")
    if states & {TaskState.SCHEDULED, TaskState.RUNNING, TaskState.RESCHEDULED}:
        return JobState.RUNNING
    if TaskState.SUCCEEDED in states:
        whole = states <= {TaskState.SUCCEEDED, TaskState.SKIPPED}
        return JobState.COMPLETED if whole else JobState.PARTIALLY_SUCCEEDED
    if TaskState.FAILED in states:
        return JobState.FAILED
    return JobState.ERROR if TaskState.ERROR in states else JobState.CANCELLED


def _is_ahead(current: JobState, wanted: JobState) -> bool:
    if current not in _FORWARD or wanted not in _FORWARD:
        return False
    return _FORWARD.index(wanted) > _FORWARD.index(current)


def _walk_forward(current: JobState, wanted: JobState) -> tuple[JobState, ...]:
    start = _FORWARD.index(current) + 1 if current in _FORWARD else _FORWARD.index(_S.PENDING)
    ahead = _FORWARD[start:]
    last = [wanted in LEGAL[state] for state in ahead].index(True)
    return (*ahead[: last + 1], wanted)
