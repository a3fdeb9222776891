"""A contract that changes after the first sync: the table follows inside the commit, or nothing does."""

from typing import Any

import pytest

from aiia_pipelines.jobs import contracts
from aiia_pipelines.sync.contract import as_learned

pytestmark = pytest.mark.integration

PLAIN: dict[str, Any] = {"name": "rows", "table": "public.rows"}
KEYED = PLAIN | {"key": ["id"]}
KEY = """select array(select attname::text from unnest(conkey) k join pg_attribute a
  on a.attrelid = conrelid and a.attnum = k) from pg_constraint
  where conrelid = 'sap_erp.rows'::regclass and contype = 'p'"""


def accept(bench: Any) -> None:
    """Do what `aiia connectors schema --accept` does."""
    connector = bench.connector(PLAIN)
    source = bench.opened() if bench.opened else None
    if source is None:
        from aiia_pipelines.connectors.base import open_source

        source = open_source(bench.source.options())
    source.connect()
    found = as_learned(source.columns(connector.streams[0]))
    source.close()
    bench.store.transact(lambda db: contracts.learn(db, "sap_erp", "rows", found, number=None))


def test_a_key_given_after_the_first_sync_becomes_the_tables_key(bench: Any) -> None:
    bench.fill("id int primary key, name text", "values (1, 'a'), (2, 'b')")
    assert bench.sync(PLAIN).state == "Completed"
    done = bench.sync(KEYED)
    assert (done.state, done.changes) == ("Completed", (2, 0, 0, 2))
    assert bench.warehouse.execute(KEY) == [(["id"],)]
    assert bench.sync(KEYED).changes == (0, 0, 2, 0)


def test_a_key_taken_away_or_changed_is_followed(bench: Any) -> None:
    bench.fill("id int, name text not null", "values (1, 'a'), (2, 'b')")
    bench.sync(KEYED)
    assert bench.sync(PLAIN | {"key": ["name"]}).state == "Completed"
    assert bench.warehouse.execute(KEY) == [(["name"],)]
    assert bench.sync(PLAIN).state == "Completed"
    assert bench.warehouse.execute(KEY) == []
    bench.source.execute("insert into public.rows values (null, 'c')")
    assert bench.sync(PLAIN).state == "Completed"
    assert bench.arrived("id, name", order="name") == [(1, "a"), (2, "b"), (None, "c")]


@pytest.mark.parametrize("stream", [PLAIN, KEYED], ids=["without key", "by key"])
def test_accepted_columns_reach_the_table(bench: Any, stream: dict[str, Any]) -> None:
    bench.fill("id int primary key, name text, note text", "values (1, 'a', 'x')")
    bench.sync(stream)
    bench.source.execute(
        "alter table public.rows rename column note to remark",
        "alter table public.rows alter column name type varchar(9)",
        "alter table public.rows add column price numeric(9,2) not null default 1.50",
        "alter table public.rows alter column id type bigint",
    )
    assert bench.sync(stream).code == "column-mismatch"
    accept(bench)
    done = bench.sync(stream)
    assert done.state == "Completed", done.log
    assert bench.arrived("id, name, remark, price::text") == [(1, "a", "x", "1.50")]
    kinds = "select attname::text, format_type(atttypid, atttypmod), attnotnull from pg_attribute"
    where = "where attrelid = 'sap_erp.rows'::regclass and attnum > 0 and not attisdropped"
    found = {
        name: (kind, filled) for name, kind, filled in bench.warehouse.execute(f"{kinds} {where}")
    }
    assert found["id"] == ("bigint", True)
    assert found["price"] == ("numeric(9,2)", True)
    assert set(found) == {"id", "name", "remark", "price"}


def test_a_view_on_a_column_that_goes_keeps_the_table_as_it_was(bench: Any) -> None:
    bench.fill("id int primary key, note text", "values (1, 'x')")
    bench.sync(KEYED)
    bench.warehouse.execute("create view public.notes as select note from sap_erp.rows")
    bench.source.execute(
        "alter table public.rows drop column note", "insert into public.rows values (2)"
    )
    accept(bench)
    done = bench.sync(KEYED)
    assert (done.state, done.code) == ("Error", "destination-rejected"), done.log
    assert "view notes depends on column note" in done.row.message
    assert bench.arrived("id, note") == [(1, "x")]
    assert bench.staging() == []


EVERY_MODE: list[dict[str, Any]] = [
    {"mode": "replace"},
    {"mode": "replace", "key": ["id"]},
    {"mode": "append"},
    {"mode": "upsert", "key": ["id"]},
    {"mode": "upsert", "key": ["id"], "delete": "soft"},
    {"mode": "upsert", "key": ["id"], "delete": "hard"},
    {"mode": "history", "key": ["id"]},
]
STREAMS = [
    mode | {"name": f"rows{n}", "table": f"public.rows{n}"} for n, mode in enumerate(EVERY_MODE)
]


def fill_all(bench: Any) -> None:
    for stream in STREAMS:
        bench.fill(
            "id int primary key, n int, d numeric(10,2), note text",
            "values (1, 1, 1.5, 'a'), (2, 2, 2.5, 'b')",
            name=stream["name"],
        )
    assert bench.sync(*STREAMS).state == "Completed"


def on_every_table(*statements: str) -> list[str]:
    return [statement.format(s["name"]) for s in STREAMS for statement in statements]


def test_what_people_gave_a_table_survives_new_and_wider_columns_in_every_mode(bench: Any) -> None:
    fill_all(bench)
    bench.warehouse.execute(
        *on_every_table(
            "create view public.v_{0} as select id, note from sap_erp.{0}",
            "grant select on sap_erp.{0} to canary_reader",
            "grant update (n) on sap_erp.{0} to canary_reader with grant option",
            "grant select (n), insert (n) on sap_erp.{0} to public",
            "comment on column sap_erp.{0}.n is 'it''s %s'",
        )
    )
    gifts = """select c.relname, relacl::text, array(select a::text from unnest(attacl) a order by 1), col_description(c.oid, attnum)
      from pg_class c join pg_attribute on attrelid = c.oid and attname = 'n'
      where relnamespace = 'sap_erp'::regnamespace and relkind = 'r' order by 1"""
    before = bench.warehouse.execute(gifts)
    assert len(before) == len(STREAMS)
    bench.source.execute(
        *on_every_table(
            "alter table public.{0} alter n type bigint, alter d type numeric(14,2), add x int",
            "insert into public.{0} values (3, 2::bigint ^ 40, 10 ^ 11, 'c', 5)",
        )
    )
    done = bench.sync(*STREAMS, drift="evolve")
    assert done.state == "Completed", done.log
    assert bench.warehouse.execute(gifts) == before
    for stream in STREAMS:
        seen = bench.warehouse.execute(
            f"select distinct * from public.v_{stream['name']} order by 1"
        )
        assert seen == [(1, "a"), (2, "b"), (3, "c")]
        new = bench.arrived("n, d::text, x", name=f"{stream['name']} where id = 3")
        assert new == [(2**40, "100000000000.00", 5)]


@pytest.mark.parametrize(("column", "wider"), [("n", "bigint"), ("d", "numeric(14,2)")])
def test_a_view_on_a_column_that_widens_is_named_and_nothing_changes(
    bench: Any, column: str, wider: str
) -> None:
    fill_all(bench)
    bench.warehouse.execute(
        *on_every_table(f"create view public.v_{{0}} as select {column} from sap_erp.{{0}}")
    )
    bench.source.execute(*on_every_table(f"alter table public.{{0}} alter {column} type {wider}"))
    done = bench.sync(*STREAMS, drift="evolve")
    assert done.state == "Error"
    for stream, outcome in zip(STREAMS, done.outcomes, strict=True):
        name = stream["name"]
        assert outcome.failure.code == "destination-rejected", outcome.failure
        assert f"v_{name} depends on column" in outcome.failure.headline
        assert bench.warehouse.execute(f"select count(*) from public.v_{name}") == [(2,)]
    assert bench.staging() == []


@pytest.mark.parametrize("mode", ["upsert", "append"])
def test_a_mode_that_keeps_rows_says_what_to_do_instead(bench: Any, mode: str) -> None:
    bench.fill("id int, name text not null", "values (1, 'a')")
    bench.sync(PLAIN)
    done = bench.sync(KEYED | {"mode": mode})
    assert (done.state, done.code) == ("Error", "destination-rejected")
    assert "sync it once in mode replace" in done.row.message
    assert bench.arrived() == [(1, "a")]
