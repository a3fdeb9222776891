"""Dagster's own queue with the limits of dagster.yaml, made small, and what is told of who waits."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext, RunLauncher
from dagster._core.origin import RepositoryPythonOrigin
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import (
    QueuedRunCoordinatorDaemon,
)

from aiia_pipelines.config.folder import read_folder
from aiia_pipelines.control import SyncRequest, _tags
from aiia_pipelines.definitions import definitions_of
from aiia_pipelines.jobs import history
from aiia_pipelines.jobs.run import PRIORITIES
from aiia_pipelines.jobs.waiting import CONNECTOR_TAG, DESTINATION_TAG, SOURCE_TAG
from aiia_pipelines.local.postgres import APPLICATION_ROLE
from aiia_pipelines.resources.fast_queue import FastQueueCoordinator

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
# Name, host of the source, destination, priority.
CONNECTORS = (
    ("a1", "10.0.0.1", "warehouse", "normal"),
    ("a2", "10.0.0.1", "warehouse", "normal"),
    ("a3", "10.0.0.1", "lake", "critical"),
    ("b1", "10.0.0.2", "warehouse", "low"),
    ("b2", "10.0.0.3", "warehouse", "normal"),
)
A = "10.0.0.1:5432/erp"


class Begins(RunLauncher[dg.DagsterInstance]):
    """Begins runs, which then go on until a test ends them."""

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        start = dg.DagsterEvent("PIPELINE_START", run.job_name)
        self._instance.report_dagster_event(start, run.run_id)

    def terminate(self, run_id: str) -> bool:
        del run_id
        return False


def origins(job: str) -> dict[str, object]:
    """Say where a queued run comes from, as every door does."""
    location = RegisteredCodeLocationOrigin("aiia_pipelines")
    remote = RemoteRepositoryOrigin(location, "__repository__").get_job_origin(job)
    pointer = ModuleCodePointer("aiia_pipelines.definitions", "defs", None)
    code = RepositoryPythonOrigin(sys.executable, pointer).get_job_origin(job)
    return {"remote_job_origin": remote, "job_code_origin": code}


@dataclass
class Queue:
    """An instance of its own with small limits, whose daemon looks when a test asks it to."""

    instance: dg.DagsterInstance
    workspace: WorkspaceProcessContext
    definitions: dg.Definitions
    limits_file: Path
    url: str

    def limit(self, runs: int = 10, source: int = 10, destination: int = 10) -> None:
        """Write other limits; Dagster reads them anew at each look."""
        whole = yaml.safe_load((ROOT / "dagster.yaml").read_text())
        whole["concurrency"]["runs"]["max_concurrent_runs"] = runs
        wanted = {SOURCE_TAG: source, DESTINATION_TAG: destination}
        for entry in whole["concurrency"]["runs"]["tag_concurrency_limits"]:
            if isinstance(entry["value"], dict):
                entry["limit"] = wanted.get(entry["key"], entry["limit"])
        self.limits_file.write_text(yaml.safe_dump(whole))
        self.instance._settings = {  # what a process that begins now reads
            **self.instance._settings,
            "concurrency": whole["concurrency"],
        }

    def add(self, *names: str, job: str = "", **more: Any) -> str:
        """Put a run of these connectors into the queue."""
        if len(names) > 1:
            more["asset_selection"] = frozenset(dg.AssetKey([name, "rows"]) for name in names)
            job = "__ASSET_JOB"
        found = self.definitions.resolve_job_def(job or f"sync__{names[0]}")
        run = self.instance.create_run_for_job(found, **origins(found.name), **more)
        self.instance.report_dagster_event(dg.DagsterEvent.job_enqueue(run), run.run_id)
        return run.run_id

    def look(self) -> None:
        """Let the daemon look through the queue once."""
        daemon = QueuedRunCoordinatorDaemon(interval_seconds=1)
        for _ in daemon.run_iteration(self.workspace):
            pass

    def begun(self, *runs: str) -> list[bool]:
        found = [self.instance.get_run_by_id(run) for run in runs]
        return [run is not None and run.status is dg.DagsterRunStatus.STARTED for run in found]

    def tags(self, run: str) -> dict[str, str]:
        found = self.instance.get_run_by_id(run)
        assert found is not None
        return {key: value for key, value in found.tags.items() if key.startswith(".dagster/aiia")}

    def end(self, run: str) -> None:
        found = self.instance.get_run_by_id(run)
        assert found is not None
        self.instance.report_run_canceled(found)

    def end_all(self) -> None:
        statuses = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED]
        for run in self.instance.get_runs(filters=dg.RunsFilter(statuses=statuses)):
            self.instance.report_run_canceled(run)

    def waits(self) -> dict[str, tuple[str, int | None]]:
        """Tell who waits, why, and at which place; the daemon is alive while this looks."""
        with closing(history.connect(self.url)) as db:
            found = history.list_runs(db, history.Filter(), limits_file=self.limits_file)
        return {
            run.connector: (run.waits, run.place) for run in found if run.state.value == "Pending"
        }


@pytest.fixture(scope="module")
def _queue(rim_server: Any, tmp_path_factory: Any) -> Iterator[Queue]:
    home = tmp_path_factory.mktemp("limits")
    folder = home / "connectors"
    folder.mkdir()
    for name, host, destination, priority in CONNECTORS:
        (folder / f"{name}.yaml").write_text(
            f"name: {name}\ntitle: {name.upper()}\ndestination: {destination}\n"
            f"priority: {priority}\nsource:\n  kind: sql\n"
            f"  url: postgresql://reader@{host}/erp\n  password: ${{env:NOBODY_HAS_IT}}\n"
            "streams:\n  - name: rows\n    table: rows\n"
        )
    rim_server.ensure_database("limits", APPLICATION_ROLE)
    url = rim_server.url("limits", APPLICATION_ROLE, "postgresql+psycopg2")
    (home / "dagster.yaml").write_bytes((ROOT / "dagster.yaml").read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        patch.setenv("AIIA_DATABASE_URL", url)
        patch.setenv("AIIA_CONNECTORS", str(folder))
        instance = dg.DagsterInstance.get()
        instance._run_launcher = Begins()
        instance._run_launcher.register_instance(instance)
        workspace = WorkspaceProcessContext(instance, EmptyWorkspaceTarget())
        definitions = definitions_of(read_folder(folder))
        yield Queue(instance, workspace, definitions, home / "dagster.yaml", url)
        workspace.__exit__(None, None, None)
        instance.dispose()


@pytest.fixture
def queue(_queue: Queue) -> Iterator[Queue]:
    _queue.limit()
    yield _queue
    _queue.end_all()


@pytest.fixture
def alive(queue: Queue, rim_server: Any) -> Callable[[], None]:
    """Let the daemon give a sign of life."""

    def beat() -> None:
        with closing(rim_server.connect("limits", APPLICATION_ROLE)) as db, db, db.cursor() as run:
            run.execute(
                "insert into public.daemon_heartbeats (daemon_type, daemon_id, timestamp, body)"
                " values ('QUEUED_RUN_COORDINATOR', '1', now(), json_build_object("
                "'timestamp', extract(epoch from clock_timestamp()))::text)"
                " on conflict (daemon_type) do update set body = excluded.body"
            )

    beat()
    return beat


def test_one_source_has_one_run_at_a_time_and_another_source_does_not_wait(
    queue: Queue, alive: Any
) -> None:
    queue.limit(source=1)
    first, second, elsewhere = queue.add("a1"), queue.add("a2"), queue.add("b1")
    queue.look()
    assert queue.begun(first, second, elsewhere) == [True, False, True]
    assert queue.waits() == {"a2": (f"1 of 1 run at {A} is running; place 1", 1)}
    queue.look()
    assert queue.begun(second) == [False]
    queue.end(first)
    queue.look()
    assert queue.begun(second) == [True]
    assert queue.waits() == {}


def test_one_destination_has_one_run_at_a_time(queue: Queue, alive: Any) -> None:
    queue.limit(destination=1)
    first, second, elsewhere = queue.add("a1"), queue.add("b1"), queue.add("a3")
    queue.look()
    # The urgent one goes first, and is somewhere else.
    assert queue.begun(first, second, elsewhere) == [True, False, True]
    assert queue.waits() == {"b1": ("1 of 1 run into warehouse is running; place 1", 1)}


def test_the_number_of_all_runs_is_limited_as_well(queue: Queue, alive: Any) -> None:
    queue.limit(runs=1)
    queue.add("b2")
    queue.look()
    for name in ("b1", "a1", "a3"):
        queue.add(name)
    queue.look()
    assert queue.waits() == {
        "a3": ("1 of 1 run is running; place 1", 1),
        "a1": ("1 of 1 run is running; place 2", 2),
        "b1": ("1 of 1 run is running; place 3", 3),
    }


def test_the_most_urgent_overtakes(queue: Queue) -> None:
    queue.limit(runs=1)
    words = ("low", "normal", "high", "critical")
    names = ("a1", "a2", "b1", "b2")
    runs = {
        # As `aiia sync --priority` asks for it.
        word: queue.add(name, tags=_tags(SyncRequest(connector=name, by="ada", priority=word)))
        for word, name in zip(words, names, strict=True)
    }
    order = []
    for _ in words:
        queue.look()
        [word] = [word for word, run in runs.items() if queue.begun(run) == [True]]
        order.append(word)
        queue.end(runs[word])
    assert order == ["critical", "high", "normal", "low"]


def test_the_priority_of_the_file_holds_unless_a_run_has_its_own(queue: Queue) -> None:
    queue.limit(runs=1)
    low, urgent = queue.add("b1"), queue.add("a3")
    wished = queue.add("a1", tags={"dagster/priority": str(PRIORITIES["low"])})
    found = [queue.instance.get_run_by_id(run) for run in (low, urgent, wished)]
    assert [run.tags["dagster/priority"] for run in found if run] == ["-10", "20", "-10"]
    queue.look()
    assert queue.begun(low, urgent, wished) == [False, True, False]


def test_waiting_runs_of_a_connector_take_no_slot_of_its_source_from_others(
    queue: Queue, alive: Any
) -> None:
    queue.limit(source=2)
    first = queue.add("a1")
    queue.look()
    again = [queue.add("a1"), queue.add("a1")]
    other = queue.add("a2")
    queue.look()
    assert queue.begun(first, *again, other) == [True, False, False, True]
    assert queue.waits()["a1"][0].startswith("a1 is already running (#")


def test_runs_of_several_sources_go_one_at_a_time_and_beside_the_limit_of_each(
    queue: Queue, alive: Any
) -> None:
    queue.limit(source=1)
    alone = queue.add("a1")
    several = [queue.add("a2", "b1"), queue.add("b2", "a3")]
    queue.look()
    # As urgent as the most urgent of its connectors.
    assert queue.begun(alone, *several) == [True, False, True]
    assert queue.tags(several[0])[SOURCE_TAG] == "several sources"
    assert queue.waits()["b1"] == ("1 of 1 run of several sources is running; place 1", 1)
    together = queue.add("a2", "a1")
    assert queue.tags(together)[SOURCE_TAG] == A


def test_a_run_bears_hidden_tags_of_where_it_goes(queue: Queue) -> None:
    run = queue.add("a3")
    assert queue.tags(run) == {
        SOURCE_TAG: A,
        DESTINATION_TAG: "lake",
        CONNECTOR_TAG: "a3",
    }
    # Whoever copies or makes up such tags does not pass by the limits.
    copied = queue.add("b1", tags={SOURCE_TAG: "elsewhere", CONNECTOR_TAG: "x"})
    assert queue.tags(copied)[SOURCE_TAG] == "10.0.0.2:5432/erp"
    assert queue.tags(copied)[CONNECTOR_TAG] == "b1"


def test_a_connection_test_runs_while_its_source_is_full(queue: Queue) -> None:
    queue.limit(source=1, destination=1)
    queue.add("a1")
    tested = queue.add(job="connection_test", run_config={"connector": "a1"})
    queue.look()
    assert queue.begun(tested) == [True]
    assert SOURCE_TAG not in queue.tags(tested)


def test_a_connector_whose_pool_has_no_slot_is_held(queue: Queue, alive: Any) -> None:
    run = queue.add("b2")
    queue.instance.event_log_storage.set_concurrency_slots("connector_b2", 0)
    queue.look()
    assert queue.begun(run) == [False]
    assert queue.waits() == {"b2": ("the runs of b2 are held: its pool has no slot", 1)}
    queue.instance.event_log_storage.set_concurrency_slots("connector_b2", 1)
    queue.look()
    assert queue.begun(run) == [True]


def test_the_coordinator_that_launches_at_once_honours_the_same_limits(queue: Queue) -> None:
    queue.limit(source=1)
    coordinator = FastQueueCoordinator()
    coordinator.register_instance(queue.instance)
    runs = []
    for name in ("a1", "a2", "b1"):
        job = queue.definitions.resolve_job_def(f"sync__{name}")
        run = queue.instance.create_run_for_job(job, **origins(job.name))
        context = SubmitRunContext(run, queue.workspace.create_request_context())
        runs.append(coordinator.submit_run(context).run_id)
    assert queue.begun(*runs) == [True, False, True]
