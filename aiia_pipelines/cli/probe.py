"""A Connection Test: stage by stage, and as a job run of its own, without Dagster."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from aiia_pipelines.cli.session import person
from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.faults import ConfigInvalid
from aiia_pipelines.config.secrets import resolve_tree
from aiia_pipelines.config.settings import Settings
from aiia_pipelines.connectors.base import Source, SourceFault, open_source
from aiia_pipelines.jobs.failures import Failure, classify
from aiia_pipelines.jobs.log import Level, LogLine, connecting, starting
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import JobType, NewJobRun, Trigger
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore

# Name resolution and TCP are told apart from what goes wrong once a session stands.
_SIDES = {"dns": "connect", "tcp": "connect", "login": "connect"}


@dataclass(frozen=True, slots=True)
class Staged:
    """One stage as it went; `passed` is None when it was not reached."""

    name: str
    passed: bool | None = None
    seconds: float = 0.0
    note: str = ""

    def sentence(self) -> str:
        """Say the stage in one line of a log."""
        note = f": {self.note}" if self.note else ""
        return f"{self.name.capitalize()} passed in {self.seconds:.3f} seconds{note}"


@dataclass(slots=True)
class Tested:
    """How a Connection Test of one connector went."""

    connector: str
    title: str
    number: int | None = None
    state: JobState = JobState.RUNNING
    stages: list[Staged] = field(default_factory=list)
    failure: Failure | None = None


Report = Callable[[Staged], None]


@contextmanager
def opened_source(connector: Connector, settings: Settings) -> Iterator[Source]:
    """Open the source of a connector with its secrets resolved; nothing is connected yet.

    Raises:
        ConfigInvalid: A reference leads to nothing, or an option is wrong once it is resolved.
    """
    try:
        source = open_source(resolve_tree(connector.source, os.environ, settings.home))
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        option = ".".join(str(part) for part in first["loc"])
        raise ConfigInvalid(f"{connector.name}: source.{option}: {first['msg']}") from None
    try:
        yield source
    finally:
        source.close()


def run_stages(connector: Connector, settings: Settings, tested: Tested, report: Report) -> None:
    """Go through the stages up to the first that fails; the rest stay unreached."""
    with opened_source(connector, settings) as source:
        _go_through(source, connector, tested, report)


def run_recorded(
    store: JobStore, connector: Connector, settings: Settings, tested: Tested, report: Report
) -> None:
    """Run a Connection Test as a job run."""
    number = tested.number = store.create(_request(connector))
    store.take(number, _request(connector))
    store.move(number, JobState.RUNNING)
    try:
        with Recorder(store, number) as recorder:
            recorder.log(Level.INFO, starting(JobType.CONNECTION_TEST, number, connector.title))
            _recorded(recorder, connector, settings, tested, report)
    except KeyboardInterrupt:
        store.request_cancel(number, by=person(), reason="interrupted")
        raise
    finally:
        # Also what no stage foresaw leaves a job run that has ended.
        state = tested.state if tested.state is not JobState.RUNNING else JobState.FAILED
        store.finish(number, state, failure=tested.failure)
        row = store.row(number)
        tested.state = JobState(row.state) if row else state


def _recorded(
    recorder: Recorder, connector: Connector, settings: Settings, tested: Tested, report: Report
) -> None:
    def told(stage: Staged) -> None:
        if stage.passed:
            recorder.log(Level.INFO, stage.sentence())
        report(stage)

    try:
        with opened_source(connector, settings) as source:
            recorder.log(Level.INFO, connecting(source.describe()))
            _go_through(source, connector, tested, told, lambda: recorder.cancelled)
    except (ConfigInvalid, LookupError) as fault:
        _failed(tested, fault)
    if tested.failure is not None:
        recorder.log_line(LogLine.of(Level.ERROR, tested.failure.headline))


def _go_through(
    source: Source,
    connector: Connector,
    tested: Tested,
    report: Report,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    stages = list(source.stages(connector.streams))
    for place, (name, stage) in enumerate(stages):
        if cancelled():
            tested.state = JobState.CANCELLED
        if tested.state is JobState.RUNNING:
            done = _stage(name, stage, tested)
        else:
            done = Staged(stages[place][0])
        tested.stages.append(done)
        report(done)
    if tested.state is JobState.RUNNING:
        tested.state = JobState.COMPLETED


def _stage(name: str, stage: Callable[[], str], tested: Tested) -> Staged:
    began = time.monotonic()
    try:
        note = stage()
    except (SourceFault, OSError) as fault:
        failure = _failed(tested, fault, _SIDES.get(name, ""))
        return Staged(name, False, time.monotonic() - began, failure.headline)  # noqa: FBT003
    return Staged(name, True, time.monotonic() - began, note)  # noqa: FBT003


def _failed(tested: Tested, fault: BaseException, stage: str = "") -> Failure:
    tested.failure = classify(fault, stage=stage)
    tested.state = JobState(tested.failure.badge.value)
    return tested.failure


def _request(connector: Connector) -> NewJobRun:
    return NewJobRun(
        connector=connector.name,
        title=connector.title,
        # A test has stages and no tasks: it brings no stream over.
        streams=(),
        trigger=Trigger.MANUAL,
        triggered_by=person(),
        type=JobType.CONNECTION_TEST,
        priority=connector.priority,
        config=connector.public(),
    )


def facts_of(tested: Tested) -> dict[str, Any]:
    """Return the record of a Connection Test; its keys are stable."""
    failure = tested.failure
    return {
        "number": tested.number,
        "connector": tested.connector,
        "state": tested.state.value,
        "failure_code": failure.code if failure else None,
        "message": failure.headline if failure else "",
        "cause": failure.kind.cause if failure else "",
        "remedy": failure.remedy() if failure else "",
        "verify": failure.verify() if failure else "",
        "place": failure.place if failure else "",
        "stages": [
            {"name": s.name, "passed": s.passed, "seconds": round(s.seconds, 4), "note": s.note}
            for s in tested.stages
        ],
    }


def lines_of(tested: Tested) -> Sequence[str]:
    """Say how a Connection Test ended, and what to do when it failed."""
    failure = tested.failure
    if failure is None:
        return [f"{'✓' if tested.state is JobState.COMPLETED else '⊘'} {tested.state.value}"]
    found = [
        f"✕ {tested.state.value} ({failure.code}): {failure.headline}",
        f"  Cause:       {failure.kind.cause}",
        f"  What to do:  {failure.remedy()}",
        f"  Verify:      {failure.verify()}",
    ]
    return [*found, f"  To open:     {failure.place}"] if failure.place else found


def line_of(stage: Staged) -> str:
    """Render a stage as it is shown while a test runs."""
    if stage.passed is None:
        return f"  - {stage.name}"
    mark, time_text = "✓" if stage.passed else "✕", _time(stage.seconds)
    return f"  {mark} {stage.name:<12} {time_text:>8}  {stage.note}".rstrip()


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
