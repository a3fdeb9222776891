"""What has become of a schedule's earlier ticks, by Dagster's tick rows and runs."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import (
    InstigatorState,
    ScheduleInstigatorData,
    TickStatus,
)
from dagster._core.storage.tags import SCHEDULE_NAME_TAG, SCHEDULED_EXECUTION_TIME_TAG

from aiia_pipelines.resources.tags import TICK

INSTANT = timedelta(microseconds=1)
# Looked at to the end; one that failed or was interrupted is looked at again.
_DONE = [TickStatus.SUCCESS, TickStatus.SKIPPED]


def looked_at_until(instance: dg.DagsterInstance, schedule: str, moment: datetime) -> datetime:
    """Give the moment before this one up to which a schedule was on and looked at."""
    state = _state(instance, schedule)
    just_before = moment - INSTANT
    if state is None:
        return just_before
    ticks = instance.get_ticks(
        state.instigator_origin_id,
        state.selector_id,
        before=moment.timestamp(),
        limit=1,
        statuses=_DONE,
    )
    known = [tick.timestamp for tick in ticks]
    if isinstance(state.instigator_data, ScheduleInstigatorData):
        data = state.instigator_data
        known += [data.start_timestamp or 0.0, data.last_iteration_timestamp or 0.0]
    latest = max(known, default=0.0)
    return min(just_before, datetime.fromtimestamp(latest, UTC)) if latest else just_before


def already_run(
    instance: dg.DagsterInstance, schedule: str, ticks: Collection[datetime], moment: datetime
) -> set[datetime]:
    """Tell which ticks have a run that an earlier look made; those of the same look Dagster knows itself."""
    if not ticks:
        return set()
    runs = instance.get_runs(
        dg.RunsFilter(
            tags={
                SCHEDULE_NAME_TAG: schedule,
                TICK: [tick.isoformat() for tick in ticks],
            }
        )
    )
    return {
        datetime.fromisoformat(run.tags[TICK])
        for run in runs
        if run.tags.get(SCHEDULED_EXECUTION_TIME_TAG) != moment.isoformat()
    }


def _state(instance: dg.DagsterInstance, schedule: str) -> InstigatorState | None:
    # Not by its selector: that needs the name of the code location, which the installation chooses.
    states = instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
    return next((state for state in states if state.instigator_name == schedule), None)
