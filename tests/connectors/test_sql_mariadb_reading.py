"""MariaDB as a source, on a real server: one snapshot, read in batches, followed by a cursor."""

import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import pytest

from aiia_pipelines.connectors.base import Reading, Source

pytestmark = pytest.mark.integration
Opened = Callable[..., Source]
UTC = dt.UTC


def rows_of(source: Source, stream: Any, **reading: Any) -> list[tuple[Any, ...]]:
    names = [column.name for column in source.columns(stream)]
    asked = Reading(names=names, **reading)
    return [tuple(row) for batch in source.batches(stream, asked) for row in batch.rows]


# -- one snapshot ------------------------------------------------------------------------------


def test_all_streams_are_read_as_of_the_moment_of_connecting(
    open_sql: Opened, stream: Any, maria: Any
) -> None:
    maria.execute("create table a (i int)", "create table b (i int)", "insert into a values (1)")
    source = open_sql(maria.options())
    assert rows_of(source, stream(name="a", table="a")) == [(1,)]
    maria.execute("insert into a values (2)", "insert into b values (2)")
    assert rows_of(source, stream(name="b", table="b")) == []
    assert rows_of(source, stream(name="a", table="a")) == [(1,)]


def test_times_are_those_of_utc_whatever_the_server_says(
    open_sql: Opened, stream: Any, maria: Any
) -> None:
    maria.execute(
        "set time_zone = '+05:30'",
        "create table t (ts timestamp null)",
        "insert into t values ('2024-01-01 05:30:00')",
    )
    assert rows_of(open_sql(maria.options()), stream(table="t")) == [
        (dt.datetime(2024, 1, 1, tzinfo=UTC),)
    ]


def test_no_batch_is_larger_than_asked(open_sql: Opened, stream: Any, maria: Any) -> None:
    maria.execute("create table t as select seq as i from seq_1_to_250")
    source = open_sql(maria.options())
    asked = stream(table="t", batch_rows=100)
    source.columns(asked)
    batches = source.batches(asked, Reading(names=["i"]))
    assert [len(batch) for batch in batches] == [100, 100, 50]


def test_no_batch_is_much_larger_than_sixteen_mebibytes(
    open_sql: Opened, stream: Any, maria: Any
) -> None:
    maria.execute("create table t as select repeat('x', 1000000) as s from seq_1_to_40")
    source = open_sql(maria.options())
    asked = stream(table="t")
    source.columns(asked)
    sizes = [len(batch) for batch in source.batches(asked, Reading(names=["s"]))]
    assert sum(sizes) == 40
    assert max(sizes) <= 18


def test_a_read_that_is_given_up_is_not_read_to_its_end_and_leaves_the_others_readable(
    open_sql: Opened, stream: Any, maria: Any
) -> None:
    maria.execute(
        "create table big as select seq as i, repeat('x', 1000) as t from seq_1_to_20000",
        "create table small as select 1 as i",
    )
    source = open_sql(maria.options())
    # Twenty thousand million rows would take hours to drain.
    huge = stream(query="select a.t from big a, big b, big c", batch_rows=10)
    source.columns(huge)
    batches = iter(source.batches(huge, Reading(names=["t"])))
    next(batches)
    began = time.monotonic()
    batches.close()  # type: ignore[attr-defined]
    assert rows_of(source, stream(name="small", table="small")) == [(1,)]
    batches = iter(source.batches(huge, Reading(names=["t"])))
    next(batches)
    source.close()
    assert time.monotonic() - began < 10
    assert sessions(maria) == 0


def sessions(maria: Any) -> int:
    query = "select count(*) from information_schema.processlist where user = 'canary_reader'"
    deadline = time.monotonic() + 5
    while maria.execute(query)[0][0] and time.monotonic() < deadline:
        time.sleep(0.05)
    found: int = maria.execute(query)[0][0]
    return found


# -- the cursor --------------------------------------------------------------------------------

CURSORS = [
    ("datetime(6)", ["'2024-01-01 00:00:00'", "'2024-01-01 00:00:10.000001'"], "'2024-01-01 00:00:10.000002'", "5s"),
    ("timestamp(6) null", ["'2024-01-01 00:00:00'", "'2024-01-01 00:00:10.000001'"], "'2024-01-01 00:00:10.000002'", "5s"),
    ("bigint unsigned", ["1", "18446744073709551614"], "18446744073709551615", 5),
    ("decimal(38,10)", ["1", "9999999999999999999999999999.9999999998"], "9999999999999999999999999999.9999999999", 5),
    ("double", ["0.1", "0.30000000000000004"], "0.4", None),
    ("float", ["0.05", "0.1"], "0.2", None),
    ("date", ["'2024-01-01'", "'2024-02-29'"], "'2024-03-01'", "1d"),
    ("varchar(40)", ["'a'", "'b''\\\\😀'"], "'c'", None),
    ("varchar(40) character set latin1", ["'a'", "'bö'"], "'c'", None),
    ("uuid", ["'00000000-0000-0000-0000-000000000001'", "'10000000-0000-0000-0000-000000000001'"], "'20000000-0000-0000-0000-000000000001'", None),
]  # fmt: skip


@pytest.mark.parametrize("case", CURSORS)
def test_a_cursor_goes_on_exactly_where_it_stopped(
    open_sql: Opened, stream: Any, maria: Any, case: tuple[str, list[str], str, Any]
) -> None:
    kind, first, later, lookback = case
    maria.execute(
        f"create table t (id int auto_increment primary key, c {kind})",
        *(f"insert into t (c) values ({value})" for value in (*first, "null")),
    )
    facts = {"table": "t", "mode": "upsert", "key": ["id"], "cursor": "c"}
    asked = stream(**facts)
    source = open_sql(maria.options())
    source.columns(asked)
    until = source.position(asked, Reading(names=["id"], cursor="c"))
    reading = {"cursor": "c", "until": until}
    assert [row[0] for row in rows_of(source, asked, **reading)] == [1, 2, 3]
    assert source.rows_until(asked, Reading(names=["id"], **reading)) == 3
    source.close()

    maria.execute(f"insert into t (c) values ({later})")
    source = open_sql(maria.options())
    source.columns(asked)
    now = source.position(asked, Reading(names=["id"], cursor="c", since=until))
    reading = {"cursor": "c", "since": until, "until": now}
    # Equal cursors and those without are read again: they are matched on the key.
    assert [row[0] for row in rows_of(source, asked, **reading)] == [2, 3, 4]
    assert source.rows_until(asked, Reading(names=["id"], **reading)) == 4
    if lookback is not None:
        back = stream(**facts, lookback=lookback)
        expected = [1, 2, 3, 4] if lookback == "60d" else [2, 3, 4]
        assert [row[0] for row in rows_of(source, back, **reading)] == expected
        wide = stream(**facts, lookback="3000d" if isinstance(lookback, str) else 10**9)
        wanted = [1, 2, 3, 4] if isinstance(lookback, str) else [2, 3, 4]
        assert [row[0] for row in rows_of(source, wide, **reading)] == wanted


def test_an_empty_table_has_a_position_too(open_sql: Opened, stream: Any, maria: Any) -> None:
    maria.execute("create table t (id int primary key, c datetime)")
    asked = stream(table="t", mode="upsert", key=["id"], cursor="c")
    source = open_sql(maria.options())
    source.columns(asked)
    until = source.position(asked, Reading(names=["id"], cursor="c"))
    assert rows_of(source, asked, cursor="c", until=until) == []
    assert rows_of(source, asked, cursor="c", until=until, since=until) == []


def test_a_cursor_that_is_a_zero_date_hides_nothing(
    open_sql: Opened, stream: Any, maria: Any
) -> None:
    maria.execute(
        "set sql_mode = ''",
        "create table t (id int primary key, c datetime)",
        "insert into t values (1, '0000-00-00')",
    )
    asked = stream(table="t", mode="upsert", key=["id"], cursor="c", lookback="1h")
    source = open_sql(maria.options())
    source.columns(asked)
    until = source.position(asked, Reading(names=["id"], cursor="c"))
    reading = {"cursor": "c", "until": until, "since": until}
    assert [row[0] for row in rows_of(source, asked, **reading)] == [1]


@pytest.mark.parametrize(
    "case",
    [
        ({"column": "c", "ranges": 4}, "bigint unsigned", "18446744073709551615 - seq * 7"),
        ({"column": "c", "ranges": 3}, "decimal(30,10)", "seq / 7 - 10"),
        ({"column": "c", "ranges": 3}, "double", "seq / 7 - 10"),
        ({"column": "c", "by": "month"}, "datetime(6)", "'2024-01-01' + interval seq day"),
        ({"column": "c", "by": "day"}, "date", "'2024-01-01' + interval seq hour"),
        ({"column": "c", "ranges": 2}, "timestamp null", "'2024-01-01' + interval seq hour"),
    ],
)
def test_a_stream_that_is_cut_has_every_row_once(
    open_sql: Opened, stream: Any, maria: Any, case: tuple[dict[str, Any], str, str]
) -> None:
    partition, kind, value = case
    maria.execute(
        f"create table t (id int primary key, c {kind})",
        f"insert into t select seq, if(seq % 9 = 0, null, {value}) from seq_1_to_200",
    )
    source = open_sql(maria.options())
    found = rows_of(source, stream(table="t", partition=partition))
    assert sorted(row[0] for row in found) == list(range(1, 201))


@pytest.mark.parametrize(
    "case",
    [
        ("bigint unsigned", "18446744073709551615 - seq div 3"),
        ("datetime(6)", "'2024-01-01' + interval seq div 3 microsecond"),
        ("timestamp(6) null", "'2024-01-01' + interval seq div 3 microsecond"),
        ("decimal(38,10)", "-(seq div 3) / 7"),
        ("date", "'2024-01-01' + interval seq div 3 day"),
    ],
)
def test_a_reading_that_broke_off_goes_on_after_its_checkpoint(
    open_sql: Opened, stream: Any, maria: Any, case: tuple[str, str]
) -> None:
    kind, value = case
    maria.execute(
        f"create table t (id int primary key, c {kind}, index (c))",
        f"insert into t select seq, if(seq % 20 = 0, null, {value}) from seq_1_to_100",
    )
    source = open_sql(maria.options())
    asked = stream(table="t", mode="upsert", key=["id"], cursor="c", batch_rows=10)
    source.columns(asked)
    until = source.position(asked, Reading(names=["id"], cursor="c"))
    reading = {"names": ["id"], "cursor": "c", "until": until}
    batches = source.batches(asked, Reading(**reading))
    first = [next(batches) for _ in range(3)]
    batches.close()  # type: ignore[attr-defined]
    assert first[-1].checkpoint is not None
    rest = list(source.batches(asked, Reading(**reading, after=first[-1].checkpoint)))
    ids = [row[0] for batch in (*first, *rest) for row in batch.rows]
    assert sorted(ids) == list(range(1, 101))
