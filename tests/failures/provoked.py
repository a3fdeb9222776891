"""Faults that tests provoke through whole syncs, and what has to come of each."""

import importlib.util
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.connectors.base import Source, open_source
from aiia_pipelines.jobs.failures import CATALOGUE
from aiia_pipelines.jobs.log import Level, LogLine, render
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import NewJobRun
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.sync.destinations import destination_at
from aiia_pipelines.sync.destinations.base import Destination
from aiia_pipelines.sync.engine import Engine
from aiia_pipelines.sync.faults import Stopped

CANARY = "canary-Passw0rd-7f3a"
READER = "canary_reader"
COLUMNS, SEED = "id int primary key, name text", "values (1, 'a'), (2, 'b'), (3, 'c')"
ROWS = {"name": "rows", "table": "public.rows"}
# Words that drivers put around what they have to say, and the prefixes of servers.
CHATTER = re.compile(
    r"\(psycopg|\(pymysql|\(sqlalchemy|\[SQL|\[parameters|Background on this error|HTTPConnectionPool"
    r"|HTTPSConnectionPool|An error occurred \(|Traceback|\[Errno|\[libpq\]|\bFATAL:|\bERROR:|\[SSL"
    r"|Max retries exceeded|NewConnectionError|object at 0x|_ssl\.c|Could not connect to the endpoint"
)
_NAMES = ("job_runs", "tasks", "steps", "attempts")


@dataclass
class Ended:
    """What a sync left behind in the store."""

    store: JobStore
    number: int

    @property
    def row(self) -> Any:
        return self.store.row(self.number)

    @property
    def lines(self) -> list[LogLine]:
        return [line for _, line in self.store.log_after(self.number, 0)]

    @property
    def log(self) -> str:
        return "\n".join(map(render, self.lines))


@dataclass
class Stage:
    """A source, a destination that holds the rows of an earlier sync, and the way between them.

    `facts` are the words that the expected lines are filled with.
    """

    store: JobStore
    source: Any
    warehouse: Any
    request_of: Callable[..., NewJobRun]
    facts: dict[str, Any] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=lambda: {CANARY})
    looks: list[Callable[[], Any]] = field(default_factory=list)

    def begin(self, connector: Any) -> int:
        new = self.request_of(*(stream.name for stream in connector.streams))
        number = self.store.create(new)
        self.store.take(number, new)
        self.store.move(number, JobState.RUNNING)
        return number

    def sync(
        self,
        source: Mapping[str, Any] | Callable[[], Source],
        *streams: Mapping[str, Any],
        destination: str | Destination = "",
        number: int | None = None,
        **facts: Any,
    ) -> Ended:
        """Run a sync in this process, as a job run does."""
        given = source if callable(source) else lambda: open_source(dict(source))
        connector = connector_of(*streams, **facts)
        number = number or self.begin(connector)
        place = destination or self.warehouse.url()
        with Recorder(self.store, number) as recorder:
            engine = Engine(
                connector=connector,
                source=given,
                destination=destination_at(place) if isinstance(place, str) else place,
                recorder=recorder,
            )
            try:
                for _ in engine.run(connector.streams):
                    pass
            except (Stopped, KeyboardInterrupt):
                self.store.request_cancel(number, by="sara")
                self.store.finish(number, JobState.CANCELLED)
            self.store.finish(number)
        return Ended(self.store, number)

    def fill(self, table: str, rows: str, *, name: str = "rows") -> None:
        self.source.execute(
            f"drop table if exists public.{name} cascade",
            f"create table public.{name} ({table})",
            *([f"insert into public.{name} {rows}"] if rows else []),
        )

    def contents(self) -> list[Any]:
        """Look at all that readers of the destination see, and at what is half done there."""
        tables = self.warehouse.execute(
            "select table_schema, table_name from information_schema.tables"
            " where table_schema not in ('pg_catalog', 'information_schema')"
            " and table_name not in ('leases', 'versions') order by 1, 2"
        )
        found: list[Any] = [table for table in tables if table[0] not in {"_aiia", "_aiia_stg"}]
        for schema, name in [*found, *(table for table in tables if table[1] == "ledger")]:
            query = f'select t::text from "{schema}"."{name}" t order by 1'
            found.append(self.warehouse.execute(query))
        return [found, *(look() for look in self.looks)]

    def told(self) -> str:
        """Give all that the store has written down, also of streams and steps."""
        with self.store.engine.connect() as db:
            return " ".join(
                str(db.exec_driver_sql(f"select json_agg(t)::text from aiia.{name} t").scalar())
                for name in _NAMES
            )


def connector_of(*streams: Mapping[str, Any], **facts: Any) -> Connector:
    given = {
        "name": "sap_erp",
        "title": "SAP ERP DB",
        "source": {"kind": "sql", "url": "postgresql://sap_read@h/d"},
        "streams": [dict(stream) for stream in streams or (ROWS,)],
    }
    return Connector.model_validate(given | facts)


@dataclass(frozen=True)
class Provoked:
    """A fault, and what it has to be: `line` is exact but for {facts} and for * where anything stands."""

    code: str
    badge: str
    retries: int
    line: str
    provoke: Callable[..., Any]
    traceback: bool = True  # whether there is a fault of Python
    missing: str = ""  # what this machine lacks for it

    def __str__(self) -> str:
        less = f" (checked its row only: {self.missing})" if self.missing else ""
        return f"{self.provoke.__name__}{less}"


class Provocations(list[Provoked]):
    """The table of one file of tests."""

    def __call__(
        self,
        code: str,
        line: str,
        *,
        retries: int = 0,
        badge: str = "Failed",
        traceback: bool = True,
        unless: str = "",
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Enter a function that provokes a fault in the table; one that yields has prepared it by then."""

        def entered(provoke: Callable[..., Any]) -> Callable[..., Any]:
            self.append(Provoked(code, badge, retries, line, provoke, traceback, unless))
            return provoke

        return entered


def check(stage: Stage, case: Provoked, *given: Any) -> None:
    """Provoke a fault and look at all that a person, and the next run, get to see of it."""
    kind = CATALOGUE[case.code]
    told = (str(kind.badge), kind.transient, kind.most_retries)
    assert told == (case.badge, case.retries > 0, case.retries)
    if case.missing:
        return
    ended, before = _ended(stage, case, given)
    row, log = ended.row, ended.log
    assert (row.state, row.failure_code) == (case.badge, case.code), log
    least = Level.WARNING if case.badge == "Cancelled" else Level.ERROR
    first = next(line for line in ended.lines if line.level >= least)
    assert re.fullmatch(_pattern(case.line, stage.facts), first.message), first.message
    assert len(first.message) <= 200
    assert not CHATTER.search(first.message), first.message
    assert row.message == first.message
    if case.code == "connection-timeout":
        # The documented log of a source that never answers is exactly its one line.
        assert not first.detail, log
    elif case.traceback and case.badge != "Cancelled":
        assert "Traceback (most recent call last):" in first.detail, log
        assert first.detail[-1].strip(), log
    written = log + stage.told()
    assert not [secret for secret in stage.secrets if secret in written], log
    assert stage.contents() == before


def _ended(stage: Stage, case: Provoked, given: tuple[Any, ...]) -> tuple[Ended, list[Any]]:
    """Provoke the fault; also give what the destination held right before."""
    if not inspect.isgeneratorfunction(case.provoke):
        before = stage.contents()
        return case.provoke(stage, *given), before
    steps = case.provoke(stage, *given)
    next(steps)
    before = stage.contents()
    try:
        next(steps)
    except StopIteration as end:
        return end.value, before
    raise AssertionError("prepared twice")


def _pattern(line: str, facts: Mapping[str, Any]) -> str:
    """Make a regular expression of an expected line."""
    return re.escape(line.format(**facts)).replace(r"\*", ".*")


def neighbour(folder: str) -> ModuleType:
    """Load the fixtures of another folder."""
    path = Path(__file__).parents[1] / folder / "conftest.py"
    spec = importlib.util.spec_from_file_location(f"aiia_tests_{folder}_fixtures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
