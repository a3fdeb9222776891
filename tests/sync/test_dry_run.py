"""A dry run tells what a sync would do, and leaves every destination as it is; so does an Error."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from aiia_pipelines.sync.destinations import open_destination
from aiia_pipelines.sync.destinations.postgres import PostgresLanding
from aiia_pipelines.sync.faults import DestinationFault
from aiia_pipelines.sync.task import Wish

pytestmark = pytest.mark.integration
STREAM = {"name": "rows", "table": "public.rows", "mode": "upsert", "key": ["id"], "cursor": "at", "batch_rows": 100}  # fmt: skip
FOLLOWED = STREAM | {"delete": "soft", "max_delete": "100%"}
TABLES = """select table_schema, table_name from information_schema.tables
  where table_schema not in ('pg_catalog', 'information_schema') order by 1, 2"""


@dataclass
class Place:
    """A destination, and everything that lies in it."""

    url: str
    server: Any  # of the bucket, or the database

    def contents(self) -> dict[str, Any]:
        scheme, _, path = self.url.partition("://")
        if scheme == "postgresql":
            return self._tables(self.server.execute)
        if scheme == "duckdb":
            with closing(duckdb.connect(path, read_only=True)) as db:
                return self._tables(lambda query: db.execute(query).fetchall())
        if scheme == "parquet":
            files = [file for file in Path(path).rglob("*") if file.is_file()]
            return {str(file): file.read_bytes() for file in files}
        client, bucket = self.server.client(), path.partition("/")[0]
        listed = client.list_objects_v2(Bucket=bucket).get("Contents", ())
        keys = [entry["Key"] for entry in listed]
        return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def _tables(self, ask: Any) -> dict[str, Any]:
        found = {}
        for schema, table in ask(TABLES):
            # Who may commit next is no part of what was committed.
            if (schema, table) != ("_aiia", "lease"):
                name = f'{schema}."{table}"'
                found[name] = sorted(ask(f"select * from {name}"), key=repr)
        return found


@pytest.fixture(params=["postgres", "duckdb", "parquet", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param == "postgres":
        warehouse = request.getfixturevalue("warehouse")
        return Place(warehouse.url(), warehouse)
    if request.param != "s3":
        return Place(f"{request.param}://{tmp_path / 'warehouse'}", None)
    server = request.getfixturevalue("s3_server")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    query = f"endpoint_url={server.endpoint}&region={server.region}"
    return Place(f"s3://{server.make_bucket()}/lake?{query}", server)


def fill(bench: Any, rows: int) -> None:
    bench.fill(
        "id int primary key, at timestamptz not null, note text",
        f"select n, now() + n * interval '1 second', 'n' || n from generate_series(1, {rows}) n",
    )
    bench.source.execute("create index on public.rows (at, id)")


def change(bench: Any) -> None:
    bench.source.execute(
        "alter table public.rows add more int default 7",
        "update public.rows set note = 'new', at = now() + interval '1 day' where id = 1",
        "delete from public.rows where id = 2",
        "insert into public.rows values (1000, now() + interval '2 days', 'x', 8),"
        " (1001, now() + interval '2 days', 'bad', 9)",
    )


def test_a_dry_run_leaves_every_byte_and_tells_what_would_change(bench: Any, place: Place) -> None:
    fill(bench, 300)
    stream = FOLLOWED | {"columns": {"note": {"type": "string", "checks": {"ne": "bad"}}}}
    facts = {"drift": "add_only", "on_invalid": "quarantine", "max_invalid": 5}

    def sync(**wish: Any) -> Any:
        return bench.sync(stream, destination=open_destination(place.url), **facts, **wish)

    assert sync().state == "Completed"
    change(bench)
    before = place.contents()
    assert before
    dry = sync(wish=Wish(dry_run=True))
    assert dry.state == "Completed", dry.log
    assert "nothing is committed" in dry.log
    assert place.contents() == before
    with bench.store.engine.connect() as db:
        learned = db.exec_driver_sql("select count(*) from aiia.schema_history").scalar()
    done = sync()
    assert done.changes == dry.changes == (1, 1, 0, 1)
    assert place.contents() != before
    with bench.store.engine.connect() as db:
        assert db.exec_driver_sql("select count(*) from aiia.schema_history").scalar() > learned


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"columns": {"note": {"type": "string", "checks": {"ne": "bad"}}}}, "value-invalid"),
        ({"checks": {"unique": ["note"]}}, "duplicate-key"),
        ({"checks": {"row_count": {"min": 1000}}}, "row-count"),
        ({"max_delete": 0}, "mass-delete"),
    ],
)
def test_an_error_leaves_every_byte(
    bench: Any, place: Place, more: dict[str, Any], code: str
) -> None:
    fill(bench, 30)
    stream = {key: FOLLOWED[key] for key in ("name", "table", "mode", "key", "delete")}
    first = bench.sync(stream, destination=open_destination(place.url), drift="add_only")
    assert first.state == "Completed", first.log
    change(bench)
    bench.source.execute("update public.rows set note = 'x' where id = 3")
    before = place.contents()
    done = bench.sync(stream | more, destination=open_destination(place.url), drift="add_only")
    assert done.state == "Error", done.log
    assert done.code == code
    assert place.contents() == before


def test_a_first_dry_run_makes_no_table(bench: Any, place: Place) -> None:
    fill(bench, 10)
    dry = bench.sync(FOLLOWED, destination=open_destination(place.url), wish=Wish(dry_run=True))
    assert dry.changes == (10, 0, 0, 0), dry.log
    found = place.contents()
    # Its own tables may be there, and that the stream was never committed in one of them.
    assert {name.partition(".")[0] for name in found} <= {"_aiia"}
    assert not found.get('_aiia."ledger"')


def test_a_dry_run_does_not_take_the_checkpoint_of_a_broken_sync(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bench, 550)
    stage = PostgresLanding.stage
    calls = []

    def broken(self: PostgresLanding, batch: Any, checkpoint: Any = None) -> None:
        stage(self, batch, checkpoint)
        calls.append(batch.num_rows)
        if len(calls) == 4:
            raise DestinationFault("The wire broke.", "sqlstate:08006")

    with monkeypatch.context() as patch:
        patch.setattr(PostgresLanding, "stage", broken)
        assert bench.sync(STREAM).state == "Failed"
    dry = bench.sync(STREAM, wish=Wish(dry_run=True))
    assert dry.changes == (550, 0, 0, 0), dry.log
    again = bench.sync(STREAM)
    assert "rows: going on after 400 records that a broken attempt staged." in again.log
    assert again.changes == (550, 0, 0, 0)
    assert bench.staging() == []
