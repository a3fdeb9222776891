"""The worker that everything is forked off: what it is, what its processes are, and how they end."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus

from aiia_pipelines.local import warm
from aiia_pipelines.local.processes import alive

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# In a process that is forked off after the imports: which modules a whole run imports besides.
LATE = """
import os, sys
from pathlib import Path
import dagster as dg
from aiia_pipelines import forked, worker
from aiia_pipelines.config.settings import Settings
worker.warm_up(Settings.load(os.environ, Path.cwd()))
before = set(sys.modules)
code = forked.execute(sys.argv[1], lambda: None)
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(code, sorted(new & {"aiia_pipelines", "dagster", "pandas", "pandera", "pyarrow", "psycopg", "sqlalchemy"}))
"""


def sockets(pid: int) -> list[str]:
    links = (str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir())
    return [link for link in links if link.startswith("socket:")]


def started(warmth: Any, run_id: str) -> int:
    found = warmth.rim.instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.ENGINE_EVENT
    )
    told = [each.event_log_entry.message for each in found.records]
    return sum(message.startswith("Started process for run") for message in told)


def test_the_worker_has_one_thread_and_no_connection(warmth: Any) -> None:
    pid = warmth.process.pid
    assert len([*Path(f"/proc/{pid}/task").iterdir()]) == 1
    # It listens, and a pair of sockets wakes it.
    assert warmth.eventually(lambda: len(sockets(pid)) == 3)
    place = warm.place(warmth.home)
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.parent.stat().st_mode & 0o777 == 0o700


def test_a_run_is_forked_off_and_completes(warmth: Any) -> None:
    run_id = warmth.launch("shop")
    assert warmth.ended(run_id).status is dg.DagsterRunStatus.SUCCESS
    row = warmth.rim.row(run_id)
    assert (row.state, row.records) == ("Completed", 500)
    answer = {"do": "state", "run_id": run_id}
    assert warmth.eventually(lambda: warm.ask(warmth.home, answer) == {"state": "ended"})
    # What went well leaves nothing.
    assert not (warmth.home / "logs" / "runs" / f"{run_id}.log").exists()
    assert not list(warmth.home.glob("worker/*.run"))


def test_a_run_imports_nothing_any_more(warmth: Any) -> None:
    run_id = warmth.create("shop")
    done = subprocess.run(
        [sys.executable, "-c", LATE, run_id], capture_output=True, text=True, check=False,
        env={**os.environ, **warmth.rim.environment},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0 []", done.stdout + done.stderr[-2000:]


def test_a_run_that_many_launch_is_started_once(warmth: Any) -> None:
    run_id = warmth.create()
    before = dg.DagsterInstance.get()
    instances = [warmth.rim.instance, before]
    barrier = threading.Barrier(6)

    def launch(number: int) -> None:
        barrier.wait()
        instances[number % 2].launch_run(run_id, None)

    threads = [threading.Thread(target=launch, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warmth.eventually(lambda: warmth.state(run_id) == "Running")
    assert warmth.rim.instance.run_launcher.terminate(run_id)
    assert warmth.ended(run_id).status is dg.DagsterRunStatus.CANCELED
    assert started(warmth, run_id) == 1
    before.dispose()


def test_a_killed_process_is_a_lost_worker_without_any_sensor(warmth: Any) -> None:
    run_id, pid = warmth.reading()
    # A session of its own, a log of its own, and no socket of the worker.
    assert (os.getsid(pid), os.getpgid(pid)) == (pid, pid)
    assert (warmth.home / "logs" / "runs" / f"{run_id}.log").stat().st_size
    assert not set(sockets(pid)) & set(sockets(warmth.process.pid))
    os.kill(pid, signal.SIGKILL)
    assert warmth.ended(run_id).status is dg.DagsterRunStatus.FAILURE
    row = warmth.rim.row(run_id, "crawl")
    assert (row.state, row.failure_code) == ("Failed", "worker-lost")
    assert row.message.endswith("ended without a word (SIGKILL).")


def test_a_run_that_is_asked_to_stop_ends_as_cancelled(warmth: Any) -> None:
    run_id, pid = warmth.reading()
    assert warmth.rim.instance.run_launcher.terminate(run_id)
    assert warmth.ended(run_id).status is dg.DagsterRunStatus.CANCELED
    assert warmth.eventually(lambda: warmth.state(run_id) == "Cancelled")
    assert warmth.eventually(lambda: not alive(pid))


def test_a_run_that_cannot_stop_by_itself_is_killed_and_ends_as_cancelled(warmth: Any) -> None:
    run_id, pid = warmth.reading()
    os.kill(pid, signal.SIGSTOP)
    assert warmth.rim.instance.run_launcher.terminate(run_id)
    assert warmth.ended(run_id).status is dg.DagsterRunStatus.CANCELED
    assert not alive(pid)
    assert warmth.state(run_id) == "Cancelled"


def test_a_run_whose_file_broke_meanwhile_says_what_is_wrong(warmth: Any) -> None:
    run_id = warmth.create()
    text = warmth.file().read_text()
    warmth.file().write_text(text.replace("key: [id]", "kee: [id]"))
    try:
        warmth.rim.instance.launch_run(run_id, None)
        assert warmth.ended(run_id).status is dg.DagsterRunStatus.FAILURE
    finally:
        warmth.file().write_text(text)
    assert "kee" in warmth.rim.row(run_id, "crawl").message


def test_one_worker_serves_a_home(warmth: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aiia_pipelines.worker"], capture_output=True, text=True,
        check=False, env={**os.environ, **warmth.rim.environment},
    )  # fmt: skip
    told = f"Another warm worker serves {warmth.home}; stop that one first.\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_runs_go_on_under_the_next_worker_and_what_died_meanwhile_is_reported(warmth: Any) -> None:
    run_id, pid = warmth.reading()
    dead, other = warmth.reading("creep")
    warmth.process.kill()
    warmth.process.wait()
    os.kill(other, signal.SIGKILL)
    instance = warmth.rim.instance
    # Nobody can tell now: that is no reason to end it.
    health = instance.run_launcher.check_run_worker_health(instance.get_run_by_id(run_id))
    assert health.status is WorkerStatus.RUNNING
    warmth.start()
    assert warmth.ended(dead).status is dg.DagsterRunStatus.FAILURE
    assert warmth.rim.row(dead, "creep").failure_code == "worker-lost"
    known = warm.ask(warmth.home, {"do": "state", "run_id": run_id})
    assert known == {"state": "running", "pid": pid}
    os.kill(pid, signal.SIGKILL)
    assert warmth.ended(run_id).status is dg.DagsterRunStatus.FAILURE
    assert warmth.rim.row(run_id, "crawl").failure_code == "worker-lost"


def test_a_request_that_is_none_is_answered_in_words(warmth: Any) -> None:
    assert "no request" in warm.ask(warmth.home, {"do": "dance"})["error"]
    assert "no request" in warm.ask(warmth.home, {})["error"]
    assert warm.is_ready(warmth.home)


def test_the_socket_of_a_long_home_has_a_short_name(tmp_path: Path) -> None:
    home = tmp_path / ("a" * 120)
    home.mkdir()
    place = warm.place(home)
    assert len(os.fsencode(place)) < 108
    assert place == warm.place(home)
    assert place != warm.place(tmp_path)
    assert not warm.is_ready(home)


def test_a_worker_that_is_stopped_ends_its_runs_as_cancelled(warmth: Any) -> None:
    run_id, pid = warmth.reading()
    assert warmth.stop() == 0
    assert not alive(pid)
    assert warmth.state(run_id) == "Cancelled"
    assert warmth.rim.instance.get_run_by_id(run_id).status is dg.DagsterRunStatus.CANCELED
    assert not warm.place(warmth.home).exists()
