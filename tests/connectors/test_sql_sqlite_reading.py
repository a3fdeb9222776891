"""SQLite as a source: one snapshot, a cursor over text, and every fault."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.connectors.base import Reading, Source, SourceFault
from aiia_pipelines.jobs.failures import Failure, classify

Opened = Callable[..., Source]


class Shop:
    """A database file; `execute` writes to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    def execute(self, statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.path, timeout=0.2)) as db:
            db.execute(statement, values)
            db.commit()

    def options(self, **more: Any) -> dict[str, Any]:
        return {"kind": "sql", "url": self.url} | more


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop.db")


@pytest.fixture
def wal(shop: Shop) -> Iterator[Shop]:
    with closing(sqlite3.connect(shop.path)) as db:
        db.execute("pragma journal_mode = wal")
        yield shop


def refused(action: Callable[[], object]) -> tuple[SourceFault, Failure]:
    with pytest.raises(SourceFault) as caught:
        action()
    return caught.value, classify(caught.value)


def rows_of(source: Source, stream: Any, **reading: Any) -> list[tuple[Any, ...]]:
    names = [column.name for column in source.columns(stream)]
    asked = Reading(names=names, **reading)
    return [tuple(row) for batch in source.batches(stream, asked) for row in batch.rows]


# -- one snapshot ------------------------------------------------------------------------------


def test_all_streams_are_read_in_one_snapshot_and_no_writer_waits(
    open_sql: Opened, stream: Any, wal: Shop
) -> None:
    wal.execute("create table a (i integer)")
    wal.execute("create table b (i integer)")
    wal.execute("insert into a values (1)")
    source = open_sql(wal.options())
    assert rows_of(source, stream(name="a", table="a")) == [(1,)]
    wal.execute("insert into a values (2)")
    wal.execute("insert into b values (2)")
    assert rows_of(source, stream(name="b", table="b")) == []
    assert rows_of(source, stream(name="a", table="a")) == [(1,)]
    assert rows_of(open_sql(wal.options()), stream(name="b", table="b")) == [(2,)]


def test_a_file_without_write_ahead_log_keeps_its_writers_out_meanwhile(
    open_sql: Opened, stream: Any, shop: Shop
) -> None:
    shop.execute("create table a (i integer)")
    source = open_sql(shop.options())
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        shop.execute("insert into a values (1)")
    assert rows_of(source, stream(table="a")) == []
    source.close()
    shop.execute("insert into a values (1)")


# -- the cursor --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        ("timestamp", ["2024-01-01 00:00:00", "2024-01-01 00:00:10"], "2024-01-01 00:00:11", "5s", 2),
        ("timestamp", ["2024-01-01 00:00:00", "2024-01-01 00:00:10"], "2024-01-01 00:00:11", "10s", 1),
        ("timestamp", ["2024-01-01T00:00:00.0000001", "2024-01-01T00:00:10.0000001"],
         "2024-01-01T00:00:10.0000002", "10s", 1),
        ("timestamp", ["2024-02-29 00:00", "2024-03-01 00:00"], "2024-03-01 00:01", "1d", 1),
        ("timestamptz", ["2024-01-01 00:00:00Z", "2024-01-01 00:01:00Z"], "2024-01-02 00:00:00Z", "1m", 1),
        ("date", ["2024-02-28", "2024-03-01"], "2024-03-02", "2d", 1),
        ("date", ["0001-01-01", "0001-01-02"], "2024-03-02", "9d", 1),
        ("integer", [1, 2**53 + 1], 2**53 + 2, 2**53, 1),
        ("integer", [1, 2**53 + 1], 2**53 + 2, 5, 2),
        ("real", [0.1, 0.1 + 0.2], 0.4, None, 2),
        ("decimal(9,2)", [0.1, 5], 7.5, 1, 2),
        ("text", ["a", "b'\\ %s 😀"], "c", None, 2),
        ("text", ["09", "10"], "2", None, 2),
    ],
)  # fmt: skip
def test_a_cursor_goes_on_exactly_where_it_stopped(
    open_sql: Opened, stream: Any, wal: Shop, case: tuple[str, list[Any], Any, Any, int]
) -> None:
    kind, first, later, lookback, seen = case
    wal.execute(f"create table t (id integer primary key, c {kind})")
    for value in (*first, None):
        wal.execute("insert into t (c) values (?)", value)
    facts = {"table": "t", "mode": "upsert", "key": ["id"], "cursor": "c"}
    asked = stream(**facts, **({"lookback": lookback} if lookback else {}))
    source = open_sql(wal.options())
    source.columns(asked)
    until = source.position(asked, Reading(names=["id"], cursor="c"))
    reading = {"cursor": "c", "until": until}
    wal.execute("insert into t (c) values (?)", later)
    assert [row[0] for row in rows_of(source, asked, **reading)] == [1, 2, 3]
    assert source.rows_until(asked, Reading(names=["id"], **reading)) == 3
    source.close()
    source = open_sql(wal.options())
    source.columns(asked)
    now = source.position(asked, Reading(names=["id"], cursor="c", since=until))
    reading = {"cursor": "c", "since": until, "until": now}
    ids = [row[0] for row in rows_of(source, asked, **reading)]
    assert ids == list(range(seen, 5))
    assert source.rows_until(asked, Reading(names=["id"], **reading)) == 4


def test_a_cursor_whose_greatest_value_is_of_another_kind_is_refused(
    open_sql: Opened, stream: Any, shop: Shop
) -> None:
    shop.execute("create table t (id integer primary key, c timestamp)")
    shop.execute("insert into t (c) values (1700000000)")
    source = open_sql(shop.options())
    asked = stream(table="t", mode="upsert", key=["id"], cursor="c")
    source.columns(asked)
    fault, failure = refused(lambda: source.position(asked, Reading(names=["id"], cursor="c")))
    assert failure.code == "value-invalid"
    assert "cursor 'c' of rows is timestamp" in str(fault)


# -- faults ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ({"table": "missing"}, "column-mismatch"),
        ({"table": "nowhere.t"}, "column-mismatch"),
        ({"query": "select nonsense from t"}, "column-mismatch"),
        ({"query": "select nonsense(1)"}, "column-mismatch"),
        ({"query": "selekt * from t"}, "query-invalid"),
        ({"query": "select 'open"}, "query-invalid"),
        ({"query": "select abs(-9223372036854775807 - 1) as i from t"}, "value-invalid"),
        ({"query": "select json_extract('{', '$.a') as i"}, "value-invalid"),
        ({"query": "insert into t values (2) returning id"}, "query-invalid"),
    ],
)
def test_a_stream_that_cannot_be_read_has_its_code_and_leaves_the_others_readable(
    open_sql: Opened, stream: Any, shop: Shop, place: dict[str, str], code: str
) -> None:
    shop.execute("create table t (id integer)")
    shop.execute("insert into t values (1)")
    source = open_sql(shop.options())
    fault, failure = refused(lambda: rows_of(source, stream(**place)))
    assert failure.code == code, str(fault)
    assert rows_of(source, stream(name="good", table="t")) == [(1,)]


def test_a_file_that_is_no_database_is_malformed(open_sql: Opened, shop: Shop) -> None:
    shop.path.write_bytes(b"id,name\n1,x\n" * 1000)
    _, failure = refused(lambda: open_sql(shop.options()))
    assert failure.code == "malformed-data"


def test_a_damaged_file_is_malformed(open_sql: Opened, stream: Any, shop: Shop) -> None:
    shop.execute(
        "create table t as with recursive n(i) as (values (1) union all select i + 1 from n limit 20000) select i from n"
    )
    whole = bytearray(shop.path.read_bytes())
    whole[8192:-4096] = os.urandom(len(whole) - 8192 - 4096)
    shop.path.write_bytes(bytes(whole))
    source = open_sql(shop.options())
    _, failure = refused(lambda: rows_of(source, stream(table="t")))
    assert failure.code == "malformed-data"


def test_a_file_that_another_process_has_locked_is_a_lock_conflict(
    open_sql: Opened, shop: Shop
) -> None:
    shop.execute("create table t (i integer)")
    with closing(sqlite3.connect(shop.path)) as other:
        other.execute("begin exclusive")
        _, failure = refused(lambda: open_sql(shop.options(connect_timeout=1)))
    assert failure.code == "lock-conflict"


ENDLESS = (
    "with recursive n(i) as (values (1) union all select i + 1 from n) select count(*) as n from n"
)


def test_a_query_that_runs_too_long_is_stopped(open_sql: Opened, stream: Any, shop: Shop) -> None:
    shop.execute("create table t (i integer)")
    source = open_sql(shop.options(statement_timeout=1))
    slow = stream(query=ENDLESS, columns={"n": {"type": "int64"}})
    _, failure = refused(lambda: rows_of(source, slow))
    assert failure.code == "query-timeout"
    assert rows_of(source, stream(name="good", table="t")) == []


def test_cancel_ends_a_long_query_at_once(open_sql: Opened, stream: Any, shop: Shop) -> None:
    shop.execute("create table t (i integer)")
    source = open_sql(shop.options())
    slow = stream(query=ENDLESS, columns={"n": {"type": "int64"}})
    source.columns(slow)
    began = time.monotonic()
    threading.Timer(0.3, source.cancel).start()
    refused(lambda: list(source.batches(slow, Reading(names=["n"]))))
    assert time.monotonic() - began < 10


def test_cancel_and_close_do_no_harm_at_any_time(open_sql: Opened, shop: Shop) -> None:
    shop.execute("create table t (i integer)")
    source = open_sql(shop.options(), connect=False)
    source.cancel()
    source.close()
    source.connect()
    source.cancel()
    source.close()
    source.close()
    source.cancel()
    shop.execute("drop table t")
