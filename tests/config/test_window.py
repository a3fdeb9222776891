from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.window import Hours, Opening, Window
from aiia_pipelines.config.wording import mistakes_of, place

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
WEEK = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
# Days on which clocks change, and a plain one; changes by an hour, by half of one, at midnight, none.
PLACES = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("America/Havana", "2026-03-08"),
    ("America/Havana", "2026-11-01"),
    ("Asia/Beirut", "2026-10-25"),
    ("Africa/Casablanca", "2026-03-22"),
    ("Pacific/Apia", "2011-12-30"),
    ("Asia/Kolkata", "2026-05-24"),
]


def opening(zone: str = "UTC", **parts: Any) -> Opening:
    return Opening(Window.model_validate(parts), zone)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def file_with(**parts: Any) -> dict[str, Any]:
    streams = [{"name": "orders", "table": "orders"}]
    return {"name": "crm", "title": "CRM", "source": {"kind": "sql"}, "streams": streams} | parts


# -- the walk over each minute ----------------------------------------------------------------


@lru_cache(maxsize=200_000)
def shown(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)


@lru_cache(maxsize=20_000)
def first_showing(wall: datetime, zone: ZoneInfo, *, last: bool) -> datetime:
    """Find the moment at which a clock shows a time by looking at it each minute."""
    moment = wall.replace(tzinfo=UTC) - timedelta(hours=30)
    found = None
    for _ in range(60 * 60):
        now, before = shown(moment, zone), shown(moment - MINUTE, zone)
        if now == wall or (found is None and before < wall < now):
            found = moment
            if not last:
                break
        moment += MINUTE
    assert found is not None
    return found


class Walk:
    """What is open, told by looking at each minute around a day."""

    def __init__(self, window: Window, zone: str, around: date) -> None:
        self.open: set[datetime] = set()
        for number in range(-6, 7):
            day = around + number * DAY
            if window.from_ and day < window.from_:
                continue
            if (window.until and day > window.until) or WEEK[day.weekday()] not in window.weekdays:
                continue
            self._begin_on(day, window.hours, ZoneInfo(zone))

    def _begin_on(self, day: date, hours: Hours | None, zone: ZoneInfo) -> None:
        begin, end = (hours.begin, hours.end) if hours else (time(), time())
        until = day if begin < end else day + DAY
        moment = first_showing(datetime.combine(day, begin), zone, last=False)
        closes = first_showing(datetime.combine(until, end), zone, last=True)
        while moment < closes:
            self.open.add(moment)
            moment += MINUTE


clock = st.tuples(st.integers(0, 23), st.sampled_from([0, 1, 15, 30, 45, 59])).map(
    lambda pair: time(*pair)
)


@st.composite
def windows(draw: st.DrawFn, around: date) -> Window:
    parts: dict[str, Any] = {}
    if draw(st.booleans()):
        begin, end = draw(st.tuples(clock, clock).filter(lambda pair: pair[0] != pair[1]))
        parts["hours"] = Hours(begin, end)
    if draw(st.booleans()):
        chosen = draw(st.sets(st.sampled_from(WEEK), min_size=1))
        parts["weekdays"] = sorted(chosen, key=WEEK.index)
    if draw(st.booleans()):
        parts["from"] = around + draw(st.integers(-3, 2)) * DAY
    if draw(st.booleans()):
        parts["until"] = around + draw(st.integers(-2, 3)) * DAY
    return Window.model_validate(parts)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_window_is_open_as_a_walk_over_each_minute_says(data: st.DataObject) -> None:
    zone, text = data.draw(st.sampled_from(PLACES))
    around = date.fromisoformat(text)
    try:
        window = data.draw(windows(around))
    except ValidationError:
        return  # it never opens, and is refused
    found, walk = Opening(window, zone), Walk(window, zone, around)
    middle = datetime.combine(around, time(), UTC)
    start = middle + data.draw(st.integers(-24 * 60, 36 * 60)) * MINUTE
    assert found.is_open(start) == (start in walk.open)
    horizon = [start + number * MINUTE for number in range(48 * 60)]
    opens = next((each for each in horizon if each in walk.open), None)
    closes = next((each for each in horizon if each not in walk.open), None)
    told_opens, told_closes = found.next_opening(start), found.closes_at(start)
    if opens is not None:
        assert told_opens == opens
    else:
        assert told_opens is None or told_opens > horizon[-1]
    if closes is not None:
        assert told_closes == closes
    else:
        assert told_closes is None or told_closes > horizon[-1]
    ends = found.ends_at
    if ends is not None:
        assert not found.is_open(ends)
        assert found.next_opening(ends) is None
        assert found.is_open(ends - MINUTE) or found.closes_at(ends - MINUTE) == ends - MINUTE


# -- single cases -----------------------------------------------------------------------------


def test_without_a_window_it_is_always_open() -> None:
    always = Opening(None, "UTC")
    now = at("2026-05-24T02:00")
    assert always.is_open(now)
    assert (always.next_opening(now), always.closes_at(now), always.ends_at) == (now, None, None)
    endless = opening(**{"from": "2026-06-01"})
    assert not endless.is_open(now)
    assert endless.next_opening(now) == at("2026-06-01T00:00")
    assert endless.closes_at(now) == now
    assert endless.closes_at(at("2026-06-02T00:00")) is None


def test_the_documented_window_opens_on_its_nights() -> None:
    nights = opening(
        "Europe/Berlin",
        **{"from": "2026-01-01", "until": "2026-12-31"},
        hours="22:00-05:00",
        weekdays=["mon", "tue", "wed", "thu", "fri"],
    )
    # Friday's night goes on into Saturday; Saturday's own does not begin.
    assert nights.is_open(at("2026-05-22T20:00"))
    assert nights.closes_at(at("2026-05-22T20:00")) == at("2026-05-23T03:00")
    assert nights.next_opening(at("2026-05-23T03:00")) == at("2026-05-25T20:00")
    # The night of the first day is the first, that of the last day ends on the next.
    assert nights.next_opening(at("2025-12-01T00:00")) == at("2026-01-01T21:00")
    assert nights.ends_at == at("2027-01-01T04:00")
    assert nights.closes_at(at("2026-12-31T22:00")) == nights.ends_at
    assert nights.next_opening(at("2027-01-01T04:00")) is None


def test_a_range_of_a_thousand_years_is_told_at_once() -> None:
    long = opening(**{"from": "2000-01-01", "until": "2999-12-31"})
    assert long.closes_at(at("2026-01-01T00:00")) == at("3000-01-01T00:00")


@pytest.mark.parametrize(
    ("hours", "day", "begin", "end"),
    [
        # Berlin's clocks jump from 2 to 3: a border in between stands at the jump.
        ("01:00-02:30", "2026-03-29", "2026-03-29T00:00", "2026-03-29T01:00"),
        ("02:30-04:00", "2026-03-29", "2026-03-29T01:00", "2026-03-29T02:00"),
        # They go back from 3 to 2: it opens at the first 2:30, and closes at the second.
        ("01:00-02:30", "2026-10-25", "2026-10-24T23:00", "2026-10-25T01:30"),
        ("02:30-04:00", "2026-10-25", "2026-10-25T00:30", "2026-10-25T03:00"),
        ("02:15-02:30", "2026-10-25", "2026-10-25T00:15", "2026-10-25T01:30"),
    ],
)
def test_borders_at_a_change_of_the_clocks_follow_the_rule(
    hours: str, day: str, begin: str, end: str
) -> None:
    found = opening("Europe/Berlin", hours=hours)
    midnight = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/Berlin"))
    assert found.next_opening(midnight) == at(begin)
    assert found.closes_at(at(begin)) == at(end)


def test_hours_that_the_clocks_leave_out_do_not_open_on_that_day() -> None:
    found = opening("Europe/Berlin", hours="02:15-02:45")
    assert found.next_opening(at("2026-03-29T00:00")) == at("2026-03-30T00:15")


def test_a_window_is_written_as_it_was_read() -> None:
    window = {"from": "2026-01-01", "until": "2026-12-31", "hours": "22:00-24:00"}
    connector = Connector.model_validate(file_with(window=window, timezone="Asia/Riyadh"))
    assert connector.public()["window"] == window
    assert Connector.model_validate(connector.public()) == connector
    assert connector.opening == Opening(connector.window, "Asia/Riyadh")
    assert str(Hours.parse("09:00-17:30")) == "09:00-17:30"
    assert Connector.model_validate(file_with(missed="all")).missed == "all"


@pytest.mark.parametrize(
    ("window", "said"),
    [
        (5, "window: must be a mapping"),
        ({"hour": "x"}, "window.hour: unknown key; did you mean 'hours'? Allowed: from, until"),
        ({"from": "soon"}, "window.from: must be a day from 2000 to 2999 as in 2026-12-31"),
        ({"until": 2026}, "window.until: must be a day"),
        ({"until": "2026-02-30"}, "window.until: must be a day"),
        ({"from": "2027-01-01", "until": "2026-01-01"}, "window: until must not be before from"),
        ({"hours": "22"}, "window.hours: must be two times of day as in '22:00-05:00'"),
        ({"hours": "22:00-25:00"}, "window.hours: must be two times of day"),
        ({"hours": 1320}, "window.hours: must be two times of day"),
        ({"hours": "05:00-05:00"}, "window.hours: must not begin and end at the same time"),
        ({"weekdays": ["mo"]}, "window.weekdays[0]: must be one of mon, tue"),
        ({"weekdays": []}, "window.weekdays: must have at least 1 entry"),
        (
            {"from": "2026-01-03", "until": "2026-01-04", "weekdays": ["mon"]},
            "window: none of its weekdays lies between from and until",
        ),
    ],
)
def test_a_wrong_window_is_told_with_its_place(window: object, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Connector.model_validate(file_with(window=window))
    (loc, sentence), *_ = mistakes_of(caught.value)
    assert f"{place(loc)}: {sentence}".startswith(said)
