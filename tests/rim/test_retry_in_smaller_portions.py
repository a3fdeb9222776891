from typing import Any

import pytest

from aiia_pipelines.jobs.failures import CATALOGUE, Failure
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.resources import tags

pytestmark = pytest.mark.integration


def fell(rim: Any, code: str, retry_of: int | None = None) -> int:
    """Make a job run that failed in a way."""
    more = {tags.TRIGGER: "retry", tags.RETRY_OF: str(retry_of)} if retry_of else {}
    run = rim.create(tags=more)
    number = rim.number(run.run_id)
    failure = Failure(CATALOGUE[code], "It fell.")
    rim.store.finish(number, JobState.FAILED, failure=failure)
    rim.instance.report_run_failed(run)
    return number


def retried(rim: Any, number: int) -> tuple[str, list[str]]:
    """Run it again as `aiia jobs retry` does; the state, and what the log says of portions."""
    ended = rim.run(tags={tags.TRIGGER: "retry", tags.RETRY_OF: str(number)})
    row = rim.row(ended.run_id)
    return row.state, [line for line in rim.log(row.number) if " rows at a time" in line]


def test_a_retry_after_a_shortage_of_memory_reads_a_quarter_at_a_time(rim: Any) -> None:
    first = fell(rim, "out-of-memory")
    assert retried(rim, first) == (
        "Completed",
        [
            f"INFO: {stream}: reading 12,500 instead of 50,000 rows at a time, since #{first} ran out of memory."
            for stream in ("orders", "customers")
        ],
    )
    second = fell(rim, "out-of-memory", retry_of=first)
    assert all(f"reading 3,125 instead of 50,000 rows at a time, since #{second} " in line
               for line in retried(rim, second)[1])  # fmt: skip


def test_a_retry_after_another_failure_reads_as_before(rim: Any) -> None:
    assert retried(rim, fell(rim, "worker-lost")) == ("Completed", [])
