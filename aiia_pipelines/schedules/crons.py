"""What Dagster's daemon is asked to go by, so that none of a schedule's ticks is missing.

Dagster's own arithmetic keeps to our rule (config/ticks.py) where clocks change by a whole hour between 1 and
4 o'clock. Elsewhere it ticks at other moments, early, twice or not at all; there it is asked in UTC, at every
moment that may be a tick, and the schedule itself says which are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from dagster._utils.schedules import CroniterShim, schedule_execution_time_iterator
from dagster_shared.check import CheckError

from aiia_pipelines.config.clock import Cron
from aiia_pipelines.config.localtime import changes
from aiia_pipelines.config.ticks import ticks_after

_HORIZON = timedelta(days=3 * 366)
_AROUND = timedelta(hours=3)
_DAY = timedelta(days=1)
_MINUTES = 60


@dataclass(frozen=True, slots=True)
class Asked:
    """A cron schedule for Dagster; an inexact one also has moments at which nothing is due."""

    cron: str
    timezone: str
    exact: bool


@lru_cache(maxsize=4096)
def asked(cron: str, timezone: str, today: date) -> Asked:
    """Say what to ask Dagster for, as far as the clocks' changes of the coming years are known."""
    zone = ZoneInfo(timezone)
    start = datetime.combine(today, time(), UTC) - _DAY
    turns = _turns(zone, start)
    plain = _as_meant(cron)
    offsets = {_offset(start, zone), *(_offset(turn, zone) for turn in turns)}
    if _keeps_its_minutes(offsets) and _keeps_to_the_rule(plain, timezone, turns):
        return Asked(plain, timezone, exact=True)
    return Asked(_in_utc(Cron.parse(cron), offsets, turns), "UTC", exact=False)


@lru_cache(maxsize=64)
def _turns(zone: ZoneInfo, start: datetime) -> tuple[datetime, ...]:
    return tuple(changes(zone, start, start + _HORIZON))


def _as_meant(cron: str) -> str:
    """Give a cron as it is written where Dagster reads it so; it takes 5-5 for every number, for example."""
    numbers = str(Cron.parse(cron))
    return cron if CroniterShim.expand(cron)[0] == CroniterShim.expand(numbers)[0] else numbers


def _keeps_its_minutes(offsets: set[timedelta]) -> bool:
    """Tell whether an hour begins at the same minute of UTC the whole year; Dagster takes that for granted."""
    return len({offset % timedelta(hours=1) for offset in offsets}) == 1


def _keeps_to_the_rule(cron: str, timezone: str, turns: tuple[datetime, ...]) -> bool:
    """Tell whether Dagster finds each tick around the changes of the clocks, as its daemon asks."""
    if Cron.parse(cron).is_hourly:
        return True
    return all(
        next_by_dagster(cron, timezone, before) == tick
        for turn in turns
        for before, tick in _pairs(cron, timezone, turn)
    )


def _pairs(cron: str, timezone: str, turn: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Give the ticks around a change of the clocks, each with the one before."""
    before = turn - _DAY - _AROUND
    for tick in ticks_after(cron, timezone, before):
        near = turn - _AROUND <= tick <= turn + _AROUND
        # The one after the last is looked at as well: it must not come twice.
        if near or turn - _AROUND <= before <= turn + _AROUND:
            yield before, tick
        if tick > turn + _AROUND:
            return
        before = tick


def next_by_dagster(cron: str, timezone: str, after: datetime) -> datetime | None:
    """Ask Dagster for the tick after a moment; None where its arithmetic gives up."""
    moments = schedule_execution_time_iterator(after.timestamp() + 1, cron, timezone)
    try:
        return next(moments).astimezone(UTC)
    except CheckError:
        return None


def _in_utc(cron: Cron, offsets: set[timedelta], turns: tuple[datetime, ...]) -> str:
    """Give a cron in UTC that also has each tick of one in a zone of these offsets."""
    minutes = {turn.minute for turn in turns}
    hours = {turn.hour for turn in turns}
    for offset in offsets:
        for hour in cron.hours:
            for minute in cron.minutes:
                at = hour * _MINUTES + minute - offset // timedelta(minutes=1)
                hours.add(at // _MINUTES % 24)
                minutes.add(at % _MINUTES)
    every = Cron.parse("* * * * *")
    return str(Cron(frozenset(minutes), frozenset(hours), every.days, every.months, every.weekdays))


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()
