"""When a schedule ticks next, by the very iterator that Dagster's daemon goes by."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, islice, pairwise
from zoneinfo import ZoneInfo

from dagster._utils.schedules import schedule_execution_time_iterator

from aiia_pipelines.config.clock import Cron
from aiia_pipelines.config.ticks import is_tick
from aiia_pipelines.schedules.crons import asked

_LOOKED_AT = 15  # days with ticks


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
    """Give the longest time between two ticks of the coming weeks, by the clock on the wall.

    Each run asks for it as it begins: ticks are not listed, of which a cron of each minute has many.
    """
    schedule = Cron.parse(cron)
    times = sorted(timedelta(hours=h, minutes=m) for h in schedule.hours for m in schedule.minutes)
    within = max((late - early for early, late in pairwise(times)), default=timedelta())
    first = after.astimezone(ZoneInfo(timezone)).date()
    ticking = (day for day in map(first.__add__, _days()) if schedule.has_day(day))
    apart = max(late - early for early, late in pairwise(islice(ticking, _LOOKED_AT)))
    return max(within, apart - (times[-1] - times[0]))


def _days() -> Iterator[timedelta]:
    return (timedelta(days=number) for number in count())
