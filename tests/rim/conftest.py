import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import RepositoryPythonOrigin
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin

from aiia_pipelines.config.folder import Folder, read_connector, read_folder
from aiia_pipelines.config.settings import Settings
from aiia_pipelines.definitions import definitions_of
from aiia_pipelines.jobs.log import render
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.local import warm
from aiia_pipelines.local.ports import free_port
from aiia_pipelines.local.postgres import APPLICATION_ROLE, WAREHOUSE, EmbeddedPostgres

ROOT = Path(__file__).parents[2]

SHOP = """\
name: shop
title: Shop DB
owners: ["team:data", "sara@example.com", "not a Dagster owner"]
tier: critical
schedule: "0 2 * * *"
timezone: Europe/Berlin
source:
  kind: sql
  url: postgresql://shop_read@127.0.0.1:${env:AIIA_POSTGRES_PORT}/shop
  password: ${file:secrets/shop_read}
streams:
  - name: orders
    description: One row for each order.
    table: public.orders
    key: [id]
    columns:
      id: { type: int32, nullable: false, description: Its number }
      amount: { type: "decimal(9,2)", checks: { ge: 0, lt: 100000 } }
      note: { type: string, checks: { str_length: { max_value: 40 } } }
    checks:
      row_count: { min: 1 }
  - name: customers
    table: public.customers
    key: [id]
"""
BOOKS = """\
name: books
title: Books DB
source:
  kind: sql
  url: postgresql://shop_read@127.0.0.1:${env:AIIA_POSTGRES_PORT}/shop
  password: ${file:secrets/shop_read}
streams:
  - name: ledger
    table: public.ledger
    key: [id]
    columns:
      total: { type: int32, checks: { ge: 0 } }
"""
TORN = "name: torn\ntitle: Torn\nkron: never\nstreams: []\n"
SOURCE = """
create table public.orders (id int primary key, amount numeric(9,2), note text);
create table public.customers (id int primary key, name text not null);
create table public.ledger (id int primary key, total int not null);
insert into public.orders select n, n * 1.25, 'note ' || n from generate_series(1, 300) n;
insert into public.customers select n, 'customer ' || n from generate_series(1, 200) n;
insert into public.ledger select n, n from generate_series(1, 250) n;
grant select on all tables in schema public to shop_read;
"""


@dataclass
class Installation:
    """A running server with a source, connector files, Dagster's instance and the job-run store."""

    server: EmbeddedPostgres
    connectors: Path
    environment: dict[str, str]
    instance: dg.DagsterInstance
    store: JobStore
    definitions: dg.Definitions

    def source(self, statement: str) -> None:
        with closing(self.server.connect("shop", "shop_owner")) as db, db, db.cursor() as cursor:
            cursor.execute(statement)

    def warehouse(self, query: str) -> list[tuple]:
        with (
            closing(self.server.connect(WAREHOUSE, APPLICATION_ROLE)) as db,
            db.cursor() as cursor,
        ):
            cursor.execute(query)
            return cursor.fetchall()

    def history(self, query: str) -> list[tuple]:
        with self.store.engine.connect() as db:
            return [tuple(row) for row in db.exec_driver_sql(query)]

    def run(self, job: str = "sync__shop", **more: object) -> dg.ExecuteInProcessResult:
        """Execute a job as a Dagster run in this process."""
        found = self.definitions.resolve_job_def(job)
        return found.execute_in_process(instance=self.instance, raise_on_error=False, **more)

    def create(self, job: str = "sync__shop", **more: object) -> dg.DagsterRun:
        """Make a Dagster run as its doors do, without executing it."""
        return self.instance.create_run_for_job(self.definitions.resolve_job_def(job), **more)

    def number(self, run_id: str, connector: str = "shop") -> int:
        return self.store.numbers_of(run_id)[connector]

    def row(self, run_id: str, connector: str = "shop"):  # noqa: ANN201
        return self.store.row(self.number(run_id, connector))

    def tags(self, run_id: str) -> dict[str, str]:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return dict(run.tags)

    def log(self, number: int) -> list[str]:
        """Read the log without its times."""
        return [render(line)[22:] for _, line in self.store.log_after(number, 0)]


@pytest.fixture(scope="session")
def rim_server() -> Iterator[EmbeddedPostgres]:
    home = Path(tempfile.mkdtemp(prefix="aiia-", dir="/tmp"))
    home.chmod(0o755)
    server = EmbeddedPostgres(home, preferred_port=free_port())
    server.bootstrap()
    server.ensure_role("shop_owner")
    server.ensure_role("shop_read")
    server.ensure_database("shop", "shop_owner")
    with closing(server.connect("shop", "shop_owner")) as db, db, db.cursor() as cursor:
        cursor.execute(SOURCE)
    yield server
    server.stop()
    shutil.rmtree(server.log.parent, ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def rim_connectors(rim_server: EmbeddedPostgres) -> Path:
    folder = rim_server.home / "connectors"
    folder.mkdir()
    for name, text in (("shop", SHOP), ("books", BOOKS), ("torn", TORN)):
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture(scope="session")
def rim_environment(rim_server: EmbeddedPostgres, rim_connectors: Path) -> dict[str, str]:
    named = {"AIIA_HOME": str(rim_server.home), "AIIA_CONNECTORS": str(rim_connectors)}
    found = rim_server.environment()
    settings = Settings.load({**named, **found}, ROOT).environment()
    return {**found, **settings, "AIIA_PROJECT": str(ROOT), "DAGSTER_HOME": str(ROOT)}


@pytest.fixture(autouse=True, scope="module")
def _environment(rim_environment: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [*os.environ]:
            if name.startswith(("AIIA_", "PG", "DAGSTER_")):
                patch.delenv(name)
        for name, value in rim_environment.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def rim(
    rim_server: EmbeddedPostgres, rim_connectors: Path, rim_environment: dict[str, str]
) -> Iterator[Installation]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in rim_environment.items():
            patch.setenv(name, value)
        instance = dg.DagsterInstance.get()
        store = JobStore.open(rim_environment["AIIA_DATABASE_URL"])
        definitions = definitions_of(read_folder(rim_connectors))
    yield Installation(rim_server, rim_connectors, rim_environment, instance, store, definitions)
    store.close()
    instance.dispose()


CRAWL = """\
name: crawl
title: Crawl DB
retry: { policy: never }
source:
  kind: sql
  url: postgresql://shop_read@127.0.0.1:${env:AIIA_POSTGRES_PORT}/shop
  password: ${file:secrets/shop_read}
streams:
  - name: orders
    query: select o.id, pg_sleep(0.5)::text as waited from public.orders o
    key: [id]
    batch_rows: 10
"""


def _origins(job: str) -> dict[str, object]:
    """Say where a run comes from, as every door does; others cannot be queued."""
    location = RegisteredCodeLocationOrigin("aiia_pipelines")
    pointer = ModuleCodePointer("aiia_pipelines.definitions", "defs", None)
    return {
        "remote_job_origin": RemoteRepositoryOrigin(location, "__repository__").get_job_origin(job),
        "job_code_origin": RepositoryPythonOrigin(sys.executable, pointer).get_job_origin(job),
    }


@dataclass
class Warm:
    """A warm worker as a process of its own, and a connector that crawls."""

    rim: Installation
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def home(self) -> Path:
        return self.rim.server.home

    def file(self, connector: str = "crawl") -> Path:
        return self.rim.connectors / f"{connector}.yaml"

    def start(self) -> None:
        log = (self.home / "warm.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "aiia_pipelines.worker"], cwd=ROOT, stdout=log, stderr=log,
            env={**os.environ, **self.rim.environment},
        )  # fmt: skip
        log.close()
        assert self.eventually(lambda: warm.is_ready(self.home)), self.log()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def log(self) -> str:
        return (self.home / "warm.log").read_text()

    def create(self, connector: str = "crawl", **more: object) -> str:
        """Make a run that nobody has launched."""
        folder = Folder(connectors={connector: read_connector(self.rim.connectors, connector)})
        job = definitions_of(folder).resolve_job_def(f"sync__{connector}")
        origins = _origins(f"sync__{connector}")
        return self.rim.instance.create_run_for_job(job, **origins, **more).run_id

    def launch(self, connector: str = "crawl") -> str:
        run_id = self.create(connector)
        self.rim.instance.launch_run(run_id, None)
        return run_id

    def state(self, run_id: str, connector: str = "crawl") -> str:
        return str(self.rim.row(run_id, connector).state)

    def reading(self, connector: str = "crawl") -> tuple[str, int]:
        """Launch a run and give it and its process, once the source is being read."""
        run_id = self.launch(connector)
        number = self.rim.number(run_id, connector)
        query = f"select 1 from aiia.steps where number = {number} and step = 'extract' and started_at is not null"
        assert self.eventually(lambda: self.rim.history(query)), self.log()
        attempt = self.rim.store.attempt_of(self.rim.number(run_id, connector))
        assert attempt is not None
        return run_id, int(attempt.pid)

    def ended(self, run_id: str) -> dg.DagsterRun:
        """Wait until Dagster's run has its end."""
        assert self.eventually(lambda: self.rim.instance.get_run_by_id(run_id).is_finished)
        return self.rim.instance.get_run_by_id(run_id)

    @staticmethod
    def eventually(holds: Callable[[], object], seconds: float = 60) -> object:
        """Wait until it holds; `seconds` are for a busy machine."""
        end = time.monotonic() + seconds
        while not (found := holds()) and time.monotonic() < end:
            time.sleep(0.05)
        return found


@pytest.fixture(scope="module")
def warmth(rim: Installation) -> Iterator[Warm]:
    """A warm worker for the tests of a module, and two connectors that crawl."""
    found = Warm(rim)
    for name in ("crawl", "creep"):
        found.file(name).write_text(CRAWL.replace("name: crawl", f"name: {name}"))
    found.start()
    yield found
    found.stop()
    for name in ("crawl", "creep"):
        found.file(name).unlink()
