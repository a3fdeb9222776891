"""What the daemon of `aiia up` leaves out while nothing is to be done."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import SensorInstigatorData
from dagster._daemon.sensor import is_under_min_interval

from aiia_pipelines.daemon import LONGEST_REST, ByTheClock, daemons, resting
from aiia_pipelines.jobs.quiet import Quiet
from aiia_pipelines.jobs.run import JobType, NewJobRun, Trigger
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.local.postgres import APPLICATION_ROLE, EmbeddedPostgres
from aiia_pipelines.resources.run_storage import JobRunStorage

DAY = timedelta(days=1)


def new(**more: object) -> NewJobRun:
    facts = {"title": "Shop", "streams": ("orders",), "trigger": Trigger.MANUAL, **more}
    return NewJobRun(connector="shop", type=JobType.SYNC, triggered_by="sara", **facts)


@pytest.fixture(scope="module")
def store(rim_server: EmbeddedPostgres) -> Iterator[JobStore]:
    """A job history of its own, beside the tables of Dagster."""
    rim_server.ensure_database("calm", APPLICATION_ROLE)
    storage = JobRunStorage(rim_server.url("calm", APPLICATION_ROLE))
    yield storage.run_storage.jobs
    storage.run_storage.dispose()


def is_quiet(store: JobStore) -> bool:
    """Ask as a process does that has looked before."""
    quiet = Quiet(store, aftermath=0.001, fresh=0)
    for _ in range(2):
        time.sleep(0.002)
        found = quiet()
    return found


def change(store: JobStore, what: str) -> None:
    with store.engine.begin() as db:
        db.execute(sa.text(f"update aiia.job_runs set {what}"))


@pytest.mark.integration
def test_it_is_quiet_while_nobody_waits_for_anything(store: JobStore) -> None:
    assert is_quiet(store)
    number = store.create(new(), run_id="a")
    assert not is_quiet(store)
    store.finish(number, JobState.CANCELLED)
    assert is_quiet(store)
    now = datetime.now(UTC)
    store.create(new(due_at=now + DAY), run_id="b")
    assert is_quiet(store), "a window that opens tomorrow keeps nobody busy today"
    store.create(new(due_at=now - DAY), run_id="c")
    assert not is_quiet(store)
    change(store, "due_at = now() + interval '1 day'")
    assert is_quiet(store)
    change(store, "expires_at = now() - interval '1 day'")
    assert not is_quiet(store)


@pytest.mark.integration
def test_a_short_sync_between_two_looks_is_noticed(store: JobStore) -> None:
    change(store, "expires_at = null, due_at = null")
    quiet = Quiet(store, aftermath=60, fresh=0)
    assert not quiet(), "what went before its start, a process has not seen"
    quiet = Quiet(store, aftermath=0.001, fresh=0)
    quiet()
    time.sleep(0.002)
    assert quiet()
    store.finish(store.create(new(), run_id="d"), JobState.CANCELLED)
    assert not quiet()


@pytest.mark.parametrize(
    ("name", "seconds", "quiet", "early"),
    [
        ("due_runs", 5, False, True),  # Dagster's own interval holds in any case
        ("due_runs", 15, False, False),
        ("due_runs", 15, True, True),
        ("due_runs", LONGEST_REST + 1, True, False),
        ("file_arrival", 15, True, False),  # it looks at the world outside
    ],
)
def test_a_sensor_rests(name: str, seconds: float, *, quiet: bool, early: bool) -> None:
    data = SensorInstigatorData(last_tick_start_timestamp=time.time() - seconds)
    state = SimpleNamespace(instigator_type=InstigatorType.SENSOR, instigator_data=data)
    remote = SimpleNamespace(name=name, min_interval_seconds=10)
    assert resting(is_under_min_interval, lambda: quiet)(state, remote) is early


def test_the_scheduler_waits_by_the_clock() -> None:
    over = threading.Event()
    wait = ByTheClock(over)
    before = time.time()
    assert not wait.wait(0.05)
    assert time.time() - before >= 0.05
    over.set()
    assert wait.wait(60)


@pytest.mark.integration
def test_all_daemons_that_the_instance_needs_are_there(rim: Any) -> None:
    found = [daemon.daemon_type() for daemon in daemons(rim.instance)]
    assert found == list(rim.instance.get_required_daemon_types())
    assert "ASSET" not in found, "no connector has automation conditions"
    assert {"SCHEDULER", "SENSOR", "BACKFILL", "QUEUED_RUN_COORDINATOR", "MONITORING"} <= {*found}
