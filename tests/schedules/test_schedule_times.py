"""The ticks that Dagster's daemon makes of our schedules, against a walk over each minute of UTC."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from aiia_pipelines.config.ticks import is_tick, ticks_between
from aiia_pipelines.schedules.crons import asked, next_by_dagster
from aiia_pipelines.schedules.ticks import next_ticks

MINUTE = timedelta(minutes=1)
AROUND = timedelta(hours=26)

# Each zone with the moments of its changes in 2026; Lord Howe's is of half an hour, Havana's, Beirut's and
# Santiago's are at midnight, Casablanca's are around Ramadan, Riyadh and Kolkata have none.
ZONES = {
    "Europe/Berlin": ("2026-03-29T01:00", "2026-10-25T01:00"),
    "Europe/London": ("2026-03-29T01:00", "2026-10-25T01:00"),
    "America/New_York": ("2026-03-08T07:00", "2026-11-01T06:00"),
    "America/St_Johns": ("2026-03-08T05:30", "2026-11-01T04:30"),
    "Australia/Lord_Howe": ("2026-04-04T15:00", "2026-10-03T15:30"),
    "America/Havana": ("2026-03-08T05:00", "2026-11-01T05:00"),
    "Asia/Beirut": ("2026-03-28T22:00", "2026-10-24T21:00"),
    "America/Santiago": ("2026-04-05T03:00", "2026-09-06T04:00"),
    "Pacific/Chatham": ("2026-04-04T14:00", "2026-09-26T14:00"),
    "Africa/Casablanca": ("2026-02-15T02:00", "2026-03-22T02:00"),
    "Asia/Riyadh": ("2026-03-29T01:00", "2026-10-25T01:00"),
    "Asia/Kolkata": ("2026-03-29T01:00", "2026-10-25T01:00"),
}
# minute, hour, weekday (Sunday is 0), with what they stand for.
ALL = frozenset(range(60))
DAYS = frozenset(range(7))
CRONS: dict[str, tuple[frozenset[int], frozenset[int], frozenset[int]]] = {
    "0 0 * * *": (frozenset({0}), frozenset({0}), DAYS),
    "30 0 * * *": (frozenset({30}), frozenset({0}), DAYS),
    "30 1 * * *": (frozenset({30}), frozenset({1}), DAYS),
    "0 2 * * *": (frozenset({0}), frozenset({2}), DAYS),
    "30 2 * * *": (frozenset({30}), frozenset({2}), DAYS),
    "50 2 * * *": (frozenset({50}), frozenset({2}), DAYS),
    "30 3 * * *": (frozenset({30}), frozenset({3}), DAYS),
    "30 23 * * *": (frozenset({30}), frozenset({23}), DAYS),
    "0 * * * *": (frozenset({0}), ALL, DAYS),
    "*/15 * * * *": (frozenset({0, 15, 30, 45}), ALL, DAYS),
    "*/15 2 * * *": (frozenset({0, 15, 30, 45}), frozenset({2}), DAYS),
    "30 */3 * * *": (frozenset({30}), frozenset(range(0, 24, 3)), DAYS),
    "0 8-18 * * 1-5": (frozenset({0}), frozenset(range(8, 19)), frozenset(range(1, 6))),
    "30 2 * * 0": (frozenset({30}), frozenset({2}), frozenset({0})),
    "30 2 * * 6,0": (frozenset({30}), frozenset({2}), frozenset({0, 6})),
    "*/30 * * * 0": (frozenset({0, 30}), ALL, frozenset({0})),
    # To Dagster 5-5 is every minute.
    "5-5 3 * * *": (frozenset({5}), frozenset({3}), DAYS),
}


@cache
def walk(zone: str, change: datetime) -> list[tuple[datetime, datetime, bool, list[datetime]]]:
    """Give each minute around a change with what the clock shows, whether it will show that again, and
    what it has just jumped over.
    """
    place = ZoneInfo(zone)
    count = 2 * AROUND // MINUTE
    moments = [change - AROUND + number * MINUTE for number in range(count)]
    clocks = [moment.astimezone(place).replace(tzinfo=None) for moment in moments]
    last = {clock: number for number, clock in enumerate(clocks)}
    found = []
    for number, (moment, clock) in enumerate(zip(moments, clocks, strict=True)):
        jumped = []
        passed = clocks[number - 1] + MINUTE if number else clock
        while passed < clock:
            jumped.append(passed)
            passed += MINUTE
        found.append((moment, clock, last[clock] > number, jumped))
    return found


def expected(cron: str, zone: str, change: datetime) -> list[datetime]:
    """Apply the rule: every hour that passes, or else once for each time, late rather than never."""
    minutes, hours, weekdays = CRONS[cron]

    def names(clock: datetime) -> bool:
        day = clock.isoweekday() % 7
        return clock.minute in minutes and clock.hour in hours and day in weekdays

    if hours is ALL:
        return [moment for moment, clock, _, _ in walk(zone, change) if names(clock)]
    return [
        moment
        for moment, clock, again, jumped in walk(zone, change)
        if (names(clock) and not again) or any(map(names, jumped))
    ]


def by_daemon(cron: str, zone: str, change: datetime) -> Iterator[datetime]:
    """Go as the daemon does: it asks anew after each tick, and the schedule says which moments are ticks."""
    dagster = asked(cron, zone, date(2026, 1, 1))
    cursor = (change - AROUND).timestamp()
    while True:
        moment = next(schedule_execution_time_iterator(cursor, dagster.cron, dagster.timezone))
        if moment.timestamp() >= (change + AROUND).timestamp():
            return
        if dagster.exact or is_tick(cron, zone, moment):
            yield moment.astimezone(UTC)
        cursor = moment.timestamp() + 1


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("season", [0, 1])
def test_no_tick_is_missing_or_double_when_the_clocks_change(zone: str, season: int) -> None:
    change = datetime.fromisoformat(ZONES[zone][season]).replace(tzinfo=UTC)
    start, end = change - AROUND - timedelta(seconds=1), change + AROUND - MINUTE
    for cron in CRONS:
        wanted = expected(cron, zone, change)
        assert list(ticks_between(cron, zone, start, end)) == wanted, cron
        assert list(by_daemon(cron, zone, change)) == wanted, cron
        if wanted:
            shown = next_ticks(cron, zone, len(wanted), start)
            assert [tick.astimezone(UTC) for tick in shown] == wanted, cron


def test_the_zones_of_the_matrix_change_their_clocks_when_it_says() -> None:
    for zone, texts in ZONES.items():
        for text in texts:
            change = datetime.fromisoformat(text).replace(tzinfo=UTC)
            before, after = (at.astimezone(ZoneInfo(zone)) for at in (change - MINUTE, change))
            still = zone in {"Asia/Riyadh", "Asia/Kolkata"}
            assert (before.utcoffset() == after.utcoffset()) is still, zone


@pytest.mark.parametrize(
    ("cron", "zone", "dagster"),
    [
        ("0 2 * * *", "Europe/Berlin", ("0 2 * * *", "Europe/Berlin", True)),
        ("*/15 * * * *", "America/Havana", ("*/15 * * * *", "America/Havana", True)),
        ("0 8 * * *", "America/Havana", ("0 8 * * *", "America/Havana", True)),
        ("0 0 * * *", "America/Havana", ("0 4,5 * * *", "UTC", False)),
        ("0 * * * *", "Australia/Lord_Howe", ("0,30 * * * *", "UTC", False)),
        ("5-5 3 * * *", "UTC", ("5 3 * * *", "UTC", True)),
    ],
)
def test_dagster_is_asked_in_utc_only_where_it_errs(
    cron: str, zone: str, dagster: tuple[str, str, bool]
) -> None:
    found = asked(cron, zone, date(2026, 1, 1))
    assert (found.cron, found.timezone, found.exact) == dagster


def test_a_jump_over_midnight_ticks_on_the_day_after() -> None:
    zone, cron = "America/Nuuk", "30 23 * * *"
    assert not asked(cron, zone, date(2026, 1, 1)).exact
    after = datetime(2026, 3, 27, tzinfo=UTC)
    ticks = [f"{tick:%m-%d %H:%M}" for tick in next_ticks(cron, zone, 4, after)]
    assert ticks == ["03-26 23:30", "03-27 23:30", "03-29 00:00", "03-29 23:30"]


def test_where_the_arithmetic_of_dagster_gives_up_it_is_not_trusted() -> None:
    # A minute after Havana's clocks went back Dagster looks for a tick before its own start, and raises.
    after = datetime(2025, 11, 2, 5, 1, tzinfo=UTC)
    assert next_by_dagster("30 0 * * *", "America/Havana", after) is None
    assert next_by_dagster("30 0 * * *", "UTC", after) == datetime(2025, 11, 3, 0, 30, tzinfo=UTC)
