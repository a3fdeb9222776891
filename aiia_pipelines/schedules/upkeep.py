"""When the jobs of the system itself run."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import dagster as dg
from dagster._time import get_current_datetime

from aiia_pipelines.jobs.run import JobType

# No connector's schedule begins so: what lists those leaves these out.
PREFIX = "system__"
_OPEN = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def build() -> list[dg.ScheduleDefinition]:
    """Make the schedules: the health check each hour, maintenance each night; not on the hour, when most syncs begin."""
    return [
        _schedule(JobType.HEALTH_CHECK, "7 * * * *", timedelta(minutes=10)),
        _schedule(JobType.MAINTENANCE, "30 3 * * *", timedelta(hours=20)),
    ]


def _schedule(kind: JobType, cron: str, patience: timedelta) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=f"{PREFIX}{kind}",
        job_name=kind.value,
        cron_schedule=cron,
        execution_timezone="UTC",
        execution_fn=partial(_evaluate, kind=kind, patience=patience),
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


def _evaluate(
    context: dg.ScheduleEvaluationContext, *, kind: JobType, patience: timedelta
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    yield decide(context.instance, kind, context.scheduled_execution_time, patience)


def decide(
    instance: dg.DagsterInstance, kind: JobType, tick: datetime, patience: timedelta
) -> dg.RunRequest | dg.SkipReason:
    """Ask for a run, unless the tick passed while nothing ran or the run before it is still there."""
    if get_current_datetime() - tick.astimezone(UTC) > patience:
        return dg.SkipReason("The tick passed while nothing ran.")
    open_ones = dg.RunsFilter(job_name=kind.value, statuses=_OPEN)
    if instance.get_runs(open_ones, limit=1):
        return dg.SkipReason("The run before this one has not ended.")
    return dg.RunRequest(run_key=f"{kind}@{tick.astimezone(UTC).isoformat()}")
