import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from dagster_postgres import DagsterPostgresStorage
from mounting import may_mount

from aiia_pipelines.jobs.badge import Badge
from aiia_pipelines.jobs.failures import CATALOGUE, Failure
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.local.postgres import APPLICATION_ROLE, WAREHOUSE

pytestmark = pytest.mark.integration

KEYS = ["guide", "check", "verdict", "note", "remedy"]
INSTALLATION = ["settings", "database", "store version"]
STARTING = ["connector files", "daemon", "web server", "schedules", "ticks", "sensor job_history",
            "queue", "stuck job runs", "paused"]  # fmt: skip
FAILING = ["failures to look at", "secrets", "disk space", "temporary folder",
           "destination warehouse", "clock", "unclassified failures"]  # fmt: skip
SLOW = ["steps", "memory", "connections of the job history", "connections of warehouse",
        "dead rows", "size of the logs"]  # fmt: skip


def findings(aiia: Any, *more: object) -> tuple[Any, dict[str, dict[str, str]]]:
    done = aiia("doctor", *more)
    return done, {found["check"]: found for found in json.loads(done.stdout)}


@pytest.fixture
def look(dagster: None, aiia: Any) -> Callable[..., tuple[str, str, str]]:
    """Ask for one check: its verdict, its note, its remedy."""

    def ask(check: str, *more: object) -> tuple[str, str, str]:
        found = findings(aiia, *more)[1][check]
        return found["verdict"], found["note"], found["remedy"]

    return ask


@pytest.fixture
def dagster(here: Any, store: JobStore) -> Iterator[None]:
    """Dagster's tables as an installation has them whose daemon was just seen."""
    DagsterPostgresStorage(str(store.engine.url), should_autocreate_tables=True)
    do(store, "insert into public.daemon_heartbeats (daemon_type, daemon_id, timestamp, body)"
       " values ('SENSOR', 'd', now(), %s)", (json.dumps({"timestamp": time.time()}),))  # fmt: skip
    here.write()
    yield
    do(store, "truncate public.daemon_heartbeats, public.instigators, public.job_ticks,"
       " public.runs, public.concurrency_limits cascade")  # fmt: skip


def do(store: JobStore, statement: str, values: tuple[object, ...] = ()) -> None:
    with store.engine.begin() as db:
        db.exec_driver_sql(statement, values)


@pytest.fixture
def run(store: JobStore, request_of: Any) -> Callable[..., int]:
    """Make a job run that ended in a way."""

    def make(state: str = "Completed", code: str = "", connector: str = "sample") -> int:
        request = request_of(connector)
        number = store.create(request, run_id=f"run-{connector}")
        store.take(number, request)
        store.move(number, JobState.RUNNING)
        kind = CATALOGUE.get(code)
        failure = Failure(kind, f"{kind.title} at 10.1.2.3:5432", "10.1.2.3:5432") if kind else None
        store.finish(number, JobState(state), failure=failure)
        do(store, "update aiia.job_runs set state = %s where number = %s", (state, number))
        return number

    return make


# -- all of it ------------------------------------------------------------------------------


def test_the_settings_come_first(nowhere: Path, aiia: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIIA_PORT", "x")
    done, found = findings(aiia)
    assert done.exit_code == 5
    assert list(found) == ["settings"]


def test_without_a_database_the_rest_is_looked_at(nowhere: Path, aiia: Any) -> None:
    done, found = findings(aiia)
    assert done.exit_code == 4
    assert list(found) == ["settings", "database", "connector files", "secrets", "disk space",
                           "temporary folder"]  # fmt: skip
    assert "Mend first: database. There is no database yet." in done.stderr
    assert list(findings(aiia, "--guide", "slow")[1]) == ["settings", "database"]


def test_an_older_store_is_to_be_migrated(here: Any, store: JobStore, aiia: Any) -> None:
    do(store, "update aiia.alembic_version set version_num = '0000_old'")
    try:
        done, found = findings(aiia)
        told = found["store version"]
        assert (told["verdict"], told["remedy"]) == ("problem", "Run `aiia migrate`.")
        assert (done.exit_code, "queue" in found) == (4, False)
        do(store, "drop table aiia.alembic_version")
        assert findings(aiia)[1]["store version"]["verdict"] == "problem"
    finally:
        do(store, "drop schema aiia cascade")
        aiia("migrate")


def test_an_installation_that_is_well_has_only_the_missing_web_server(
    dagster: None, aiia: Any, run: Any
) -> None:
    run()
    done, found = findings(aiia)
    assert done.exit_code == 0, done.output
    assert done.stderr == "Nothing is in the way.\n"
    assert list(found) == [*INSTALLATION, *STARTING, *FAILING, *SLOW]
    assert all(list(each) == KEYS for each in found.values())
    assert [each["guide"] for each in found.values()] == (
        ["installation"] * 3 + ["not-starting"] * 9 + ["failing"] * 7 + ["slow"] * 6
    )
    assert {name for name, each in found.items() if each["verdict"] != "ok"} == {"web server"}
    page = aiia("doctor", "-o", "table").stdout.splitlines()
    titles = [line for line in page if not line.startswith(" ")]
    assert titles == ["Installation:", "Not starting:", "Failing:", "Slow:"]


def test_it_imports_nothing_heavy(dagster: None, here: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "aiia_pipelines", "doctor"],
        env={**os.environ, **here.environment()}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert json.loads(done.stdout)
    loaded = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()
    }
    assert "psycopg2" in loaded
    assert loaded.isdisjoint({"dagster", "pandas", "pyarrow", "psycopg", "alembic"})


@pytest.mark.parametrize(
    ("guide", "checks"), [("not-starting", STARTING), ("failing", FAILING), ("slow", SLOW)]
)
def test_one_guide_can_be_asked_for(dagster: None, aiia: Any, guide: str, checks: Any) -> None:
    assert list(findings(aiia, "--guide", guide)[1]) == [*INSTALLATION, *checks]


def test_a_database_that_breaks_off_is_told_and_the_other_guides_go_on(
    dagster: None, aiia: Any, store: JobStore
) -> None:
    do(store, "alter table aiia.log_lines rename to away")
    do(store, "alter table aiia.steps rename to away2")
    try:
        found = json.loads(aiia("doctor").stdout)
    finally:
        do(store, "alter table aiia.away rename to log_lines")
        do(store, "alter table aiia.away2 rename to steps")
    broken = [each for each in found if each["verdict"] == "problem"]
    assert [(each["guide"], each["check"]) for each in broken] == [("slow", "database")]


def test_a_connector_or_a_job_run_can_be_asked_for(
    look: Any, here: Any, aiia: Any, run: Any
) -> None:
    here.write("other", password="${env:NOT_SET}")
    lost = run("Failed", "invalid-credentials")
    assert look("secrets", "sample")[0] == "ok"
    assert look("secrets", "other")[0] == "problem"
    assert look("failures to look at", "other")[:2] == ("ok", "none")
    verdict, note, remedy = look(f"job run #{lost}", f"#{lost}")
    assert (verdict, "connector sample" in findings(aiia, lost)[1]) == ("problem", False)
    assert note == f"#{lost} invalid-credentials: Invalid Credentials at 10.1.2.3:5432"
    assert remedy.endswith("More: `aiia explain invalid-credentials`.")
    good = run()
    assert look(f"job run #{lost}", lost)[0] == "warning"
    verdict, note, _ = look(f"job run #{good}", good)
    assert (verdict, note.startswith("sample sync, Completed, Job ")) == ("ok", True)
    run(connector="gone")
    assert aiia("doctor", "gone").exit_code == 0
    assert aiia("doctor", "nobody").exit_code == 3
    assert aiia("doctor", 10**9).exit_code == 3


# -- not starting ---------------------------------------------------------------------------


def test_a_broken_file_and_an_empty_folder_are_told(look: Any, here: Any) -> None:
    (here.connectors / "torn.yaml").write_text("name: torn\nkron: never\n")
    verdict, note, remedy = look("connector files")
    assert (verdict, "torn.yaml" in note) == ("problem", True)
    assert "`aiia connectors validate`" in remedy
    assert look("connector files", "sample")[0] == "ok"
    for path in here.connectors.iterdir():
        path.unlink()
    assert look("connector files")[0] == "warning"


def test_a_daemon_that_is_away_is_told(look: Any, store: JobStore) -> None:
    old = json.dumps({"timestamp": time.time() - 7200})
    do(store, "update public.daemon_heartbeats set body = %s", (old,))
    assert look("daemon")[:2] == ("problem", "not seen for 2 h")
    do(store, "truncate public.daemon_heartbeats")
    assert look("daemon")[:2] == ("problem", "never seen")


def switch_off(store: JobStore, name: str, kind: str) -> None:
    body = json.dumps({"__class__": "InstigatorState", "origin": {"job_name": name}})
    do(store, "insert into public.instigators (selector_id, status, instigator_type, instigator_body)"
       " values (%s, 'STOPPED', %s, %s)", (name, kind, body))  # fmt: skip


def test_schedules_and_the_sensor_that_are_off_are_told(
    look: Any, here: Any, store: JobStore
) -> None:
    assert look("schedules")[:2] == ("ok", "1 are on")
    switch_off(store, "schedule__sample", "SCHEDULE")
    switch_off(store, "job_history", "SENSOR")
    assert look("schedules")[:2] == ("warning", "switched off: sample")
    assert look("sensor job_history")[:2] == ("problem", "switched off")
    path = here.connectors / "sample.yaml"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith(("sched", "timez"))))
    assert look("schedules")[:2] == ("ok", "none: syncs are started by hand")


def test_a_tick_that_failed_is_told_with_its_error(look: Any, store: JobStore) -> None:
    error = {"message": "ImportError: no module named nothing\n  at line 1\n"}
    facts = {"job_name": "schedule__sample", "timestamp": time.time(), "error": error}
    do(store, "insert into public.job_ticks (selector_id, status, type, timestamp, tick_body)"
       " values ('s', 'FAILURE', 'SCHEDULE', now(), %s)", (json.dumps(facts),))  # fmt: skip
    verdict, note, _ = look("ticks")
    assert verdict == "problem"
    assert note == "the last one of sample failed: ImportError: no module named nothing"


def dagster_run(store: JobStore, run_id: str, status: str) -> None:
    do(store, "insert into public.runs (run_id, status, run_body) values (%s, %s, '{}')",
       (run_id, status))  # fmt: skip


def test_a_slot_that_a_dead_run_holds_is_told(look: Any, store: JobStore, run: Any) -> None:
    number = run()
    dagster_run(store, "run-sample", "STARTED")
    assert look("queue")[0] == "ok"
    do(store, "update aiia.job_runs set ended_at = now() - interval '5 minutes'")
    verdict, note, remedy = look("queue")
    assert verdict == "problem"
    assert note == f"#{number} has ended, but its Dagster run still holds sample"
    assert "run-sample" in remedy


def test_a_pool_that_lets_nobody_in_is_told(look: Any, store: JobStore) -> None:
    limit = 'insert into public.concurrency_limits (concurrency_key, "limit") values (%s, %s)'
    do(store, limit, ("connector_other", 1))
    assert look("queue")[0] == "ok"
    do(store, limit, ("connector_sample", 0))
    assert look("queue")[:2] == ("problem", "the pool connector_sample lets no run in")
    assert look("queue", "sample")[0] == "problem"


def test_a_full_house_is_told(look: Any, here: Any, store: JobStore) -> None:
    dagster_run(store, "a", "STARTED")
    dagster_run(store, "b", "QUEUED")
    assert look("queue")[0] == "ok", "no dagster.yaml says how many may run"
    settings = here.connectors.parent / "dagster.yaml"
    settings.write_text("concurrency: { runs: { max_concurrent_runs: 1 } }\n")
    assert look("queue")[:2] == ("warning", "1 of 1 runs are at work, 1 wait for one to end")
    settings.write_text("concurrency: { runs: { max_concurrent_runs: 2 } }\n")
    assert look("queue")[0] == "ok"


def test_who_waits_is_told_with_what_for(look: Any, store: JobStore, request_of: Any) -> None:
    first, second = store.create(request_of()), store.create(request_of())
    store.move(first, JobState.RUNNING)
    verdict, note, _ = look("queue")
    assert (verdict, note) == (
        "ok",
        f"1 wait, #{second} for 0 s: sample is already running (#{first})",
    )
    do(store, "update aiia.job_runs set created_at = now() - interval '1 hour'")
    verdict, note, remedy = look("queue")
    assert (verdict, f"#{second} for 60 min: " in note) == ("warning", True)
    assert f"`aiia jobs show {second}`" in remedy


def test_who_stands_still_and_who_is_held_are_told(
    look: Any, store: JobStore, request_of: Any
) -> None:
    silent, held = store.create(request_of()), store.create(request_of())
    store.take(silent, request_of())
    store.move(silent, JobState.RUNNING)
    do(store, "update aiia.attempts set heartbeat_at = now() - interval '2 minutes'")
    do(store, "update aiia.job_runs set state = 'Paused' where number = %s", (held,))
    verdict, note, remedy = look("stuck job runs")
    assert (verdict, note) == ("problem", f"#{silent} gave no sign of life for over 60 s")
    assert f"`aiia jobs cancel {silent}`" in remedy
    assert look("paused")[:2] == ("warning", f"#{held} sample")


# -- failing --------------------------------------------------------------------------------


def test_each_failing_connector_is_told_with_cause_and_remedy(
    look: Any, aiia: Any, run: Any
) -> None:
    run()
    numbers = [run("Failed", "connection-timeout") for _ in range(2)]
    verdict, note, remedy = look("connector sample")
    assert verdict == "warning", "the network may come back by itself"
    assert note == (
        f"#{numbers[-1]} connection-timeout, 2 times in a row: Connection Timeout at 10.1.2.3:5432"
    )
    assert "10.1.2.3:5432" in remedy
    run("Failed", "connection-timeout")
    assert look("connector sample")[0] == "problem"
    broken = run("Error", "column-mismatch", "other")
    done, found = findings(aiia, "--guide", "failing")
    assert f"#{broken} other" in found["failures to look at"]["note"]
    assert found["connector other"]["verdict"] == "problem"
    assert done.exit_code == 10
    run(connector="other")
    assert findings(aiia, "--guide", "failing")[0].exit_code == 11
    run()
    assert look("failures to look at")[:2] == ("ok", "none")


def test_a_failure_without_a_code_counts_as_unclassified(look: Any, run: Any) -> None:
    number = run("Failed")
    verdict, note, remedy = look("connector sample")
    assert (verdict, f"#{number} Failed: " in note) == ("problem", True)
    assert "`aiia explain unclassified`" in remedy


def test_a_secret_that_is_missing_is_told(look: Any, here: Any) -> None:
    here.write(password="${env:NOT_SET}")
    verdict, note, _ = look("secrets")
    assert (verdict, note.startswith("sample: ${env:NOT_SET}")) == ("problem", True)


MAY_MOUNT = may_mount()


@pytest.mark.parametrize(
    "disk", [MAY_MOUNT], ids=["on a small disk" if MAY_MOUNT else "left out: no right to mount"]
)
def test_a_disk_with_little_room_is_told(
    look: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: bool
) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    monkeypatch.setenv("AIIA_DESTINATION_LAKE", f"duckdb://{folder}/lake.duckdb")
    assert look("destination lake")[0] == "ok"
    if not disk:
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=True)
    try:
        assert look("destination lake")[:2] == ("problem", f"8 MiB free at {folder}")
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_clocks_that_differ_are_told(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 600)
    assert look("clock")[:2] == ("warning", "this machine is 10 min ahead of the database")
    monkeypatch.setattr(time, "time", lambda: now() - 600)
    assert look("clock")[:2] == ("warning", "this machine is 10 min behind the database")


def test_unclassified_failures_of_the_last_days_are_counted(
    look: Any, store: JobStore, run: Any
) -> None:
    first, last = run("Failed", "unclassified"), run("Failed", "unclassified")
    assert CATALOGUE["unclassified"].badge is Badge.FAILED
    assert look("unclassified failures")[:2] == (
        "warning",
        f"2 of 2 that went wrong within 7 days: of no named class (2), the last is #{last}",
    )
    do(store, "update aiia.job_runs set ended_at = now() - interval '8 days'")
    assert look("unclassified failures")[0] == "ok", first


# -- slow -----------------------------------------------------------------------------------


def took(store: JobStore, number: int, step: str, seconds: float, waited: float = 0.5) -> None:
    do(store, "update aiia.steps set busy_seconds = %s where number = %s and step = %s",
       (seconds, number, step))  # fmt: skip
    do(store, "update aiia.job_runs set created_at = started_at - make_interval(secs => %s)"
       " where number = %s", (waited, number))  # fmt: skip


def test_a_step_that_takes_twice_its_usual_time_is_named(
    look: Any, aiia: Any, store: JobStore, run: Any
) -> None:
    for _ in range(3):
        took(store, run(), "extract", 40)
    assert look("steps")[1] == "nothing to compare before 4 completed syncs"
    took(store, run(), "extract", 79)
    assert look("steps")[1] == "none took twice its usual time (1 connectors)"
    last = run()
    took(store, last, "extract", 95, waited=31)
    found = [each for each in json.loads(aiia("doctor", "--guide", "slow").stdout)
             if each["check"] == "steps of sample"]  # fmt: skip
    assert [each["note"] for each in found] == [
        f"extract took 95 s in #{last}, usually 40 s",
        f"waiting took 31 s in #{last}, usually 0 s",
    ]
    assert {each["verdict"] for each in found} == {"warning"}
    assert look("steps of sample", "sample")[0] == "warning"
    run(connector="other")
    assert look("steps", "other")[0] == "ok"


def test_memory_near_its_limit_is_told(look: Any, store: JobStore, run: Any) -> None:
    number = run()
    assert look("memory")[:2] == ("ok", "nothing has run yet")
    do(store, "update aiia.job_runs set peak_memory = %s", (900 << 20,))
    assert look("memory")[:2] == ("ok", "at most 900 MiB, by sample")
    do(store, "update aiia.attempts set traces = %s", (json.dumps({"memory_limit": 1 << 30}),))
    note = f"#{number} sample held 900 MiB of 1.0 GiB that its worker may hold"
    assert look("memory")[:2] == ("warning", note)
    assert look("memory", "sample")[0] == "warning"


def test_a_destination_that_is_short_of_connections_is_told(look: Any, here: Any) -> None:
    held = [here.server.connect(WAREHOUSE, APPLICATION_ROLE) for _ in range(82)]
    try:
        verdict, note, _ = look("connections of warehouse")
        assert (verdict, note.endswith(" of 100")) == ("warning", True)
        assert look("connections of the job history")[0] == "warning"
    finally:
        for each in held:
            each.close()


def test_a_destination_that_cannot_be_reached_is_told_with_its_variable(
    look: Any, aiia: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert look("destination warehouse")[0] == "ok"
    monkeypatch.setenv("AIIA_DESTINATION_FAR", "postgresql://nobody@127.0.0.1:1/none")
    verdict, note, remedy = look("destination far")
    assert (verdict, "127.0.0.1:1" in note) == ("problem", True)
    assert remedy.endswith(" Its URL is in AIIA_DESTINATION_FAR.")
    assert "connections of far" not in findings(aiia)[1]


def test_tables_full_of_dead_rows_and_large_logs_are_told(
    look: Any, here: Any, store: JobStore, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = run()
    with closing(here.server.connect(store.engine.url.database)) as db:
        db.autocommit = True
        with db.cursor() as cursor:
            cursor.execute("alter table aiia.log_lines set (autovacuum_enabled = false)")
            cursor.execute(
                "insert into aiia.log_lines (number, at, level, message, detail)"
                " select %s, now(), 20, 'x', '{}' from generate_series(1, 12000)", (number,)
            )  # fmt: skip
            cursor.execute("delete from aiia.log_lines where message = 'x'")
            cursor.execute("select pg_stat_force_next_flush()")
    verdict, note, remedy = look("dead rows")
    assert (verdict, note.startswith("aiia.log_lines (12,0")) == ("warning", True), note
    assert remedy == "Run `vacuum (analyze) aiia.log_lines` in the database."
    with closing(here.server.connect(store.engine.url.database)) as db:
        db.autocommit = True
        with db.cursor() as cursor:
            cursor.execute("vacuum aiia.log_lines")
            cursor.execute("select pg_stat_force_next_flush()")
    assert look("dead rows")[0] == "ok"
    # Five gigabytes would take a while.
    monkeypatch.setattr("aiia_pipelines.cli._doctor_slow._LARGE_BYTES", 1 << 10)
    assert look("size of the logs")[0] == "warning"
