"""The cron of each connector as a Dagster schedule."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from aiia_pipelines.config.connector import Connector


def build(connector: Connector, job: UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition | None:
    """Make the schedule of a connector; None when it is started by hand only."""
    if connector.schedule is None:
        return None
    return dg.ScheduleDefinition(
        name=f"schedule__{connector.name}",
        job=job,
        cron_schedule=connector.schedule,
        execution_timezone=connector.timezone,
        description=f"Refreshes {connector.title}.",
        # The file says when: nobody should have to switch it on a second time.
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
