"""A PostgreSQL server for all tests of one process, and databases of their own for single tests."""

import importlib.util
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from s3_server import S3Server, serving

from aiia_pipelines.jobs.redaction import REDACTOR
from aiia_pipelines.jobs.run import NewJobRun, Trigger
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.local.ports import free_port
from aiia_pipelines.local.postgres import APPLICATION_ROLE, EmbeddedPostgres

# How fast examples are drawn and run tells how busy the machine is, and nothing of the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

_NUMBER = count(1)
READER = "canary_reader"


@dataclass(frozen=True)
class Database:
    """One database of the server; `execute` speaks as its owner."""

    server: EmbeddedPostgres
    name: str

    @property
    def port(self) -> int:
        return self.server.port

    def url(self, user: str = APPLICATION_ROLE, driver: str = "postgresql") -> str:
        return self.server.url(self.name, user, driver)

    def password(self, user: str) -> str:
        return self.server.passwords.of(user)

    def connect(self, user: str = APPLICATION_ROLE) -> Any:
        return self.server.connect(self.name, user)

    def execute(self, *statements: str, user: str = APPLICATION_ROLE) -> list[tuple[Any, ...]]:
        connection = self.connect(user)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def options(self, user: str = READER, **more: Any) -> dict[str, Any]:
        """Give the `source:` part of a connector that reads this database."""
        facts = {"kind": "sql", "url": self.url(user), "password": self.password(user)}
        return facts | {"connect_timeout": 2} | more


def _hurry(server: EmbeddedPostgres) -> None:
    """Spare the disk: no test of this server survives a power failure anyway."""
    admin = server.connect("postgres")
    admin.autocommit = True
    with admin.cursor() as cursor:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            cursor.execute(f"alter system set {setting} = off")
        cursor.execute("select pg_reload_conf()")
    admin.close()


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedPostgres]:
    home = Path(tempfile.mkdtemp(prefix="aiia-", dir="/tmp"))
    home.chmod(0o755)
    found = EmbeddedPostgres(home, preferred_port=free_port())
    found.bootstrap()
    found.ensure_role(READER)
    _hurry(found)
    leftovers = found.log.parent
    yield found
    found.stop()
    shutil.rmtree(leftovers, ignore_errors=True)
    shutil.rmtree(home)


@pytest.fixture
def passfile(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let libpq find the passwords of the server in this process."""
    monkeypatch.setenv("PGPASSFILE", str(server.passwords.pgpass))
    return server.passwords.pgpass


@pytest.fixture
def new_database(server: EmbeddedPostgres, passfile: Path) -> Iterator[Callable[[str], Database]]:
    made: list[Database] = []

    def make(kind: str) -> Database:
        found = Database(server, f"{kind}_{next(_NUMBER)}")
        server.ensure_database(found.name, APPLICATION_ROLE)
        made.append(found)
        return found

    yield make
    admin = server.connect("postgres")
    admin.autocommit = True
    with admin.cursor() as cursor:
        for database in made:
            cursor.execute(f"drop database if exists {database.name} with (force)")
    admin.close()


@pytest.fixture
def source_db(new_database: Callable[[str], Database]) -> Database:
    """An empty database whose tables the reader may read."""
    found = new_database("source")
    found.execute(
        f"alter default privileges grant select on tables to {READER}",
        f"alter default privileges grant usage on schemas to {READER}",
    )
    return found


@pytest.fixture
def warehouse(new_database: Callable[[str], Database]) -> Database:
    return new_database("warehouse")


@pytest.fixture(scope="session")
def _store_database(server: EmbeddedPostgres) -> Database:
    found = Database(server, "store")
    server.ensure_database(found.name, APPLICATION_ROLE)
    return found


@pytest.fixture
def store(_store_database: Database, passfile: Path) -> Iterator[JobStore]:
    """An empty job-run store."""
    opened = JobStore.open(_store_database.url(driver="postgresql+psycopg2"))
    with opened.engine.begin() as db:
        db.exec_driver_sql("truncate aiia.job_runs, aiia.contracts, aiia.schema_history cascade")
    yield opened
    opened.close()


@pytest.fixture
def store_db(_store_database: Database) -> Database:
    return _store_database


@pytest.fixture
def request_of() -> Callable[..., NewJobRun]:
    def make(*streams: str, **facts: Any) -> NewJobRun:
        given = {
            "connector": "sap_erp",
            "title": "SAP ERP DB",
            "streams": streams or ("rows",),
            "trigger": Trigger.MANUAL,
            "triggered_by": "sara",
        }
        return NewJobRun(**given | facts)

    return make


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget every secret told so far, so that a leak is not hidden by the mask."""
    monkeypatch.setattr(REDACTOR, "_known", None)
    monkeypatch.setattr(REDACTOR, "_forms", set())


@pytest.fixture
def backends(server: EmbeddedPostgres) -> Callable[[str], int]:
    """Count the sessions in a database."""

    def ask(database: str) -> int:
        connection = server.connect("postgres")
        with connection.cursor() as cursor:
            cursor.execute("select count(*) from pg_stat_activity where datname = %s", (database,))
            found: tuple[int] = cursor.fetchone()
        connection.close()
        return found[0]

    return ask


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server for all tests of one process; each test makes buckets of its own."""
    with serving() as found:
        yield found


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def full() -> Iterator[int]:
    """A port whose backlog is full: further connection attempts get no answer."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as listener:
        place = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(place)
        yield place[1]
        for client in waiting:
            client.close()


@pytest.fixture
def closed() -> int:
    """A port that nobody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as door:
        return int(door.getsockname()[1])


def pytest_configure(config: pytest.Config) -> None:
    """Take in the fixtures of servers that have a file of their own."""
    name = "aiia_tests_mariadb"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("mariadb.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config.pluginmanager.register(module, name)
