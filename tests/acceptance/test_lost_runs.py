import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.jobs import traces

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

# One row of 1 MB, or of 401 MB: a single value is not read in pieces.
EATER = """\
name: eater
title: eater DB
retry: { policy: never }
source:
  kind: sql
  url: postgresql://shop_read@127.0.0.1:${env:AIIA_POSTGRES_PORT}/shop
  password: ${file:secrets/shop_read}
streams:
  - name: meal
    query: >-
      select o.id, repeat('x', 1000000 + 400000000 * p.seconds::int) as dish
      from public.orders o, public.pace p where o.id = 1
    key: [id]
"""
MORE_THAN_UP = 400  # MB that a run may take besides the services


class Group:
    """A control group for all that `aiia up` starts; it limits nothing yet."""

    def __init__(self) -> None:
        own = traces.cgroup()
        assert own is not None
        self.own = own
        self.folder = own / f"aiia-up-{os.getpid()}"
        self.folder.mkdir()
        two = (self.folder / "memory.max").exists()
        self.limit = self.folder / ("memory.max" if two else "memory.limit_in_bytes")
        self.usage = self.folder / ("memory.current" if two else "memory.usage_in_bytes")
        self.limit.write_text(str(1 << 50))

    def __enter__(self) -> None:
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def __exit__(self, *_: object) -> None:
        (self.own / "cgroup.procs").write_text(str(os.getpid()))

    def narrow(self, megabytes: int) -> None:
        """Leave so much besides what is used now."""
        self.limit.write_text(str(int(self.usage.read_text()) + (megabytes << 20)))

    def remove(self) -> None:
        deadline = time.monotonic() + 20
        while self.folder.exists() and time.monotonic() < deadline:
            with suppress(OSError):
                self.folder.rmdir()
            time.sleep(0.1)


def group_or_none() -> Group | None:
    try:
        made = Group()
        with made:
            pass
    except (OSError, AssertionError):
        return None
    return made


GROUP_MAY_BE_MADE = (found := group_or_none()) is not None
if found is not None:
    found.remove()


@pytest.fixture(scope="module")
def group() -> Iterator[Group | None]:
    made = group_or_none()
    yield made
    if made is not None:
        made.remove()


@pytest.fixture(scope="module")
def here(group: Group | None, installations: Any) -> Iterator[Any]:
    made = installations()
    (made.home / "connectors" / "eater.yaml").write_text(EATER)
    if group is None:
        made.bring_up()
    else:
        with group:
            made.bring_up()
    yield made
    # Before the group is removed nobody may be left in it.
    made.up.terminate()
    made.up.wait(60)


@pytest.fixture
def running(here: Any, eventually: Any) -> Iterator[tuple[str, int]]:
    """A sync that reads one row in half a second, as (Dagster's run, its process)."""
    here.pace(0.5)
    run_id = here.launch("sync__slow")
    assert eventually(lambda: here.job(run_id).get("state") == "Running" and here.readers(), 60)
    yield run_id, here.latest("slow")["pid"]
    here.pace(0)


def ended_as(here: Any, eventually: Any, run_id: str, code: str) -> dict[str, Any]:
    """Assert all that holds within a minute after the end of a process."""
    job = here.ended(run_id, 60)
    assert (job["state"], job["failure_code"]) == ("Failed", code), job
    lines = here.log(job["number"])
    assert lines[0].startswith("20 Starting data refresh job run #")
    assert [line for line in lines if line.startswith("40 ")] == [f"40 {job['message']}"]
    assert lines[-1] == "50 Job aborted with state FAILED."
    assert eventually(lambda: here.tags(run_id)["aiia/badge"] == "Failed", 20)
    status = f"select status from runs where run_id = '{run_id}'"
    assert eventually(lambda: here.query(status) == [("FAILURE",)], 20), here.query(status)
    return job


def completes_next(here: Any, connector: str) -> None:
    """The slot of the connector's pool is free: its next run starts and completes."""
    here.pace(0)
    began = time.monotonic()
    job = here.ended(here.launch(f"sync__{connector}"), 60)
    assert job["state"] == "Completed", job
    assert time.monotonic() - began < 60


def test_a_run_that_was_killed_is_a_lost_worker_and_the_next_completes(
    here: Any, eventually: Any, running: tuple[str, int]
) -> None:
    run_id, pid = running
    os.kill(pid, signal.SIGKILL)
    job = ended_as(here, eventually, run_id, "worker-lost")
    assert job["message"].endswith("ended without a word (SIGKILL).")
    completes_next(here, "slow")


def test_a_run_that_stands_still_is_ended_and_does_not_come_back(
    here: Any, eventually: Any, running: tuple[str, int]
) -> None:
    run_id, pid = running
    os.kill(pid, signal.SIGSTOP)
    job = ended_as(here, eventually, run_id, "worker-lost")
    assert job["message"].endswith("it is stopped, as by SIGSTOP.")
    before = here.warehouse("slow.orders")
    completes_next(here, "slow")
    os.kill(pid, signal.SIGCONT)
    assert eventually(lambda: not Path(f"/proc/{pid}").exists(), 20)
    after = here.job(run_id)
    assert {**after, "activity": ""} == {**job, "activity": ""}
    assert here.tags(run_id)["aiia/badge"] == "Failed"
    assert here.log(job["number"])[-1] == "50 Job aborted with state FAILED."
    assert here.warehouse("slow.orders") == before


@pytest.mark.parametrize(
    "real",
    [GROUP_MAY_BE_MADE],
    ids=["by the kernel" if GROUP_MAY_BE_MADE else "left out: no right to limit memory"],
)
def test_a_run_that_the_kernel_ended_ran_out_of_memory_and_the_next_completes(
    here: Any, eventually: Any, group: Group | None, real: bool
) -> None:
    assert (group is not None) == real
    if group is None:
        return
    assert here.ended(here.launch("sync__eater"))["state"] == "Completed"
    here.pace(1)
    group.narrow(MORE_THAN_UP)
    run_id = here.launch("sync__eater")
    job = ended_as(here, eventually, run_id, "out-of-memory")
    assert job["message"].startswith("Out of memory. The kernel killed process ")
    assert " its control group may hold " in job["message"]
    completes_next(here, "eater")
