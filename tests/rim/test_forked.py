"""What a forked process does, done in this one."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from aiia_pipelines import forked
from aiia_pipelines.local import forks, warm
from aiia_pipelines.worker import Worker

pytestmark = pytest.mark.integration

NEVER = "title: Shop DB\nretry: { policy: never }\n"


@pytest.fixture
def shop(rim: Any) -> Iterator[Any]:
    """The shop, whose failures are final."""
    file = rim.connectors / "shop.yaml"
    text = file.read_text()
    file.write_text(text.replace("title: Shop DB\n", NEVER))
    yield rim
    file.write_text(text)


def go(rim: Any, run_id: str) -> tuple[int, list[str]]:
    """Execute a run and give the exit code, and whether signals were let in."""
    told: list[str] = []
    return forked.execute(run_id, lambda: told.append("ready")), told


def test_a_run_of_one_connector_is_executed(shop: Any) -> None:
    forked.rehearse()
    run = shop.create()
    assert go(shop, run.run_id) == (0, ["ready"])
    assert shop.row(run.run_id).state == "Completed"


def test_a_run_of_single_assets_of_several_connectors_is_executed(shop: Any) -> None:
    keys = {dg.AssetKey(["shop", "customers"]), dg.AssetKey(["books", "ledger"])}
    run = shop.create("__ASSET_JOB", asset_selection=keys)
    assert go(shop, run.run_id)[0] == 0
    assert shop.row(run.run_id).state == "Completed"
    assert shop.row(run.run_id, "books").state == "Completed"


def test_a_connection_test_needs_no_connector(shop: Any) -> None:
    run = shop.create("connection_test", run_config={"connector": "shop"})
    assert go(shop, run.run_id)[0] == 0


def test_a_run_whose_file_is_gone_ends_with_the_reason(shop: Any) -> None:
    run = shop.create()
    file = shop.connectors / "shop.yaml"
    aside = file.rename(file.with_suffix(".aside"))
    try:
        assert go(shop, run.run_id)[0] == 0
    finally:
        aside.rename(file)
    assert shop.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE
    assert "shop" in shop.row(run.run_id).message


def test_an_unknown_run_is_nothing_to_do(shop: Any) -> None:
    assert go(shop, "nobody")[0] == 0


@pytest.mark.parametrize(
    ("cancelled", "status", "state"),
    [
        (False, dg.DagsterRunStatus.FAILURE, "Failed"),
        (True, dg.DagsterRunStatus.CANCELED, "Cancelled"),
    ],
)
def test_the_end_of_a_process_is_reported_once(
    shop: Any, cancelled: bool, status: dg.DagsterRunStatus, state: str
) -> None:
    run = shop.create()
    how = f"Run execution process for {run.run_id} was terminated by signal 9 (SIGKILL)."
    for _ in range(2):
        assert forked.report(run.run_id, how, cancelled=cancelled) == 0
    assert shop.instance.get_run_by_id(run.run_id).status is status
    assert shop.row(run.run_id).state == state


def test_a_worker_answers_until_it_is_asked_to_stop(tmp_path: Path) -> None:
    before = {
        sign: signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    worker = Worker(tmp_path)
    answers: list[object] = []

    def talk() -> None:
        while not warm.is_ready(tmp_path):
            pass
        known = {"run_id": "a", "kill": True}
        answers.extend(warm.ask(tmp_path, {"do": do} | known) for do in ("state", "terminate"))
        answers.append(warm.ask(tmp_path, {"do": "dance"}).keys())
        os.kill(os.getpid(), signal.SIGTERM)

    client = threading.Thread(target=talk)
    client.start()
    try:
        worker.serve()
    finally:
        client.join()
        signal.set_wakeup_fd(-1)
        for sign, handler in before.items():
            signal.signal(sign, handler)
    assert answers == [{"state": "unknown"}, {"state": "unknown"}, {"error"}]
    assert not warm.place(tmp_path).exists()


def test_a_process_ends_with_what_its_work_gave(tmp_path: Path) -> None:
    log = tmp_path / "log"
    kept = forks.open_files()

    def work(let_in: object) -> int:
        del let_in
        os.write(1, b"told\n")
        return 7

    assert forks.fork(work, log=log, keep=kept).end() == 7
    assert log.read_text() == "told\n"


def test_a_process_whose_work_breaks_ends_with_a_code_of_its_own(tmp_path: Path) -> None:
    found = forks.fork(lambda _: 1 // 0, log=tmp_path / "log", keep=forks.open_files())
    assert found.end() == 70


def test_a_process_that_is_no_child_is_adopted_while_it_lives() -> None:
    pid = os.getpid()
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    found = forks.adopt(pid, ticks)
    assert found is not None
    found.signal(signal.Signals.SIGCHLD)
    assert found.end() is None
    assert forks.adopt(pid, ticks + 1) is None
    assert forks.adopt(2**22 + 1, 0) is None
