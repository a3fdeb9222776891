"""Why a job run waits, where people look: the list, its page, and the line of a sync that is watched."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.cli.output import Output
from aiia_pipelines.cli.watch import Watch
from aiia_pipelines.control import Launched
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
OPENS = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)


@pytest.fixture
def waiting(store: JobStore, request_of: Any) -> Iterator[int]:
    """A job run whose window opens in two days."""
    config = {"window": {"from": "22:00"}, "timezone": "Asia/Kathmandu"}
    number = store.create(request_of(config=config, due_at=OPENS))
    with store.engine.begin() as db:
        db.exec_driver_sql("update aiia.job_runs set expires_at = %s", (OPENS,))
    yield number
    store.finish(number, JobState.CANCELLED)


def sentence() -> str:
    local = OPENS + timedelta(hours=5, minutes=45)
    return f"window opens {local:%a %H:%M} (Asia/Kathmandu)"


def test_programs_get_when_and_why(waiting: int, aiia: Any) -> None:
    for found in (
        json.loads(aiia("jobs", "list", "-o", "json").stdout)[0],
        json.loads(aiia("jobs", "show", waiting, "-o", "json").stdout),
    ):
        assert (found["state"], found["waits"], found["place"]) == ("Scheduled", sentence(), None)
        at = OPENS.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        assert (found["due_at"], found["expires_at"], found["held_by"]) == (at, at, None)
        assert (found["attempt"], found["attempts_most"]) == (0, None)


def test_people_read_it_in_the_list_and_on_the_page(waiting: int, aiia: Any) -> None:
    assert sentence() in aiia("jobs", "list", "-o", "csv").stdout
    page = aiia("jobs", "show", waiting, "-o", "table").stdout
    assert f"Waits:       {sentence()}" in page
    assert "Expires:     " in page


def test_who_watches_a_sync_reads_what_it_waits_for(
    waiting: int, store: JobStore, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = Watch(store, Output(), "UTC", [Launched(waiting)], limits_file=ROOT / "dagster.yaml")
    assert watch.until_ended(timeout=0.1) == [JobState.SCHEDULED]
    line = f"#{waiting} sample ◔ Scheduled · {sentence()}"
    assert capsys.readouterr().err == f"{line}\n"
