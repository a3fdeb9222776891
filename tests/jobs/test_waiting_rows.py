"""What lists tell of job runs that wait, from real rows; Dagster's own queue is tested in tests/rim."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.jobs import history
from aiia_pipelines.jobs.failures import CATALOGUE, Failure
from aiia_pipelines.jobs.history import Filter, RunRow
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.jobs.waiting import DESTINATION_TAG, NO_DAEMON, SOURCE_TAG

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
TIMEOUT = Failure(CATALOGUE["connection-timeout"], "Connection timeout.", "10.0.0.1:5432")
# As Dagster makes them, without what is not read here.
TABLES = """
create table public.runs (id serial primary key, run_id text unique, status text);
create table public.run_tags (run_id text, key text, value text);
create table public.concurrency_limits (concurrency_key text, "limit" int);
"""
GONE = "drop table if exists public.runs, public.run_tags, public.concurrency_limits"


def beat(store: JobStore, age: float) -> None:
    body = json.dumps({"timestamp": time.time() - age})
    with store.engine.begin() as db:
        db.exec_driver_sql(
            "create table if not exists public.daemon_heartbeats"
            " (daemon_type text, body text); delete from public.daemon_heartbeats"
        )
        db.exec_driver_sql("insert into public.daemon_heartbeats values ('SENSOR', %s)", (body,))


@pytest.fixture
def alive(store: JobStore) -> Iterator[JobStore]:
    """A store whose daemon has just given a sign of life, and has an empty queue."""
    with store.engine.begin() as db:
        db.exec_driver_sql(f"{GONE};{TABLES}")
    beat(store, 1)
    yield store
    with store.engine.begin() as db:
        db.exec_driver_sql(f"{GONE}, public.daemon_heartbeats")


def queue(store: JobStore, run_id: str, status: str = "QUEUED", **tags: object) -> None:
    keys = {"source": SOURCE_TAG, "destination": DESTINATION_TAG, "priority": "dagster/priority"}
    with store.engine.begin() as db:
        db.exec_driver_sql(
            "insert into public.runs (run_id, status) values (%s, %s)", (run_id, status)
        )
        for name, value in tags.items():
            row = (run_id, keys[name], str(value))
            db.exec_driver_sql("insert into public.run_tags values (%s, %s, %s)", row)


def change(store: JobStore, number: int, **values: object) -> None:
    with store.engine.begin() as db:
        for column, value in values.items():
            query = f"update aiia.job_runs set {column} = %s where number = %s"
            db.exec_driver_sql(query, (value, number))


def listed(store_db: Any, zone: str = "UTC") -> dict[int, RunRow]:
    with closing(history.connect(store_db.url())) as db:
        found = history.list_runs(db, Filter(), limits_file=ROOT / "dagster.yaml", zone=zone)
    return {run.number: run for run in found}


def told(store_db: Any) -> dict[int, tuple[str, int | None]]:
    return {number: (run.waits, run.place) for number, run in listed(store_db).items()}


def test_a_full_source_is_told_with_the_place_among_those_that_wait_for_it(
    alive: JobStore, store_db: Any, request_of: Any
) -> None:
    at = {"source": "10.0.0.1:5432/erp", "destination": "warehouse"}
    for n in range(4):
        queue(alive, f"busy{n}", ("STARTED", "STARTING", "CANCELING")[n % 3], **at)
    queue(alive, "else", source="elsewhere", priority=20)
    queue(alive, "first", **at)
    queue(alive, "urgent", priority=10, **at)
    queue(alive, "odd", priority="soon", **at)
    numbers = {
        run: alive.create(request_of(connector=run), run_id=run)
        for run in ("else", "first", "urgent", "odd")
    }
    found = told(store_db)
    full = "4 of 4 runs at 10.0.0.1:5432/erp are running; place"
    assert found == {
        numbers["else"]: ("", 1),
        numbers["urgent"]: (f"{full} 1", 1),
        numbers["first"]: (f"{full} 2", 2),
        numbers["odd"]: (f"{full} 3", 3),
    }


def test_runs_that_are_no_job_runs_count_as_well(
    alive: JobStore, store_db: Any, request_of: Any
) -> None:
    for n in range(10):
        queue(alive, f"other{n}", "STARTED")
    queue(alive, "waiting-foreigner", priority=5)
    queue(alive, "mine")
    number = alive.create(request_of(), run_id="mine")
    assert told(store_db) == {number: ("10 of 10 runs are running; place 2", 2)}


def test_a_run_that_has_waited_longer_than_a_start_takes_waits_for_a_worker(
    alive: JobStore, store_db: Any, request_of: Any
) -> None:
    queue(alive, "mine")
    number = alive.create(request_of(), run_id="mine")
    assert told(store_db) == {number: ("", 1)}
    with alive.engine.begin() as db:
        db.exec_driver_sql("update aiia.attempts set created_at = now() - interval '6 s'")
    assert told(store_db) == {number: ("waits for a free worker", 1)}
    beat(alive, 61)
    assert told(store_db) == {number: (NO_DAEMON, 1)}


def test_a_run_without_dagster_still_says_something(
    store: JobStore, store_db: Any, request_of: Any
) -> None:
    number = store.create(request_of())
    assert told(store_db) == {number: (NO_DAEMON, None)}


def test_the_next_attempt_is_told_with_its_time_number_and_cause(
    alive: JobStore, store_db: Any, request_of: Any
) -> None:
    config = {"retry": {"max_attempts": 7}, "timezone": "Europe/Berlin"}
    number = alive.create(request_of(config=config), run_id="first")
    alive.move(number, JobState.RUNNING)
    alive.finish(number, JobState.FAILED, failure=TIMEOUT)
    run = listed(store_db, "Asia/Kathmandu")[number]
    assert run.state is JobState.SCHEDULED
    assert run.due_at is not None
    assert (run.attempt, run.attempts_most) == (1, 7)
    assert run.waits.startswith("next attempt at ")
    assert run.waits.endswith(" (attempt 2 of 7), after connection-timeout")
    due = datetime.now(UTC) - timedelta(minutes=1)
    change(alive, number, due_at=due)
    assert "due since" in listed(store_db)[number].waits


def test_a_window_is_told_in_the_zone_of_the_connector(
    alive: JobStore, store_db: Any, request_of: Any
) -> None:
    config = {"window": {"from": "22:00", "to": "04:00"}, "timezone": "Asia/Kathmandu"}
    opens = datetime.now(UTC) + timedelta(days=2)
    number = alive.create(request_of(config=config, due_at=opens))
    expires = opens + timedelta(hours=1)
    change(alive, number, expires_at=expires)
    run = listed(store_db)[number]
    local = opens + timedelta(hours=5, minutes=45)
    assert run.waits == f"window opens {local:%a %H:%M} (Asia/Kathmandu)"
    assert (run.due_at, run.expires_at, run.attempts_most) == (opens, expires, None)
    assert (run.attempt, run.place) == (0, None)


def test_a_pause_is_told_with_who_asked_for_it_and_why(
    alive: JobStore, store_db: Any, request_of: Any
) -> None:
    number = alive.create(request_of())
    alive.move(number, JobState.RUNNING)
    change(alive, number, held_by="ada", held_reason="month end")
    assert listed(store_db)[number].waits == ""
    alive.pause(number)
    run = listed(store_db)[number]
    assert (run.state, run.waits) == (JobState.PAUSED, "paused by ada: month end")
    assert (run.held_by, run.attempt) == ("ada", 0)


def test_who_does_not_wait_gives_no_reason_and_costs_one_query(
    alive: JobStore, store_db: Any, request_of: Any
) -> None:
    number = alive.create(request_of())
    alive.move(number, JobState.RUNNING)
    # What is not asked for need not be there.
    with alive.engine.begin() as db:
        db.exec_driver_sql("drop table public.run_tags")
    assert told(store_db) == {number: ("", None)}
