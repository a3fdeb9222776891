"""The stages of a Connection Test in the job-run store: the steps of its one task."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from aiia_pipelines.jobs.redaction import REDACTOR
from aiia_pipelines.jobs.state import StepState, TaskState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.jobs.tables import STEPS, TASKS

# A test brings no stream over: its task is that of no stream.
WHOLE = ""
_NOW = sa.func.clock_timestamp()


def plan(store: JobStore, number: int, names: Sequence[str]) -> None:
    """Write down which stages there are, none of them begun."""
    task = {"number": number, "stream": WHOLE, "state": TaskState.RUNNING, "started_at": _NOW}
    steps = [
        {
            "number": number,
            "stream": WHOLE,
            "step": name,
            "position": place,
            "state": StepState.PENDING,
        }
        for place, name in enumerate(names)
    ]

    def work(db: sa.Connection) -> None:
        db.execute(insert(TASKS).values(task).on_conflict_do_nothing())
        if steps:
            db.execute(insert(STEPS).on_conflict_do_nothing(), steps)

    store.transact(work)


def begin(store: JobStore, number: int, name: str) -> None:
    """Mark a stage as running."""
    _update(store, number, name, state=StepState.RUNNING, started_at=_NOW)


def end(
    store: JobStore, number: int, name: str, *, passed: bool, seconds: float, note: str
) -> None:
    """Write down how a stage went."""
    state = StepState.COMPLETED if passed else StepState.FAILED
    told = REDACTOR.clean(note)
    _update(store, number, name, state=state, completed_at=_NOW, busy_seconds=seconds, note=told)


def succeed(store: JobStore, number: int) -> None:
    """End the task of a test that passed; of any other, the end of the job run ends it."""
    store.transact(
        lambda db: db.execute(
            sa.update(TASKS)
            .where(TASKS.c.number == number, TASKS.c.stream == WHOLE)
            .values(state=TaskState.SUCCEEDED, ended_at=_NOW)
        )
    )


def _update(store: JobStore, number: int, name: str, **values: object) -> None:
    step = (STEPS.c.number == number, STEPS.c.stream == WHOLE, STEPS.c.step == name)
    store.transact(lambda db: db.execute(sa.update(STEPS).where(*step).values(**values)))
