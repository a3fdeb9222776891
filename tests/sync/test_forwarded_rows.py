"""Rows that go from PostgreSQL to PostgreSQL as they came: the same in the end, and checked all the same."""

from typing import Any

import pytest

from aiia_pipelines.sync.destinations.postgres import PostgresLanding

pytestmark = pytest.mark.integration

TYPES = {
    "id": "bigint not null", "small": "smallint", "whole": "integer", "flag": "boolean", "near": "real",
    "far": "double precision", "amount": "numeric(18,2)", "wide": "numeric(38,10)", "free": "numeric", "name": "text",
    "code": "varchar(9)", "fixed": "char(4)", "raw": "bytea", "day": "date", "clock": "time", "moment": "timestamp",
    "instant": "timestamptz", "mark": "uuid", "doc": "json", "tree": "jsonb", "mood": "mood", "net": "inet",
}  # fmt: skip
FILL = """select n, n % 7, n * 3, n % 2 = 0, n / 3.0, sqrt(n), n / 8.0, n::numeric * 1234567890123 / 7, n / 9.0, 'name ü ' || n,
  'c' || n % 9, 'f', decode(md5(n::text), 'hex'), date '2020-01-01' + n % 3000, time '00:00' + n * interval '1 second',
  timestamp '2020-01-01' + n * interval '1.5 seconds', timestamptz '2020-01-01' + n * interval '1.5 seconds',
  md5(n::text)::uuid, json_build_object('a', n), jsonb_build_object('b', n), (array['happy', 'so so'])[1 + n % 2]::mood,
  '10.0.0.0/8'::inet from generate_series(1, {rows}) n"""
ROWS = 60_000  # several batches


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tell by which way each batch reached the staging table."""
    gone: list[str] = []

    def watched(name: str) -> None:
        real = getattr(PostgresLanding, name)

        def call(self: Any, *given: Any) -> Any:
            done = real(self, *given)
            gone.append(name if done is not False else "refused")
            return done

        monkeypatch.setattr(PostgresLanding, name, call)

    watched("forward")
    watched("stage")
    return gone


@pytest.fixture
def filled(bench: Any) -> Any:
    bench.source.execute("create type mood as enum ('happy', 'so so')")
    columns = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
    bench.fill(columns, FILL.format(rows=ROWS))
    for name in TYPES:
        if name != "id":
            bench.source.execute(
                f'update public.rows set "{name}" = null where id % 11 = {len(name)}'
            )
    return bench


def digests(database: Any, table: str, names: list[str]) -> Any:
    # PostgreSQL leaves out the blanks of a char(n) when it makes a text of it.
    forms = {
        name: f"rpad({name}::text, 4)" if name == "fixed" else f"{name}::text" for name in names
    }
    texts = ", ".join(
        f"md5(string_agg(coalesce({forms[name]}, '~'), ',' order by id))" for name in names
    )
    return database.execute(f"select count(*), {texts} from {table}")


@pytest.mark.parametrize("level", ["count", "totals", "full"])
def test_every_type_arrives_as_it_was(filled: Any, ways: list[str], level: str) -> None:
    # Unbounded decimals and intervals are no columns of their own form.
    names = [name for name in TYPES if name not in {"free", "tree"}]
    query = f"select {', '.join(names)} from public.rows"
    done = filled.sync({"name": "rows", "query": query}, reconcile=level)
    assert done.state == "Completed", done.log
    assert set(ways) == {"forward"}
    assert len(ways) > 1
    source = digests(filled.source, "public.rows", names)
    assert digests(filled.warehouse, "sap_erp.rows", names) == source


def test_other_types_take_the_other_way(filled: Any, ways: list[str]) -> None:
    done = filled.sync(
        {"name": "rows", "table": "public.rows", "columns": {"whole": {"type": "int64"}}}
    )
    assert done.state == "Completed", done.log
    assert set(ways) == {"refused", "stage"}
    names = list(TYPES)
    source = digests(filled.source, "public.rows", [n for n in names if n != "tree"])
    assert digests(filled.warehouse, "sap_erp.rows", [n for n in names if n != "tree"]) == source


def test_a_bad_row_in_a_later_batch_is_found(filled: Any, ways: list[str]) -> None:
    names = [name for name in TYPES if name not in {"free", "tree"}]
    query = f"select {', '.join(names)} from public.rows order by id"
    filled.source.execute(f"update public.rows set whole = -5, name = null where id = {ROWS - 1}")
    rules = {"whole": {"checks": {"ge": 0}}, "name": {"nullable": False}}
    filled.source.execute("update public.rows set name = 'x' where name is null and id <> 59999")
    done = filled.sync({"name": "rows", "query": query, "columns": rules}, reconcile="count")
    assert done.state == "Error", done.log
    assert f"row {ROWS - 1:,}" in done.log
    assert "'whole'" in done.log
    assert "'name'" in done.log
    assert filled.staging() == []
    assert ways[0] == "forward"


def test_rows_set_aside_are_left_out_of_what_goes_on(filled: Any, ways: list[str]) -> None:
    names = [name for name in TYPES if name not in {"free", "tree"}]
    query = f"select {', '.join(names)} from public.rows"
    filled.source.execute("update public.rows set whole = -5 where id % 1000 = 7")
    stream = {"name": "rows", "query": query, "columns": {"whole": {"checks": {"ge": 0}}}}
    done = filled.sync(stream, on_invalid="quarantine", max_invalid="1%", reconcile="totals")
    assert done.state == "Completed", done.log
    assert "forward" in ways
    good = "(select * from public.rows where whole >= 0 or whole is null) r"
    assert digests(filled.warehouse, "sap_erp.rows", names) == digests(filled.source, good, names)
    aside = filled.warehouse.execute("select count(*) from sap_erp.rows__quarantine")
    assert aside == [(ROWS // 1000,)]


def test_an_infinite_date_among_forwarded_rows_is_an_error_that_names_it(filled: Any) -> None:
    filled.source.execute(f"update public.rows set day = 'infinity' where id = {ROWS - 2}")
    query = "select id, day, name from public.rows order by id"
    done = filled.sync({"name": "rows", "query": query}, reconcile="count")
    assert done.state == "Error", done.log
    assert "'day'" in done.log


def test_a_stream_that_began_by_the_other_way_stays_on_it(filled: Any, ways: list[str]) -> None:
    filled.source.execute("update public.rows set day = 'infinity' where id = 1")
    pad = "repeat('x', 300) as pad"
    query = f"select id, day, name, raw, {pad} from public.rows order by id"
    lossy = {"day": {"on_lossy": "null"}}
    done = filled.sync({"name": "rows", "query": query, "columns": lossy}, reconcile="count")
    assert done.state == "Completed", done.log
    assert ways[0] == "stage"
    assert set(ways[1:]) == {"refused", "stage"}
    names = ["id", "name", "raw"]
    source = digests(filled.source, "public.rows", names)
    assert digests(filled.warehouse, "sap_erp.rows", names) == source


def test_a_stream_that_breaks_off_leaves_nothing_to_the_next(filled: Any) -> None:
    filled.source.execute("create table public.others as select * from public.rows")
    pad = "repeat('x', 300) as pad"
    broken = {
        "name": "rows",
        "query": f"select id, whole, {pad} from public.rows order by id",
        "columns": {"whole": {"checks": {"le": 10}}},
    }
    query = f"select id, name, {pad} from public.others"
    done = filled.sync(broken, {"name": "others", "query": query})
    tasks = {stream: state.value for stream, state in done.store.tasks_of(done.number)}
    assert tasks == {"rows": "Error", "others": "Succeeded"}, done.log
    sessions = "select count(*) from pg_stat_activity where usename = 'canary_reader'"
    assert filled.source.execute(sessions, user="aiia") == [(0,)]
