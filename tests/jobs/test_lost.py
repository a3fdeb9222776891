import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.jobs.log import Level, LogLine
from aiia_pipelines.jobs.lost import end_lost, find_lost
from aiia_pipelines.jobs.run import NewJobRun
from aiia_pipelines.jobs.state import JobState, TaskState
from aiia_pipelines.jobs.store import JobStore

pytestmark = pytest.mark.integration
New = Callable[..., NewJobRun]

WORKER = Path(__file__).with_name("worker.py")


def age(store: JobStore, number: int, seconds: float, **facts: Any) -> None:
    """Make the last heartbeat of a job run that old."""
    sets = "".join(f", {name} = %({name})s" for name in facts)
    with store.engine.begin() as db:
        db.exec_driver_sql(
            "update aiia.attempts set heartbeat_at = now() - make_interval(secs => %(age)s)"
            f"{sets} where number = %(number)s",
            {"age": seconds, "number": number, **facts},
        )


def test_a_killed_worker_is_found_and_its_log_kept(store: JobStore, store_db: Any) -> None:
    worker = subprocess.Popen(
        [sys.executable, str(WORKER), store_db.url(driver="postgresql+psycopg2")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    number = int(worker.stdout.readline())
    age(store, number, 4)
    assert find_lost(store) == []
    # Not waited for, so that it stays a zombie: dead all the same.
    worker.kill()
    deadline = time.monotonic() + 10
    while not (found := find_lost(store)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [(lost.number, lost.run_id) for lost in found] == [(number, "run-1")]
    assert end_lost(store, found[0])
    assert not end_lost(store, found[0])
    worker.wait()
    worker.stdout.close()

    row = store.row(number)
    assert row is not None
    assert (row.state, row.failure_code) == ("Failed", "worker-lost")
    assert store.tasks_of(number) == [("rows", TaskState.FAILED)]
    assert [(line.level, line.message) for _, line in store.log_after(number, 0)] == [
        (Level.INFO, "still here"),
        (Level.ERROR, row.message),
        (Level.FATAL, "Job aborted with state FAILED."),
    ]
    assert row.message.startswith("Worker lost. Process ")
    assert find_lost(store) == []


def test_a_worker_that_is_slow_to_write_is_not_lost(store: JobStore, request_of: New) -> None:
    number = store.create(request_of())
    store.take(number, request_of())
    store.move(number, JobState.RUNNING)
    age(store, number, 20)
    assert find_lost(store) == []


def test_silence_of_another_host_ends_a_run_after_a_while(store: JobStore, request_of: New) -> None:
    number = store.create(request_of())
    store.take(number, request_of())
    store.move(number, JobState.RUNNING)
    age(store, number, 1, host="elsewhere")
    assert find_lost(store) == []
    (lost,) = find_lost(store, silence=0.5)
    assert lost.reason.startswith(
        f"Worker lost. Process {os.getpid()} on elsewhere has been silent for "
    )


def test_silence_counts_from_the_start_of_the_database_at_the_earliest(
    store: JobStore, request_of: New
) -> None:
    number = store.create(request_of())
    store.take(number, request_of())
    store.move(number, JobState.RUNNING)
    a_year = 365 * 24 * 3600
    age(store, number, a_year, host="elsewhere")
    assert find_lost(store, silence=a_year / 2) == []
    assert [lost.number for lost in find_lost(store, silence=0)] == [number]


def test_a_run_that_nobody_took_yet_is_not_lost(store: JobStore, request_of: New) -> None:
    number = store.create(request_of())
    store.write_log(number, [LogLine.of(Level.INFO, "waiting")])
    assert find_lost(store, silence=0) == []


def test_a_process_of_another_user_counts_as_alive(store: JobStore, request_of: New) -> None:
    number = store.create(request_of())
    store.take(number, request_of())
    store.move(number, JobState.RUNNING)
    age(store, number, 5, pid=1)
    assert find_lost(store) == []
