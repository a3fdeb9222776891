"""The system's own jobs: job runs of types that lists leave out, with a result for each stage."""

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._daemon.types import DaemonHeartbeat

from aiia_pipelines.cli.main import root
from aiia_pipelines.jobs.history import connect
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import JobType, NewJobRun, Trigger
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.webhooks import Calls
from aiia_pipelines.local.ports import free_port
from aiia_pipelines.resources.job_board import settings
from aiia_pipelines.schedules.upkeep import decide
from aiia_pipelines.sync.destinations import collect, open_destination
from aiia_pipelines.upkeep.course import Course, Stage, finish, go_through, table_of
from aiia_pipelines.upkeep.disks import DiskFull, verdict
from aiia_pipelines.upkeep.health import Ground, stages_of

pytestmark = pytest.mark.integration

FILE = """\
name: {name}
title: Shop DB
source:
  kind: sql
  url: postgresql://shop_read@127.0.0.1:${{env:AIIA_POSTGRES_PORT}}/shop
  password: ${{file:secrets/{secret}}}
streams: [{{ name: orders, table: public.orders, key: [id] }}]
"""
STAGES = [
    "history", "daemon", "home", "temporary folder", "history's disk", "connector files", "secrets",
    "destination warehouse", "waiting job runs",
]  # fmt: skip
# What maintenance removes because of its age: tests/rim/test_retention.py.
AGED = ("events of runs", "ticks", "logs of job runs", "job runs")
GIB = 1 << 30


@pytest.fixture
def healthy(rim: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installation with one good connector and daemons; gives the folder of its connector files."""
    folder = tmp_path / "connectors"
    folder.mkdir()
    monkeypatch.setenv("AIIA_CONNECTORS", str(folder))
    write(folder, "good")
    beat(rim)
    yield folder
    # Other tests here count on it that nobody launches a next attempt.
    rim.instance.wipe_daemon_heartbeats()


def write(folder: Path, name: str, secret: str = "shop_read") -> None:
    (folder / f"{name}.yaml").write_text(FILE.format(name=name, secret=secret))


def beat(rim: Any) -> None:
    for kind in rim.instance.get_required_daemon_types():
        rim.instance.add_daemon_heartbeat(DaemonHeartbeat(time.time(), kind, "test", []))


def checked(rim: Any) -> Any:
    return rim.row(rim.run("health_check").run_id, "")


def steps(rim: Any, number: int) -> dict[str, tuple[str, str]]:
    query = f"select step, state, note from aiia.steps where number = {number} order by position"
    with rim.store.engine.connect() as db:
        return {step: (state, note) for step, state, note in db.exec_driver_sql(query)}


def listed(*args: str) -> list[int]:
    done = CliRunner().invoke(root, ["jobs", "list", *args], catch_exceptions=False)
    return [run["number"] for run in json.loads(done.stdout)]


# -- the health check -----------------------------------------------------------------------


def test_a_health_check_is_a_job_run_with_one_line_for_each_stage(rim: Any, healthy: Path) -> None:
    result = rim.run("health_check")
    assert result.success
    row = rim.row(result.run_id, "")
    assert (row.type, row.state, row.connector) == ("health_check", "Completed", "")
    assert (row.priority, row.trigger) == ("low", "manual")
    assert rim.tags(result.run_id)["aiia/badge"] == "Completed"
    found = steps(rim, row.number)
    assert list(found) == STAGES
    assert {state for state, _ in found.values()} == {"Completed"}
    assert "MiB, tables at version" in found["history"][1]
    assert "free at" in found["history's disk"][1]
    lines = rim.log(row.number)
    assert lines[0] == f"INFO: Starting health check job run #{row.number} (this installation)"
    assert lines[-1] == "INFO: Job finished with state COMPLETED."
    assert len(lines) == len(STAGES) + 2
    assert any(line.startswith("INFO: Connector files passed in ") for line in lines)


def test_lists_leave_the_system_out_until_they_are_asked_for_it(rim: Any, healthy: Path) -> None:
    number = checked(rim).number
    assert number not in listed()
    assert number in listed("--system")
    assert listed("--type", "health_check", "-n", "1") == [number]
    shown = CliRunner().invoke(root, ["jobs", "show", str(number), "-o", "table"])
    assert "Health check" in shown.stdout
    assert "Connector:" not in shown.stdout
    assert "history's disk" in shown.stdout
    refused = CliRunner().invoke(root, ["jobs", "retry", str(number)])
    assert refused.exit_code == 2


def test_a_broken_file_fails_the_check_and_is_named(rim: Any, healthy: Path) -> None:
    (healthy / "torn.yaml").write_text("name: torn\ntitle: Torn\nkron: never\nstreams: []\n")
    row = checked(rim)
    assert (row.state, row.failure_code) == ("Failed", "config-invalid")
    assert row.message.startswith("Invalid Configuration: 1 of 2 connectors cannot be used: torn.")
    found = steps(rim, row.number)
    assert [name for name, (state, _) in found.items() if state == "Failed"] == ["connector files"]
    assert found["destination warehouse"][0] == "Completed"
    assert "FATAL: Job aborted with state FAILED." in rim.log(row.number)


def test_a_link_to_nobody_is_a_warning(rim: Any, healthy: Path) -> None:
    with (healthy / "good.yaml").open("a") as file:
        file.write("triggers: { after: [nobody] }\n")
    row = checked(rim)
    state, note = steps(rim, row.number)["connector files"]
    assert (row.state, state) == ("Completed", "Completed")
    assert note.startswith("Warning: ")
    assert "nobody" in note


def test_a_secret_that_is_not_there_is_named_with_its_connector(rim: Any, healthy: Path) -> None:
    write(healthy, "odd", secret="nobody_wrote_it")
    with (healthy / "good.yaml").open("a") as file:
        file.write("triggers: { webhook: { secret: '${env:AIIA_NOBODY_SET_IT}' } }\n")
    row = checked(rim)
    assert (row.state, row.failure_code) == ("Failed", "secret-missing")
    assert "good: ${env:AIIA_NOBODY_SET_IT}" in row.message
    assert "(and 1 more connector)" in row.message


def test_a_destination_that_refuses_fails_the_check(
    rim: Any, healthy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("AIIA_DESTINATION_ARCHIVE", f"postgresql://x@127.0.0.1:{port}/archive")
    row = checked(rim)
    assert (row.state, row.failure_code) == ("Failed", "destination-unreachable")
    assert row.failure_place == f"127.0.0.1:{port}"
    found = steps(rim, row.number)
    assert (found["destination archive"][0], found["destination warehouse"][0]) == (
        "Failed",
        "Completed",
    )


def test_each_destination_has_ten_seconds_to_answer(rim: Any, healthy: Path) -> None:
    ground = Ground(settings=settings(), store=rim.store, environ=os.environ, daemons=dict)
    stage = next(s for s in stages_of(ground) if s.name == "destination warehouse")
    assert (stage.within, stage.late, stage.side) == (10, ("errno:ETIMEDOUT",), "destination")


def test_stages_that_hang_or_lose_the_history_are_told_as_what_they_are(rim: Any) -> None:
    port = free_port()
    over = threading.Event()
    planned = [
        Stage(name="fine", work=lambda: "Warning: nearly"),
        Stage(
            name="destination slow", work=lambda: str(over.wait()), within=0.2,
            late=("errno:ETIMEDOUT",), side="destination",
        ),
        Stage(name="history", work=lambda: str(connect(f"postgresql://x@127.0.0.1:{port}/x"))),
    ]  # fmt: skip
    number = rim.store.create(
        NewJobRun(
            connector="", title="stages", streams=(), type=JobType.HEALTH_CHECK,
            trigger=Trigger.MANUAL, triggered_by="sara",
        )
    )  # fmt: skip
    course = Course()
    with Recorder(rim.store, number) as recorder:
        rim.store.move(number, JobState.RUNNING)
        go_through(recorder, planned, course)
        finish(rim.store, number, course)
    over.set()
    codes = [stage.failure.code if stage.failure else "" for stage in course.stages]
    assert codes == ["", "destination-unreachable", "history-unavailable"]
    assert course.failure is course.stages[1].failure
    assert rim.store.row(number).failure_code == "destination-unreachable"
    assert "Destination slow did not answer within 0.2 seconds" in rim.store.row(number).message
    verdicts = [line.split(" | ")[1] for line in table_of(course).splitlines()[2:]]
    assert verdicts == ["! look at it", "✕ failed", "✕ failed"]
    assert any(line.startswith("WARNING: Fine passed in ") for line in rim.log(number))


def test_destinations_in_files_are_looked_at_without_locking_them(
    rim: Any, healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, file = tmp_path / "lake", tmp_path / "warehouse.duckdb"
    monkeypatch.setenv("AIIA_DESTINATION_LAKE", f"parquet://{lake}")
    monkeypatch.setenv("AIIA_DESTINATION_FILE", f"duckdb://{file}")
    monkeypatch.setenv("AIIA_DESTINATION_ODD", "carrier-pigeon://loft")
    row = checked(rim)
    assert row.failure_code == "config-invalid"
    found = steps(rim, row.number)
    assert found["destination odd"][0] == "Failed"
    assert found["destination lake"][0] == found["destination file"][0] == "Completed"
    assert str(tmp_path) in found["destination file"][1]
    assert not file.exists()


def test_silent_daemons_fail_the_check(rim: Any, healthy: Path) -> None:
    rim.instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - 900, "SCHEDULER", "test", []))
    row = checked(rim)
    assert (row.state, row.failure_code) == ("Failed", "daemon-down")
    assert "Daemon down: scheduler not seen for 90" in row.message
    rim.instance.wipe_daemon_heartbeats()
    assert "Daemon down: never seen." in checked(rim).message


def test_job_runs_that_wait_for_hours_are_a_warning(rim: Any, healthy: Path) -> None:
    waiting = rim.store.create(
        NewJobRun(
            connector="good", title="Good", streams=(), trigger=Trigger.MANUAL, triggered_by="sara"
        )
    )
    statement = (
        f"update aiia.job_runs set created_at = now() - interval '2 h' where number = {waiting}"
    )
    with rim.store.engine.begin() as db:
        db.exec_driver_sql(statement)
    row = checked(rim)
    rim.store.request_cancel(waiting, by="sara")
    rim.store.finish(waiting)
    assert row.state == "Completed"
    warned = [line for line in rim.log(row.number) if line.startswith("WARNING: ")]
    assert f"#{waiting} good" in " ".join(warned)


@pytest.mark.parametrize(
    ("free", "total", "told"),
    [(50, 100, "50.0 GiB"), (50, 1000, "Warning: "), (0.9, 4, "Warning: "), (10.0, 100.0, "10.0")],
)
def test_little_room_is_a_warning(free: float, total: float, told: str) -> None:
    assert verdict(Path("/data"), int(free * GIB), int(total * GIB)).startswith(told)


@pytest.mark.parametrize(("free", "total"), [(1.9, 100), (0.1, 1)])
def test_next_to_no_room_is_a_failure_of_the_worker(free: float, total: float) -> None:
    with pytest.raises(DiskFull, match=r"Disk almost full: .* free at /data") as caught:
        verdict(Path("/data"), int(free * GIB), int(total * GIB))
    assert caught.value.place == "/data"


# -- maintenance ----------------------------------------------------------------------------


@pytest.fixture
def littered(rim: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Things that are of no use any more, by what they are, and their neighbours that are."""
    temporary, artifacts = tmp_path / "temporary", tmp_path / "artifacts"
    logs = rim.server.home / "logs" / "runs"
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("AIIA_ARTIFACTS", str(artifacts))
    known = rim.create("health_check").run_id
    found = {
        "scratch": temporary / "aiia-parquet-0123",
        "orphan": artifacts / str(uuid4()),
        "stored orphan": artifacts / "storage" / str(uuid4()),
        "young": artifacts / str(uuid4()),
        "known": artifacts / known,
        "foreign": artifacts / "notes",
        "log": logs / f"{uuid4()}.log",
        "new log": logs / f"{uuid4()}.log",
    }
    for name, path in found.items():
        if "log" in name:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("words")
        else:
            path.mkdir(parents=True)
    (found["scratch"] / ".lock").touch()
    for name in ("orphan", "stored orphan", "known", "foreign", "log"):
        old = time.time() - 31 * 86_400
        os.utime(found[name], (old, old))
    return found


def test_maintenance_removes_what_is_of_no_use_and_nothing_else(
    rim: Any, littered: dict[str, Path]
) -> None:
    calls = Calls(rim.store.engine)
    for name in ("old", "new"):
        with calls.once("shop", name):
            pass
    statement = (
        "update aiia.webhook_calls set at = now() - interval '31 days' where call_id = 'old'"
    )
    with rim.store.engine.begin() as db:
        db.exec_driver_sql(statement)
    result = rim.run("maintenance")
    assert result.success
    row = rim.row(result.run_id, "")
    assert (row.type, row.state) == ("maintenance", "Completed")
    left = {name for name, path in littered.items() if path.exists()}
    assert left == {"young", "known", "foreign", "new log"}
    found = {name: note for name, (_, note) in steps(rim, row.number).items()}
    assert found == {
        "staging warehouse": "nothing to remove",
        "scratch folders": "1 removed",
        "run logs": "1 removed",
        "webhook calls": "1 removed",
        "artifacts": "2 removed",
        **dict.fromkeys(AGED, "nothing to remove"),
        "dead rows": "few",
    }
    with rim.store.engine.begin() as db:
        left_calls = db.exec_driver_sql("delete from aiia.webhook_calls returning call_id").all()
    assert left_calls == [("new",)]
    again = rim.run("maintenance").run_id
    notes = [note for _, note in steps(rim, rim.number(again, "")).values()]
    assert notes == ["nothing to remove"] * (5 + len(AGED)) + ["few"]


def test_staging_of_attempts_that_were_overtaken_goes_and_what_can_go_on_stays(rim: Any) -> None:
    url = rim.environment["AIIA_DESTINATION_WAREHOUSE"]
    destination = open_destination(url)
    destination.connect()
    destination.close()
    names = [f"gone__rows__{end}" for end in ("1", "1k", "2", "2q", "3", "4k")]
    made = [f'create table _aiia_stg."{name}" (n int)' for name in [*names, "who__knows__1"]]
    rim_sql(
        rim,
        "insert into _aiia.lease values ('gone', 'rows', 3)",
        "insert into _aiia.checkpoint values ('gone', 'rows', 'plan', 2, 1, '{}')",
        *made,
    )
    assert collect(url, 1) == 1
    with closing(rim.server.connect("warehouse", "aiia_app")) as db, db.cursor() as cursor:
        # Somebody uses one of them: it is left for the next time.
        cursor.execute('select * from _aiia_stg."gone__rows__1k"')
        assert collect(url, 100) == 0
    assert collect(url, 100) == 1
    query = "select tablename from pg_tables where schemaname = '_aiia_stg' order by 1"
    assert [name for (name,) in rim.warehouse(query)] == [*names[2:], "who__knows__1"]
    rim_sql(
        rim,
        "delete from _aiia.lease where connector = 'gone'",
        "delete from _aiia.checkpoint where connector = 'gone'",
        *(f'drop table _aiia_stg."{name}"' for name in [*names[2:], "who__knows__1"]),
    )


def rim_sql(rim: Any, *statements: str) -> None:
    with (
        closing(rim.server.connect("warehouse", "aiia_app")) as db,
        db,
        db.cursor() as cursor,
    ):
        for statement in statements:
            cursor.execute(statement)


def test_tables_full_of_dead_rows_are_vacuumed_when_that_is_cheap(rim: Any) -> None:
    with rim.store.engine.begin() as db:
        db.exec_driver_sql("create table aiia.crowd as select n from generate_series(1, 20000) n")
        db.exec_driver_sql("alter table aiia.crowd set (autovacuum_enabled = false)")
    with rim.store.engine.begin() as db:
        db.exec_driver_sql("delete from aiia.crowd")
        db.exec_driver_sql("select pg_stat_force_next_flush()")
    number = rim.number(rim.run("maintenance").run_id, "")
    note = steps(rim, number)["dead rows"][1]
    with rim.store.engine.begin() as db:
        db.exec_driver_sql("drop table aiia.crowd")
    assert note == "vacuumed aiia.crowd"


def test_a_destination_that_is_away_fails_maintenance_but_stops_nothing_else(
    rim: Any, littered: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("AIIA_DESTINATION_ARCHIVE", f"postgresql://x@127.0.0.1:{port}/archive")
    row = rim.row(rim.run("maintenance").run_id, "")
    assert (row.state, row.failure_code) == ("Failed", "destination-unreachable")
    assert not littered["scratch"].exists()


# -- both -----------------------------------------------------------------------------------


def test_a_check_that_hangs_is_cancelled_at_once_in_both_stores(
    rim: Any, healthy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("AIIA_DESTINATION_ARCHIVE", f"postgresql://x@127.0.0.1:{port}/archive")
    query = "select number from aiia.steps where step = 'destination archive' and state = 'Running'"

    def cancel() -> None:
        end, found = time.monotonic() + 60, []
        while not found and time.monotonic() < end:
            with rim.store.engine.connect() as db:
                found = list(db.exec_driver_sql(query).scalars())
        rim.store.request_cancel(found[0], by="omar")

    with closing(socket.create_server(("127.0.0.1", port))):
        canceller = threading.Thread(target=cancel)
        canceller.start()
        result = rim.run("health_check")
        canceller.join()
    row = rim.row(result.run_id, "")
    assert (row.state, row.cancel_by, row.failure_code) == ("Cancelled", "omar", None)
    assert steps(rim, row.number)["waiting job runs"][0] == "Skipped"
    run = rim.instance.get_run_by_id(result.run_id)
    assert run.status is dg.DagsterRunStatus.CANCELED
    assert run.tags["aiia/badge"] == "Cancelled"


def test_the_schedules_are_on_and_none_of_a_connector(rim: Any) -> None:
    found = {
        each.name: (each.cron_schedule, each.execution_timezone, each.default_status)
        for each in rim.definitions.get_repository_def().schedule_defs
        if each.name.startswith("system__")
    }
    on = dg.DefaultScheduleStatus.RUNNING
    assert found == {
        "system__health_check": ("7 * * * *", "UTC", on),
        "system__maintenance": ("30 3 * * *", "UTC", on),
    }


def test_a_tick_asks_for_a_run_unless_it_is_late_or_one_is_under_way(rim: Any) -> None:
    now, patience = datetime.now(UTC), timedelta(minutes=10)
    tick = now.replace(microsecond=0)

    def asked(at: datetime) -> dg.RunRequest | dg.SkipReason:
        return decide(rim.instance, JobType.MAINTENANCE, at, patience)

    request = asked(tick)
    assert isinstance(request, dg.RunRequest)
    assert request.run_key == f"maintenance@{tick.isoformat()}"
    late = asked(tick - timedelta(hours=1))
    assert isinstance(late, dg.SkipReason)
    assert late.skip_message == "The tick passed while nothing ran."
    under_way = rim.create("maintenance")
    busy = asked(tick)
    assert isinstance(busy, dg.SkipReason)
    assert busy.skip_message == "The run before this one has not ended."
    rim.instance.report_run_canceled(under_way)
