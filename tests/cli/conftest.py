import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aiia_pipelines.cli.main import root
from aiia_pipelines.jobs.run import NewJobRun, Trigger
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.local.ports import free_port
from aiia_pipelines.local.postgres import APPLICATION_ROLE, STORE, EmbeddedPostgres

Invoke = Callable[..., Result]
Request = Callable[..., NewJobRun]


@dataclass
class Installation:
    """A running server, its home, and the connector files of one test."""

    server: EmbeddedPostgres
    connectors: Path

    @property
    def url(self) -> str:
        return self.server.url(STORE, APPLICATION_ROLE)

    def environment(self) -> dict[str, str]:
        return {
            "AIIA_HOME": str(self.server.home),
            "AIIA_CONNECTORS": str(self.connectors),
            "AIIA_PROJECT": str(self.connectors.parent),
            "AIIA_POSTGRES_PORT": str(self.server.port),
        }

    def write(self, name: str = "sample", table: str = "public.rows", **source: str) -> Path:
        parts = {
            "kind": "sql",
            "url": f"postgresql://sample_read@127.0.0.1:{self.server.port}/sample",
            "password": "${file:secrets/sample_read}",
        } | source
        lines = [f"name: {name}", f"title: {name.title()} DB", "source:"]
        lines += [f"  {key}: {value}" for key, value in parts.items()]
        lines += ['schedule: "0 2 * * *"', "timezone: America/New_York"]
        lines += ["streams:", f"  - name: rows\n    table: {table}\n    key: [id]", ""]
        path = self.connectors / f"{name}.yaml"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedPostgres]:
    home = Path(tempfile.mkdtemp(prefix="aiia-cli-"))
    home.chmod(0o755)
    found = EmbeddedPostgres(home, preferred_port=free_port())
    found.bootstrap()
    found.ensure_role("sample_read")
    found.ensure_database("sample", "sample_read")
    db = found.connect("sample", "sample_read")
    with db, db.cursor() as cursor:
        cursor.execute("create table public.rows (id int primary key, name text, price numeric)")
        cursor.execute(
            "insert into public.rows select n, 'row ' || n, n from generate_series(1, 20) n"
        )
    db.close()
    yield found
    found.stop()
    shutil.rmtree(home)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(os.environ)
    for name in [*os.environ]:
        if name.startswith(("AIIA_", "PG", "DAGSTER_", "_AIIA")):
            monkeypatch.delenv(name)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def here(server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """This process as it stands in an installation whose server runs."""
    folder = tmp_path / "connectors"
    folder.mkdir()
    found = Installation(server, folder)
    for name, value in found.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return found


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process as it stands in an empty folder, where no server was ever started."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "connectors").mkdir()
    return tmp_path


@pytest.fixture
def store(here: Installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobStore]:
    monkeypatch.setenv("PGPASSFILE", str(here.server.passwords.pgpass))
    opened = JobStore.open(here.url)
    with opened.engine.begin() as db:
        db.exec_driver_sql("truncate aiia.job_runs, aiia.contracts, aiia.schema_history cascade")
    yield opened
    opened.close()


@pytest.fixture
def aiia() -> Invoke:
    def run(*args: str | int, input_text: str | None = None) -> Result:
        # A name of its own: the exit codes are those of the console script.
        return CliRunner().invoke(root, [str(arg) for arg in args], input=input_text)

    return run


@pytest.fixture
def request_of() -> Request:
    def make(connector: str = "sample", **facts: object) -> NewJobRun:
        given = {
            "connector": connector,
            "title": f"{connector.title()} DB",
            "streams": ("rows",),
            "trigger": Trigger.MANUAL,
            "triggered_by": "sara",
        } | facts
        return NewJobRun(**given)  # type: ignore[arg-type]

    return make
