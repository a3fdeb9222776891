"""The databases that everything is measured on, and how a command is run there."""

import os
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from measure import Measured, Warm, measure, spent
from workload import COLUMNS, FILL, TABLE, digest

from aiia_pipelines.local.binaries import Account, find_binaries
from aiia_pipelines.local.postgres import APPLICATION_ROLE, EmbeddedPostgres

HERE = Path(__file__).parent
OURS = str(HERE / "ours.py")
_FAREWELL = 0.5  # seconds
LIMIT = 1800.0  # seconds for one run of one contender


@dataclass
class Ground:
    """The databases on which all contenders run."""

    server: EmbeddedPostgres
    rows: int
    work: Path

    def url(self, name: str, driver: str = "postgresql") -> str:
        return self.server.url(name, APPLICATION_ROLE, driver)

    def open_url(self, name: str, driver: str = "postgresql") -> str:
        """Give a URL with its password, for programs that do not ask libpq."""
        secret = self.server.passwords.of(APPLICATION_ROLE)
        return self.url(name, driver).replace("@", f":{secret}@", 1)

    @property
    def postmaster(self) -> int:
        """The process that starts those of the server."""
        if self.server.data is None:
            raise AssertionError("the server runs")
        return int((self.server.data / "postmaster.pid").read_text().split()[0])

    def execute(self, database: str, *statements: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url(database), autocommit=True) as db:
            for statement in statements:
                result = db.execute(statement)
            return result.fetchall() if result.description else []

    def prepare(self) -> None:
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        for name in ("bench_source", "bench_store"):
            self.server.ensure_database(name, APPLICATION_ROLE)
        with psycopg.connect(self.url("bench_source"), autocommit=True) as db:
            db.execute(f"create table {TABLE} ({columns})")
            db.execute(FILL.replace("{rows}", str(self.rows)))
            db.execute(f"vacuum analyze {TABLE}")

    def settle(self) -> None:
        """Let the server write down what it still holds, before the next measurement."""
        self._administer("checkpoint")

    def _administer(self, statement: str) -> None:
        admin = self.server.connect("postgres")
        admin.autocommit = True
        with admin.cursor() as cursor:
            cursor.execute(statement)
        admin.close()

    def fresh(self) -> None:
        """Make an empty target, and let the server write down what it still holds."""
        self._administer("drop database if exists bench_target with (force)")
        self.server.ensure_database("bench_target", APPLICATION_ROLE)
        self.settle()
        columns = ", ".join(
            f"{name} {kind.replace(' primary key', '')}" for name, kind in COLUMNS.items()
        )
        self.execute("bench_target", "create schema raw", f"create table raw.{TABLE} ({columns})")

    def compare(self, rows: int) -> list[str]:
        """Tell where the target differs from the source by value; the table is the largest of its name."""
        found = self.execute(
            "bench_target",
            f"select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = relnamespace"
            f" where relname = '{TABLE}' and relkind = 'r' order by pg_relation_size(c.oid) desc limit 1",
        )
        if not found:
            return ["no table arrived"]
        present = {row[0] for row in self.execute(
            "bench_target", f"select attname from pg_attribute where attrelid = '{found[0][0]}'::regclass and attnum > 0"
        )}  # fmt: skip
        names = [name for name in COLUMNS if name in present]
        faults = [f"column {name} is missing" for name in COLUMNS if name not in present]
        source = digest(names).format(table=f"(select * from {TABLE} where id <= {rows}) t")
        try:
            theirs = self.execute("bench_target", digest(names).format(table=found[0][0]))[0]
        except psycopg.Error as fault:
            return [*faults, f"cannot be compared: {str(fault).splitlines()[0]}"]
        ours = self.execute("bench_source", source)[0]
        pairs = zip(["rows", *names], ours, theirs, strict=True)
        return faults + [f"{name} differs" for name, left, right in pairs if left != right]


def piped(ground: Ground, what: str, statements: list[str]) -> list[str]:
    """Pipe a binary COPY of the source into psql at the target."""
    psql = str(find_binaries(Account.choose()) / "psql")
    out = f"{psql} -qX '{ground.url('bench_source')}' -c {shlex.quote(f'copy {what} to stdout (format binary)')}"
    told = " ".join(f"-c {shlex.quote(statement)}" for statement in statements)
    into = f"{psql} -qX -v ON_ERROR_STOP=1 '{ground.url('bench_target')}' {told}"
    return ["bash", "-c", f"set -o pipefail; {out} | {into}"]


@dataclass(frozen=True)
class Forked:
    """Work that the warm worker is asked for."""

    arguments: list[str]


def ours(
    work: str, count: int = 1, *, cold: bool = False
) -> Callable[[Ground], list[str] | Forked]:
    """Sync by a process forked off a warm one, as in an installation that is up, or by one that starts `cold`."""

    def command(ground: Ground) -> list[str] | Forked:
        store = ground.url("bench_store", "postgresql+psycopg2")
        arguments = [
            ground.url("bench_source"),
            ground.url("bench_target"),
            store,
            work,
            str(count),
        ]
        return [sys.executable, OURS, *arguments] if cold else Forked(arguments)

    return command


def run_once(ground: Ground, work: list[str] | Forked) -> Measured:
    """Measure one command in the environment that all contenders have."""
    before = spent(ground.postmaster)
    done = _run(ground, work)
    # A process of the server counts once it has ended, soon after its client.
    time.sleep(_FAREWELL)
    return replace(done, servers=spent(ground.postmaster) - before)


def _run(ground: Ground, work: list[str] | Forked) -> Measured:
    environ = os.environ | {
        "PGPASSFILE": str(ground.server.passwords.pgpass), "BENCH_WORK": str(ground.work / "dlt"),
        "DISABLE_TELEMETRY": "true", "SLING_DISABLE_TELEMETRY": "TRUE", "DO_NOT_TRACK": "1",
    }  # fmt: skip
    if isinstance(work, Forked):
        worker = Warm([sys.executable, OURS], environ)
        try:
            return worker.measure(work.arguments)
        finally:
            worker.end()
    done = measure(work, environ=environ, log=ground.work / "log.txt", limit=LIMIT)
    if done.code:
        sys.stderr.write(done.said + "\n")
    return done
