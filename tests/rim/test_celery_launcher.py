import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration
from valkey_server import ValkeyServer

from aiia_pipelines.jobs import traces
from aiia_pipelines.resources.celery_launcher import TASK, CeleryLauncher
from aiia_pipelines.sensors.unheard import give_up

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
Status = dg.DagsterRunStatus
CODE = GrpcServerCodeLocationOrigin("127.0.0.1", port=1, location_name="aiia_pipelines")
RUNNING = WorkerStatus.RUNNING


class Works:
    """An installation whose runs go to Celery workers, and those workers."""

    def __init__(
        self, rim: Any, instance: dg.DagsterInstance, broker: ValkeyServer, home: Path
    ) -> None:
        self.rim, self.instance, self.broker, self.home = rim, instance, broker, home
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self._repository = ReconstructableRepository.for_module(
            "aiia_pipelines.definitions", "defs", working_directory=str(ROOT)
        )

    @property
    def launcher(self) -> CeleryLauncher:
        found = self.instance.run_launcher
        assert isinstance(found, CeleryLauncher)
        return found

    def start_worker(self, name: str, queues: str = "dagster") -> None:
        command = ["-m", "celery", "-A", "aiia_pipelines.celery_worker", "worker", "-n", name]
        options = ["-Q", queues, "-c", "2", "-l", "INFO", "--without-gossip", "--without-mingle"]
        with self.log(name).open("ab") as log:
            self.workers[name] = subprocess.Popen(
                [sys.executable, *command, *options], stdout=log, stderr=log, cwd=self.home
            )

    def stop_workers(self) -> None:
        for worker in self.workers.values():
            worker.terminate()
        for worker in self.workers.values():
            try:
                worker.wait(30)
            except subprocess.TimeoutExpired:
                # It waits for a run that a broken test left behind.
                worker.kill()
                worker.wait()

    def log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def wait_for_workers(self) -> None:
        for name in self.workers:
            self.until(lambda name=name: " ready." in self.log(name).read_text(), name)

    def create(self, job: str = "sync__shop", **more: Any) -> str:
        found = ReconstructableJob(repository=self._repository, job_name=job)
        run = self.instance.create_run_for_job(
            self.rim.definitions.resolve_job_def(job),
            job_code_origin=found.get_python_origin(),
            remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(CODE, "__repository__"), job),
            **more,
        )
        return run.run_id

    def launch(self, job: str = "sync__shop", queue: str = "dagster") -> str:
        run_id = self.create(job, tags={"dagster-celery/queue": queue})
        self.instance.launch_run(run_id, None)
        return run_id

    def run(self, run_id: str) -> dg.DagsterRun:
        found = self.instance.get_run_by_id(run_id)
        assert found is not None
        return found

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        return self.run(run_id).status

    def serve(self, queue: str) -> bool:
        """Have the workers take runs from another queue as well."""
        with self.launcher.celery.connection_for_write() as connection:
            self.launcher.celery.control.add_consumer(queue, connection=connection)
        return True

    def until(self, holds: Callable[[], Any], *facts: str, seconds: float = 90) -> None:
        """Wait, while Dagster's monitoring goes on as in its daemon."""
        end = time.monotonic() + seconds
        logger = logging.getLogger("monitoring")
        with WorkspaceProcessContext(self.instance, EmptyWorkspaceTarget()) as context:
            while not holds():
                assert time.monotonic() < end, self.told(*facts)
                faults = [*execute_run_monitoring_iteration(context, logger)]
                assert not any(faults), faults
                time.sleep(0.3)

    def until_status(self, run_id: str, status: dg.DagsterRunStatus) -> None:
        self.until(lambda: self.status(run_id) is status, run_id)

    def told(self, *facts: str) -> str:
        logs = [path.read_text()[-1500:] for path in self.home.glob("*.log")]
        known = [f"{fact}: {self._messages(fact)}" for fact in facts]
        return "\n".join([*known, *logs])

    def _messages(self, run_id: str) -> list[str]:
        return [
            str(entry.user_message or entry.message) for entry in self.instance.all_logs(run_id)
        ]

    def said(self, run_id: str) -> str:
        return " ".join(self._messages(run_id))

    def row(self, run_id: str) -> Any:
        (number,) = self.rim.store.numbers_of(run_id).values()
        return self.rim.store.row(number)


@pytest.fixture(scope="module")
def works(rim: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    home = tmp_path_factory.mktemp("celery")
    shutil.copy(ROOT / "deploy/celery/dagster.yaml", home)
    broker = ValkeyServer(home)
    broker.start()
    with ExitStack() as at_end, pytest.MonkeyPatch.context() as patch:
        at_end.callback(broker.stop)
        patch.setenv("DAGSTER_HOME", str(home))
        patch.setenv("AIIA_BROKER_URL", broker.url)
        made = Works(rim, at_end.enter_context(dg.DagsterInstance.get()), broker, home)
        at_end.callback(made.stop_workers)
        made.start_worker("first")
        made.start_worker("second", "dagster,plant")
        made.wait_for_workers()
        yield made


@contextmanager
def held(works: Works, table: str = "ledger") -> Iterator[None]:
    """Hold a table of the source, so that whoever reads it waits."""
    with closing(works.rim.server.connect("shop", "shop_owner")) as db, db.cursor() as cursor:
        cursor.execute(f"lock table public.{table} in access exclusive mode")
        yield


def waits_at_source(works: Works) -> int:
    query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and usename = 'shop_read'"
    with closing(works.rim.server.connect("postgres")) as db, db.cursor() as cursor:
        cursor.execute(query)
        return int(cursor.fetchone()[0])


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def process_of(works: Works, run_id: str) -> int:
    found = re.search(r"Started process for run \(pid: (\d+)\)", works.said(run_id))
    assert found is not None
    return int(found[1])


def test_a_run_is_completed_by_a_worker_once_however_often_it_is_launched(works: Works) -> None:
    run_id = works.create("sync__books")
    works.instance.launch_run(run_id, None)
    works.launcher.launch_run(LaunchRunContext(works.run(run_id), None))
    # As when the answer of the broker got lost, and the run was sent again.
    works.launcher.celery.send_task(TASK, [run_id], task_id=run_id, queue="dagster")
    works.until_status(run_id, Status.SUCCESS)
    assert works.row(run_id).state == "Completed"
    assert works.rim.warehouse("select count(*) from books.ledger") == [(250,)]
    assert works.said(run_id).count("Started process for run") == 1


def test_a_running_run_is_cancelled(works: Works) -> None:
    with held(works):
        run_id = works.launch("sync__books")
        works.until(lambda: waits_at_source(works), run_id)
        assert works.launcher.terminate(run_id)
        works.until_status(run_id, Status.CANCELED)
        works.until(lambda: not waits_at_source(works), run_id)
    assert works.row(run_id).state == "Cancelled"
    assert not works.launcher.terminate(run_id), "it has ended"


def test_a_killed_process_is_seen(works: Works) -> None:
    with held(works):
        run_id = works.launch("sync__books")
        works.until(lambda: waits_at_source(works), run_id)
        os.kill(process_of(works, run_id), signal.SIGKILL)
        works.until_status(run_id, Status.FAILURE)
    row = works.row(run_id)
    assert row.failure_code == "worker-lost"
    assert "(SIGKILL)" in row.message


def test_a_process_that_died_before_its_run_began_is_given_up(works: Works) -> None:
    waiting = works.launch(queue="nobody")
    taken = works.launch("sync__books", queue="nobody")
    works.launcher.signs.take(taken, "1@a machine that is gone")

    def gone() -> list[str]:
        return give_up(works.instance, works.rim.store, silence=0)

    works.until(lambda: gone() == [taken], taken)
    assert works.row(taken).failure_code == "worker-lost"
    assert works.status(waiting) is Status.STARTING, "a worker may take it yet"
    works.launcher.terminate(waiting)


def test_runs_survive_a_restart_of_the_broker(works: Works) -> None:
    with held(works):
        running = works.launch("sync__books")
        works.until(lambda: waits_at_source(works), running)
        dropped = works.launch(queue="later")
        assert works.launcher.terminate(dropped)
        assert works.status(dropped) is Status.CANCELED, "no worker had it"
        assert works.row(dropped).state == "Cancelled"
        waiting = works.launch(queue="later")
        works.broker.stop()
        assert works.launcher.check_run_worker_health(works.run(running)).status is RUNNING
        unsent = works.create("connection_test", run_config={"connector": "shop"})
        works.instance.launch_run(unsent, None)
        assert works.status(unsent) is Status.QUEUED
        works.broker.start()
        works.instance.launch_run(unsent, None)
        assert works.launcher.check_run_worker_health(works.run(running)).status is RUNNING
    works.until_status(running, Status.SUCCESS)
    works.until(lambda: works.serve("later") and works.status(waiting) is Status.SUCCESS, waiting)
    works.until_status(unsent, Status.SUCCESS)
    assert works.status(dropped) is Status.CANCELED
    assert "Started process" not in works.said(dropped)


def test_a_killed_worker_and_a_process_that_obeys_no_signal_are_seen(works: Works) -> None:
    with held(works, "ledger, orders"):
        orphan = works.launch("sync__books", "plant")
        works.until(lambda: waits_at_source(works) == 1, orphan)
        stopped = works.launch("sync__shop")
        works.until(lambda: waits_at_source(works) == 2, stopped)
        worker = works.workers.pop("second")
        frozen = process_of(works, stopped)
        os.kill(frozen, signal.SIGSTOP)
        for pid in [*children_of(worker.pid), worker.pid]:
            os.kill(pid, signal.SIGKILL)
        worker.wait(30)
        assert works.launcher.terminate(stopped)
        works.until_status(stopped, Status.CANCELED)
        works.until_status(orphan, Status.FAILURE)
        works.until(lambda: not traces.started_at(frozen), stopped)
    assert works.row(stopped).state == "Cancelled"
    assert works.row(orphan).failure_code == "worker-lost"
