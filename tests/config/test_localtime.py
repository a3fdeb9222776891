from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from aiia_pipelines.config.localtime import changes, first_moment, last_moment, moments

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "wall", "first", "last"),
    [
        ("UTC", "2026-03-29T02:30", "2026-03-29T02:30", "2026-03-29T02:30"),
        ("Europe/Berlin", "2026-03-29T02:30", "2026-03-29T01:00", "2026-03-29T01:00"),
        ("Europe/Berlin", "2026-10-25T02:30", "2026-10-25T00:30", "2026-10-25T01:30"),
        ("Australia/Lord_Howe", "2026-10-04T02:10", "2026-10-03T15:30", "2026-10-03T15:30"),
        ("America/Havana", "2026-03-08T00:45", "2026-03-08T05:00", "2026-03-08T05:00"),
        # A whole day was left out.
        ("Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00", "2011-12-30T10:00"),
    ],
)
def test_a_time_stands_for_its_first_and_its_last_moment(
    zone: str, wall: str, first: str, last: str
) -> None:
    naive = datetime.fromisoformat(wall)
    assert first_moment(naive, ZoneInfo(zone)) == at(first)
    assert last_moment(naive, ZoneInfo(zone)) == at(last)


def test_a_time_has_no_moment_one_or_two() -> None:
    assert moments(datetime.fromisoformat("2026-03-29T02:30"), BERLIN) == []
    assert len(moments(datetime.fromisoformat("2026-03-29T03:30"), BERLIN)) == 1
    assert len(moments(datetime.fromisoformat("2026-10-25T02:30"), BERLIN)) == 2


def test_the_changes_of_the_clocks_are_found_to_the_second() -> None:
    found = list(changes(BERLIN, at("2026-01-01"), at("2027-01-01")))
    assert found == [at("2026-03-29T01:00"), at("2026-10-25T01:00")]
    assert list(changes(ZoneInfo("Asia/Riyadh"), at("2026-01-01"), at("2027-01-01"))) == []
