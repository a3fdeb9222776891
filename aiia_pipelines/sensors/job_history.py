"""The backstop of the job history: ends what ended without a word, and lets both stores agree."""

from contextlib import closing

import dagster as dg

from aiia_pipelines.jobs import attempts
from aiia_pipelines.jobs.failures import classify
from aiia_pipelines.jobs.lost import end_lost, find_lost
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.resources.endings import RunEnded, death
from aiia_pipelines.resources.job_board import STATE_OF_STATUS, JobBoard, settings
from aiia_pipelines.sensors import strays, unheard

INTERVAL = 15  # seconds
AFTERMATH = 30.0  # seconds that a healthy run takes at most to end after its job run
_OPEN_STATUSES = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dg.sensor(
    name="job_history",
    minimum_interval_seconds=INTERVAL,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ends job runs whose worker is gone, and job runs that Dagster ended unseen.",
)
def job_history(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Sweep once; doing it twice changes nothing."""
    with closing(JobStore.open(str(settings().database_url))) as store:
        ended = sweep(context.instance, store)
    return dg.SkipReason(f"{len(ended)} job runs ended: {ended}" if ended else "Nothing was lost.")


def sweep(instance: dg.DagsterInstance, store: JobStore) -> list[int]:
    """End what nobody else ended and give the numbers."""
    strays.take_up(instance)
    ended = []
    for gone in find_lost(store):
        if end_lost(store, gone):
            ended.append(gone.number)
        if gone.run_id is not None:
            run = instance.get_run_by_id(gone.run_id)
            if run is not None and not run.is_finished:
                instance.report_run_failed(run, gone.reason)
            JobBoard.publish(instance, store, gone.run_id)
    unheard.give_up(instance, store)
    ended += _unseen(instance, store)
    attempts.take_up(store)
    _let_go(instance, store)
    return ended


def _let_go(instance: dg.DagsterInstance, store: JobStore) -> None:
    """End Dagster runs whose job runs have all ended, lest they hold the connector's slot for ever."""
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=_OPEN_STATUSES)):
        if not store.ended_for(run.run_id, AFTERMATH):
            continue
        if run.status is dg.DagsterRunStatus.QUEUED:
            instance.report_run_canceled(run, "Its job run ended before it could begin.")
        else:
            instance.report_run_failed(run, "Its job run has ended; the process is gone.")


def _unseen(instance: dg.DagsterInstance, store: JobStore) -> list[int]:
    """End job runs whose Dagster run has ended or vanished."""
    ended = []
    for number, run_id in store.open_runs():
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            continue
        wanted = STATE_OF_STATUS[run.status] if run is not None else JobState.FAILED
        failure = None
        if wanted is not JobState.CANCELLED:
            failure = (
                classify(RunEnded("The Dagster run was deleted.", "worker:lost"))
                if run is None
                else death(store, number)
            )
            wanted = JobState.FAILED
        if store.finish(number, wanted, failure=failure) is not None:
            ended.append(number)
            if run is not None:
                JobBoard.publish(instance, store, run_id)
    return ended
