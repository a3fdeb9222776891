from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from aiia_pipelines.jobs import history
from aiia_pipelines.jobs.failures import classify
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import NewJobRun
from aiia_pipelines.jobs.state import JobState, TaskState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.jobs.unclassified import Unclassified, please_report, unclassified_count

pytestmark = pytest.mark.integration
New = Callable[..., NewJobRun]


class Odd(Exception):
    """What nobody has met before."""


ODD = f"{__name__}.Odd"


@pytest.fixture
def db(store_db: Any, passfile: object) -> Iterator[Any]:
    with closing(history.connect(store_db.url())) as found:
        yield found


def ended(store: JobStore, new: NewJobRun, fault: BaseException, days_ago: int = 0) -> int:
    """End a job run with a failure, so many days ago."""
    number = store.create(new)
    store.move(number, JobState.RUNNING)
    store.finish(number, JobState.FAILED, failure=classify(fault))
    with store.engine.begin() as db:
        db.exec_driver_sql(
            "update aiia.job_runs set ended_at = ended_at - make_interval(days => %s)"
            " where number = %s", (days_ago, number),
        )  # fmt: skip
    return number


def test_a_history_without_failures_has_none_that_are_unknown(store: JobStore, db: Any) -> None:
    found = unclassified_count(db, 30)
    assert found == Unclassified(runs=0, of=0, classes=(), latest=None)
    assert found.share == 0.0


def test_job_runs_are_counted_by_the_class_that_nobody_knows(
    store: JobStore, request_of: New, db: Any
) -> None:
    ended(store, request_of(), Odd("long ago"), days_ago=40)
    ended(store, request_of(), MemoryError())
    ended(store, request_of(), Odd("once"))
    ended(store, request_of(), Odd("twice"))
    latest = ended(store, request_of(), KeyError("x"))
    found = unclassified_count(db, 30)
    assert found == Unclassified(runs=3, of=4, classes=((ODD, 2), ("KeyError", 1)), latest=latest)
    assert found.share == 0.75
    assert unclassified_count(db, 90).runs == 4


def test_a_stream_that_ends_unclassified_counts_for_its_job_run(
    store: JobStore, request_of: New, db: Any
) -> None:
    number = store.create(request_of("good", "bad"))
    store.move(number, JobState.RUNNING)
    with Recorder(store, number) as recorder:
        for stream in ("good", "bad"):
            recorder.start_task(stream)
        recorder.end_task("good", TaskState.SUCCEEDED)
        recorder.end_task("bad", TaskState.FAILED, failure=classify(Odd("x")))
    store.finish(number)
    assert store.state_of(number) is JobState.PARTIALLY_SUCCEEDED
    found = unclassified_count(db, 1)
    assert (found.runs, found.of, found.classes) == (1, 1, ((ODD, 1),))


def test_a_report_is_asked_for_with_class_and_log() -> None:
    assert please_report(classify(Odd("x")).headline, 14802) == (
        f"No row of the failure catalogue knows {ODD}. Please report it to the project's issue"
        " tracker with this log (`aiia jobs logs 14802`), so that it gets one."
    )
    assert "knows it." in please_report("The run failed before its job began: x", 1)
