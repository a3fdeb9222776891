"""Job runs that wait, pause, are tried again and give way, through real Dagster runs."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat

from aiia_pipelines.config.folder import Folder, read_connector
from aiia_pipelines.definitions import definitions_of
from aiia_pipelines.jobs import attempts
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.local.ports import free_port
from aiia_pipelines.sensors.due_runs import launches

pytestmark = pytest.mark.integration

CONNECTOR = """\
name: {name}
title: {name} DB
{more}
source:
  kind: sql
  url: postgresql://shop_read@127.0.0.1:{port}/shop
  password: ${{file:secrets/shop_read}}
streams:
{streams}
"""
ORDERS = "  - { name: orders, table: public.orders, key: [id] }"
SLOW = "  - { name: orders, query: 'select id, pg_sleep(0.05)::text as s from public.orders', key: [id], batch_rows: 10 }"
Write = Callable[..., None]


@pytest.fixture
def write(rim: Any) -> Iterator[Write]:
    made = []

    def put(name: str, *, more: str = "", port: int = 0, streams: str = ORDERS) -> None:
        path = rim.connectors / f"{name}.yaml"
        made.append(path)
        at = port or rim.server.port
        path.write_text(CONNECTOR.format(name=name, more=more, port=at, streams=streams))

    yield put
    for path in set(made):
        path.unlink()


@pytest.fixture
def daemon(rim: Any) -> Iterator[None]:
    """Dagster's daemon as the store sees it: a sign of life."""
    beat = DaemonHeartbeat(time.time(), "SENSOR", "here", [])
    rim.instance.add_daemon_heartbeat(beat)
    yield
    with rim.store.engine.begin() as db:
        db.exec_driver_sql("delete from public.daemon_heartbeats")


def job_of(rim: Any, name: str) -> dg.JobDefinition:
    folder = Folder(connectors={name: read_connector(rim.connectors, name)})
    return definitions_of(folder).resolve_job_def(f"sync__{name}")


def execute(rim: Any, name: str, **more: Any) -> tuple[int, dg.ExecuteInProcessResult]:
    result = job_of(rim, name).execute_in_process(
        instance=rim.instance, raise_on_error=False, **more
    )
    return rim.number(result.run_id, name), result


def make_due(rim: Any, number: int) -> None:
    with rim.store.engine.begin() as db:
        db.exec_driver_sql(
            "update aiia.job_runs set due_at = now() - interval '1 second' where number = %s",
            (number,),
        )


def known(rim: Any, name: str) -> dict[str, frozenset[str]]:
    connector = read_connector(rim.connectors, name)
    return {name: frozenset(stream.name for stream in connector.streams)}


def go_on(rim: Any, name: str) -> dg.ExecuteInProcessResult:
    """Execute what the sensor asks for, as Dagster's daemon would."""
    requests = launches(rim.store, known(rim, name), datetime.now(UTC))
    (request,) = [each for each in requests if isinstance(each, dg.RunRequest)]
    return execute(rim, name, tags=request.tags, asset_selection=request.asset_selection)[1]


def test_a_second_attempt_uses_the_corrected_file_and_does_only_what_failed(
    rim: Any, write: Write, daemon: None
) -> None:
    write("late", port=free_port())
    number, _ = execute(rim, "late")
    row = rim.store.row(number)
    assert (row.state, row.failure_code) == ("Scheduled", "connection-refused")
    write("late")
    make_due(rim, number)
    result = go_on(rim, "late")
    assert result.success
    assert rim.tags(result.run_id)["aiia/job"] == str(number)
    assert rim.tags(result.run_id)["aiia/badge"] == "Completed"
    row = rim.store.row(number)
    assert (row.state, row.records, row.failure_code) == ("Completed", 300, None)
    log = rim.log(number)
    assert sum(line.startswith("INFO: Starting data refresh job run") for line in log) == 2
    assert any(line.startswith("WARNING: Attempt 1 ended as connection-refused") for line in log)
    assert log[-1] == "INFO: Job finished with state COMPLETED. 300 records ingested."
    assert next(iter(launches(rim.store, known(rim, "late"), datetime.now(UTC)))).skip_message


def test_of_twenty_streams_three_fail_and_only_these_are_done_again(rim: Any, write: Write) -> None:
    broken = {4, 11, 17}
    wrong = ", columns: { note: { type: int32 } }"
    lines = [
        f"  - {{ name: s{n}, table: public.orders, key: [id]{wrong if n in broken else ''} }}"
        for n in range(20)
    ]
    write("many", streams="\n".join(lines))
    number, _ = execute(rim, "many")
    assert rim.store.row(number).state == "Partially Succeeded"
    states = dict(rim.store.tasks_of(number))
    assert sum(state == "Succeeded" for state in states.values()) == 17
    assert {name for name, state in states.items() if state == "Error"} == {"s4", "s11", "s17"}
    write("many", streams="\n".join(line.replace(wrong, "") for line in lines))
    again, _ = execute(
        rim, "many",
        asset_selection=[dg.AssetKey(["many", f"s{n}"]) for n in broken],
        tags={".dagster/aiia_retry_of": str(number), ".dagster/aiia_trigger": "retry"},
    )  # fmt: skip
    row = rim.store.row(again)
    assert (row.state, row.retry_of, len(row.streams)) == ("Completed", number, 3)


def test_a_running_sync_pauses_and_goes_on(rim: Any, write: Write) -> None:
    write("steady", streams=SLOW)
    found: list[int] = []

    def pause() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            number = rim.store.busy_with("steady")
            if number and rim.store.row(number).records:
                attempts.hold(rim.store, number, by="ada", reason="month end")
                found.append(number)
                return
            time.sleep(0.05)

    thread = Thread(target=pause)
    thread.start()
    number, result = execute(rim, "steady")
    thread.join()
    assert found == [number]
    row = rim.store.row(number)
    assert (row.state, row.held_by, row.failure_code) == ("Paused", "ada", None)
    assert rim.log(number)[-1] == "WARNING: Job paused by ada: month end"
    assert rim.instance.get_run_by_id(result.run_id).status is dg.DagsterRunStatus.CANCELED
    assert rim.tags(result.run_id)["aiia/badge"] == "Pending"
    assert rim.warehouse("select to_regclass('steady.orders')::text") == [(None,)]
    attempts.release(rim.store, number)
    assert go_on(rim, "steady").success
    assert rim.store.row(number).state == "Completed"
    assert rim.warehouse("select count(*) from steady.orders") == [(300,)]


def hours(begin: timedelta, end: timedelta) -> str:
    now = datetime.now(UTC)
    return f'window: {{ hours: "{now + begin:%H:%M}-{now + end:%H:%M}" }}'


def test_outside_of_its_window_a_run_waits_for_the_opening(rim: Any, write: Write) -> None:
    write("nightly", more=hours(timedelta(hours=2), timedelta(hours=4)))
    job = job_of(rim, "nightly")
    run = rim.instance.create_run_for_job(job)
    number = rim.number(run.run_id, "nightly")
    row = rim.store.row(number)
    assert row.state == "Scheduled"
    assert timedelta(hours=1, minutes=58) < row.due_at - datetime.now(UTC) <= timedelta(hours=2)
    # Its Dagster run gives its place away; another one comes when the window opens.
    assert rim.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.CANCELED
    make_due(rim, number)
    (skipped,) = launches(rim.store, known(rim, "nightly"), datetime.now(UTC))
    assert isinstance(skipped, dg.SkipReason)
    assert rim.store.row(number).due_at > datetime.now(UTC), "the window is still closed"
    write("nightly")
    make_due(rim, number)
    assert go_on(rim, "nightly").success
    assert rim.store.state_of(number) is JobState.COMPLETED


def test_a_newer_run_takes_the_place_of_one_that_waits(rim: Any, write: Write) -> None:
    write("fresh", more="overlap: replace")
    job = job_of(rim, "fresh")
    older = rim.instance.create_run_for_job(job)
    newer = rim.instance.create_run_for_job(job)
    numbers = [rim.number(run.run_id, "fresh") for run in (older, newer)]
    assert [rim.store.row(number).state for number in numbers] == ["Replaced", "Pending"]
    assert rim.instance.get_run_by_id(older.run_id).status is dg.DagsterRunStatus.CANCELED
    assert rim.tags(older.run_id)["aiia/badge"] == "Cancelled"
    rim.instance.report_run_canceled(newer)


def test_a_second_run_is_skipped(rim: Any, write: Write) -> None:
    write("single", more="overlap: skip")
    job = job_of(rim, "single")
    first = rim.instance.create_run_for_job(job)
    second = rim.instance.create_run_for_job(job)
    numbers = [rim.number(run.run_id, "single") for run in (first, second)]
    assert [rim.store.row(number).state for number in numbers] == ["Pending", "Cancelled"]
    assert rim.instance.get_run_by_id(second.run_id).status is dg.DagsterRunStatus.CANCELED
    rim.instance.report_run_canceled(first)


def test_a_broken_file_is_waited_for(rim: Any, write: Write) -> None:
    write("torn_later", more=hours(timedelta(hours=2), timedelta(hours=4)))
    run = rim.instance.create_run_for_job(job_of(rim, "torn_later"))
    number = rim.number(run.run_id, "torn_later")
    make_due(rim, number)
    assert [type(each) for each in launches(rim.store, {}, datetime.now(UTC))] == [dg.SkipReason]
    (rim.connectors / "torn_later.yaml").write_text("name: torn_later\nkron: never\n")
    make_due(rim, number)
    (skipped,) = launches(rim.store, {}, datetime.now(UTC))
    assert isinstance(skipped, dg.SkipReason)
    assert f"loaded again: [{number}]" in str(skipped.skip_message)
    assert rim.store.state_of(number) is JobState.SCHEDULED
    make_due(rim, number)
    (rim.connectors / "torn_later.yaml").rename(rim.connectors / "elsewhere.txt")
    try:
        [*launches(rim.store, {}, datetime.now(UTC))]
    finally:
        (rim.connectors / "elsewhere.txt").rename(rim.connectors / "torn_later.yaml")
    assert rim.store.row(number).message == "There is no connector torn_later any more."
    assert rim.store.state_of(number) is JobState.FAILED
