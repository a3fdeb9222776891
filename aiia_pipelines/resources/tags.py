"""The run tags of this product: those that people see and filter by, the others hidden from Dagster's pages."""

from collections.abc import Mapping
from datetime import datetime

from dagster._core.storage.tags import SCHEDULED_EXECUTION_TIME_TAG

from aiia_pipelines.jobs.run import JobType
from aiia_pipelines.jobs.waiting import CONNECTOR_TAG, DESTINATION_TAG, SOURCE_TAG

JOB = "aiia/job"
BADGE = "aiia/badge"
# Dagster's pages do not show tags under this prefix.
TRIGGER = ".dagster/aiia_trigger"
TRIGGERED_BY = ".dagster/aiia_by"
RETRY_OF = ".dagster/aiia_retry_of"
# The number of the job run that goes on with this Dagster run, as its next attempt.
ATTEMPT_OF = ".dagster/aiia_attempt_of"

# The tick for which a run was made. Dagster's own tag has the moment at which that was noticed.
TICK = ".dagster/aiia_tick"

# How a sync is to be done; a run that is executed again is done in the same way.
FULL = "aiia/full"
DRY_RUN = "aiia/dry_run"
YES = "true"

_OURS = {JOB, BADGE, TRIGGER, TRIGGERED_BY, RETRY_OF, ATTEMPT_OF, TICK}


def type_of(run_tags: Mapping[str, str]) -> JobType:
    """Tell what a Dagster run with these tags does to its connectors."""
    return JobType.DRY_RUN if run_tags.get(DRY_RUN) == YES else JobType.SYNC


def is_full(run_tags: Mapping[str, str]) -> bool:
    """Tell whether a Dagster run with these tags reads all rows again."""
    return run_tags.get(FULL) == YES


def attempt_of(run_tags: Mapping[str, str]) -> int | None:
    """Give the job run that a Dagster run goes on with, if any."""
    number = run_tags.get(ATTEMPT_OF, "")
    return int(number) if number.isdigit() else None


def tick_of(run_tags: Mapping[str, str]) -> datetime | None:
    """Give the tick that the scheduler made a run for; one that a person tries out counts as none."""
    tick = run_tags.get(TICK)
    return (
        datetime.fromisoformat(tick) if tick and SCHEDULED_EXECUTION_TIME_TAG in run_tags else None
    )


def without_copies(tags: Mapping[str, str], *, re_execution: bool) -> dict[str, str]:
    """Drop what a new run must not inherit: Dagster copies all tags of the run that is executed again."""
    inherited = _OURS if re_execution else {JOB, BADGE}
    # What limits a run is told by its connectors' files alone.
    dropped = inherited | {SOURCE_TAG, DESTINATION_TAG, CONNECTOR_TAG}
    return {key: value for key, value in tags.items() if key not in dropped}
