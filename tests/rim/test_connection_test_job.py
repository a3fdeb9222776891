"""The Dagster job `connection_test`: a job run of its own type, whatever door it came through."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from aiia_pipelines.local.ports import free_port

pytestmark = pytest.mark.integration

CLOSED = """\
name: closed
title: Closed port
priority: low
source: {{ kind: sql, url: "postgresql://nobody@127.0.0.1:{port}/x?sslmode=disable", connect_timeout: 60 }}
streams: [{{ name: rows, table: rows }}]
"""
STAGES = [
    "dns", "tcp", "tls", "login", "permission orders", "permission customers", "query orders",
    "query customers",
]  # fmt: skip


@pytest.fixture
def written(rim: Any) -> Any:
    """Write a connector file for one test."""
    files = []

    def write(port: int, name: str = "closed") -> None:
        file = rim.connectors / f"{name}.yaml"
        file.write_text(CLOSED.format(port=port).replace("closed", name, 1))
        files.append(file)

    yield write
    for file in files:
        file.unlink()


def tried(rim: Any, connector: str, **more: Any) -> dg.ExecuteInProcessResult:
    found: dg.ExecuteInProcessResult = rim.run(
        "connection_test", run_config={"connector": connector, **more}
    )
    return found


def steps(rim: Any, number: int) -> dict[str, str]:
    query = f"select step, state from aiia.steps where number = {number} order by position"
    with rim.store.engine.connect() as db:
        return dict(tuple(row) for row in db.exec_driver_sql(query))


def told(rim: Any, run_id: str) -> list[str]:
    return [entry.user_message for entry in rim.instance.all_logs(run_id)]


def metadata(rim: Any, run_id: str, kind: dg.DagsterEventType) -> dict[str, Any]:
    (event,) = [
        entry.dagster_event
        for entry in rim.instance.all_logs(run_id)
        if entry.dagster_event and entry.dagster_event.event_type is kind
    ]
    data = event.event_specific_data
    if kind is dg.DagsterEventType.STEP_FAILURE:
        data = data.user_failure_data
    return {name: value.value for name, value in data.metadata.items()}


def test_a_test_is_a_completed_job_run_with_its_stages_in_dagster(rim: Any) -> None:
    result = tried(rim, "shop")
    assert result.success
    row = rim.row(result.run_id)
    assert (row.state, row.type, row.title) == ("Completed", "connection_test", "Shop DB")
    assert (row.trigger, row.triggered_by, list(row.streams)) == ("manual", "Dagster", [])
    assert row.config["source"]["password"] == "${file:secrets/shop_read}"
    assert steps(rim, row.number) == dict.fromkeys(STAGES, "Completed")
    assert rim.tags(result.run_id)["aiia/badge"] == "Completed"
    assert rim.tags(result.run_id)["aiia/job"] == str(row.number)
    lines = rim.log(row.number)
    assert lines[0] == f"INFO: Starting connection test job run #{row.number} (Shop DB)"
    assert lines[-1] == "INFO: Job finished with state COMPLETED."
    in_dagster = told(rim, result.run_id)
    for line in lines:
        assert line.partition(": ")[2] in in_dagster
    found = metadata(rim, result.run_id, dg.DagsterEventType.STEP_OUTPUT)
    assert (found["connector"], found["job run"]) == ("shop", row.number)
    assert found["outbound ip"] == "127.0.0.1"
    table = found["stages"].splitlines()
    assert table[0] == "| stage | result | time | note |"
    assert len(table) == 2 + len(STAGES)
    assert all("✓ passed" in line for line in table[2:])


def test_a_failed_test_fails_its_run_with_the_remedy(rim: Any, written: Any) -> None:
    port = free_port()
    written(port)
    result = tried(rim, "closed")
    assert not result.success
    row = rim.row(result.run_id, "closed")
    assert (row.state, row.failure_code) == ("Failed", "connection-refused")
    assert row.priority == "low"
    assert rim.tags(result.run_id)["aiia/badge"] == "Failed"
    found = metadata(rim, result.run_id, dg.DagsterEventType.STEP_FAILURE)
    assert found["cause"] == "connection-refused"
    assert found["verify"] == f"nc -vz 127.0.0.1 {port}"
    assert "| tcp | ✕ failed |" in found["stages"]
    assert "| login | not reached |" in found["stages"]
    assert f"Port:        {port}" in found["for a firewall team"]
    assert "FATAL: Job aborted with state FAILED." in rim.log(row.number)


def test_a_test_ends_at_the_deadline_of_its_run_config(rim: Any, written: Any) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        written(silent.getsockname()[1])
        result = tried(rim, "closed", timeout=1)
    row = rim.row(result.run_id, "closed")
    assert (row.state, row.failure_code) == ("Failed", "connection-timeout")


def test_an_unknown_connector_is_a_clear_failure(rim: Any) -> None:
    result = tried(rim, "shopp")
    row = rim.row(result.run_id, "shopp")
    assert (row.state, row.type, row.failure_code) == (
        "Failed",
        "connection_test",
        "config-invalid",
    )
    assert row.message.startswith(
        "Invalid Configuration: no connector 'shopp'; did you mean 'shop'?"
    )
    broken = tried(rim, "torn")
    assert rim.row(broken.run_id, "torn").failure_code == "config-invalid"


def test_the_connector_must_be_named(rim: Any) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError):
        rim.run("connection_test")


def test_a_test_needs_no_slot_of_the_connector(rim: Any) -> None:
    """A sync holds the pool of its connector; a test of it asks for none."""
    run = rim.create("connection_test", run_config={"connector": "shop"})
    assert not (run.run_op_concurrency and run.run_op_concurrency.all_pools)
    sync = rim.create("sync__shop")
    assert sync.run_op_concurrency.all_pools == {"connector_shop"}
    for made in (run, sync):
        rim.instance.report_run_canceled(made)
    assert rim.row(run.run_id).state == "Cancelled"


def waiting_for(question: Callable[[], bool], patience: float = 60) -> None:
    end = time.monotonic() + patience
    while not question():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_cancelled_test_ends_cancelled_in_both_stores(rim: Any, written: Any) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        written(silent.getsockname()[1], "hanging")
        newest = [0]

        def cancel() -> None:
            def hangs() -> bool:
                with rim.store.engine.connect() as db:
                    query = (
                        "select max(number) from aiia.steps join aiia.job_runs using (number)"
                        " where connector = 'hanging' and step = 'login' and steps.state = 'Running'"
                    )
                    newest[0] = db.exec_driver_sql(query).scalar() or 0
                return newest[0] > 0

            waiting_for(hangs)
            rim.store.request_cancel(newest[0], by="omar")

        canceller = threading.Thread(target=cancel)
        canceller.start()
        assert not tried(rim, "hanging", timeout=60).success
        canceller.join()
    row = rim.store.row(newest[0])
    assert (row.state, row.cancel_by) == ("Cancelled", "omar")
    (record,) = rim.instance.get_run_records(dg.RunsFilter(tags={"aiia/job": str(newest[0])}))
    assert record.dagster_run.status is dg.DagsterRunStatus.CANCELED
    assert record.dagster_run.tags["aiia/badge"] == "Cancelled"


@pytest.mark.slow
def test_the_command_line_of_dagster_is_a_door(rim: Any, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("connector: books\n")
    module = ["-m", "aiia_pipelines.definitions", "-j", "connection_test"]
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "job", "execute", *module, "-c", tmp_path / "run.yaml"],
        capture_output=True, text=True, check=False, env={**os.environ, **rim.environment},
    )  # fmt: skip
    query = "select state from aiia.job_runs where connector = 'books' and type = 'connection_test'"
    with rim.store.engine.connect() as db:
        assert db.exec_driver_sql(query).scalars().all() == ["Completed"], done.stderr


@pytest.mark.slow
def test_a_signal_to_the_process_of_a_test_cancels_it(
    rim: Any, written: Any, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text("connector: signalled\ntimeout: 60\n")
    module = ["-m", "aiia_pipelines.definitions", "-j", "connection_test"]
    command = [
        sys.executable,
        "-m",
        "dagster",
        "job",
        "execute",
        *module,
        "-c",
        tmp_path / "run.yaml",
    ]
    query = (
        "select state from aiia.steps where step = 'login' and number ="
        " (select number from aiia.job_runs where connector = 'signalled')"
    )

    def state(asked: str) -> Any:
        with rim.store.engine.connect() as db:
            return db.exec_driver_sql(asked).scalar()

    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        written(silent.getsockname()[1], "signalled")
        running = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env={**os.environ, **rim.environment},
        )  # fmt: skip
        waiting_for(lambda: state(query) == "Running")
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=60)
    assert running.returncode != 0
    job = "select state from aiia.job_runs where connector = 'signalled'"
    assert state(job) == "Cancelled", told.decode()
