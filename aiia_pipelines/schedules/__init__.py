"""The cron of each connector as a Dagster schedule."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._time import get_current_datetime

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.jobs.run import Trigger
from aiia_pipelines.resources import tags
from aiia_pipelines.schedules.crons import asked
from aiia_pipelines.schedules.due import due
from aiia_pipelines.schedules.past import INSTANT, already_run, looked_at_until

PREFIX = "schedule__"


def build(connector: Connector, job: UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition | None:
    """Make the schedule of a connector; None when it is started by hand only."""
    if connector.schedule is None:
        return None
    dagster = asked(connector.schedule, connector.timezone, datetime.now(UTC).date())
    return dg.ScheduleDefinition(
        name=f"{PREFIX}{connector.name}",
        job=job,
        cron_schedule=dagster.cron,
        execution_timezone=dagster.timezone,
        execution_fn=partial(_evaluate, connector=connector, exact=dagster.exact),
        description=f"Refreshes {connector.title}: {connector.schedule} ({connector.timezone}).",
        # The file says when: nobody should have to switch it on a second time.
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


def _evaluate(
    context: dg.ScheduleEvaluationContext, *, connector: Connector, exact: bool
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Decide about the ticks up to a moment, of which Dagster only tells the last."""
    moment = context.scheduled_execution_time.astimezone(UTC)
    # Where Dagster names each tick itself, only the policy `all` wants to know what was before.
    alone = exact and connector.missed != "all"
    name = f"{PREFIX}{connector.name}"
    since = moment - INSTANT if alone else looked_at_until(context.instance, name, moment)
    found = due(connector, since, moment, get_current_datetime())
    done = set() if alone else already_run(context.instance, name, found.ticks, moment)
    wanted = [tick for tick in found.ticks if tick not in done]
    if not wanted:
        yield dg.SkipReason(found.reason or "Each tick up to now has been run already.")
    for tick in wanted:
        yield _request(connector, tick)


def _request(connector: Connector, tick: datetime) -> dg.RunRequest:
    local = tick.astimezone(ZoneInfo(connector.timezone))
    return dg.RunRequest(
        # Dagster makes one run for a key at a moment, also when its daemon is killed meanwhile.
        run_key=f"{connector.name}@{tick.isoformat()}",
        tags={
            tags.TICK: tick.isoformat(),
            tags.TRIGGER: Trigger.SCHEDULE.value,
            tags.TRIGGERED_BY: f"{PREFIX}{connector.name} at {local:%Y-%m-%d %H:%M} {connector.timezone}",
        },
    )
