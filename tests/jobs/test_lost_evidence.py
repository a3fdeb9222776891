import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.jobs import traces
from aiia_pipelines.jobs.log import Level
from aiia_pipelines.jobs.lost import OutOfMemory, WorkerLost, death_of, end_lost, find_lost
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import NewJobRun
from aiia_pipelines.jobs.state import JobState, TaskState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.jobs.traces import Traces

pytestmark = pytest.mark.integration
New = Callable[..., NewJobRun]

WORKER = Path(__file__).with_name("worker.py")
EATER = """
import os, sys
open(sys.argv[1], "w").write(str(os.getpid()))
x = b"x" * (1 << 30)
"""


def limited(megabytes: int) -> Path | None:
    """Make a control group below that of this process; None where that is not allowed."""
    own = traces.cgroup()
    if own is None:
        return None
    group = own / f"aiia-test-{os.getpid()}"
    try:
        group.mkdir()
        name = "memory.max" if (group / "memory.max").exists() else "memory.limit_in_bytes"
        (group / name).write_text(str(megabytes << 20))
    except OSError:
        with suppress(OSError):
            group.rmdir()
        return None
    return group


def removed(group: Path) -> None:
    deadline = time.monotonic() + 10
    while group.exists() and time.monotonic() < deadline:
        with suppress(OSError):
            group.rmdir()
        time.sleep(0.05)


def _may_limit() -> bool:
    group = limited(64)
    if group is not None:
        removed(group)
    return group is not None


MAY_LIMIT = _may_limit()


@pytest.fixture
def group() -> Iterator[Path | None]:
    found = limited(160) if MAY_LIMIT else None
    yield found
    if found is not None:
        removed(found)


@pytest.fixture
def worker(store: JobStore, store_db: Any, group: Path | None) -> "Iterator[subprocess.Popen[str]]":
    """A process at work on a job run, in the limited group where there is one."""

    def enter() -> None:
        if group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    with subprocess.Popen(
        [sys.executable, str(WORKER), store_db.url(driver="postgresql+psycopg2"), "eat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=enter,  # noqa: PLW1509 - no thread holds a lock here
    ) as process:  # fmt: skip
        yield process
        process.kill()


def eventually(holds: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def number_of(worker: "subprocess.Popen[str]") -> int:
    assert worker.stdout is not None
    return int(worker.stdout.readline())


def change(store: JobStore, number: int, seconds: float, **facts: Any) -> None:
    """Make the last sign of life that old, and some of what was noted of the process another."""
    with store.engine.begin() as db:
        db.exec_driver_sql(
            "update aiia.attempts set heartbeat_at = now() - make_interval(secs => %s),"
            " traces = traces || %s where number = %s",
            (seconds, _json(facts), number),
        )


def _json(facts: dict[str, Any]) -> Any:
    from psycopg2.extras import Json

    return Json(facts)


@pytest.fixture
def mine(store: JobStore, request_of: New) -> int:
    """A job run that this very process worked on."""
    number = store.create(request_of())
    store.take(number, request_of())
    store.move(number, JobState.RUNNING)
    with Recorder(store, number):
        pass
    return number


@pytest.mark.parametrize(
    "real",
    [MAY_LIMIT],
    ids=["by the kernel" if MAY_LIMIT else "left out: no right to limit memory"],
)
def test_a_process_that_the_kernel_ended_for_memory_ran_out_of_memory(
    store: JobStore, worker: "subprocess.Popen[str]", real: bool
) -> None:
    number = number_of(worker)
    if not real:
        return
    assert worker.stdin is not None
    worker.stdin.write("eat\n")
    worker.stdin.flush()
    (lost,) = eventually(lambda: find_lost(store), 30)
    assert isinstance(lost.death, OutOfMemory)
    assert end_lost(store, lost)
    row = store.row(number)
    assert row is not None
    assert (row.state, row.failure_code) == ("Failed", "out-of-memory")
    host = socket.gethostname()
    assert row.message.startswith(
        f"Out of memory. The kernel killed process {worker.pid} on {host}:"
        " its control group may hold 160 MiB, it last held "
    )
    assert len(row.message) <= 200
    lines = [line.message for _, line in store.log_after(number, 0)]
    assert lines == ["still here", row.message, "Job aborted with state FAILED."]
    assert store.tasks_of(number) == [("rows", TaskState.FAILED)]


def test_a_process_that_a_person_killed_is_a_lost_worker_and_its_signal_is_named(
    store: JobStore, worker: "subprocess.Popen[str]"
) -> None:
    number = number_of(worker)
    worker.kill()
    (lost,) = eventually(lambda: find_lost(store))
    assert isinstance(lost.death, WorkerLost)
    assert lost.reason.endswith(" ended without a word (SIGKILL).")
    assert str(death_of(store, number)) == lost.reason
    worker.wait()
    assert str(death_of(store, number)).endswith(" ended without a word.")
    assert str(death_of(store, number, "fell")).endswith(
        f"{worker.pid} on {socket.gethostname()} fell."
    )


def test_a_kill_that_the_group_counted_before_the_last_heartbeat_is_no_evidence(
    store: JobStore, worker: "subprocess.Popen[str]", group: Path | None
) -> None:
    number = number_of(worker)
    if group is not None:
        with suppress(subprocess.CalledProcessError):
            subprocess.run(
                [sys.executable, "-c", EATER, str(group / "cgroup.procs")], check=True
            )  # fmt: skip
        assert traces.oom_kills(group) == 1
        assert eventually(lambda: store.attempt_of(number).oom_kills == 1)  # type: ignore[union-attr]
    worker.kill()
    (lost,) = eventually(lambda: find_lost(store))
    assert isinstance(lost.death, WorkerLost)


def test_a_process_that_lives_is_neither_lost_nor_out_of_memory(store: JobStore, mine: int) -> None:
    change(store, mine, 20)
    assert find_lost(store) == []


def test_a_number_that_another_process_bears_now_is_not_the_process(
    store: JobStore, mine: int
) -> None:
    change(store, mine, 5, started_at=1)
    (lost,) = eventually(lambda: find_lost(store))
    assert lost.reason.endswith("ended without a word; its number belongs to another process now.")


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"boot_id": "another"}, "; the machine was started anew."),
        ({"pid_namespace": "pid:[1]", "cgroup": "/sys/fs/cgroup/gone", "cgroup_inode": 7},
         "; its control group is gone, as after a restart of the container."),
        ({"pid_namespace": "pid:[1]"}, " seconds."),
    ],
)  # fmt: skip
def test_a_process_that_cannot_be_seen_from_here_is_judged_by_its_silence(
    store: JobStore, mine: int, facts: dict[str, Any], told: str
) -> None:
    change(store, mine, 20, **facts)
    assert find_lost(store) == []
    # The server of the tests has not run for long, and silence counts from its start.
    (lost,) = eventually(lambda: find_lost(store, silence=1))
    assert isinstance(lost.death, WorkerLost)
    assert " has been silent for " in lost.reason
    assert lost.reason.endswith(told)


@pytest.mark.parametrize("facts", [{"cgroup_inode": 1}, {"cgroup": None}])
def test_without_the_group_of_the_process_nobody_speaks_of_memory(
    store: JobStore, worker: "subprocess.Popen[str]", facts: dict[str, Any]
) -> None:
    number = number_of(worker)
    worker.kill()
    worker.wait()
    change(store, number, 5, **facts)
    with store.engine.begin() as db:
        db.exec_driver_sql("update aiia.attempts set oom_kills = -1 where number = %s", (number,))
    assert isinstance(death_of(store, number), WorkerLost)


def test_a_process_that_never_took_its_job_run_up_is_a_lost_worker(
    store: JobStore, request_of: New
) -> None:
    number = store.create(request_of())
    assert str(death_of(store, number)) == (
        "Worker lost. The process of this run ended without a word."
    )
    assert str(death_of(store, number, "fell")) == "Worker lost. The process of this run fell."


def test_a_stopped_process_is_told_as_stopped_and_changes_nothing_when_it_wakes(
    store: JobStore, worker: "subprocess.Popen[str]"
) -> None:
    number = number_of(worker)
    os.kill(worker.pid, signal.SIGSTOP)
    assert eventually(lambda: traces.state(worker.pid) == "T")
    (lost,) = eventually(lambda: find_lost(store, silence=2))
    assert lost.reason.endswith("; it is stopped, as by SIGSTOP.")
    assert end_lost(store, lost)
    lines = store.log_after(number, 0)
    os.kill(worker.pid, signal.SIGCONT)
    time.sleep(2.5)
    row = store.row(number)
    assert row is not None
    assert (row.state, row.failure_code) == ("Failed", "worker-lost")
    assert store.log_after(number, 0) == lines


def test_a_run_that_was_ended_meanwhile_stops_its_work_and_writes_no_more(
    store: JobStore, request_of: New
) -> None:
    number = store.create(request_of())
    store.take(number, request_of())
    store.move(number, JobState.RUNNING)
    told: list[str] = []
    heard: list[str] = []
    with Recorder(store, number, sinks=[lambda line: heard.append(line.message)]) as recorder:
        recorder.on_cancel = lambda: told.append("stop")
        recorder.start_task("rows")
        store.finish(number, JobState.FAILED)
        lines = store.log_after(number, 0)
        assert eventually(lambda: recorder.cancelled, 5)
        recorder.log(Level.WARNING, "I am late.")
        with recorder.step("rows", "extract"):
            pass
        recorder.end_task("rows", TaskState.SUCCEEDED)
        assert not recorder.seal()
    assert (told, heard) == (["stop"], ["I am late."])
    assert store.tasks_of(number) == [("rows", TaskState.FAILED)]
    assert store.log_after(number, 0) == lines
    with store.engine.connect() as db:
        states = db.exec_driver_sql(
            "select distinct state from aiia.steps where number = %s", (number,)
        )
        assert [state for (state,) in states] == ["Skipped"]


def test_a_run_that_ended_by_itself_asks_nobody_to_stop(store: JobStore, request_of: New) -> None:
    number = store.create(request_of())
    store.take(number, request_of())
    store.move(number, JobState.RUNNING)
    told: list[str] = []
    with Recorder(store, number) as recorder:
        recorder.on_cancel = lambda: told.append("stop")
        recorder.start_task("rows")
        recorder.end_task("rows", TaskState.SUCCEEDED)
        store.finish(number)
        time.sleep(1.5)
    assert told == []


def test_what_another_version_noted_of_a_process_is_taken_up_as_far_as_it_is_known() -> None:
    known = Traces.of_this_process()
    assert Traces.load(known.facts() | {"of a later version": 1}) == known
    assert Traces.load(None) == Traces()


def test_a_free_number_has_no_traces() -> None:
    with closing(socket.socket()):
        nobody = 99_999_999  # process ids end at 2^22
    assert traces.started_at(nobody) is None
    assert traces.state(nobody) == ""
    assert traces.signal_of_zombie(nobody) == 0
    assert traces.inode(Path("/nowhere")) is None
    assert traces.oom_kills(Path("/nowhere")) is None


@pytest.mark.parametrize(
    ("files", "kills", "limit"),
    [
        ({"memory.events": "low 0\noom 4\noom_kill 3\n", "memory.max": "max"}, 3, 1 << 30),
        ({"memory.events": "oom_kill 3\n", "memory.events.local": "oom 1\noom_kill 1\n",
          "memory.max": "1048576"}, 1, 1 << 20),
        ({"memory.oom_control": "under_oom 0\noom_kill 2\n",
          "memory.limit_in_bytes": "9223372036854771712"}, 2, 1 << 30),
        ({}, None, 1 << 30),
    ],
)  # fmt: skip
def test_both_versions_of_control_groups_are_read(
    tmp_path: Path, files: dict[str, str], kills: int | None, limit: int
) -> None:
    group = tmp_path / "pod"
    group.mkdir()
    for folder in (tmp_path, group):
        (folder / "cgroup.procs").touch()
    # The limit of a group above holds as well.
    (tmp_path / "memory.max").write_text(f"{1 << 30}\n")
    for name, text in files.items():
        (group / name).write_text(text)
    assert traces.oom_kills(group) == kills
    assert traces.memory_limit(group) == limit
