import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from aiia_pipelines.connectors.base import (
    Batch,
    Reading,
    Source,
    SourceFault,
    kind_names,
    open_source,
    source_problems,
)
from aiia_pipelines.jobs.failures import classify

pytestmark = pytest.mark.integration
Opened = Callable[..., Source]


def values(batches: Iterable[Batch]) -> list[tuple[Any, ...]]:
    """Give the rows of batches as Python values."""
    return [
        tuple(row)
        for batch in batches
        for row in (
            batch.rows
            if isinstance(batch.rows, Sequence)
            else zip(*(column.to_pylist() for column in batch.rows.columns), strict=True)
        )
    ]


TYPES = {
    "boolean": "bool",
    "smallint": "int16",
    "integer": "int32",
    "bigint": "int64",
    "real": "float32",
    "double precision": "float64",
    "numeric": "decimal",
    "numeric(18,2)": "decimal(18,2)",
    "numeric(5)": "decimal(5,0)",
    "numeric(3,-2)": "decimal",
    "numeric(2,5)": "decimal",
    "text": "string",
    "varchar(9)": "string",
    "char(3)": "string",
    "name": "string",
    "inet": "string",
    "money": "string",
    "mood": "string",
    "positive": "int32",
    "bytea": "binary",
    "date": "date",
    "time": "time",
    "timetz": "string",
    "timestamp": "timestamp",
    "timestamp(3)": "timestamp",
    "timestamptz": "timestamptz",
    "interval": "interval",
    "uuid": "uuid",
    "json": "json",
    "jsonb": "json",
    "integer[]": "list<int32>",
    "text[]": "list<string>",
    "date[]": "list<date>",
    "float8[]": "list<float64>",
    "int4range": "string",
}


def test_every_type_of_postgresql_has_a_name_here(
    open_sql: Opened, stream: Any, source_db: Any
) -> None:
    columns = ", ".join(f"c{place} {kind}" for place, kind in enumerate(TYPES))
    source_db.execute(
        "create type mood as enum ('ok')",
        "create domain positive as integer check (value > 0)",
        f"create table public.rows ({columns}, last integer not null)",
    )
    source = open_sql(source_db.options())
    found = source.columns(stream(table="public.rows"))
    assert {kind: str(column.type) for kind, column in zip(TYPES, found, strict=False)} == TYPES
    assert [column.nullable for column in found] == [True] * len(TYPES) + [False]
    by_query = source.columns(stream(query="select * from public.rows;"))
    assert [column.type for column in by_query] == [column.type for column in found]


def test_the_url_for_people_has_neither_password_nor_driver(open_sql: Opened) -> None:
    for driver in ("postgresql", "postgresql+psycopg", "postgresql+psycopg2"):
        url = f"{driver}://sap_read@10.140.2.14:5432/production?application_name=x"
        source = open_sql({"kind": "sql", "url": url, "password": "canary-1234"}, connect=False)
        assert source.describe() == "postgresql://sap_read@10.140.2.14:5432/production"
        assert source.place() == "10.140.2.14:5432"


def test_any_driver_in_the_url_gives_the_same_limits(
    open_sql: Opened, stream: Any, source_db: Any
) -> None:
    url = source_db.url("canary_reader", "postgresql+psycopg2")
    source = open_sql(source_db.options(url=url, statement_timeout=7))
    shown = stream(query="select current_setting('statement_timeout') as t", batch_rows=10)
    source.columns(shown)
    assert values(source.batches(shown, Reading(names=["t"]))) == [("7s",)]


def test_all_streams_are_read_as_of_the_moment_of_connecting(
    open_sql: Opened, stream: Any, source_db: Any
) -> None:
    source_db.execute("create table a (i int)", "create table b (i int)")
    source = open_sql(source_db.options())
    source_db.execute("insert into a values (1)", "insert into b values (1)")
    for name in "ab":
        rows = stream(name=name, table=f"public.{name}")
        source.columns(rows)
        assert list(source.batches(rows, Reading(names=["i"]))) == []


def test_no_batch_is_larger_than_asked(open_sql: Opened, stream: Any, source_db: Any) -> None:
    source_db.execute("create table rows as select generate_series(1, 250) as i")
    source = open_sql(source_db.options())
    rows = stream(table="rows", batch_rows=100)
    source.columns(rows)
    assert [len(batch) for batch in source.batches(rows, Reading(names=["i"]))] == [100, 100, 50]


def test_a_read_that_is_given_up_leaves_no_session(
    open_sql: Opened, stream: Any, source_db: Any, backends: Callable[[str], int]
) -> None:
    source_db.execute("create table rows as select generate_series(1, 250) as i")
    source = open_sql(source_db.options())
    rows = stream(table="rows", batch_rows=100)
    source.columns(rows)
    batches = iter(source.batches(rows, Reading(names=["i"])))
    next(batches)
    assert backends(source_db.name) == 1
    source.close()
    del batches
    assert backends(source_db.name) == 0


def test_odd_names_are_quoted(open_sql: Opened, stream: Any, source_db: Any) -> None:
    source_db.execute(
        'create table "Odd Table" ("a""b %s {}" int)', 'insert into "Odd Table" values (1)'
    )
    source = open_sql(source_db.options())
    rows = stream(table="Odd Table")
    names = [column.name for column in source.columns(rows)]
    assert names == ['a"b %s {}']
    assert values(source.batches(rows, Reading(names=names))) == [(1,)]


def test_a_percent_sign_in_a_query_is_no_parameter(
    open_sql: Opened, stream: Any, source_db: Any
) -> None:
    source = open_sql(source_db.options())
    rows = stream(query="select 'a' as t where 'abc' like 'a%' -- the end")
    assert [column.name for column in source.columns(rows)] == ["t"]
    assert values(source.batches(rows, Reading(names=["t"]))) == [("a",)]


def test_the_stages_of_a_connection_test_tell_where_they_are(
    open_sql: Opened, stream: Any, source_db: Any
) -> None:
    source_db.execute("create table rows (i int)")
    source = open_sql(source_db.options(), connect=False)
    notes = {name: stage() for name, stage in source.stages([stream(table="rows")])}
    assert list(notes) == ["dns", "tcp", "tls", "login", "permission rows", "query rows"]
    assert notes["tcp"] == f"127.0.0.1:{source_db.port} from 127.0.0.1"
    assert notes["permission rows"] == "1 column"


def test_mistakes_in_the_options_are_told_without_values() -> None:
    assert "sql" in kind_names()
    assert source_problems("sql", {"kind": "sql"}) == [(("url",), "this key is required")]
    found = source_problems("sql", {"kind": "sql", "url": "postgresql://h/d", "pasword": "x"})
    assert found[0][0] == ("pasword",)
    assert found[0][1].startswith("unknown key; allowed: kind, url, password")
    assert source_problems("nope", {})[0][1].startswith("unknown kind 'nope'; known: ")
    wrong = source_problems("sql", {"kind": "sql", "url": "no url"})
    assert wrong == [(("url",), "not a database URL; write dialect://user@host:port/database")]
    with pytest.raises(ValidationError) as invalid:
        open_source({"kind": "sql", "password": "canary-1234"})
    assert "canary-1234" not in str(invalid.value)


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "create table rows (id integer primary key, name varchar(20) not null, price numeric(8,2),"
            " sold boolean, day date, at timestamp, clock time, share real, raw blob)"
        )
        db.execute(
            "insert into rows values (1, 'ä', 12, 1, '2026-01-31', '2026-01-31 10:00:00.5',"
            " '10:11:12', 0.5, x'00ff')"
        )
        db.commit()
    return path


def test_a_sqlite_table_is_read_by_its_declared_types(
    open_sql: Opened, stream: Any, sqlite_file: Path
) -> None:
    source = open_sql({"kind": "sql", "url": f"sqlite:///{sqlite_file}"})
    rows = stream(table="rows")
    found = source.columns(rows)
    assert [str(column.type) for column in found] == [
        "int64", "string", "decimal(8,2)", "bool", "date", "timestamp", "time", "float64", "binary",
    ]  # fmt: skip
    assert [str(value) for value in values(source.batches(rows, Reading(names=[c.name for c in found])))[0]] == [
        "1", "ä", "12", "True", "2026-01-31", "2026-01-31 10:00:00.500000", "10:11:12", "0.5",
        "b'\\x00\\xff'",
    ]  # fmt: skip
    assert source.describe() == f"sqlite:///{sqlite_file}"


def test_a_sqlite_query_has_the_types_of_its_columns(
    open_sql: Opened, stream: Any, sqlite_file: Path
) -> None:
    source = open_sql({"kind": "sql", "url": f"sqlite:///{sqlite_file}"})
    rows = stream(
        query="select id, day as booked from rows",
        columns={"booked_on": {"from": "booked", "type": "date"}},
    )
    found = source.columns(rows)
    assert [str(column.type) for column in found] == ["int64", "date"]
    (row,) = values(source.batches(rows, Reading(names=["id", "booked"])))
    assert str(row[1]) == "2026-01-31"
    assert not isinstance(row[1], str)


def test_a_sqlite_source_is_read_only_and_knows_its_tables(
    open_sql: Opened, stream: Any, sqlite_file: Path
) -> None:
    source = open_sql({"kind": "sql", "url": f"sqlite:///{sqlite_file}"})
    with pytest.raises(SourceFault) as missing:
        source.columns(stream(table="nope"))
    assert classify(missing.value).code == "column-mismatch"
    stages = dict(source.stages([stream(table="rows")]))
    assert list(stages) == ["login", "permission rows", "query rows"]
    assert [stage() for stage in stages.values()][1:] == ["9 columns", "one row read"]
