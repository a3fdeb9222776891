import pytest

from aiia_pipelines.config.clock import Cron, cron_mistake, is_timezone


@pytest.mark.parametrize(
    "text",
    [
        "0 2 * * *",
        "*/15 * * * *",
        "0 8-18/2 * jan,MAR mon-fri",
        " 0  0 1,15 * 7 ",
        "0 0 29 2 *",
        "0 0 30 * *",
    ],
)
def test_a_usual_schedule_is_accepted(text: str) -> None:
    assert cron_mistake(text) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 2 * *", "five fields"),
        ("@daily", "five fields"),
        ("60 2 * * *", "minute"),
        ("0 24 * * *", "hour"),
        ("0 0 0 * *", "day of month"),
        ("0 0 * foo *", "month"),
        ("0 0 * * 8", "day of week"),
        ("*/0 * * * *", "minute"),
        ("5/10 * * * *", "minute"),
        ("5-1 * * * *", "minute"),
        ("1,,2 * * * *", "minute"),
        ("-1 * * * *", "minute"),
        ("\u0661 * * * *", "minute"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,6 *", "never comes"),
        ("0 0 31 2 mon", "never comes"),
    ],
)
def test_a_wrong_schedule_is_told_with_its_field(text: str, said: str) -> None:
    assert said in (cron_mistake(text) or "")


def test_time_zones_are_known_by_name() -> None:
    assert is_timezone("UTC")
    assert is_timezone("Europe/Berlin")


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "/etc/passwd", "../x", "America", "a\0b"])
def test_anything_else_is_no_time_zone(name: str) -> None:
    assert not is_timezone(name)


def test_a_schedule_is_written_with_numbers() -> None:
    assert str(Cron.parse("*/20 8-10 5-5 jan,FEB mon")) == "0,20,40 8,9,10 5 1,2 1"
    assert str(Cron.parse("0-59 0-23 * 1-12 0-7")) == "* * * * *"


def test_a_schedule_without_an_hour_goes_by_every_hour() -> None:
    assert Cron.parse("5 * * * *").is_hourly
    assert Cron.parse("5 0-23 * * *").is_hourly
    assert not Cron.parse("5 */2 * * *").is_hourly
