"""The stages of a system job: each within its own time, all of them tried, one line of the log for each."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg2
import sqlalchemy as sa

from aiia_pipelines.jobs import stages
from aiia_pipelines.jobs.failures import Failure, classify
from aiia_pipelines.jobs.log import LogLine, escape
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.redaction import REDACTOR
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.sync.aside import Aside
from aiia_pipelines.sync.faults import Stopped
from aiia_pipelines.sync.probe import Staged
from aiia_pipelines.sync.recorded_probe import line_of


class HistoryUnavailable(Exception):
    """The database of the job runs does not answer."""

    signals = ("platform:history",)


class Late(Exception):
    """A stage did not end within its time."""

    def __init__(self, message: str, *signals: str) -> None:
        """Keep the sentence and the signals of the failure catalogue."""
        super().__init__(message)
        self.signals = signals


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One thing to look at or to do; the note that `work` gives begins with `Warning: ` if somebody should look at it.

    `late` are the signals of one that takes longer than `within` seconds.
    """

    name: str
    work: Callable[[], str]
    within: float = 60.0
    late: tuple[str, ...] = ("run:time-limit",)
    side: str = "source"


@dataclass(slots=True)
class Course:
    """How the stages went; the failure is that of the first one that failed."""

    state: JobState = JobState.RUNNING
    stages: list[Staged] = field(default_factory=list)
    failure: Failure | None = None


def go_through(recorder: Recorder, planned: Sequence[Stage], course: Course) -> None:
    """Go through all stages: what one finds says nothing about the others.

    Raises:
        Stopped: Somebody asked the job run to stop.
    """
    store, number = recorder.store, recorder.number
    stages.plan(store, number, [stage.name for stage in planned])
    for stage in planned:
        stages.begin(store, number, stage.name)
        done = _through(stage, lambda: recorder.cancelled)
        course.stages.append(done)
        course.failure = course.failure or done.failure
        stages.end(
            store, number, stage.name,
            passed=done.failure is None, seconds=done.seconds, note=done.note,
        )  # fmt: skip
        recorder.log_line(line_of(done))
    failed = course.failure
    course.state = JobState(failed.badge.value) if failed is not None else JobState.COMPLETED


def _through(stage: Stage, stopped: Callable[[], bool]) -> Staged:
    aside = Aside(f"stage-{stage.name}")
    began = time.monotonic()
    answer = aside.do(stage.work, began + stage.within, stopped)
    # One that hangs is left behind; it ends with the process.
    aside.end()
    seconds = time.monotonic() - began
    if stopped():
        raise Stopped("Somebody asked this job run to stop.")
    fault = answer.exception() if answer.done() else _late(stage)
    if fault is None:
        return Staged(stage.name, True, seconds, answer.result())  # noqa: FBT003 - reads as the field it is
    failure = classify(_told(fault), side=stage.side)
    return Staged(stage.name, False, seconds, failure.headline, failure, fault)  # noqa: FBT003 - see above


def _told(fault: BaseException) -> BaseException:
    """Tell the database of the history from those of sources and destinations, which have drivers of their own."""
    cause = fault.orig if isinstance(fault, sa.exc.DBAPIError) else fault
    if not isinstance(cause, psycopg2.OperationalError | psycopg2.InterfaceError):
        return fault
    said = (str(cause).strip() or "it went away").splitlines()[0]
    told = HistoryUnavailable(f"History unavailable: {said}")
    told.__cause__ = fault
    return told


def _late(stage: Stage) -> Late:
    name = f"{stage.name[:1].upper()}{stage.name[1:]}"
    return Late(f"{name} did not answer within {stage.within:g} seconds.", *stage.late)


def finish(store: JobStore, number: int, course: Course) -> LogLine | None:
    """End the job run as its stages went, or as Cancelled if somebody asked for that meanwhile."""
    if course.state is JobState.COMPLETED:
        stages.succeed(store, number)
    line = store.finish(number, course.state, failure=course.failure)
    row = store.row(number)
    course.state = JobState(row.state) if row else course.state
    return line


def table_of(course: Course) -> str:
    """Write the stages as a Markdown table."""
    lines = ["| stage | result | time | note |", "|---|---|---|---|"]
    for stage in course.stages:
        verdict = "✕ failed" if stage.failure else "! look at it" if stage.warns else "✓ passed"
        note = escape(REDACTOR.clean(stage.note)).replace("|", "\\|")
        lines.append(f"| {stage.name} | {verdict} | {stage.seconds:.3f} s | {note} |")
    return "\n".join(lines)
