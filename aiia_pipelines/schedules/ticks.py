"""When a schedule ticks next, by the very iterator that Dagster's daemon goes by."""

from datetime import datetime
from itertools import islice

from dagster._utils.schedules import schedule_execution_time_iterator


def next_ticks(cron: str, timezone: str, count: int, after: datetime) -> list[datetime]:
    """Give the next ticks after a moment, in the zone of the schedule."""
    moments = schedule_execution_time_iterator(after.timestamp(), cron, timezone)
    # The iterator starts at a tick that falls on the very moment.
    later = (moment for moment in moments if moment > after)
    return list(islice(later, count))
