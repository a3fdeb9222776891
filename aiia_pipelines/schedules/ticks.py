"""When a schedule ticks next, by the very iterator that Dagster's daemon goes by."""

from datetime import datetime, timedelta
from itertools import islice

from dagster._utils.schedules import schedule_execution_time_iterator


def next_ticks(cron: str, timezone: str, count: int, after: datetime) -> list[datetime]:
    """Give the next ticks after a moment, in the zone of the schedule."""
    moments = schedule_execution_time_iterator(after.timestamp(), cron, timezone)
    # The iterator starts at a tick that falls on the very moment.
    later = (moment for moment in moments if moment > after)
    return list(islice(later, count))


def longest_pause(cron: str, timezone: str, after: datetime) -> timedelta:
    """Give the longest time between two ticks of the coming weeks, at most a day too short."""
    longest = timedelta()
    (moment,) = next_ticks(cron, timezone, 1, after)
    for _ in range(14):
        (following,) = next_ticks(cron, timezone, 1, moment)
        longest = max(longest, following - moment)
        # In strides of a day: a cron of each minute has ten thousand ticks a week.
        moment = max(following, moment + timedelta(days=1))
    return longest
