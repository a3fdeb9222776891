"""Runs that the daemon made and did not submit, because it was killed in between."""

from datetime import timedelta

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.storage.tags import BACKFILL_ID_TAG, SCHEDULE_NAME_TAG, SENSOR_NAME_TAG
from dagster._time import get_current_datetime

# A daemon that lives submits a run in the second in which it made it.
AGE = timedelta(seconds=30)
_BY_DAEMON = {SCHEDULE_NAME_TAG, SENSOR_NAME_TAG, BACKFILL_ID_TAG}


def take_up(instance: dg.DagsterInstance) -> list[str]:
    """Queue the stray runs, as their daemon was about to, and give their ids."""
    before = get_current_datetime() - AGE
    made = instance.get_runs(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.NOT_STARTED], created_before=before)
    )
    # Without an origin nobody could launch it: it was made by hand.
    strays = [run for run in made if _BY_DAEMON & run.tags.keys() and run.remote_job_origin]
    for run in strays:
        instance.report_dagster_event(DagsterEvent.job_enqueue(run), run_id=run.run_id)
    return [run.run_id for run in strays]
