"""The places of a trial: the servers of source and job history, and every kind of destination."""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psycopg
from proxy import Cut, Proxy
from world import NAME, STREAM, Content, Mode, Table

from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.local.ports import free_port
from aiia_pipelines.local.postgres import APPLICATION_ROLE, EmbeddedPostgres

Look = Callable[[], Content | None]


def new_server(home: Path) -> EmbeddedPostgres:
    """Start a server whose data nobody wants to survive a power failure."""
    home.mkdir(mode=0o755)
    server = EmbeddedPostgres(home, preferred_port=free_port())
    server.bootstrap()
    admin = server.connect("postgres")
    admin.autocommit = True
    with admin.cursor() as cursor:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            cursor.execute(f"alter system set {setting} = off")
        cursor.execute("select pg_reload_conf()")
    admin.close()
    return server


def passwords(*servers: EmbeddedPostgres, at: Path) -> None:
    """Let libpq find the passwords of all servers, of the last one also behind a proxy."""
    lines = []
    for server in servers:
        # Nobody knows the proxy's port beforehand: a star stands for any that was not named before.
        port = "*" if server is servers[-1] else str(server.port)
        known = server.passwords.pgpass.read_text().splitlines()
        lines += [re.sub(r"^([^:]+):[^:]+:", rf"\1:{port}:", line) for line in known]
    at.write_text("\n".join(lines) + "\n")
    at.chmod(0o600)
    os.environ["PGPASSFILE"] = str(at)


class Sources:
    """The server with the source's table and the job history."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        for name in ("chaos_source", "chaos_store"):
            server.ensure_database(name, APPLICATION_ROLE)
        self.store_url = server.url("chaos_store", APPLICATION_ROLE, "postgresql+psycopg2")
        self.store = JobStore.open(self.store_url)
        self._db = psycopg.connect(
            server.url("chaos_source", APPLICATION_ROLE, "postgresql"), autocommit=True
        )

    def options(self) -> dict[str, Any]:
        url = self.server.url("chaos_source", APPLICATION_ROLE, "postgresql")
        return {"kind": "sql", "url": url, "connect_timeout": 10}

    def empty(self) -> None:
        self._db.execute("drop table if exists public.rows")
        self._db.execute(
            "create table public.rows (id int primary key, generation int, note text, updated_at timestamptz)"
        )
        # With it, readings by the cursor are in order and have checkpoints.
        self._db.execute("create index on public.rows (updated_at, id)")
        with self.store.engine.begin() as db:
            db.exec_driver_sql("delete from aiia.contracts")

    def apply(self, table: Table) -> None:
        with self._db.transaction():
            for statement, values in table.statements():
                self._db.execute(statement, values)

    def terminate(self) -> None:
        """Kill the sessions that read the source."""
        self._db.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )

    def close(self) -> None:
        self.store.close()
        self._db.close()


class Place(Protocol):
    """A destination under trial."""

    name: str
    polls: bool  # somebody can read while a sync is running
    wired: bool  # a network lies in between
    served: bool  # a server that has sessions does

    def url(self) -> str: ...
    def empty(self) -> None: ...
    def content(self, mode: Mode) -> Content: ...
    def onlooker(self, mode: Mode) -> Any: ...
    def inside(self, mode: Mode) -> str: ...
    def seen(self, file: Path) -> Iterator[Content]: ...
    def ledger(self) -> dict[str, dict[str, Any]]: ...
    def state(self) -> str | None: ...
    def staging(self) -> list[str]: ...
    def cut_at_commit(self, *, nth: int, answered: bool, only_last: bool) -> None: ...
    def mend(self) -> None: ...
    def terminate(self) -> None: ...
    def crash(self) -> None: ...


@dataclass
class PostgresPlace:
    """A warehouse on a server of its own, behind a wire that can be cut."""

    server: EmbeddedPostgres
    name: str = "postgres"
    polls: bool = True
    wired: bool = True
    served: bool = True
    _proxy: Proxy = field(init=False)

    def __post_init__(self) -> None:
        self.server.ensure_database("chaos_warehouse", APPLICATION_ROLE)
        self._proxy = Proxy(self.server.port).start()

    def url(self) -> str:
        return f"postgresql://{APPLICATION_ROLE}@127.0.0.1:{self._proxy.port}/chaos_warehouse"

    def _connect(self) -> psycopg.Connection[Any]:
        url = self.server.url("chaos_warehouse", APPLICATION_ROLE, "postgresql")
        for _ in range(200):
            # A server that crashed is back within a second or two.
            with suppress(psycopg.OperationalError):
                return psycopg.connect(url, autocommit=True)
            time.sleep(0.05)
        return psycopg.connect(url, autocommit=True)

    def _all(self, query: str) -> list[tuple[Any, ...]]:
        with self._connect() as db:
            return list(db.execute(query).fetchall())

    def empty(self) -> None:
        with self._connect() as db:
            db.execute(f"drop schema if exists {NAME} cascade")
            db.execute("drop schema if exists _aiia cascade")
            db.execute("drop schema if exists _aiia_stg cascade")

    def content(self, mode: Mode) -> Content:
        return Counter(self._all(_select(mode)))

    @contextmanager
    def onlooker(self, mode: Mode) -> Iterator[Look]:
        """Read again and again on one connection, as a report would."""
        found: list[psycopg.Connection[Any]] = [self._connect()]

        def look() -> Content | None:
            try:
                return Counter(found[0].execute(_select(mode)).fetchall())
            except psycopg.OperationalError:
                found[0] = self._connect()
                return None

        try:
            yield look
        finally:
            found[0].close()

    def inside(self, _: Mode) -> str:
        return ""

    def seen(self, _: Path) -> Iterator[Content]:
        yield from ()

    def ledger(self) -> dict[str, dict[str, Any]]:
        rows = self._all(
            "select run_key, epoch, inserted, updated, unchanged, deleted from _aiia.ledger"
        )
        names = ("epoch", "inserted", "updated", "unchanged", "deleted")
        return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}

    def state(self) -> str | None:
        rows = self._all("select run_key from _aiia.sync_state")
        return str(rows[0][0]) if rows else None

    def staging(self) -> list[str]:
        return [
            row[0]
            for row in self._all("select tablename from pg_tables where schemaname = '_aiia_stg'")
        ]

    def cut_at_commit(self, *, nth: int, answered: bool, only_last: bool) -> None:
        self._proxy.cut = Cut(nth, answered, only_last)

    def mend(self) -> None:
        self._proxy.cut = None

    def terminate(self) -> None:
        """Kill the sessions of workers, not those of onlookers."""
        with self._connect() as db:
            db.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and application_name like 'aiia%'"
            )

    def crash(self) -> None:
        """Kill one backend, after which the server throws everybody out and recovers."""
        with self._connect() as db:
            pid = db.execute("select pg_backend_pid()").fetchone()
            assert pid is not None
            os.kill(pid[0], signal.SIGKILL)

    def close(self) -> None:
        self._proxy.close()


def _select(mode: Mode) -> str:
    return f"select id, generation, note, {mode.alive} from {NAME}.{STREAM}"
