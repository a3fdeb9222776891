import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from aiia_pipelines.cli.exits import Exit, Stop, exit_of, tell
from aiia_pipelines.cli.output import Output, to_json
from aiia_pipelines.config.faults import ConfigInvalid, UnknownConnector
from aiia_pipelines.control import NotLaunched, Refused, UnknownJobRun
from aiia_pipelines.jobs.migrations import StoreOutdated
from aiia_pipelines.jobs.redaction import REDACTOR
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.local.faults import EmbeddedMissing

S = JobState


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ([], 0),
        ([S.COMPLETED], 0),
        ([S.COMPLETED, S.RUNNING], 13),
        ([S.REPLACED, S.PENDING], 12),
        ([S.PARTIALLY_SUCCEEDED, S.CANCELLED], 14),
        ([S.ERROR, S.PARTIALLY_SUCCEEDED], 10),
        ([S.COMPLETED, S.ERROR, S.FAILED, S.CANCELLED], 11),
    ],
)
def test_the_worst_state_decides_the_exit_code(states: list[JobState], code: int) -> None:
    assert exit_of(states) == code


def test_every_state_has_an_exit_code() -> None:
    assert {exit_of([state]) for state in JobState} == {0, 10, 11, 12, 13, 14}


def unreachable() -> BaseException:
    import psycopg2

    try:
        psycopg2.connect("postgresql://a@127.0.0.1:1/b", connect_timeout=1)
    except psycopg2.OperationalError as fault:
        return fault
    raise AssertionError


def full() -> BaseException:
    from psycopg2.errors import DiskFull

    return DiskFull('could not extend file "base/1": No space left on device')


def full_by_sqlalchemy() -> BaseException:
    from sqlalchemy.exc import OperationalError

    return OperationalError("insert into aiia.job_runs", {}, full())


def unreachable_by_sqlalchemy() -> BaseException:
    import sqlalchemy as sa

    try:
        sa.create_engine("postgresql+psycopg2://a@127.0.0.1:1/b").connect()
    except sa.exc.OperationalError as fault:
        return fault
    raise AssertionError


@pytest.mark.parametrize(
    ("make", "code", "kind"),
    [
        (lambda: ConfigInvalid("wrong"), 5, "config-invalid"),
        (lambda: UnknownConnector("x", ["y"]), 3, "unknown-connector"),
        (lambda: StoreOutdated("old"), 4, "store-outdated"),
        (EmbeddedMissing, 4, "no-database"),
        (unreachable, 4, "database-unreachable"),
        (unreachable_by_sqlalchemy, 4, "database-unreachable"),
        (full, 4, "database-full"),
        (full_by_sqlalchemy, 4, "database-full"),
        (lambda: UnknownJobRun("no #1"), 3, "unknown-job"),
        (lambda: NotLaunched("no"), 4, "not-launched"),
        (lambda: Refused("no"), 2, "refused"),
        (lambda: click.UsageError("no"), 2, "usage"),
        (KeyboardInterrupt, 130, "interrupted"),
        (click.Abort, 130, "interrupted"),
        (lambda: ZeroDivisionError("x"), 1, "fault"),
        (lambda: Stop(Exit.WAITING, "later"), 13, "waiting"),
    ],
)
def test_each_fault_has_its_code(make: Callable[[], BaseException], code: int, kind: str) -> None:
    told = tell(make())
    assert (told.exit_code, told.code) == (code, kind)
    assert told.message


def test_an_unexpected_fault_is_one_sentence_and_says_how_to_report_it() -> None:
    told = tell(KeyError("first\nsecond"))
    assert told.message.startswith("aiia itself failed: KeyError")
    assert "\n" not in told.message
    assert "-v" in told.remedy
    assert "issue" in told.remedy


def test_no_secret_and_no_control_character_is_told() -> None:
    REDACTOR.add("hunter2-hunter2")
    message = tell(ConfigInvalid("bad hunter2-hunter2 \x1b[31m")).message
    assert message == "bad *** \\u001b[31m"


def test_what_can_pass_by_itself_may_be_retried() -> None:
    assert tell(unreachable()).as_json()["retryable"] is True
    assert tell(ConfigInvalid("x")).as_json()["retryable"] is False


def test_usage_faults_are_objects_too_when_json_is_asked_for(nowhere: Path, aiia: Any) -> None:
    for args in (["jobz", "-o", "json"], ["-o", "json", "jobs", "show"], ["--output=json", "x"]):
        done = aiia(*args)
        assert done.exit_code == 2
        assert list(json.loads(done.stderr)) == ["code", "message", "remedy", "retryable", "docs"]
        assert done.stdout == ""


def test_a_wrong_setting_ends_with_5(
    nowhere: Path, aiia: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIIA_TIMEZONE", "Mars/Olympus")
    done = aiia("jobs", "list")
    assert done.exit_code == 5
    assert "AIIA_TIMEZONE" in done.stderr


@pytest.mark.parametrize("command", ["list", "show 1", "logs 1", "wait 1", "cancel 1", "retry 1"])
def test_reading_starts_no_server_and_says_how_to(nowhere: Path, aiia: Any, command: Any) -> None:
    done = aiia("jobs", *command.split())
    assert done.exit_code == 4
    assert "There is no database yet. Start one with `aiia up`, or sync a connector." in done.stderr
    assert not (nowhere / ".aiia").exists()


def test_a_database_that_does_not_answer_ends_with_4(
    nowhere: Path, aiia: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIIA_DATABASE_URL", "postgresql+psycopg2://a@127.0.0.1:1/b")
    done = aiia("jobs", "list", "-o", "json")
    assert done.exit_code == 4
    assert json.loads(done.stderr)["retryable"] is True


def test_the_traceback_is_shown_with_v_only(
    nowhere: Path, aiia: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIIA_PORT", "none")
    assert "Traceback" not in aiia("jobs", "list").stderr
    assert "Traceback" in aiia("jobs", "list", "-v").stderr


def test_options_are_read_from_variables(
    nowhere: Path, aiia: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIIA_OUTPUT", "csv")
    assert aiia("explain", "cancelled").stdout.startswith("code,title,")


def test_json_has_times_in_utc_and_seconds_as_numbers() -> None:
    from datetime import UTC, datetime, timedelta, timezone
    from decimal import Decimal

    at = datetime(2026, 1, 1, 4, tzinfo=timezone(timedelta(hours=4)))
    made = to_json(
        {"at": at, "naive": at.replace(tzinfo=None), "for": timedelta(minutes=1),
         "exact": Decimal("1.10"), "raw": b"\x00\xff", "day": at.date()},
        indent=None,
    )  # fmt: skip
    assert json.loads(made) == {
        "at": "2026-01-01T00:00:00.000Z",
        "naive": "2026-01-01T04:00:00",
        "for": 60.0,
        "exact": "1.10",
        "raw": "00ff",
        "day": "2026-01-01",
    }
    assert at.astimezone(UTC).hour == 0


def test_a_table_is_the_default_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdout", Terminal())
    assert Output().form() == "table"
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert Output().form() == "json"
    assert Output(asked="csv").form() == "csv"
