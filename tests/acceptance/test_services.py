import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

BACKFILL = """
mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""
TERMINATE = """
mutation($run: String!) { terminateRun(runId: $run, terminatePolicy: SAFE_TERMINATE) {
  __typename } }
"""


@pytest.fixture(scope="module")
def here(installations: Any) -> Iterator[Any]:
    """An installation whose services are up, with a connector that is due each minute."""
    found = installations("ticker")
    assert found.bring_up() < 60
    return found


@pytest.fixture
def slow(here: Any) -> Iterator[Any]:
    """The source while each of its rows takes half a second, after one sync at full speed."""
    if not here.latest("slow"):
        assert here.ended(here.launch("sync__slow"))["state"] == "Completed"
    here.pace(0.5)
    yield here
    here.pace(0)


def running(here: Any, eventually: Any, run_id: str) -> dict[str, Any]:
    """Wait until the query at the source is under way."""
    assert eventually(lambda: here.job(run_id).get("state") == "Running" and here.readers(), 60)
    time.sleep(1)
    return here.job(run_id)


def test_each_door_of_dagster_makes_a_job_run(here: Any, eventually: Any) -> None:
    job = here.launch("sync__shop")
    assets = here.launch("__ASSET_JOB", "shop/orders")
    asked = {"assetSelection": [{"path": ["shop", "customers"]}], "allPartitions": True}
    backfill = here.ask(BACKFILL, params=asked)
    assert backfill["__typename"] == "LaunchBackfillSuccess", backfill

    whole, part = here.ended(job), here.ended(assets)
    assert (whole["state"], whole["trigger"], whole["records"]) == ("Completed", "manual", 500)
    assert (part["state"], part["streams"], part["records"]) == ("Completed", ["orders"], 300)
    assert here.tags(job)["aiia/job"] == str(whole["number"])
    # The tag follows when Dagster hears of the end.
    assert eventually(lambda: here.tags(assets)["aiia/badge"] == "Completed", 10)

    def filled() -> list[tuple]:
        return here.query(
            "select number from aiia.job_runs where trigger = 'backfill' and ended_at is not null"
        )

    assert eventually(filled, 90)
    third = here.latest("shop")
    assert (third["trigger"], third["triggered_by"]) == ("backfill", backfill["backfillId"])
    assert (third["state"], third["streams"], third["records"]) == ("Completed", ["customers"], 200)


def test_a_schedule_ticks_and_its_run_says_so(here: Any, eventually: Any) -> None:
    assert eventually(lambda: here.latest("ticker").get("ended_at"), 100)
    ((trigger, by, state),) = here.query(
        "select trigger, triggered_by, state from aiia.job_runs"
        " where connector = 'ticker' order by number limit 1"
    )
    assert (trigger, by.partition(" at ")[0], state) == (
        "schedule", "schedule__ticker", "Completed",
    )  # fmt: skip
    # Enough of it: the other tests need the machine.
    (here.home / "connectors" / "ticker.yaml").unlink()


def test_a_second_run_of_a_connector_waits_as_pending(here: Any, eventually: Any) -> None:
    here.pace(0.015)
    first, second = here.launch("sync__slow"), here.launch("sync__slow")
    seen = set()

    def both() -> bool:
        states = tuple(str(here.job(run)["state"]) for run in (first, second))
        seen.add(states)
        return states == ("Completed", "Completed")

    assert eventually(both, 90, 0.05), seen
    here.pace(0)
    assert ("Running", "Pending") in seen or ("Pending", "Running") in seen, seen
    # One at a time at work, from the first run of a connector on, of which Dagster knew no pool.
    assert not {states for states in seen if set(states) <= {"Running", "Preparing"}}, seen


@pytest.mark.parametrize("door", ["aiia", "Dagster"])
def test_a_running_sync_is_cancelled_within_seconds(slow: Any, eventually: Any, door: str) -> None:
    before = slow.warehouse("slow.orders")
    run_id = slow.launch("sync__slow")
    number = running(slow, eventually, run_id)["number"]
    began = time.monotonic()
    if door == "aiia":
        asked = slow.run("aiia", "jobs", "cancel", str(number), "--reason", "too slow")
        assert asked.returncode == 0, asked.stderr
    else:
        slow.ask(TERMINATE, run=run_id)
    eventually(lambda: slow.job(run_id)["ended_at"], 15)
    # The query at the source would go on for minutes.
    assert time.monotonic() - began < 45
    job = slow.job(run_id)
    assert job["state"] == "Cancelled"
    assert slow.log(number)[-1] == "30 Job aborted with state CANCELLED."
    assert eventually(lambda: slow.readers() == 0, 5)
    assert slow.warehouse("slow.orders") == before

    def status() -> str:
        return str(slow.query(f"select status from runs where run_id = '{run_id}'")[0][0])

    assert eventually(lambda: status() == "CANCELED", 20), status()
    assert eventually(lambda: slow.tags(run_id)["aiia/badge"] == "Cancelled", 10)


def test_a_killed_worker_ends_as_failed_and_the_next_sync_completes(
    slow: Any, eventually: Any
) -> None:
    before = slow.warehouse("slow.orders")
    run_id = slow.launch("sync__slow")
    number = running(slow, eventually, run_id)["number"]
    os.kill(slow.latest("slow")["pid"], signal.SIGKILL)
    job = slow.ended(run_id)
    assert (job["state"], job["failure_code"]) == ("Failed", "worker-lost")
    lines = slow.log(number)
    assert lines[0] == f"20 Starting data refresh job run #{number} (slow DB)"
    assert any(line.startswith("40 Worker lost.") for line in lines)
    assert lines[-1] == "50 Job aborted with state FAILED."
    assert eventually(lambda: slow.tags(run_id)["aiia/badge"] == "Failed", 10)
    assert slow.warehouse("slow.orders") == before
    slow.pace(0)
    assert slow.ended(slow.launch("sync__slow"))["state"] == "Completed"


def test_syncs_go_through_the_services_and_exit_as_documented(
    slow: Any, exit_codes: Any, eventually: Any
) -> None:
    kept = set((slow.home / "logs").glob("runs/*"))
    exit_codes(slow, "shop", "typo", "locked", "mixed")
    # What runs print is kept only where their process did not end by itself.
    assert eventually(lambda: set((slow.home / "logs").glob("runs/*")) <= kept, 10)


def test_only_one_aiia_up_serves_a_home(here: Any) -> None:
    again = here.run("aiia", "up")
    assert again.returncode == 4, again.stderr
    assert again.stderr.startswith(f"Error: aiia is already up at {here.url} (process ")
    assert "Traceback" not in again.stderr


def test_a_taken_port_is_told_in_one_sentence(here: Any, tmp_path: Path) -> None:
    other = {**here.environment, "AIIA_HOME": str(tmp_path)}
    done = subprocess.run(
        [str(Path(here.programs) / "aiia"), "up"], cwd=here.root, env=other,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    port = here.environment["AIIA_PORT"]
    assert f"Error: Port {port} on 127.0.0.1 is taken by another program.\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_password_is_found_anywhere(here: Any) -> None:
    assert here.query("select 1 from aiia.job_runs where failure_code = 'worker-lost'")
    assert here.leaks() == []
