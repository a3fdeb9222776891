import json
import re
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.jobs.run import JobType
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.local.ports import free_port

pytestmark = pytest.mark.integration

KEYS = [
    "number", "connector", "state", "failure_code", "message",
    "cause", "remedy", "verify", "place", "stages", "failed_stage", "outbound_ip", "firewall",
]  # fmt: skip


def said(aiia: Any, number: int) -> list[str]:
    return [line.partition("] ")[2] for line in aiia("jobs", "logs", number).stdout.splitlines()]


def test_a_reachable_source_passes_every_stage_and_is_a_job_run(
    here: Any, store: JobStore, aiia: Any
) -> None:
    here.write()
    done = aiia("test", "sample")
    assert done.exit_code == 0
    (told,) = json.loads(done.stdout)
    assert list(told) == KEYS
    assert [stage["name"] for stage in told["stages"]] == [
        "dns",
        "tcp",
        "tls",
        "login",
        "permission rows",
        "query rows",
    ]
    assert all(stage["passed"] for stage in told["stages"])
    (run,) = json.loads(aiia("jobs", "list", "--type", "connection_test").stdout)
    assert (run["number"], run["state"]) == (told["number"], "Completed")
    lines = said(aiia, told["number"])
    assert lines[0] == f"INFO: Starting connection test job run #{told['number']} (Sample DB)"
    url = f"postgresql://sample_read@127.0.0.1:{here.server.port}/sample"
    assert lines[1] == f"INFO: Connecting to {url}..."
    assert re.fullmatch(r"INFO: Login passed in \d\.\d{3} seconds: as sample_read", lines[5])
    assert lines[-1].startswith("INFO: Job finished with state COMPLETED.")


def test_a_closed_port_fails_at_tcp_with_cause_remedy_and_place(
    here: Any, store: JobStore, aiia: Any
) -> None:
    place = f"127.0.0.1:{free_port()}"
    here.write(url=f"postgresql://a@{place}/b")
    done = aiia("test", "sample", "-o", "table")
    assert done.exit_code == 11
    assert "✓ dns" in done.stdout
    assert "✕ tcp" in done.stdout
    assert "- login" in done.stdout
    assert "(connection-refused)" in done.stdout
    assert "- permission rows      not reached" in done.stdout
    assert f"To open:     {place} (from 127.0.0.1)" in done.stdout
    assert f"    Observed:    Connection refused. Nothing listens on {place}" in done.stdout
    assert "Verify:      nc -vz" in done.stdout
    (run,) = json.loads(aiia("jobs", "list").stdout)
    assert (run["state"], run["failure_code"]) == ("Failed", "connection-refused")
    assert run["failure_place"] == place
    lines = said(aiia, run["number"])
    (error,) = [line for line in lines if line.startswith("ERROR: ")]
    assert error.startswith("ERROR: Connection refused")
    assert "INFO: To paste to a firewall team:" in lines
    assert lines[-1] == "FATAL: Job aborted with state FAILED."


def test_a_missing_table_is_an_error_of_the_mapping(here: Any, store: JobStore, aiia: Any) -> None:
    here.write(table="public.nothing")
    done = aiia("test", "sample")
    assert done.exit_code == 10
    (told,) = json.loads(done.stdout)
    assert (told["state"], told["failure_code"]) == ("Error", "column-mismatch")
    assert [stage["passed"] for stage in told["stages"]] == [*[True] * 4, False, None]
    assert told["failed_stage"] == "permission rows"
    assert told["place"] == f"127.0.0.1:{here.server.port}"


def test_a_wrong_password_is_named_so(
    here: Any, store: JobStore, aiia: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG", "not-the-password")
    here.write(password="${env:WRONG}")
    done = aiia("test", "sample")
    assert done.exit_code == 11
    assert json.loads(done.stdout)[0]["failure_code"] == "invalid-credentials"
    assert "not-the-password" not in done.output


def test_a_missing_secret_is_recorded_as_a_failed_test(
    here: Any, store: JobStore, aiia: Any
) -> None:
    here.write(password="${env:NOT_SET}")
    (told,) = json.loads(aiia("test", "sample").stdout)
    assert (told["failure_code"], told["stages"]) == ("secret-missing", [])


def test_all_tests_everything_and_the_worst_counts(here: Any, store: JobStore, aiia: Any) -> None:
    here.write()
    here.write("closed", url=f"postgresql://a@127.0.0.1:{free_port()}/b")
    done = aiia("test", "--all")
    assert done.exit_code == 11
    assert [told["connector"] for told in json.loads(done.stdout)] == ["closed", "sample"]


def test_a_broken_file_among_good_ones_ends_with_5(here: Any, store: JobStore, aiia: Any) -> None:
    here.write()
    (here.connectors / "bad.yaml").write_text("name: bad\n", encoding="utf-8")
    done = aiia("test", "--all")
    assert done.exit_code == 5
    assert len(json.loads(done.stdout)) == 1
    assert aiia("test", "bad").exit_code == 5
    assert aiia("test", "other").exit_code == 3


def test_a_test_ends_at_its_deadline_with_what_to_tell_a_firewall_team(
    here: Any, store: JobStore, aiia: Any
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        here.write(url=f"postgresql://a@{place}/b?sslmode=disable")
        done = aiia("test", "sample", "--timeout", "1s")
    assert done.exit_code == 11
    (told,) = json.loads(done.stdout)
    assert (told["failed_stage"], told["failure_code"]) == ("login", "connection-timeout")
    assert told["message"].endswith("within the 1 seconds of this test (login).")
    assert told["firewall"]["text"].startswith("Source:      127.0.0.1 (")
    assert aiia("test", "sample", "--timeout", "soon").exit_code == 2


def test_a_job_run_shows_the_stages_of_its_test(here: Any, store: JobStore, aiia: Any) -> None:
    here.write()
    (told,) = json.loads(aiia("test", "sample").stdout)
    shown = aiia("jobs", "show", told["number"], "-o", "table").stdout
    assert "\nStages  Succeeded\n" in shown
    assert re.search(r"✓ permission rows +\d+ ms  \(busy \d+ ms\)  3 columns", shown)
    assert "✓ query rows" in shown


def test_a_test_that_somebody_cancels_ends_as_cancelled(
    here: Any, store: JobStore, tmp_path: Path
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        here.write(url=f"postgresql://a@127.0.0.1:{silent.getsockname()[1]}/b?sslmode=disable",
                   connect_timeout="60")  # fmt: skip
        command = [sys.executable, "-m", "aiia_pipelines", "test", "sample", "--timeout", "60s"]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        end = time.monotonic() + 60
        while "login: Running" not in steps(store):
            assert time.monotonic() < end
            time.sleep(0.1)
        number = newest(store)
        again = [sys.executable, "-m", "aiia_pipelines", "jobs", "cancel", str(number)]
        assert subprocess.run(again, check=False, capture_output=True).returncode == 0
        out, err = running.communicate(timeout=60)
    assert running.returncode == 12, err
    assert json.loads(out)[0]["state"] == "Cancelled"


@pytest.mark.parametrize("running", [JobType.SYNC, JobType.CONNECTION_TEST])
def test_a_test_and_a_sync_do_not_wait_for_each_other(
    here: Any, store: JobStore, aiia: Any, request_of: Any, running: JobType
) -> None:
    store.move(store.create(request_of(type=running)), JobState.RUNNING)
    other = {JobType.SYNC, JobType.CONNECTION_TEST} - {running}
    waiting = store.create(request_of(type=other.pop()))
    found = {run["number"]: run["waits"] for run in json.loads(aiia("jobs", "list").stdout)}
    assert "already running" not in found[waiting]


def newest(store: JobStore) -> int:
    with store.engine.connect() as db:
        return int(db.exec_driver_sql("select max(number) from aiia.job_runs").scalar_one())


def steps(store: JobStore) -> list[str]:
    with store.engine.connect() as db:
        rows = db.exec_driver_sql("select step, state from aiia.steps").all()
    return [f"{step}: {state}" for step, state in rows]


@pytest.mark.parametrize("args", [(), ("sample", "--all")])
def test_either_a_name_or_all_is_wanted(here: Any, aiia: Any, args: tuple[str, ...]) -> None:
    assert aiia("test", *args).exit_code == 2
