from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.schedules.due import MOST, due

HOUR = timedelta(hours=1)
NOON = datetime(2026, 5, 24, 12, tzinfo=UTC)


def hourly(**parts: Any) -> Connector:
    file = {
        "name": "crm",
        "title": "CRM",
        "source": {"kind": "sql"},
        "schedule": "0 * * * *",
        "streams": [{"name": "orders", "table": "orders"}],
    }
    return Connector.model_validate(file | parts)


@pytest.mark.parametrize(
    ("missed", "hours"), [("one", [12]), ("skip", [12]), ("all", [10, 11, 12])]
)
def test_of_the_ticks_that_passed_the_policy_chooses(missed: str, hours: list[int]) -> None:
    found = due(hourly(missed=missed), NOON - 3 * HOUR, NOON, NOON + timedelta(seconds=2))
    assert ([tick.hour for tick in found.ticks], found.reason) == (hours, "")


@pytest.mark.parametrize(("missed", "count"), [("one", 1), ("skip", 0), ("all", 3)])
def test_after_an_outage_a_late_tick_is_made_up_for_unless_it_is_to_be_skipped(
    missed: str, count: int
) -> None:
    found = due(hourly(missed=missed), NOON - 3 * HOUR, NOON, NOON + timedelta(minutes=50))
    assert len(found.ticks) == count
    if missed == "skip":
        assert found.reason == (
            "The tick of Sun 2026-05-24 12:00 UTC passed while nothing ran, and missed is skip."
        )


def test_a_tick_that_is_a_little_late_is_on_time() -> None:
    found = due(hourly(missed="skip"), NOON - HOUR, NOON, NOON + timedelta(minutes=4))
    assert found.ticks == (NOON,)


def test_a_long_outage_is_made_up_for_within_bounds() -> None:
    found = due(hourly(missed="all"), NOON - 5000 * HOUR, NOON, NOON)
    assert len(found.ticks) == MOST
    assert found.ticks[-1] == NOON


def test_a_moment_that_is_no_tick_is_told_as_such() -> None:
    found = due(hourly(), NOON, NOON + HOUR / 2, NOON + HOUR / 2)
    assert found.ticks == ()
    assert found.reason == "Sun 2026-05-24 12:30 UTC is no time of '0 * * * *' (UTC)."


@pytest.mark.parametrize(
    ("window", "now", "said"),
    [
        (
            {"hours": "22:00-05:00"},
            NOON,
            "The window is closed; it opens at Sun 2026-05-24 22:00 UTC.",
        ),
        (
            {"until": "2026-05-23"},
            NOON,
            "The window has ended and does not open again.",
        ),
        (
            {"hours": "12:30-14:00"},
            NOON + HOUR * 0.75,
            "The window was closed at the time of the tick.",
        ),
    ],
)
def test_outside_the_window_nothing_is_due_and_the_reason_says_when_it_opens(
    window: dict[str, str], now: datetime, said: str
) -> None:
    found = due(hourly(window=window), NOON - HOUR, NOON, now)
    assert (found.ticks, found.reason) == ((), said)
