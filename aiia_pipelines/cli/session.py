"""What a command works with: the settings, and the database they lead to."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aiia_pipelines.cli.exits import Exit, Stop
from aiia_pipelines.cli.output import Output
from aiia_pipelines.config.faults import ConfigInvalid
from aiia_pipelines.config.settings import Settings
from aiia_pipelines.local.faults import EmbeddedFault
from aiia_pipelines.local.postgres import APPLICATION_ROLE, STORE, EmbeddedPostgres

if TYPE_CHECKING:
    from psycopg2.extensions import connection

    from aiia_pipelines.jobs.store import JobStore


@dataclass(frozen=True, slots=True)
class Session:
    """Settings whose database is known; `embedded` is its server when it is this product's own."""

    settings: Settings
    url: str
    embedded: EmbeddedPostgres | None = None
    # This process started the server, so that it also stops it.
    owned: bool = False

    @property
    def limits_file(self) -> Path:
        """The file in which the limits of Dagster's queue stand."""
        return self.settings.project / "dagster.yaml"


def output() -> Output:
    """Return what the common options of this command ask for."""
    return click.get_current_context().ensure_object(Output)


def load() -> Settings:
    """Read the settings of this process."""
    return Settings.load(os.environ, Path.cwd())


def person() -> str:
    """Name the person at the command line."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


def prepared() -> Settings:
    """Read the settings, with the variables of the embedded server where that was ever started."""
    settings = load()
    server = _embedded(settings)
    return _merged(server) if server is not None and _was_started(server) else settings


def require_project(settings: Settings) -> None:
    """Refuse a folder in which Dagster would find no configuration, and use one of its own.

    Raises:
        ConfigInvalid: There is no dagster.yaml.
    """
    if not (settings.project / "dagster.yaml").is_file():
        raise ConfigInvalid(
            f"{settings.project} has no dagster.yaml: run this in the project's folder,"
            " or set AIIA_PROJECT to it."
        )


def opened() -> Session:
    """Return the session of a command that reads; it starts the embedded server only if there is one.

    A server that was started for the command stops with it.

    Raises:
        Stop: there is no server yet.
    """
    settings = load()
    server = _embedded(settings)
    if server is None:
        return Session(settings, str(settings.database_url))
    if not _was_started(server):
        raise Stop(
            Exit.UNREACHABLE,
            "There is no database yet. Start one with `aiia up`, or sync a connector.",
            code="database-not-running",
        )
    owned = server.start()
    if owned:
        click.get_current_context().call_on_close(lambda: _stop_unused(server))
    settings = _merged(server)
    return Session(settings, str(settings.database_url), server, owned)


@contextmanager
def started(*, stops: bool = False) -> Iterator[Session]:
    """Give the session of a command that writes; a server started for it stops when nobody uses it.

    With `stops` that holds also for a server that was running before: `aiia up` leaves none behind.
    """
    settings = load()
    server = _embedded(settings)
    if server is None:
        yield Session(settings, str(settings.database_url))
        return
    owned = server.bootstrap()
    try:
        settings = _merged(server)
        yield Session(settings, str(settings.database_url), server, owned)
    finally:
        if owned or stops:
            _stop_unused(server)


@contextmanager
def store(session: Session) -> Iterator["JobStore"]:
    """Open the store for writing."""
    # SQLAlchemy costs a second of CPU: reading commands do without it.
    from aiia_pipelines.jobs.store import JobStore

    opened_store = JobStore.open(session.url)
    try:
        yield opened_store
    finally:
        opened_store.close()


@contextmanager
def reading(session: Session) -> Iterator["connection"]:
    """Open the store for reading."""
    from aiia_pipelines.jobs.history import connect

    db = connect(session.url)
    try:
        yield db
    finally:
        db.close()


def _embedded(settings: Settings) -> EmbeddedPostgres | None:
    """Return the embedded server if the settings lead to it, be it by the URL that `aiia env` gave."""
    server = EmbeddedPostgres(settings.home, settings.postgres_port)
    if settings.database_url is None:
        return server
    own = _was_started(server) and settings.database_url == server.url(STORE, APPLICATION_ROLE)
    return server if own else None


def _was_started(server: EmbeddedPostgres) -> bool:
    try:
        return server.port > 0
    except EmbeddedFault:
        return False


def _merged(server: EmbeddedPostgres) -> Settings:
    """Let this process and its children, libpq and secret references see the embedded server."""
    for name, value in server.environment().items():
        if name.startswith("AIIA_DESTINATION_") and os.environ.get(name, "").strip():
            continue
        os.environ[name] = value
    return load()


def _stop_unused(server: EmbeddedPostgres) -> None:
    if not _in_use(server):
        server.stop()


def _in_use(server: EmbeddedPostgres) -> bool:
    from psycopg2 import OperationalError

    query = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
    try:
        db = server.connect("postgres")
    except OperationalError:
        return False
    try:
        with db.cursor() as cursor:
            cursor.execute(query)
            return bool((cursor.fetchone() or (0,))[0])
    finally:
        db.close()
