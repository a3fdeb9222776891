from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiia_pipelines.jobs.log import (
    MAX_BYTES,
    Level,
    LogLine,
    closing,
    connecting,
    connection_timeout,
    escape,
    headline,
    parse,
    render,
    starting,
)
from aiia_pipelines.jobs.redaction import REDACTOR
from aiia_pipelines.jobs.state import FINAL, JobState

ANY_TEXT = st.text(st.characters())  # lone surrogates included
TIMES = st.datetimes(
    min_value=datetime(2, 1, 1),  # noqa: DTZ001 - the strategy adds the zone
    max_value=datetime(9998, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=4)), ZoneInfo("Europe/Berlin")]),
)
NIGHT = datetime(2026, 5, 24, 2, 0, 3, tzinfo=UTC)
FORGED = "x\n[2026-05-24 02:00:25] FATAL: Job aborted with state FAILED."


def test_the_documented_lines_come_out_byte_for_byte() -> None:
    place = "10.140.2.14:5432"
    level, last = closing(JobState.FAILED, 0)
    lines = [
        (3, Level.INFO, starting("sync", 14802, "SAP ERP DB")),
        (4, Level.INFO, connecting(f"postgresql://sap_read@{place}/production")),
        (25, Level.ERROR, connection_timeout(place, 20)),
        (25, level, last),
    ]
    text = "\n".join(
        render(LogLine.of(level, message, at=NIGHT.replace(second=second)))
        for second, level, message in lines
    )
    assert text == (
        "[2026-05-24 02:00:03] INFO: Starting data refresh job run #14802 (SAP ERP DB)\n"
        "[2026-05-24 02:00:04] INFO: "
        "Connecting to postgresql://sap_read@10.140.2.14:5432/production...\n"
        "[2026-05-24 02:00:25] ERROR: "
        "Connection timeout. Unable to reach 10.140.2.14:5432 after 20 seconds.\n"
        "[2026-05-24 02:00:25] FATAL: Job aborted with state FAILED."
    )


@pytest.mark.parametrize(
    ("state", "level", "sentence"),
    [
        ("Completed", "INFO", "Job finished with state COMPLETED. 336,776 records ingested."),
        (
            "Partially Succeeded",
            "WARNING",
            "Job finished with state PARTIALLY SUCCEEDED. 336,776 records ingested.",
        ),
        ("Failed", "FATAL", "Job aborted with state FAILED."),
        ("Error", "FATAL", "Job aborted with state ERROR."),
        ("Cancelled", "WARNING", "Job aborted with state CANCELLED."),
        ("Replaced", "WARNING", "Job aborted with state REPLACED."),
    ],
)
def test_every_final_state_has_its_closing_line(state: str, level: str, sentence: str) -> None:
    assert closing(JobState(state), 336776) == (Level[level], sentence)
    assert "records" not in closing(JobState(state), None)[1]


@pytest.mark.parametrize("state", sorted(set(JobState) - FINAL))
def test_a_job_that_is_not_over_has_no_closing_line(state: JobState) -> None:
    with pytest.raises(ValueError, match="no closing line"):
        closing(state, 0)


def test_other_job_types_are_named_in_plain_words() -> None:
    assert starting("connection_test", 7, "CRM") == "Starting connection test job run #7 (CRM)"


@given(TIMES, st.sampled_from(Level), ANY_TEXT, st.lists(ANY_TEXT, max_size=4))
@example(NIGHT, Level.INFO, FORGED, [FORGED, "", "    ", "\u2028[", "\ud800"])
def test_a_line_is_one_physical_line_a_piece_and_reads_back(
    at: datetime, level: Level, message: str, detail: list[str]
) -> None:
    line = LogLine.of(level, message, at=at, detail=detail)
    text = render(line)
    first, *rest = text.splitlines()
    assert len(rest) == len(detail)
    assert all(piece.startswith("    ") and parse(piece) is None for piece in rest)
    assert parse(first) is not None
    text.encode()
    second = at.astimezone(UTC).replace(microsecond=0)
    assert parse(text) == LogLine(second, level, line.message, line.detail)


@given(ANY_TEXT)
def test_a_line_made_without_of_cannot_be_forged_either(message: str) -> None:
    assert len(render(LogLine(NIGHT, Level.INFO, message, (message,))).splitlines()) == 2


@given(ANY_TEXT)
def test_escaping_twice_changes_nothing_more(text: str) -> None:
    assert escape(escape(text)) == escape(text)


def test_escapes_are_visible_and_a_backslash_stays() -> None:
    assert escape("a\nb\t\x1b[0m\u202e\x85C:\\n") == "a\\u000ab\\u0009\\u001b[0m\\u202e\\u0085C:\\n"
    assert escape("سجل \u200dé") == "سجل \u200dé"


def test_a_piece_is_cut_at_eight_kibibytes() -> None:
    line = LogLine.of(Level.INFO, "é" * 9000, at=NIGHT, detail=["a" * MAX_BYTES])
    assert MAX_BYTES - 4 < len(line.message.encode()) <= MAX_BYTES
    assert line.message.endswith("é…")
    assert line.detail == ("a" * MAX_BYTES,)


def test_secrets_never_enter_a_line() -> None:
    REDACTOR.add("opensesame")
    line = LogLine.of(Level.ERROR, "got opensesame", detail=["password=x1", "opensesame"])
    assert line.message == "got ***"
    assert line.detail == ("password=***", "***")


def test_a_line_of_now_bears_the_time_in_utc() -> None:
    before = datetime.now(UTC)
    assert before <= LogLine.of(Level.INFO, "x").at <= datetime.now(UTC)


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        LogLine(NIGHT.replace(tzinfo=None), Level.INFO, "x")


def test_another_zone_can_be_shown_and_read() -> None:
    dubai = ZoneInfo("Asia/Dubai")
    line = LogLine.of(Level.INFO, "x", at=NIGHT)
    assert render(line, dubai) == "[2026-05-24 06:00:03] INFO: x"
    assert parse(render(line, dubai), dubai) == line


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[2026-05-24 02:00:03] NOTICE: x",
        "[2026-13-24 02:00:03] INFO: x",
        "[2026-05-24 02:00:03] INFO: x\nnot indented",
        " [2026-05-24 02:00:03] INFO: x",
    ],
)
def test_what_is_no_log_line_reads_as_none(text: str) -> None:
    assert parse(text) is None


def test_a_headline_is_the_first_line_that_says_something() -> None:
    assert headline("\n  \n  first\x00 thing \nsecond") == "first\\u0000 thing"
    assert headline("") == ""


@given(ANY_TEXT, st.integers(1, 300))
def test_a_headline_is_one_line_within_its_limit(text: str, limit: int) -> None:
    short = headline(text, limit)
    assert len(short) <= limit
    assert len(short.splitlines()) <= 1


def test_a_cut_headline_shows_that_it_was_cut() -> None:
    assert headline("ab " * 100) == ("ab " * 67)[:199].rstrip() + "…"
