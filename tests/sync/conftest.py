from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from aiia_pipelines.config.connector import Connector, Stream
from aiia_pipelines.connectors.base import Source, open_source
from aiia_pipelines.jobs import contracts
from aiia_pipelines.jobs.log import Level, LogLine, render, starting
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import NewJobRun
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.sync.destinations.base import Destination
from aiia_pipelines.sync.destinations.postgres import open_postgres
from aiia_pipelines.sync.engine import Engine
from aiia_pipelines.sync.outcome import Broken, Synced


@dataclass
class Ended:
    """What one sync left behind."""

    store: JobStore
    number: int
    outcomes: list[Synced | Broken] = field(default_factory=list)

    @property
    def row(self) -> Any:
        return self.store.row(self.number)

    @property
    def state(self) -> str:
        return str(self.row.state)

    @property
    def code(self) -> str | None:
        found: str | None = self.row.failure_code
        return found

    @property
    def lines(self) -> list[LogLine]:
        return [line for _, line in self.store.log_after(self.number, 0)]

    @property
    def log(self) -> str:
        return "\n".join(map(render, self.lines))

    @property
    def changes(self) -> tuple[int, int, int, int]:
        """Inserted, updated, unchanged and deleted rows of the first stream."""
        done = self.outcomes[0]
        assert isinstance(done, Synced), self.log
        found = done.changes
        return found.inserted, found.updated, found.unchanged, found.deleted

    def steps(self, stream: str) -> dict[str, str]:
        with self.store.engine.connect() as db:
            query = "select step, state from aiia.steps where number = %s and stream = %s"
            return dict(tuple(row) for row in db.exec_driver_sql(query, (self.number, stream)))


@dataclass
class Bench:
    """A store, a source and a warehouse, and the way to sync between them."""

    store: JobStore
    source: Any
    warehouse: Any
    request_of: Callable[..., NewJobRun]
    opened: Callable[[], Source] | None = None

    def connector(self, *streams: dict[str, Any], **facts: Any) -> Connector:
        given = {
            "name": "sap_erp",
            "title": "SAP ERP DB",
            "source": {"kind": "sql", "url": "postgresql://sap_read@h/d"},
            "streams": list(streams) or [{"name": "rows", "table": "public.rows"}],
        }
        return Connector.model_validate(given | facts)

    def begin(self, connector: Connector, streams: Sequence[Stream] = ()) -> int:
        names = [stream.name for stream in streams or connector.streams]
        new = self.request_of(*names)
        number = self.store.create(new)
        self.store.take(number, new)
        self.store.move(number, JobState.RUNNING)
        return number

    def sync(
        self,
        *streams: dict[str, Any],
        destination: Destination | None = None,
        source: Callable[[], Source] | None = None,
        uid: str | None = None,
        **facts: Any,
    ) -> Ended:
        connector = self.connector(*streams, **facts)
        number = self.begin(connector)
        ended = Ended(self.store, number)
        name = connector.name
        with Recorder(self.store, number) as recorder:
            recorder.log(Level.INFO, starting("sync", number, connector.title))
            engine = Engine(
                connector=connector,
                source=source or self.opened or (lambda: open_source(self.source.options())),
                destination=destination or open_postgres(self.warehouse.url()),
                recorder=recorder,
                uid=uid or str(ended.row.uid),
                learned=lambda stream: contracts.learned(self.store, name, stream),
                learn=lambda stream, columns: contracts.learn(
                    self.store, name, stream, columns, number=number
                ),
            )
            try:
                ended.outcomes.extend(engine.run(connector.streams))
            finally:
                self.store.finish(number)
        return ended

    def fill(self, table: str, rows: str, *, name: str = "rows") -> None:
        self.source.execute(
            f"drop table if exists public.{name}",
            f"create table public.{name} ({table})",
            *([f"insert into public.{name} {rows}"] if rows else []),
        )

    def arrived(self, what: str = "*", name: str = "rows", order: str = "1") -> list[Any]:
        return self.warehouse.execute(f"select {what} from sap_erp.{name} order by {order}")

    def staging(self) -> list[Any]:
        query = "select tablename from pg_tables where schemaname = '_aiia_stg'"
        return self.warehouse.execute(query)

    def ledger(self) -> int:
        query = "select count(*) from _aiia.ledger"
        found: int = self.warehouse.execute(query)[0][0]
        return found


@pytest.fixture
def bench(
    store: JobStore, source_db: Any, warehouse: Any, request_of: Callable[..., NewJobRun]
) -> Bench:
    return Bench(store, source_db, warehouse, request_of)
