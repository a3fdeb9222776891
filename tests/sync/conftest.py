from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from aiia_pipelines.config.connector import Connector, Stream
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors.base import Source, open_source
from aiia_pipelines.jobs.log import Level, LogLine, render, starting
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import NewJobRun
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.sync.contract import Contract, ContractColumn
from aiia_pipelines.sync.destinations import open_destination
from aiia_pipelines.sync.destinations.base import REJECTED, Destination, Landing, Load
from aiia_pipelines.sync.destinations.parquet import read
from aiia_pipelines.sync.destinations.postgres import open_postgres
from aiia_pipelines.sync.engine import Engine
from aiia_pipelines.sync.outcome import Broken, Synced
from aiia_pipelines.sync.task import Wish


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
        uid: str = "",
        wish: Wish | None = None,
        **facts: Any,
    ) -> Ended:
        connector = self.connector(*streams, **facts)
        number = self.begin(connector)
        ended = Ended(self.store, number)
        with Recorder(self.store, number) as recorder:
            recorder.log(Level.INFO, starting("sync", number, connector.title))
            engine = Engine(
                connector=connector,
                source=source or self.opened or (lambda: open_source(self.source.options())),
                destination=destination or open_postgres(self.warehouse.url()),
                recorder=recorder,
                uid=uid,
                wish=wish or Wish(),
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


@dataclass
class Shelf:
    """A destination of files, and the way to load rows into it without a source."""

    url: str
    keys: int = 0

    @property
    def kind(self) -> str:
        return self.url.partition(":")[0]

    def open(self) -> Destination:
        opened = open_destination(self.url)
        opened.connect()
        return opened

    def load(self, columns: dict[str, str], **facts: Any) -> Load:
        """Make a load; a type that ends with `!` takes no NULL."""
        self.keys += 1
        key = tuple(facts.pop("key", ()))
        parts = tuple(
            ContractColumn(
                name=name,
                source=name,
                type=ColumnType.parse(kind.rstrip("!")),
                nullable=not kind.endswith("!"),
                checks={},
            )
            for name, kind in columns.items()
        )
        contract = Contract(parts, key, (key,) if key else (), None, None)
        given = {
            "connector": "sap_erp", "stream": "rows", "mode": "replace", "run_key": f"run-{self.keys}/rows"
        }  # fmt: skip
        return Load(contract=contract, **given | facts)

    def stage(
        self,
        rows: Sequence[tuple[Any, ...]],
        load: Load,
        *,
        destination: Destination,
        keys: Sequence[tuple[Any, ...]] | None = None,
        rejected: Sequence[tuple[Any, ...]] = (),
    ) -> Landing:
        landing = destination.land(load)
        contract = load.contract
        for start in range(0, len(rows), 3):
            landing.stage(contract.parse(rows[start : start + 3], start + 1))
        if keys is not None:
            only = contract.only(contract.key)
            landing.stage_keys(_batch(only.schema, keys))
        if rejected:
            landing.reject(_batch(REJECTED, rejected))
        return landing

    def sync(
        self,
        rows: Sequence[tuple[Any, ...]],
        columns: dict[str, str] | None = None,
        *,
        position: Any = None,
        complete: bool = True,
        keys: Sequence[tuple[Any, ...]] | None = None,
        rejected: Sequence[tuple[Any, ...]] = (),
        **facts: Any,
    ) -> tuple[int, int, int, int]:
        """Load rows as a whole sync would; gives inserted, updated, unchanged and deleted rows."""
        load = self.load(columns or {"id": "int64", "name": "string"}, **facts)
        with closing(self.open()) as destination:
            landing = self.stage(rows, load, destination=destination, keys=keys, rejected=rejected)
            changes = landing.match(complete=complete)
            landing.commit(len(rows), changes, position)
            landing.discard()
        return changes.inserted, changes.updated, changes.unchanged, changes.deleted

    def table(self, stream: str = "rows") -> pa.Table:
        if self.kind != "duckdb":
            return read(self.url, "sap_erp", stream)
        with closing(duckdb.connect(self.url.removeprefix("duckdb://"), read_only=True)) as db:
            db.execute("set TimeZone = 'UTC'")
            return db.sql(f"select * from sap_erp.{stream}").to_arrow_table()

    def rows(self, *names: str, stream: str = "rows") -> list[tuple[Any, ...]]:
        """Give what readers see, in order; all columns but those that the destination adds."""
        table = self.table(stream)
        names = names or tuple(name for name in table.schema.names if not name.startswith("_"))
        found = zip(*(table.column(name).to_pylist() for name in names), strict=True)
        return sorted(found, key=str)


def _batch(schema: pa.Schema, rows: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema
    )


@pytest.fixture(params=["duckdb", "parquet", "s3"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """A destination of each kind that is made of files."""
    if request.param == "duckdb":
        return Shelf(f"duckdb://{tmp_path}/warehouse.duckdb")
    if request.param == "parquet":
        return Shelf(f"parquet://{tmp_path}/lake")
    return Shelf(_bucket(request.getfixturevalue("s3_server"), monkeypatch))


@pytest.fixture(params=["duckdb", "parquet"])
def local_shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """A destination of each way to store values."""
    path = {"duckdb": "duckdb://{}/warehouse.duckdb", "parquet": "parquet://{}/lake"}
    return Shelf(path[request.param].format(tmp_path))


@pytest.fixture
def shelf_at() -> Callable[[str], Shelf]:
    return Shelf


@pytest.fixture
def s3_shelf(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return Shelf(_bucket(s3_server, monkeypatch))


def _bucket(server: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    query = f"endpoint_url={server.endpoint}&region={server.region}"
    return f"s3://{server.make_bucket()}/lake?{query}"
