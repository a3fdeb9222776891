"""A Connection Test as a job run: its stages are steps, and its log has the documented lines."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.faults import ConfigInvalid
from aiia_pipelines.connectors.base import Source
from aiia_pipelines.jobs import stages
from aiia_pipelines.jobs.badge import Badge
from aiia_pipelines.jobs.log import Level, LogLine, connecting, starting
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import JobType, NewJobRun, Trigger
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.sync._traceback import traceback_of
from aiia_pipelines.sync.faults import Stopped
from aiia_pipelines.sync.probe import Probed, Staged, Watch, run_stages

Report = Callable[[Staged], None]


def run_as_job(
    store: JobStore,
    connector: Connector,
    home: Path,
    tested: Probed,
    report: Report,
    *,
    by: str,
) -> None:
    """Run a Connection Test as a job run of this process, without Dagster.

    Raises:
        KeyboardInterrupt: The person at this terminal ended it, not one who cancelled the job run.
    """
    request = request_of(connector, by)
    number = tested.number = store.create(request)
    store.take(number, request)
    store.move(number, JobState.RUNNING)
    try:
        with Recorder(store, number) as recorder:
            recorder.log(Level.INFO, starting(JobType.CONNECTION_TEST, number, connector.title))
            record(recorder, lambda: connector, home, tested, report)
    except KeyboardInterrupt:
        row = store.row(number)
        if row is None or row.cancel_by is None:
            store.request_cancel(number, by=by, reason="interrupted")
            raise
    finally:
        finish(store, number, tested)


def request_of(connector: Connector, by: str) -> NewJobRun:
    """Ask for a Connection Test; it has stages and no tasks, for it brings no stream over."""
    return NewJobRun(
        connector=connector.name,
        title=connector.title,
        streams=(),
        trigger=Trigger.MANUAL,
        triggered_by=by,
        type=JobType.CONNECTION_TEST,
        priority=connector.priority,
        config=connector.public(),
    )


def record(
    recorder: Recorder,
    connector: Callable[[], Connector],
    home: Path,
    tested: Probed,
    report: Report,
) -> None:
    """Go through the stages of a connector, and leave its failure in `tested`."""
    store, number = recorder.store, recorder.number

    def ended(stage: Staged) -> None:
        if stage.passed is not None:
            stages.end(
                store,
                number,
                stage.name,
                passed=stage.passed,
                seconds=stage.seconds,
                note=stage.note,
            )
            recorder.log_line(line_of(stage))
        report(stage)

    def opened(source: Source) -> None:
        # A stage that waits for the network notices at once that nobody waits for it any more.
        recorder.on_cancel = source.cancel
        recorder.log(Level.INFO, connecting(source.describe()))

    watch = Watch(
        planned=partial(stages.plan, store, number),
        began=partial(stages.begin, store, number),
        ended=ended,
        stopped=lambda: recorder.cancelled,
    )
    try:
        run_stages(connector(), home, tested, watch, opened=opened)
    except (ConfigInvalid, LookupError) as fault:
        recorder.log(Level.ERROR, tested.fail(fault).headline)
    except Stopped:
        tested.state = JobState.CANCELLED
    if tested.wants_firewall and tested.firewall is not None:
        recorder.log(
            Level.INFO, "To paste to a firewall team:", detail=tested.firewall.text.splitlines()
        )


def finish(store: JobStore, number: int, tested: Probed) -> LogLine | None:
    """End the job run of a test, also of one that ended in a way that no stage foresaw."""
    state = tested.state if tested.state is not JobState.RUNNING else JobState.FAILED
    if state is JobState.COMPLETED:
        stages.succeed(store, number)
    line = store.finish(number, state, failure=tested.failure)
    row = store.row(number)
    tested.state = JobState(row.state) if row else state
    return line


def line_of(stage: Staged) -> LogLine:
    """Write a stage as the one line of the log that tells it."""
    failure, fault = stage.failure, stage.fault
    if failure is None:
        return LogLine.of(Level.WARNING if stage.warns else Level.INFO, stage.sentence())
    detail = []
    if fault is not None and fault.__traceback__ is not None:
        detail = traceback_of(fault, about_data=failure.badge is Badge.ERROR)
    return LogLine.of(Level.ERROR, failure.headline, detail=detail)
