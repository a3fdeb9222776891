"""When a schedule ticks next, by the very iterator that Dagster's daemon goes by."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from dagster._utils.schedules import schedule_execution_time_iterator

from aiia_pipelines.config.ticks import is_tick, ticks_after
from aiia_pipelines.schedules.crons import asked


def next_ticks(cron: str, timezone: str, count: int, after: datetime) -> list[datetime]:
    """Give the next ticks after a moment, in the zone of the schedule."""
    dagster = asked(cron, timezone, after.astimezone(UTC).date())
    moments = schedule_execution_time_iterator(after.timestamp(), dagster.cron, dagster.timezone)
    # Two moments of one zone are compared by their clocks, which show some times twice: in UTC none.
    plain = (moment.astimezone(UTC) for moment in moments)
    # The iterator starts at a tick that falls on the very moment.
    later = (moment for moment in plain if moment > after)
    found = (moment for moment in later if dagster.exact or is_tick(cron, timezone, moment))
    return [moment.astimezone(ZoneInfo(timezone)) for moment in islice(found, count)]


def longest_pause(cron: str, timezone: str, after: datetime) -> timedelta:
    """Give the longest time between two ticks of the coming weeks, at most a day too short."""
    longest = timedelta()
    moment = next(ticks_after(cron, timezone, after))
    for _ in range(14):
        following = next(ticks_after(cron, timezone, moment))
        longest = max(longest, following - moment)
        # In strides of a day: a cron of each minute has ten thousand ticks a week.
        moment = max(following, moment + timedelta(days=1))
    return longest
