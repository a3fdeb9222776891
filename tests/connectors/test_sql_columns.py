import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from aiia_pipelines.connectors.base import Batch, Reading, Source, SourceFault, Wired
from aiia_pipelines.jobs.failures import classify

pytestmark = pytest.mark.integration
Opened = Callable[..., Source]

# Types that Arrow columns carry, with values at their edges.
HARD = {
    "boolean": ["true", "false"],
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "real": ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "0.1", "3.4028235e38", "1e-45"],
    "double precision": ["'NaN'", "'-Infinity'", "'-0'", "0.1", "5e-324", "1.7976931348623157e308"],
    "numeric": ["'NaN'", "'Infinity'", "1e-30", "1e60", "-0.10"],
    "numeric(38,10)": ["1234567890123456789012345678.0123456789", "-0.0000000001"],
    "text": ["''", "'\\N'", "E'a\\r\\nb'", "U&'\\+01F600'"],
    "char(5)": ["'ab'"],
    "name": ["'ab'"],
    "bytea": ["''", "'\\x00ff'"],
    "date": ["'0001-01-01'", "'9999-12-31'", "'infinity'", "'-infinity'", "'0044-03-15 BC'",
             "'0001-12-31 BC'", "'4713-01-01 BC'", "'10000-01-01'", "'5874897-12-31'"],
    "time": ["'00:00'", "'23:59:59.999999'", "'24:00'", "'12:00:00.5'"],
    "timestamp": ["'0001-01-01'", "'9999-12-31 23:59:59.999999'", "'infinity'", "'-infinity'",
                  "'0044-03-15 12:00:00.5 BC'", "'10000-01-01'", "'294276-12-31 23:59:59.999999'",
                  "'294246-01-01'", "'4713-01-01 BC'"],
    "timestamptz": ["'2026-03-29 02:30:00.000001+05:30'", "'infinity'", "'-infinity'",
                    "'0044-03-15 BC'", "'10000-01-01'", "'294276-12-31 23:59:59.999999+00'"],
    "interval": ["'1 mon -30 days 04:05:06.789'"],
    "uuid": ["'00000000-0000-0000-0000-00000000000A'"],
    "json": ["'null'", "'{\"a\": 1, \"a\": 2}'"],
    "jsonb": ["'{\"b\": 1.10}'"],
    "money": ["1.5"],
    "inet": ["'10.0.0.0/8'"],
}  # fmt: skip


def rows_of(batch: Batch) -> list[tuple[Any, ...]]:
    if isinstance(batch.rows, Sequence):
        return [tuple(row) for row in batch.rows]
    return list(zip(*(column.to_pylist() for column in batch.rows.columns), strict=True))


def read(source: Source, stream: Any) -> list[Batch]:
    names = [column.name for column in source.columns(stream)]
    return list(source.batches(stream, Reading(names=names)))


def columns_of(batch: Batch) -> pa.RecordBatch:
    assert isinstance(batch.rows, Wired)
    return batch.rows.arrow()


def shown(values: Sequence[Any], kind: str) -> list[str]:
    """Write values so that equal texts are equal values of equal types."""
    if kind == "real":
        values = pa.array(values, pa.float32()).to_pylist()
    if kind.startswith("numeric"):
        values = [Decimal(value) if isinstance(value, str) else value for value in values]
    return [v.isoformat() if hasattr(v, "isoformat") else repr(v) for v in values]


def test_columns_and_rows_hold_the_same_values(
    open_sql: Opened, stream: Any, source_db: Any
) -> None:
    for number, (kind, literals) in enumerate(HARD.items()):
        values = ", ".join(f"({place}, {v})" for place, v in enumerate([*literals, "null"]))
        source_db.execute(
            f"create table t{number} (id int, v {kind})", f"insert into t{number} values {values}"
        )
    source = open_sql(source_db.options())
    for number, kind in enumerate(HARD):
        table = {"name": f"t{number}", "table": f"t{number}"}
        (by_columns,) = read(source, stream(**table))
        (by_rows,) = read(source, stream(**table, batch_rows=4000))
        assert isinstance(by_rows.rows, Sequence)
        found, expected = (
            shown([v for _, v in rows_of(batch)], kind) for batch in (by_columns, by_rows)
        )
        assert found == expected, kind


def test_every_time_that_postgresql_knows_is_the_same_by_columns_and_by_rows(
    open_sql: Opened, stream: Any, source_db: Any
) -> None:
    source_db.execute(
        "create table rows as select date '4714-11-24 BC' + (i * 1073741 % 2147483493)::int as d,"
        " timestamp '4714-11-24 BC' + interval '12345 days 06:07:08.090909' * (i % 8700) as t,"
        " timestamptz '4714-11-24 BC' + interval '12345 days 23:59:59.999999' * (i % 8700) as z"
        " from generate_series(0::bigint, 9000) i"
    )
    source = open_sql(source_db.options())
    found, expected = (
        [
            row
            for batch in read(source, stream(table="rows", batch_rows=size))
            for row in rows_of(batch)
        ]
        for size in (50_000, 4000)
    )
    assert [shown(row, "") for row in found] == [shown(row, "") for row in expected]


def test_text_of_another_encoding_is_the_same_text(
    open_sql: Opened, stream: Any, source_db: Any
) -> None:
    for encoding in ("LATIN1", "SQL_ASCII"):
        name = f"{source_db.name}_{encoding.lower()}"
        source_db.execute(
            f"create database {name} encoding '{encoding}' template template0 locale 'C' owner aiia_app",
            user="aiia",
        )
        other = replace(source_db, name=name)
        other.execute(
            "create table rows (t text)",
            "insert into rows values ('grün')"
            if encoding == "LATIN1"
            else "insert into rows values ('x')",
            "grant select on rows to canary_reader",
        )
        source = open_sql(other.options())
        (batch,) = read(source, stream(table="rows"))
        assert isinstance(batch.rows, Sequence) is (encoding == "SQL_ASCII")
        assert rows_of(batch) == [("grün" if encoding == "LATIN1" else "x",)]
        source.close()
        source_db.execute(f"drop database {name}", user="aiia")


def test_what_shares_no_snapshot_is_read_by_rows(
    open_sql: Opened, stream: Any, source_db: Any
) -> None:
    source_db.execute("create table rows (id int); insert into rows values (1)")
    source_db.execute("revoke execute on function pg_export_snapshot() from public", user="aiia")
    (batch,) = read(open_sql(source_db.options()), stream(table="rows"))
    assert isinstance(batch.rows, Sequence)
    assert rows_of(batch) == [(1,)]


def test_only_batches_with_an_unusual_value_become_rows(
    open_sql: Opened, stream: Any, source_db: Any
) -> None:
    source_db.execute(
        "create table rows as select i, case when i = 25000 then 'infinity' else date '2026-01-01' + i end as d"
        " from generate_series(1, 30000) i"
    )
    source = open_sql(source_db.options())
    whole = read(source, stream(table="rows"))
    assert [len(batch) for batch in whole] == [30000]
    assert isinstance(whole[0].rows, list)
    assert ("infinity" in {row[1] for row in whole[0].rows}) is True


def test_batches_are_as_large_as_asked_or_bounded_in_bytes(
    open_sql: Opened, stream: Any, source_db: Any
) -> None:
    source_db.execute(
        "create table rows as select i, repeat('x', 400) as t from generate_series(1, 100000) i"
    )
    source = open_sql(source_db.options())
    asked = read(source, stream(table="rows", batch_rows=7000))
    assert max(len(batch) for batch in asked) == 7000
    by_bytes = read(source, stream(table="rows"))
    assert len(by_bytes) > 1
    assert all(columns_of(batch).nbytes < 20_000_000 for batch in by_bytes)
    assert sum(map(len, asked)) == sum(map(len, by_bytes)) == 100_000


def test_both_ways_of_reading_see_the_moment_of_connecting(
    open_sql: Opened, stream: Any, source_db: Any
) -> None:
    source_db.execute("create table rows (id int); insert into rows values (1)")
    source = open_sql(source_db.options())
    source_db.execute("insert into rows values (2)")
    for size in (100, 50_000):
        found = [
            row
            for batch in read(source, stream(table="rows", batch_rows=size))
            for row in rows_of(batch)
        ]
        assert found == [(1,)]


@pytest.mark.parametrize("kind", ["int[]", "date[]"])
def test_lists_are_read_by_rows(open_sql: Opened, stream: Any, source_db: Any, kind: str) -> None:
    source_db.execute(f"create table rows (v {kind})", "insert into rows values ('{}')")
    (batch,) = read(open_sql(source_db.options()), stream(table="rows"))
    assert isinstance(batch.rows, Sequence)


def test_a_query_is_read_by_columns_too(open_sql: Opened, stream: Any, source_db: Any) -> None:
    source = open_sql(source_db.options())
    (batch,) = read(source, stream(query="select 1.50 as d, 'a%s' as \"T x\" -- the end"))
    assert columns_of(batch).to_pylist() == [{"0": "1.50", "1": "a%s"}]


def test_a_role_with_one_connection_is_read_by_it(
    open_sql: Opened, stream: Any, source_db: Any
) -> None:
    source_db.server.ensure_role("lonely")
    source_db.execute(
        "create table rows (id int); insert into rows values (1); grant select on rows to lonely"
    )
    source_db.execute("alter role lonely connection limit 1", user="aiia")
    (batch,) = read(open_sql(source_db.options("lonely")), stream(table="rows"))
    assert rows_of(batch) == [(1,)]
    assert isinstance(batch.rows, Sequence)


def test_a_fault_in_the_middle_has_its_sqlstate_and_spares_the_next_stream(
    open_sql: Opened, stream: Any, source_db: Any
) -> None:
    source_db.execute("create table rows as select i from generate_series(1, 10) i")
    source = open_sql(source_db.options())
    broken = stream(query="select 1 / (9 - i) as x from rows")
    with pytest.raises(SourceFault) as caught:
        read(source, broken)
    assert str(caught.value) == f"Division by zero. At 127.0.0.1:{source_db.port}."
    assert classify(caught.value).code == "value-invalid"
    assert sum(map(len, read(source, stream(name="good", table="rows")))) == 10


def test_a_server_that_ends_a_read_by_columns_is_a_lost_connection(
    open_sql: Opened, stream: Any, source_db: Any
) -> None:
    source_db.execute(
        "create table rows as select i, repeat('x', 1000) t from generate_series(1, 100000) i"
    )
    source = open_sql(source_db.options())
    rows = stream(table="rows")
    source.columns(rows)
    batches = source.batches(rows, Reading(names=["i", "t"]))
    next(batches)
    source_db.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'canary_reader'",
        user="aiia",
    )
    with pytest.raises(SourceFault) as caught:
        list(batches)
    assert classify(caught.value).code == "connection-lost", str(caught.value)
    source.close()


@pytest.mark.parametrize("moment", ["early", "waiting", "between"])
def test_cancel_stops_a_read_by_columns(
    open_sql: Opened, stream: Any, source_db: Any, moment: str, backends: Callable[[str], int]
) -> None:
    source_db.execute(
        "create table rows as select i, repeat('x', 2000) t from generate_series(1, 50000) i"
    )
    query = (
        "select i, t from rows" if moment == "between" else "select 1 as i, pg_sleep(30)::text as t"
    )
    source = open_sql(source_db.options())
    rows = stream(query=query)
    source.columns(rows)
    batches = source.batches(rows, Reading(names=["i", "t"]))
    began = time.monotonic()
    if moment == "between":
        next(batches)
        source.cancel()
    else:
        # Early: while the connection that will read is still being opened.
        threading.Timer(0.01 if moment == "early" else 0.4, source.cancel).start()
    with pytest.raises(SourceFault):
        list(batches)
    assert time.monotonic() - began < 10
    source.close()
    assert gone(backends, source_db.name)


def test_a_read_by_columns_that_is_given_up_leaves_no_session(
    open_sql: Opened, stream: Any, source_db: Any, backends: Callable[[str], int]
) -> None:
    source_db.execute(
        "create table rows as select i, repeat('x', 2000) t from generate_series(1, 50000) i"
    )
    source = open_sql(source_db.options())
    rows = stream(table="rows")
    source.columns(rows)
    batches = source.batches(rows, Reading(names=["i", "t"]))
    next(batches)
    assert backends(source_db.name) == 2
    source.close()
    assert gone(backends, source_db.name)
    del batches


def gone(backends: Callable[[str], int], database: str) -> bool:
    """Wait for sessions that have said goodbye to be gone."""
    for _ in range(1000):
        if backends(database) == 0:
            return True
        time.sleep(0.02)
    return False
