"""When a cron schedule ticks, by the clock of its time zone, over the changes of the clocks.

An hourly schedule (`*` as the hour) ticks whenever the clock shows one of its times. Any other one names
times of a day, of which each comes once: a time that the clocks jump over ticks at the moment of the jump,
a time that comes twice ticks at the second.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import takewhile
from zoneinfo import ZoneInfo

from aiia_pipelines.config.clock import Cron
from aiia_pipelines.config.localtime import last_moment, moments
from aiia_pipelines.config.window import Opening

_DAY = timedelta(days=1)
_INSTANT = timedelta(microseconds=1)
# So many openings without a tick: some years of a window that opens each day.
_PATIENCE = 1500


def ticks_after(cron: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """Give the ticks after a moment, without end, in UTC."""
    schedule, zone = _parsed(cron), ZoneInfo(timezone)
    day, last = after.astimezone(zone).date() - _DAY, after.astimezone(UTC)
    held: set[datetime] = set()
    while True:
        coming = set(_ticks_of(schedule, zone, day))
        # Where the clocks go back over midnight, moments of a day lie behind some of the next.
        edge = max(held, default=last)
        for tick in sorted(held | {each for each in coming if each <= edge}):
            if tick > last:
                yield tick
                last = tick
        held = {each for each in coming if each > edge}
        day += _DAY


def is_tick(cron: str, timezone: str, at: datetime) -> bool:
    """Tell whether a schedule ticks at a moment."""
    return next(ticks_after(cron, timezone, at - _INSTANT)) == at


def ticks_between(cron: str, timezone: str, after: datetime, until: datetime) -> Iterator[datetime]:
    """Give the ticks after a moment up to another one, which is included."""
    return takewhile(lambda tick: tick <= until, ticks_after(cron, timezone, after))


def open_ticks(cron: str, opening: Opening, after: datetime) -> Iterator[datetime]:
    """Give the ticks after a moment at which a window is open; none where the two never meet."""
    fruitless = 0
    while fruitless < _PATIENCE:
        tick = next(ticks_after(cron, opening.timezone, after))
        opens = opening.next_opening(tick)
        if opens is None:
            return
        if opens == tick:
            yield tick
        fruitless = 0 if opens == tick else fruitless + 1
        after = max(tick, opens - _INSTANT)


@lru_cache(maxsize=1024)
def _parsed(cron: str) -> Cron:
    return Cron.parse(cron)


def _ticks_of(cron: Cron, zone: ZoneInfo, day: date) -> Iterator[datetime]:
    """Give the ticks at the times of one day."""
    if not cron.has_day(day):
        return
    for hour in cron.hours:
        for minute in cron.minutes:
            wall = datetime.combine(day, time(hour, minute))
            if cron.is_hourly:
                yield from moments(wall, zone)
            else:
                yield last_moment(wall, zone)
