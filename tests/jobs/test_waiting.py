from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.waiting import (
    DESTINATION_TAG,
    NO_DAEMON,
    SEVERAL_SOURCES,
    SOURCE_TAG,
    WAITING,
    Limits,
    Line,
    Reason,
    Standing,
    Waiting,
    limits_of,
    limits_once,
    reason_of,
)

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 5, 24, 10, 0, tzinfo=UTC)  # a Sunday
ERP = "10.140.2.14:5432/production"
LIMITS = Limits(10, {SOURCE_TAG: 4, DESTINATION_TAG: 8}, {(SOURCE_TAG, SEVERAL_SOURCES): 1})
PENDING = Waiting(state=JobState.PENDING, connector="sap_erp", daemon=1.0, age=8.0)
LATER = Waiting(state=JobState.SCHEDULED, connector="sap_erp", daemon=1.0)


def standing(active: int = 0, source: int = 0, destination: int = 0) -> Standing:
    return Standing(
        all=Line(value="", active=active, place=7),
        source=Line(value=ERP, active=source, place=2),
        destination=Line(value="warehouse", active=destination, place=3),
    )


@pytest.mark.parametrize(
    ("waiting", "said", "place"),
    [
        (replace(PENDING, age=4.9), "", None),
        (PENDING, "waits for a free worker", None),
        (replace(PENDING, standing=standing()), "waits for a free worker", 7),
        (replace(PENDING, busy=12), "sap_erp is already running (#12)", None),
        (replace(PENDING, busy=12, daemon=None), "sap_erp is already running (#12)", None),
        (replace(PENDING, daemon=None, age=0.0), NO_DAEMON, None),
        (replace(PENDING, daemon=61.0, standing=standing(10)), NO_DAEMON, 7),
        (
            replace(PENDING, standing=standing(source=4, destination=8), age=0.0),
            f"4 of 4 runs at {ERP} are running; place 2",
            2,
        ),
        (
            replace(PENDING, standing=standing(9, 3, destination=8)),
            "8 of 8 runs into warehouse are running; place 3",
            3,
        ),
        (replace(PENDING, standing=standing(10)), "10 of 10 runs are running; place 7", 7),
        # Runs that were started past the queue are counted as well.
        (replace(PENDING, standing=standing(12)), "12 of 10 runs are running; place 7", 7),
        (
            replace(PENDING, standing=replace(standing(), held=True)),
            "the runs of sap_erp are held: its pool has no slot",
            7,
        ),
        (
            replace(
                PENDING,
                standing=replace(
                    standing(), source=Line(value=SEVERAL_SOURCES, active=1, place=1)
                ),
            ),
            "1 of 1 run of several sources is running; place 1",
            1,
        ),
        # A Connection Test takes no slot of its connector, and can do without a daemon.
        (replace(PENDING, test=True, busy=12, daemon=None), "waits for a free worker", None),
    ],
)  # fmt: skip
def test_a_pending_run_says_why_it_waits(waiting: Waiting, said: str, place: int | None) -> None:
    assert reason_of(waiting, LIMITS, NOW) == Reason(said, place)


def test_limits_that_nobody_knows_are_no_reason() -> None:
    crowded = replace(PENDING, standing=standing(99, 99, 99))
    assert reason_of(crowded, Limits(), NOW).sentence == "waits for a free worker"
    assert reason_of(crowded, Limits(-1), NOW).sentence == "waits for a free worker"
    alone = replace(PENDING, standing=Standing(all=Line(value="", active=3, place=1)))
    assert reason_of(alone, LIMITS, NOW).sentence == "waits for a free worker"


def test_a_limit_of_nought_lets_nobody_start() -> None:
    free = replace(PENDING, standing=standing())
    assert reason_of(free, Limits(0), NOW).sentence == ("no run may start: the limit is 0; place 7")
    closed = Limits(10, one={(SOURCE_TAG, ERP): 0})
    assert reason_of(free, closed, NOW).sentence == (
        f"no run at {ERP} may start: the limit is 0; place 2"
    )


@pytest.mark.parametrize(
    ("waiting", "said"),
    [
        (
            replace(
                LATER, due_at=NOW + timedelta(minutes=5), failure_code="connection-timeout",
                attempt=2, attempts_most=10,
            ),
            "next attempt at 12:05:00 (attempt 3 of 10), after connection-timeout",
        ),
        (
            replace(
                LATER, due_at=NOW + timedelta(hours=20), failure_code="connection-timeout",
                attempt=2,
            ),
            "next attempt at 2026-05-25 08:00:00 (attempt 3), after connection-timeout",
        ),
        (
            replace(
                LATER, due_at=NOW + timedelta(seconds=9), failure_code="disk-full", attempt=12,
                attempts_most=10,
            ),
            "next attempt at 12:00:09 (attempt 13), after disk-full",
        ),
        (
            replace(
                LATER, due_at=datetime(2026, 5, 25, 20, tzinfo=UTC), has_window=True,
                timezone="Europe/Berlin",
            ),
            "window opens Mon 22:00 (Europe/Berlin)",
        ),
        (
            replace(LATER, state=JobState.PAUSED, due_at=datetime(2026, 6, 1, 20, tzinfo=UTC)),
            "window opens 2026-06-01 20:00 (UTC)",
        ),
        (replace(LATER, due_at=NOW + timedelta(hours=1)), "starts on Sun 11:00 (UTC)"),
        (replace(LATER, state=JobState.PAUSED, held_by="ada"), "paused by ada"),
        (
            replace(
                LATER, state=JobState.PAUSED, held_by="ada", held_reason="month end",
                due_at=NOW + timedelta(hours=1),
            ),
            "paused by ada: month end",
        ),
        (replace(LATER, state=JobState.PAUSED), "paused"),
        (LATER, "waits until it is due"),
        (
            replace(LATER, due_at=NOW - timedelta(seconds=2)),
            "due since 11:59:58; starts when the daemon next looks",
        ),
        (replace(LATER, due_at=NOW, daemon=None), NO_DAEMON),
        (replace(LATER, state=JobState.RUNNING, due_at=NOW), ""),
    ],
)  # fmt: skip
def test_a_run_that_goes_on_later_says_when_and_why(waiting: Waiting, said: str) -> None:
    assert reason_of(waiting, LIMITS, NOW, "Europe/Berlin") == Reason(said)


_TIMES = st.datetimes(timezones=st.just(UTC))
_TEXTS = st.none() | st.text(max_size=8)
_LINES = st.builds(
    Line, value=st.sampled_from([ERP, SEVERAL_SOURCES, "warehouse", ""]),
    active=st.integers(0, 20), place=st.integers(1, 500),
)  # fmt: skip
_STANDINGS = st.builds(
    Standing, all=_LINES, source=st.none() | _LINES, destination=st.none() | _LINES
)
_WAITINGS = st.builds(
    Waiting, state=st.sampled_from(sorted(WAITING)), connector=st.text(min_size=1, max_size=8),
    test=st.booleans(), age=st.floats(0, 1e9), busy=st.none() | st.integers(1, 2**62),
    daemon=st.none() | st.floats(0, 1e9), standing=st.none() | _STANDINGS,
    due_at=st.none() | _TIMES, held_by=_TEXTS, held_reason=_TEXTS, has_window=st.booleans(),
    timezone=st.sampled_from(["UTC", "Asia/Kathmandu", "Nowhere/Town", ""]),
    attempt=st.integers(0, 200), attempts_most=st.none() | st.integers(1, 100),
    failure_code=st.none() | st.just("connection-timeout"),
)  # fmt: skip


@given(
    waiting=_WAITINGS,
    now=_TIMES,
    runs=st.none() | st.integers(-1, 20),
    most=st.none() | st.integers(0, 20),
    zone=st.sampled_from(["UTC", "America/New_York", "Nowhere/Town"]),
)
def test_whatever_waits_longer_than_a_start_takes_has_a_sentence(
    waiting: Waiting, now: datetime, runs: int | None, most: int | None, zone: str
) -> None:
    limits = Limits(runs, {} if most is None else {SOURCE_TAG: most, DESTINATION_TAG: most})
    found = reason_of(waiting, limits, now, zone)
    if waiting.state is not JobState.PENDING or waiting.age > 5:
        assert found.sentence
    if waiting.state is JobState.PENDING and waiting.standing is not None:
        assert found.place is not None
        assert found.place >= 1


def test_the_limits_of_the_product_are_those_of_its_dagster_yaml() -> None:
    found = limits_of(ROOT / "dagster.yaml", {})
    assert found.runs == 10
    assert found.of(SOURCE_TAG, ERP) == 4
    assert found.of(DESTINATION_TAG, "warehouse") == 8
    assert found.of(SOURCE_TAG, SEVERAL_SOURCES) == 1


def test_a_limit_of_one_source_counts_when_it_is_the_lower(tmp_path: Path) -> None:
    file = tmp_path / "dagster.yaml"
    file.write_text(
        "concurrency: {runs: {max_concurrent_runs: {env: MOST}, tag_concurrency_limits: ["
        f"{{key: {SOURCE_TAG}, value: {{applyLimitPerUniqueValue: true}}, limit: 4}}, "
        f"{{key: {SOURCE_TAG}, value: '{ERP}', limit: 2}}, "
        "{key: x, limit: 3}, {key: y, value: {applyLimitPerUniqueValue: false}, limit: 3}, "
        "3, {key: z, value: z, limit: many}]}}\n"
    )
    found = limits_of(file, {"MOST": "25"})
    assert (found.runs, found.of(SOURCE_TAG, ERP), found.of(SOURCE_TAG, "elsewhere")) == (25, 2, 4)
    assert found.of("x", "1") is None
    # A variable that is not set here: Dagster's own number.
    assert limits_of(file, {}).runs == 10


def test_the_older_place_of_the_limits_is_read_as_well(tmp_path: Path) -> None:
    file = tmp_path / "dagster.yaml"
    file.write_text("run_coordinator: {config: {max_concurrent_runs: 3}}\n")
    assert limits_of(file, {}).runs == 3


@pytest.mark.parametrize("text", ["[", "- a\n", "", "\x00", "concurrency: 3\nrun_coordinator: x\n"])
def test_a_file_that_says_nothing_limits_nothing_of_a_source(tmp_path: Path, text: str) -> None:
    file = tmp_path / "dagster.yaml"
    file.write_text(text)
    found = limits_of(file, {})
    assert found.of(SOURCE_TAG, ERP) is None
    assert found.runs in {None, 10}


def test_a_missing_file_gives_no_limits_and_is_read_once(tmp_path: Path) -> None:
    assert limits_of(tmp_path / "none.yaml", {}) == Limits()
    assert limits_once(None, {})() == Limits()
    file = tmp_path / "dagster.yaml"
    file.write_text("concurrency: {runs: {max_concurrent_runs: 2}}\n")
    ask = limits_once(file, {})
    assert ask().runs == 2
    file.unlink()
    assert ask().runs == 2
