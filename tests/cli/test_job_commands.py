import json
import os
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import aiia_pipelines
from aiia_pipelines.jobs.failures import CATALOGUE, Failure
from aiia_pipelines.jobs.log import Level, LogLine, render
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import Changes, Figure, JobType
from aiia_pipelines.jobs.state import JobState, TaskState
from aiia_pipelines.jobs.store import JobStore

pytestmark = pytest.mark.integration

TIMEOUT = Failure(CATALOGUE["connection-timeout"], "Connection timeout.", "10.0.0.1:5432")
LISTED = [
    "number", "type", "connector", "title", "streams", "state", "badge", "trigger",
    "triggered_by", "retry_of", "priority", "progress", "activity", "step", "waits", "place",
    "due_at", "expires_at", "held_by", "attempt", "attempts_most", "records",
    "records_total", "bytes", "bytes_read", "bytes_written", "duration_seconds", "cpu_seconds", "peak_memory_bytes", "message",
    "failure_code", "failure_place", "cancelled_by", "cancel_reason", "created_at",
    "started_at", "ended_at", "full_read",
]  # fmt: skip


def succeed(store: JobStore, number: int, records: int = 20) -> None:
    store.move(number, JobState.RUNNING)
    with Recorder(store, number) as recorder:
        recorder.start_task("rows")
        with recorder.step("rows", "extract"):
            recorder.count("rows", "extract", records)
        with recorder.step("rows", "validate"):
            recorder.count("rows", "validate", records)
        recorder.reconciled(
            "rows", [Figure(column="", figure="rows", source="20", destination="20")]
        )
        changes = Changes(inserted=records, updated=0, unchanged=0, deleted=0)
        recorder.end_task("rows", TaskState.SUCCEEDED, changes=changes)
    store.finish(number)


def fail(store: JobStore, number: int) -> None:
    store.move(number, JobState.RUNNING)
    store.finish(number, JobState.FAILED, failure=TIMEOUT)


def listed(aiia: Any, *args: Any) -> list[dict[str, Any]]:
    done = aiia("jobs", "list", "-o", "json", *args)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def numbers(aiia: Any, *args: Any) -> list[int]:
    return [run["number"] for run in listed(aiia, *args)]


def test_the_list_shows_the_newest_first_with_stable_keys(
    store: JobStore, aiia: Any, request_of: Any
) -> None:
    first, second = store.create(request_of()), store.create(request_of("other"))
    succeed(store, first)
    found = listed(aiia)
    assert [run["number"] for run in found] == [second, first]
    assert list(found[0]) == LISTED
    assert found[1]["state"] == "Completed"
    assert found[1]["progress"] == 1.0
    assert found[1]["records"] == 20
    assert isinstance(found[1]["duration_seconds"], float)
    assert found[1]["created_at"].endswith("Z")
    datetime.fromisoformat(found[1]["created_at"])


def test_an_empty_list_is_an_empty_array(store: JobStore, aiia: Any) -> None:
    done = aiia("jobs", "list")
    assert (done.stdout, done.exit_code) == ("[]\n", 0)
    assert "No job has run yet" in done.stderr


def test_every_filter_narrows_the_list(store: JobStore, aiia: Any, request_of: Any) -> None:
    good, bad, other = (
        store.create(request_of()),
        store.create(request_of("other_db")),
        store.create(request_of("third", type=JobType.CONNECTION_TEST)),
    )
    succeed(store, good)
    fail(store, bad)
    assert numbers(aiia, "--status", "failed") == [bad]
    assert numbers(aiia, "--status", "completed") == [good]
    assert numbers(aiia, "--status", "active") == [other]
    assert numbers(aiia, "--status", "failed", "--status", "completed") == [bad, good]
    assert numbers(aiia, "--connector", "sample") == [good]
    assert numbers(aiia, "--type", "connection_test") == [other]
    assert numbers(aiia, "--trigger", "schedule") == []
    assert numbers(aiia, "--text", f"#{bad}") == [bad]
    assert numbers(aiia, "--text", "r_d") == [bad]
    assert numbers(aiia, "--text", "TIMEOUT") == [bad]
    assert numbers(aiia, "--since", "1h") == [other, bad, good]
    assert numbers(aiia, "--since", "2999-01-01") == []
    assert numbers(aiia, "-n", "1", "--before", other) == [bad]


def test_failures_need_attention_until_a_later_run_is_completed(
    store: JobStore, aiia: Any, request_of: Any
) -> None:
    old = store.create(request_of())
    fail(store, old)
    lasting = store.create(request_of("other"))
    fail(store, lasting)
    assert numbers(aiia, "--needs-attention") == [lasting, old]
    succeed(store, store.create(request_of()))
    assert numbers(aiia, "--needs-attention") == [lasting]


def test_the_jobs_of_the_system_are_hidden_unless_asked_for(
    store: JobStore, aiia: Any, request_of: Any
) -> None:
    number = store.create(request_of(type="health_check"))
    assert numbers(aiia) == []
    assert numbers(aiia, "--system") == [number]


def test_a_pending_run_says_that_its_connector_is_busy(
    store: JobStore, aiia: Any, request_of: Any
) -> None:
    busy, waiting = store.create(request_of()), store.create(request_of())
    store.move(busy, JobState.RUNNING)
    found = {run["number"]: run["waits"] for run in listed(aiia)}
    assert found == {busy: "", waiting: f"sample is already running (#{busy})"}


def heartbeat(store: JobStore, age: float | None) -> None:
    with store.engine.begin() as db:
        db.exec_driver_sql("drop table if exists public.daemon_heartbeats")
        if age is not None:
            db.exec_driver_sql("create table public.daemon_heartbeats (body text)")
            body = json.dumps({"__class__": "DaemonHeartbeat", "timestamp": time.time() - age})
            db.exec_driver_sql("insert into public.daemon_heartbeats values (%s)", (body,))


@pytest.mark.parametrize("age", [None, 61])
def test_a_pending_run_says_that_no_daemon_runs(
    store: JobStore, aiia: Any, request_of: Any, age: float | None
) -> None:
    heartbeat(store, age)
    store.create(request_of())
    assert listed(aiia)[0]["waits"] == "no daemon is running; start it with `aiia up`"


def test_a_pending_run_with_a_live_daemon_needs_no_reason(
    store: JobStore, aiia: Any, request_of: Any
) -> None:
    heartbeat(store, 5)
    store.create(request_of())
    assert listed(aiia)[0]["waits"] == ""
    heartbeat(store, None)


def test_the_table_has_the_columns_of_the_job_history(
    store: JobStore, aiia: Any, request_of: Any
) -> None:
    succeed(store, store.create(request_of()), 336_776)
    done = aiia("jobs", "list", "-o", "table")
    heads = ["Job", "Type", "Connector", "Status", "Progress", "Records", "Duration", "Message"]
    assert done.stdout.split("\n")[0].split() == [*heads, "Created"]
    assert "Data refresh" in done.stdout
    assert "✓ Completed" in done.stdout
    assert "336,776" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("form", ["csv", "ndjson", "plain"])
def test_every_form_gives_one_line_for_each_run(
    store: JobStore, aiia: Any, request_of: Any, form: str
) -> None:
    store.create(request_of())
    store.create(request_of())
    lines = aiia("jobs", "list", "-o", form).stdout.splitlines()
    assert len(lines) == 2 + (form == "csv")
    if form == "csv":
        assert lines[0].split(",") == LISTED
    if form == "ndjson":
        assert list(json.loads(lines[0])) == LISTED


def test_show_tells_what_a_failure_means_and_asks(
    store: JobStore, aiia: Any, request_of: Any
) -> None:
    number = store.create(request_of())
    fail(store, number)
    page = aiia("jobs", "show", number, "-o", "table").stdout
    assert "✕ Failed (connection-timeout)" in page
    assert TIMEOUT.kind.cause in page
    assert "Allow outbound traffic from this worker to 10.0.0.1:5432" in page
    assert "nc -vz -w 5 10.0.0.1 5432" in page
    assert "without Dagster" in page
    told = json.loads(aiia("jobs", "show", number).stdout)
    assert list(told) == [*LISTED, "guidance", "tasks", "attempts", "retried_as", "slowest"]
    assert list(told["guidance"]) == ["meaning", "cause", "remedy", "verify", "docs"]
    assert told["guidance"]["docs"] == "docs/reference/failures/connection-timeout.md"
    assert "docs/reference/failures/connection-timeout.md" in page


def test_show_has_steps_counts_figures_and_links(
    store: JobStore, aiia: Any, request_of: Any
) -> None:
    number = store.create(request_of(), run_id="11111111-2222")
    succeed(store, number)
    again = store.create(request_of(retry_of=number))
    page = aiia("jobs", "show", number, "-o", "plain").stdout
    assert "rows  Succeeded  20 records (20 inserted, 0 updated, 0 unchanged, 0 deleted)" in page
    assert "✓ extract" in page
    assert "Reconciled: 1 figures, all agree" in page
    assert f"Retried as:  #{again}" in page
    assert "Dagster run 11111111-2222" in page
    task = json.loads(aiia("jobs", "show", number).stdout)["tasks"][0]
    assert task["reconciliation"] == {"figures": 1, "agree": 1, "differences": []}
    assert list(task["steps"][0]) == [
        "step", "state", "records", "busy_seconds",
        "cpu_seconds", "peak_memory_bytes", "bytes_read", "bytes_written",
        "started_at", "skipped_at", "completed_at", "note",
    ]  # fmt: skip


def test_show_says_what_was_used_and_what_was_slow(
    store: JobStore, aiia: Any, request_of: Any
) -> None:
    number = store.create(request_of())
    succeed(store, number)
    with store.engine.begin() as db:
        db.exec_driver_sql(
            "update aiia.job_runs set started_at = ended_at - interval '10 s', cpu_seconds = 2.5,"
            " peak_memory = 300 * 1048576, bytes = 4096, bytes_written = 1000 where number = %s",
            (number,),
        )
        db.exec_driver_sql(
            "update aiia.steps set busy_seconds = case step when 'extract' then 6 else 0 end,"
            " cpu_seconds = case step when 'extract' then 0.5 else 0 end, bytes_read = 10,"
            " peak_memory = 1048576 where number = %s",
            (number,),
        )
    page = aiia("jobs", "show", number, "-o", "plain").stdout
    assert "Slowest:     extract of rows was at work for 60% of the time (6.0 s)\n" in page
    assert "Used:        CPU 2.5 s, memory 300.0 MiB, read 4.0 KiB, written 1000 bytes\n" in page
    assert "20 records  CPU 500 ms, memory 1.0 MiB, read 10 bytes\n" in page
    told = json.loads(aiia("jobs", "show", number).stdout)
    assert told["slowest"] == [
        {"step": "extract", "stream": "rows", "busy_seconds": 6.0, "share": 0.6}
    ]
    assert (told["bytes_read"], told["bytes_written"]) == (4096, 1000)
    task = told["tasks"][0]
    assert task["peak_memory_bytes"] == 1 << 20
    assert {"cpu_seconds", "bytes_read", "bytes_written"} <= set(task)
    assert {"cpu_seconds", "peak_memory_bytes"} <= set(told["attempts"][0])


def lines_at(store: JobStore, number: int) -> list[LogLine]:
    at = datetime(2026, 5, 24, 2, 0, 3, tzinfo=UTC)
    lines = [
        LogLine(at, Level.INFO, f"Starting data refresh job run #{number} (Sample DB)"),
        LogLine(at, Level.WARNING, "slow"),
        LogLine(at, Level.ERROR, "broken", ("Traceback", "  deep")),
    ]
    store.write_log(number, lines)
    return lines


def test_logs_prints_the_lines_exactly_as_they_are_rendered(
    store: JobStore, aiia: Any, request_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = store.create(request_of())
    lines = lines_at(store, number)
    assert aiia("jobs", "logs", number).stdout == "".join(f"{render(line)}\n" for line in lines)
    monkeypatch.setenv("AIIA_TIMEZONE", "Asia/Dubai")
    assert aiia("jobs", "logs", number).stdout.startswith("[2026-05-24 06:00:03] INFO: Starting")


def test_logs_can_be_narrowed(store: JobStore, aiia: Any, request_of: Any) -> None:
    number = store.create(request_of())
    lines = [render(line) for line in lines_at(store, number)]
    assert aiia("jobs", "logs", number, "--level", "warning").stdout == "\n".join([*lines[1:], ""])
    assert aiia("jobs", "logs", number, "--tail", 1).stdout == f"{lines[2]}\n"
    assert aiia("jobs", "logs", number, "--grep", "dee+p").stdout == f"{lines[2]}\n"
    assert aiia("jobs", "logs", number, "--grep", "(").exit_code == 2
    told = json.loads(aiia("jobs", "logs", number, "-o", "json").stdout)
    assert list(told[0]) == ["id", "at", "level", "message", "detail"]


def test_logs_follows_until_the_last_line(store: JobStore, aiia: Any, request_of: Any) -> None:
    number = store.create(request_of())
    store.move(number, JobState.RUNNING)

    def end() -> None:
        time.sleep(0.7)
        store.write_log(number, [LogLine.of(Level.INFO, "nearly done")])
        store.finish(number, JobState.FAILED, failure=TIMEOUT)

    ending = threading.Thread(target=end)
    ending.start()
    done = aiia("jobs", "logs", "-f", number)
    ending.join()
    said = [line.partition("] ")[2] for line in done.stdout.splitlines()]
    assert said == [
        "INFO: nearly done",
        "ERROR: Connection timeout.",
        "FATAL: Job aborted with state FAILED.",
    ]


@pytest.mark.parametrize("command", ["show", "logs", "retry", "cancel", "wait"])
def test_an_unknown_number_ends_with_3(store: JobStore, aiia: Any, command: Any) -> None:
    done = aiia("jobs", command, 999_999, "-o", "json")
    assert done.exit_code == 3
    told = json.loads(done.stderr)
    assert list(told) == ["code", "message", "remedy", "retryable", "docs"]
    assert told["code"] == "unknown-job"
    assert told["message"] == "There is no job run #999999."


def ended(store: JobStore, number: int, state: JobState) -> None:
    store.move(number, JobState.RUNNING)
    if state is JobState.PARTIALLY_SUCCEEDED:
        with Recorder(store, number) as recorder:
            recorder.end_task("rows", TaskState.SUCCEEDED)
    store.finish(number, state)


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (JobState.ERROR, 10),
        (JobState.FAILED, 11),
        (JobState.CANCELLED, 12),
        (JobState.PARTIALLY_SUCCEEDED, 14),
    ],
)
def test_wait_ends_with_the_code_of_the_state(
    store: JobStore, aiia: Any, request_of: Any, state: JobState, code: int
) -> None:
    number = store.create(request_of(streams=("rows", "others")))
    ended(store, number, state)
    done = aiia("jobs", "wait", number)
    assert json.loads(done.stdout)[0]["state"] == state
    assert done.exit_code == code


def test_wait_counts_the_worst_of_several_and_gives_up_at_the_timeout(
    store: JobStore, aiia: Any, request_of: Any
) -> None:
    good, bad, running = (store.create(request_of()) for _ in range(3))
    succeed(store, good)
    ended(store, bad, JobState.ERROR)
    assert aiia("jobs", "wait", good).exit_code == 0
    assert aiia("jobs", "wait", good, bad).exit_code == 10
    assert aiia("jobs", "wait", running, "--timeout", "0s").exit_code == 13


def test_a_pending_run_is_cancelled_at_once_with_its_reason(
    store: JobStore, aiia: Any, request_of: Any
) -> None:
    number = store.create(request_of())
    done = aiia("jobs", "cancel", number, "--reason", "wrong day")
    assert json.loads(done.stdout) == {"number": number, "accepted": True, "state": "Cancelled"}
    told = json.loads(aiia("jobs", "show", number).stdout)
    assert told["cancel_reason"] == "wrong day"
    assert told["cancelled_by"]
    assert json.loads(aiia("jobs", "cancel", number).stdout)["accepted"] is False


def test_only_a_sync_that_has_ended_is_retried(store: JobStore, aiia: Any, request_of: Any) -> None:
    running = store.create(request_of())
    tested = store.create(request_of(type=JobType.CONNECTION_TEST))
    store.finish(tested, JobState.FAILED)
    assert aiia("jobs", "retry", running).exit_code == 2
    done = aiia("jobs", "retry", tested)
    assert done.exit_code == 2
    assert "aiia test sample" in done.stderr


def test_a_retry_is_a_new_job_run_that_points_to_the_old_one(
    here: Any, store: JobStore, aiia: Any, request_of: Any
) -> None:
    here.write()
    package = Path(aiia_pipelines.__file__).parent.parent
    shutil.copy(package / "dagster.yaml", here.connectors.parent)
    number = store.create(request_of())
    fail(store, number)
    # A process of its own: it leaves while the run it started goes on.
    done = subprocess.run(
        [sys.executable, "-m", "aiia_pipelines", "jobs", "retry", str(number)],
        env={**os.environ, **here.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["retry_of"] == number
    ended = aiia("jobs", "wait", told["number"], "--timeout", "90s")
    (run,) = json.loads(ended.stdout)
    assert (ended.exit_code, run["state"], run["records"]) == (0, "Completed", 20)
    assert (run["trigger"], run["retry_of"]) == ("retry", number)
    assert numbers(aiia, "--needs-attention") == []


def test_a_waiting_run_is_paused_with_its_reason_and_goes_on(
    store: JobStore, aiia: Any, request_of: Any
) -> None:
    number = store.create(request_of(streams=("rows",)))
    done = aiia("jobs", "pause", number, "--reason", "month end")
    assert json.loads(done.stdout) == {"number": number, "state": "Scheduled"}
    told = json.loads(aiia("jobs", "show", number).stdout)
    assert (told["state"], told["badge"]) == ("Scheduled", "Pending")
    assert told["message"].endswith(": month end")
    done = aiia("jobs", "resume", number)
    assert json.loads(done.stdout) == {"number": number}
    assert "No daemon is running" in done.stderr
    again = aiia("jobs", "resume", number)
    assert again.exit_code == 2
    assert f"Job run #{number} is Scheduled, and nobody paused it." in again.stderr


def test_what_cannot_be_paused_is_told(store: JobStore, aiia: Any, request_of: Any) -> None:
    ended = store.create(request_of(streams=("rows",)))
    store.finish(ended, JobState.CANCELLED)
    told = aiia("jobs", "pause", ended)
    assert (told.exit_code, told.stdout) == (2, "")
    assert f"Job run #{ended} is Cancelled; it cannot be paused any more." in told.stderr
    tested = store.create(request_of(type=JobType.CONNECTION_TEST))
    assert "only a sync can be paused" in aiia("jobs", "pause", tested).stderr
    assert aiia("jobs", "pause", 10**9).exit_code == 3
    sealed = store.create(request_of(streams=("rows",)))
    store.seal(sealed)
    assert "is just committing its last records" in aiia("jobs", "pause", sealed).stderr


def test_a_run_that_waits_for_its_time_is_cancelled_at_once(
    store: JobStore, aiia: Any, request_of: Any
) -> None:
    number = store.create(request_of(streams=("rows",)))
    aiia("jobs", "pause", number)
    done = aiia("jobs", "cancel", number)
    assert json.loads(done.stdout) == {"number": number, "accepted": True, "state": "Cancelled"}
