"""The thin resource between Dagster and the job runs: statuses become badges, log lines reach both logs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import dagster as dg

from aiia_pipelines.config.settings import Settings
from aiia_pipelines.jobs import attempts
from aiia_pipelines.jobs.log import Level, LogLine, starting
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import NewJobRun
from aiia_pipelines.jobs.state import JobState, family
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.resources import tags

Context = dg.AssetExecutionContext | dg.OpExecutionContext

STATE_OF_STATUS: dict[dg.DagsterRunStatus, JobState] = {
    dg.DagsterRunStatus.QUEUED: JobState.PENDING,
    dg.DagsterRunStatus.NOT_STARTED: JobState.PENDING,
    dg.DagsterRunStatus.MANAGED: JobState.PENDING,
    dg.DagsterRunStatus.STARTING: JobState.PREPARING,
    dg.DagsterRunStatus.STARTED: JobState.RUNNING,
    dg.DagsterRunStatus.CANCELING: JobState.RUNNING,
    dg.DagsterRunStatus.SUSPENDED: JobState.PAUSED,
    dg.DagsterRunStatus.SUCCESS: JobState.COMPLETED,
    dg.DagsterRunStatus.FAILURE: JobState.FAILED,
    dg.DagsterRunStatus.CANCELED: JobState.CANCELLED,
}

# Of several connectors in one Dagster run the badge that needs attention most is shown.
_SEVERITY = (
    JobState.FAILED,
    JobState.ERROR,
    JobState.PARTIALLY_SUCCEEDED,
    JobState.CANCELLED,
    JobState.REPLACED,
    JobState.RUNNING,
    JobState.PREPARING,
    JobState.PENDING,
    JobState.SCHEDULED,
    JobState.PAUSED,
    JobState.COMPLETED,
)


def settings() -> Settings:
    """Read the settings of this process."""
    return Settings.load(os.environ, Path.cwd())


def badge_tags(states: list[JobState]) -> dict[str, str]:
    """Give the tag that Dagster's Runs page can filter by."""
    worst = next((state for state in _SEVERITY if state in states), None)
    return {tags.BADGE: family(worst).value} if worst else {}


class JobBoard(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Opens the job run of a Dagster run and publishes its badge."""

    @contextmanager
    def open(self, context: Context, new: NewJobRun) -> Iterator[Recorder]:
        """Record this process's work on one connector as the job run that the Dagster run stands for."""
        store = JobStore.open(str(settings().database_url))
        try:
            number = self._number(store, context.run, new)
            if not store.take(number, new, context.run.run_id):
                state = store.state_of(number)
                raise dg.Failure(
                    f"Job run #{number} is {state}: this run has nothing to do.",
                    allow_retries=False,
                )
            store.move(number, JobState.RUNNING, context.run.run_id)
            try:
                with Recorder(store, number, sinks=[_dagster_log(context)]) as recorder:
                    recorder.log(Level.INFO, starting(new.type, number, new.title))
                    yield recorder
            finally:
                self.publish(context.instance, store, context.run.run_id)
        finally:
            store.close()

    @staticmethod
    def _number(store: JobStore, run: dg.DagsterRun, new: NewJobRun) -> int:
        known = store.numbers_of(run.run_id)
        if new.connector in known:
            return known[new.connector]
        goes_on = tags.attempt_of(run.tags)
        if goes_on is not None:
            # Its creator died between Dagster's row and ours.
            attempts.add(store, goes_on, run.run_id)
            return goes_on
        # A run that was selected in a way that named no asset, or whose creator died between Dagster's
        # row and ours: then its tag has the number already.
        promised = run.tags.get(tags.JOB, "")
        return store.create(
            new, number=int(promised) if promised.isdigit() else None, run_id=run.run_id
        )

    @staticmethod
    def publish(instance: dg.DagsterInstance, store: JobStore, run_id: str) -> None:
        """Write the badge of a Dagster run's job runs to its tags."""
        found = badge_tags(store.states_of(run_id))
        if found:
            instance.add_run_tags(run_id, found)


def end_as_cancelled(context: Context) -> NoReturn:
    """End a Dagster run whose job run was stopped by a request that did not come through Dagster.

    Raises:
        KeyboardInterrupt: Always; with the run Canceling, Dagster ends it as cancelled.
    """
    run = context.instance.get_run_by_id(context.run.run_id)
    if run is not None and run.status is dg.DagsterRunStatus.STARTED:
        context.instance.report_run_canceling(run, "Its job run was stopped.")
    raise KeyboardInterrupt from None


def _dagster_log(context: Context):  # type: ignore[no-untyped-def]  # noqa: ANN202
    def write(line: LogLine) -> None:
        # Dagster has its own time stamp and calls FATAL critical.
        level = {Level.FATAL: "critical"}.get(line.level, line.level.name.lower())
        context.log.log(level, "\n    ".join([line.message, *line.detail]))

    return write
