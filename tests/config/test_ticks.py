from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from aiia_pipelines.config.ticks import is_tick, open_ticks, ticks_after, ticks_between
from aiia_pipelines.config.window import Opening, Window

MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


def first(cron: str, zone: str, after: datetime, count: int = 3) -> list[str]:
    return [f"{tick:%m-%d %H:%M}" for tick in islice(ticks_after(cron, zone, after), count)]


@pytest.mark.parametrize(
    ("cron", "ticks"),
    [
        ("0 2 * * *", ["01-01 02:00", "01-02 02:00", "01-03 02:00"]),
        ("*/20 * * * *", ["01-01 00:20", "01-01 00:40", "01-01 01:00"]),
        ("30 6 * * mon", ["01-05 06:30", "01-12 06:30", "01-19 06:30"]),
        ("0 0 29 2 *", ["02-29 00:00", "02-29 00:00", "02-29 00:00"]),
        # Of a day of the month and one of the week either is enough.
        ("0 0 15 * 6", ["01-03 00:00", "01-10 00:00", "01-15 00:00"]),
        ("0 0 15 * 0-6", ["01-02 00:00", "01-03 00:00", "01-04 00:00"]),
        ("0 0 15 * */1", ["01-15 00:00", "02-15 00:00", "03-15 00:00"]),
    ],
)
def test_a_schedule_ticks_at_its_times(cron: str, ticks: list[str]) -> None:
    assert first(cron, "UTC", MIDNIGHT) == ticks


def test_a_tick_at_the_very_moment_is_not_after_it() -> None:
    assert next(ticks_after("0 0 * * *", "UTC", MIDNIGHT)) == MIDNIGHT + timedelta(days=1)
    assert is_tick("0 0 * * *", "UTC", MIDNIGHT)
    assert not is_tick("0 0 * * *", "UTC", MIDNIGHT + timedelta(seconds=1))
    day = list(ticks_between("0 */8 * * *", "UTC", MIDNIGHT, MIDNIGHT + timedelta(days=1)))
    assert [f"{tick:%H}" for tick in day] == ["08", "16", "00"]


def test_where_the_clocks_go_back_over_midnight_no_tick_is_lost() -> None:
    # St. John's set its clocks back at one minute past midnight, to one past eleven.
    after = datetime(2010, 11, 7, 1, 0, tzinfo=UTC)
    found = first("*/30 * * * *", "America/St_Johns", after, 6)
    assert found == [
        "11-07 01:30",
        "11-07 02:00",
        "11-07 02:30",
        "11-07 03:00",
        "11-07 03:30",
        "11-07 04:00",
    ]


def test_ticks_outside_a_window_are_left_out() -> None:
    window = Window.model_validate({"until": "2026-01-07", "hours": "22:00-05:00"})
    opening = Opening(window, "UTC")
    found = [f"{tick:%d %H}" for tick in open_ticks("0 4,12 * * *", opening, MIDNIGHT)]
    assert found == ["01 04", "02 04", "03 04", "04 04", "05 04", "06 04", "07 04", "08 04"]
    endless = Opening(Window.model_validate({"hours": "22:00-05:00"}), "UTC")
    assert list(open_ticks("0 12 * * *", endless, MIDNIGHT)) == []
    assert next(open_ticks("0 12 * * *", Opening(None, "UTC"), MIDNIGHT)).hour == 12
