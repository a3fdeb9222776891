"""Hard values of every type, from three databases to every destination: exactly, or not at all."""

# ruff: noqa: DTZ001 - values without a zone

import datetime as dt
import math
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import psycopg
import pytest
from psycopg.rows import dict_row

from aiia_pipelines.connectors.base import open_source
from aiia_pipelines.jobs.log import Level
from aiia_pipelines.sync.destinations import open_destination
from aiia_pipelines.sync.destinations.parquet import read
from aiia_pipelines.sync.outcome import Synced

pytestmark = pytest.mark.integration

INF, NAN = math.inf, math.nan
UTC = dt.UTC
MIB = 2**20
TEXTS = [
    "", " ", "  both  ", "NULL", "null", "\\N", "\\.", "''", '"', 'a "b" c', "a,b;c\td", "line\nbreak", "cr\r\nlf",
    "\\", "\\\\x41", "{}", "{,}", "[1]", "%s %d %%", "${env:X}", "=1+1", "-- not a comment", "0", "00", "1e5", "true",
    "naïve", "Ü", "U\u0308", "ß", "İi", "نص عربي", "שלום", "日本語", "한국어", "🙂", "👩‍👩‍👧", "\U0010ffff", "\ue000", "\u202eabc",
    "\u0085", "\u2028", "\ufeff", "\x01\x1f\x7f", "a" * 100_000, "é" * MIB,
    "NaN", "Infinity", "-0", "0x1F", "1,5", "1_000", "+1", "false", "None", "undefined", "b''", "\\x", "\\u0041", "\\N\t\\N",
    "\t", "\r", "\n", "\r\n\r\n", "\x0b\x0c", "\x1a", "\x1b[31m", "\u00a0", "\u200b", "\u200d", "\u2029", "\u3000",
    "\ud7ff", "\ufffd", "\ufffe\uffff", "\U00010000", "🇸🇦", "👍🏽", "1\ufe0f\u20e3", "e\u0301\u0323", "\u1100\u1161\u11a8",
    "ﷺ", "ǆ", "ﬀ", "K", "&amp;<b>", "'; drop table rows; --", "$$", "$1", ":name", "?", "`", "trailing ",
]  # fmt: skip
BYTES = [b"", b"\x00", b"\xff", b"\\x", b"'\"", bytes(range(256)), b"\x00" * 1000, "🙂".encode(), b"\xef\xbb\xbf", b"\xc3\x28", b"\x1f\x8b\x08", b"\\000", b"\n", b" ", b"\xed\xa0\x80", b"\x00\xff" * 50_000]  # fmt: skip
DATES = [dt.date(1, 1, 1), dt.date(1582, 10, 10), dt.date(1969, 12, 31), dt.date(1970, 1, 1), dt.date(2000, 2, 29), dt.date(9999, 12, 31), dt.date(4, 2, 29), dt.date(1000, 1, 1), dt.date(1752, 9, 10), dt.date(1900, 3, 1), dt.date(2038, 1, 20)]  # fmt: skip
TIMES = [dt.time(0), dt.time(0, 0, 0, 1), dt.time(12), dt.time(23, 59, 59, 999_999), dt.time(0, 0, 1), dt.time(1, 2, 3, 400_000), dt.time(12, 59, 59, 999), dt.time(23, 0)]  # fmt: skip
MOMENTS = [
    dt.datetime(1, 1, 1), dt.datetime(1582, 10, 10, 1, 2, 3, 4), dt.datetime(1969, 12, 31, 23, 59, 59, 999_999),
    dt.datetime(1970, 1, 1), dt.datetime(1999, 12, 31, 23, 59, 59, 999_999), dt.datetime(2000, 1, 1, 0, 0, 0, 1),
    dt.datetime(4, 2, 29, 12), dt.datetime(1900, 1, 1), dt.datetime(1901, 12, 13, 20, 45, 51), dt.datetime(2016, 12, 31, 23, 59, 59),
    dt.datetime(2026, 10, 25, 2, 30), dt.datetime(2026, 3, 29, 2, 30), dt.datetime(2038, 1, 19, 3, 14, 8), dt.datetime(9999, 12, 31, 23, 59, 59, 999_999),
]  # fmt: skip
INSTANTS = [moment.replace(tzinfo=UTC) for moment in MOMENTS]
FLOATS = [
    0.0, 0.1, -1 / 3, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, -1e16, 2.0**53 + 2, 123456.789e3,
    0.30000000000000004, -5e-324, 1e-7, 1e15, 1e16, 1e22, 1e23, 9007199254740993.0, 1.7976931348623155e308, 4.35, 2.5, 100.0,
]  # fmt: skip
SINGLES = [0.0, -0.0, 0.1, 3.4028234663852886e38, 1e-45, -1.1754944e-38, 16777216.0, 1 / 3]
CENTS = [Decimal(text) for text in ("0.00", "-0.01", "0.10", "9999999999999999.99", "-9999999999999999.99", "123.45", "0.01", "-1.00", "1000000.50", "7.07")]  # fmt: skip
WIDE = [Decimal(text) for text in ("1234567890123456789012345678.0123456789", "-0.0000000001", "0.0000000000", "-9999999999999999999999999999.9999999999")]  # fmt: skip
JSONS = [
    "null", "0", '""', '"x"', "[]", "{}", "true", '{"b":1.10,"a":[null,{"c":[]}]}', "12345678901234567890.123456789",
    '"🙂"', '["\\u0041"]', "[[[[[[1]]]]]]", '{"a":1,"a":2}', ' {"a" : 1e400} ', '"\\u0000"',
]  # fmt: skip
UUIDS = ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "00000000-0000-0000-0000-000000000001", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "0b0e7e0c-4b5b-4a5e-9d3e-1f2a3b4c5d6e"]  # fmt: skip
# In the very words of PostgreSQL, so that they can be compared as text.
INTERVALS = ["1 year 2 mons -3 days +04:05:06.789", "-00:00:01", "1 mon -30 days", "00:00:00", "178000000 years", "-1 mons +1 day", "1 day", "24:00:00", "00:00:00.000001", "-1 years -2 mons"]  # fmt: skip
ITEMS = ['a"b', "c\\d", None, "", "NULL", "e\nf", "{", ",", "🙂"]


@dataclass(frozen=True)
class Column:
    """One type of a source with its values; `stored` is the type that is learned of it."""

    declared: str
    stored: str
    values: list[Any]
    written: list[str] | None = None  # as SQL, where a parameter would be another value


def _of(declared: str, stored: str, values: list[Any], written: list[str] | None = None) -> Column:
    more = [*written, "null"] if written is not None else None
    return Column(declared, stored, [*values, None], more)


def _texts(declared: str, *values: str) -> Column:
    """Give a type that arrives as the text in which the database writes it."""
    return _of(declared, "string", list(values))


POSTGRESQL = [
    _of("boolean", "bool", [True, False]),
    _of("smallint", "int16", [-(2**15), -1, 0, 2**15 - 1]),
    _of("integer", "int32", [-(2**31), 0, 2**31 - 1]),
    _of("bigint", "int64", [-(2**63), -1, 0, 2**53 + 1, 2**63 - 1]),
    _of("real", "float32", [*SINGLES, INF, -INF, NAN]),
    _of("double precision", "float64", [*FLOATS, -0.0, INF, -INF, NAN]),
    _of("numeric(18,2)", "decimal(18,2)", CENTS),
    _of("numeric(38,10)", "decimal(38,10)", WIDE),
    _of("numeric(5,5)", "decimal(5,5)", [Decimal("0.00001"), Decimal("-0.99999")]),
    _of("text", "string", TEXTS),
    _of("varchar(9)", "string", ["", "ends   "]),
    _of("char(4)", "string", ["ab  ", "    "]),
    _of("bytea", "binary", BYTES),
    _of("date", "date", DATES),
    _of("time", "time", TIMES),
    _of("timestamp", "timestamp", MOMENTS),
    _of("timestamptz", "timestamptz", INSTANTS),
    _of("interval", "interval", INTERVALS),
    _of("uuid", "uuid", UUIDS),
    _of("json", "json", JSONS),
    _of("jsonb", "json", ["null", '{"a": [null], "b": 1.10}', "1" + "0" * 40, '"🙂"']),
    _texts("timetz", "00:00:00+00", "12:34:56.789012+05:30", "24:00:00-15:59", "23:59:59.999999+15:59:59"),
    _texts("money", "$1,234.50", "-$92,233,720,368,547,758.08"),
    _texts("mood", "happy", "", "so so"),
    _texts("inet", "192.0.2.1/32", "2001:db8::1/64"),
    _texts("cidr", "10.0.0.0/8"),
    _texts("macaddr", "08:00:2b:01:02:03"),
    _texts("bit(3)", "101"),
    _texts("varbit", "", "1" * 100),
    _texts("tsvector", "'b':2A 'fat':1,3", ""),
    _texts("int4range", "empty", "[1,5)", "(,)"),
    _texts("tstzrange", '["2026-01-01 00:00:00+00",infinity)'),
    _texts("datemultirange", "{[2026-01-01,2026-02-01)}", "{}"),
    _texts("pair", '(1,"a,""b""")', "(,)"),
    _texts("point", "(1e+300,-0)"),
    _texts('"char"', "x"),
    _texts("name", "pg_class"),
    _texts("oid", "4294967295"),
    _of("cents", "decimal(6,2)", [Decimal("-1234.50")]),
]  # fmt: skip
LISTS = [
    _of("integer[]", "list<int32>", [[], [1, None, -1], [2**31 - 1]]),
    _of("text[]", "list<string>", [ITEMS, []]),
    _of("float8[]", "list<float64>", [[NAN, INF, -0.0, 0.1, None]]),
    _of("boolean[]", "list<bool>", [[True, False, None]]),
    _of("date[]", "list<date>", [[dt.date(1, 1, 1), None, dt.date(9999, 12, 31)]]),
    _of("timestamptz[]", "list<timestamptz>", [[INSTANTS[0], None, INSTANTS[-1]]]),
    _texts("numeric[]", "{1.10,NaN,NULL}"),
]
MARIADB = [
    _of("tinyint unsigned", "int16", [0, 255]),
    _of("smallint", "int16", [-(2**15), 0, 2**15 - 1]),
    _of("mediumint unsigned", "int32", [2**24 - 1]),
    _of("int", "int32", [-(2**31), 2**31 - 1]),
    _of("int unsigned", "int64", [0, 2**32 - 1]),
    _of("int(5) zerofill", "int64", [42]),
    _of("bigint", "int64", [-(2**63), 2**53 + 1, 2**63 - 1]),
    _of("bigint unsigned", "decimal(20,0)", [Decimal(0), Decimal(2**64 - 1)]),
    _of("year", "int16", [1901, 2155, 0]),
    _of("float", "float32", [0.0, 16777216.0, 0.1], ["0", "16777217", "0.1"]),
    _of("double", "float64", FLOATS, [repr(number) if "e" in repr(number) else f"{number!r}e0" for number in FLOATS]),
    _of("decimal(18,2)", "decimal(18,2)", CENTS),
    _of("decimal(38,10)", "decimal(38,10)", WIDE),
    _of("decimal(3,3)", "decimal(3,3)", [Decimal("-0.001")]),
    _of("longtext character set utf8mb4", "string", TEXTS),
    _of("varchar(20) character set latin1", "string", ["Ünïcödé €"]),
    _of("char(5)", "string", ["ab", ""]),
    _of("enum('a','','ü')", "string", ["ü", ""]),
    _of("set('x','y')", "string", ["x,y", ""]),
    _of("json", "string", ["null", '{"a": 1.10, "b": null}', '{"a":1,"a":2}']),
    _of("uuid", "uuid", UUIDS),
    _of("inet6", "string", ["2001:db8::ff00:42:8329"]),
    _of("bit(1)", "bool", [True, False], ["b'1'", "b'0'"]),
    _of("bit(12)", "binary", [b"\x08\x01"], ["b'100000000001'"]),
    _of("binary(4)", "binary", [b"ab\0\0"]),
    _of("longblob", "binary", BYTES),
    _of("date", "date", DATES),
    _of("time(6)", "time", TIMES),
    _of("datetime(6)", "timestamp", MOMENTS),
    _of("timestamp(6) null", "timestamptz", [INSTANTS[4], dt.datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC)]),
]  # fmt: skip
SQLITE = [
    _of("bigint", "int64", [-(2**63), -(2**53) - 1, -1, 0, 2**31, 2**32, 2**53 + 1, 2**63 - 1]),
    _of("smallint", "int16", [-(2**15), -1, 0, 2**15 - 1]),
    _of("double", "float64", [*FLOATS, INF, -INF]),
    # The last was text: the column makes a number of it, of which the digits are still known.
    _of("decimal(12,2)", "decimal(12,2)", [Decimal("1.25"), Decimal("-9999999999.99"), Decimal("0.10")],
        ["1.25", "-9999999999.99", "'0.1'"]),
    _of("text", "string", TEXTS),
    _of("blob", "binary", BYTES),
    _of("date", "date", DATES),
    _of("time", "time", TIMES),
    _of("timestamp", "timestamp", MOMENTS),
    _of("timestamptz", "timestamptz", INSTANTS),
    _of("boolean", "bool", [True, False]),
    _of("interval", "interval", INTERVALS),
    _of("uuid", "uuid", UUIDS),
    _of("json", "json", ["null", "[0]", "[]", "{}", '""', "true", "[[[[1]]]]", '{"b": 1.10, "b": []}', '"🙂"', "[1e400]"]),
]  # fmt: skip
# The tables of a source, by their name.
Tables = dict[str, list[Column]]


def test_the_table_is_as_long_as_it_must_be() -> None:
    for columns in ((*POSTGRESQL, *LISTS), MARIADB, SQLITE):
        values = [(c.declared, repr(v)) for c in columns for v in c.values if v is not None]
        assert len(set(values)) == len(values) >= 200


# -- sources -----------------------------------------------------------------------------------


def _statements(table: str, columns: list[Column], mark: str) -> Iterator[tuple[str, list[Any]]]:
    """Write a table of one column each, whose n-th row has the n-th value of every column that has so many."""
    names = "".join(f", c{place} {column.declared}" for place, column in enumerate(columns))
    yield f"create table {table} (id int primary key{names})", []
    for number in range(max(len(column.values) for column in columns)):
        having = [(p, c) for p, c in enumerate(columns) if number < len(c.values)]
        values = [c.written[number] if c.written else mark for _, c in having]
        given = [_parameter(c, c.values[number]) for _, c in having if not c.written]
        into = "".join(f", c{place}" for place, _ in having)
        yield f"insert into {table} (id{into}) values ({', '.join([str(number), *values])})", given


def _parameter(column: Column, value: Any) -> Any:
    by_text = column.stored in {"interval", "json", "uuid", "string"} and value is not None
    return str(value) if by_text else value


def _kept(value: Any) -> Any:
    """Give a value in the form in which SQLite keeps it."""
    if isinstance(value, dt.datetime):
        return value.isoformat(" ")
    return value.isoformat() if isinstance(value, dt.date | dt.time) else value


@pytest.fixture
def postgresql(source_db: Any) -> tuple[dict[str, Any], Tables]:
    source_db.execute(
        "create type mood as enum ('happy', '', 'so so')",
        "create type pair as (a int, b text)",
        "create domain cents as numeric(6,2)",
    )
    tables = {"plain": POSTGRESQL, "lists": LISTS}
    with psycopg.connect(source_db.url()) as db:
        for name, columns in tables.items():
            # What has no type yet takes that of its column, and is not cut to it.
            for statement, values in _statements(name, columns, "%s"):
                db.execute(statement, values)
    return source_db.options(), tables


@pytest.fixture
def mariadb_source(maria: Any) -> tuple[dict[str, Any], Tables]:
    facts = {
        "database": maria.name,
        "charset": "utf8mb4",
        "init_command": "set time_zone = '+00:00'",
    }
    with closing(maria.server.connect(**facts)) as db, db.cursor() as cursor:
        for statement, values in _statements("plain", MARIADB, "%s"):
            cursor.execute(
                statement,
                [v.replace(tzinfo=None) if isinstance(v, dt.datetime) else v for v in values],
            )
    return maria.options(), {"plain": MARIADB}


@pytest.fixture
def sqlite_source(tmp_path: Path) -> tuple[dict[str, Any], Tables]:
    file = tmp_path / "source.db"
    with closing(sqlite3.connect(file)) as db, db:
        for statement, values in _statements("plain", SQLITE, "?"):
            db.execute(statement, [_kept(value) for value in values])
    return {"kind": "sql", "url": f"sqlite:///{file}"}, {"plain": SQLITE}


# -- destinations ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A destination, and the way to see what arrived there."""

    url: str

    def rows(self, stream: str, columns: list[Column] | None = None) -> list[dict[str, Any]]:
        scheme, _, path = self.url.partition("://")
        if scheme == "duckdb":
            with closing(duckdb.connect(path, read_only=True)) as db:
                db.execute("set TimeZone = 'UTC'")
                query = f"select * from sap_erp.{stream} order by id"
                found: list[dict[str, Any]] = db.sql(query).to_arrow_table().to_pylist()
            return found
        if scheme in {"parquet", "s3"}:
            return sorted(read(self.url, "sap_erp", stream).to_pylist(), key=lambda row: row["id"])
        texts = [
            f"c{n}" for n, c in enumerate(columns or ()) if c.stored in {"interval", "json", "uuid"}
        ]
        as_text = "".join(f", {name}::text as {name}" for name in texts)
        with psycopg.connect(self.url, options="-c TimeZone=UTC", row_factory=dict_row) as db:
            # Of two columns of a name, the last is seen.
            return db.execute(f"select *{as_text} from sap_erp.{stream} order by id").fetchall()


@pytest.fixture(params=["postgres", "duckdb", "parquet", "s3"])
def everywhere(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Target:
    if request.param == "postgres":
        return Target(request.getfixturevalue("warehouse").url())
    if request.param != "s3":
        return Target(f"{request.param}://{tmp_path / 'warehouse'}")
    server = request.getfixturevalue("s3_server")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    query = f"endpoint_url={server.endpoint}&region={server.region}"
    return Target(f"s3://{server.make_bucket()}/lake?{query}")


@pytest.fixture(params=["postgres", "duckdb", "parquet"])
def target(request: pytest.FixtureRequest, warehouse: Any, tmp_path: Path) -> Target:
    if request.param == "postgres":
        return Target(warehouse.url())
    files = {"duckdb": "warehouse.duckdb", "parquet": "lake"}
    return Target(f"{request.param}://{tmp_path / files[request.param]}")


def bits(value: Any, stored: str) -> Any:
    """Make values that look equal and are not tell themselves apart."""
    if value is None:
        return None
    if isinstance(value, float):
        # Digits that stand for the same 32 bits are the same number.
        return (
            "nan"
            if math.isnan(value)
            else struct.pack(">f" if stored == "float32" else ">d", value)
        )
    if isinstance(value, dt.datetime) and value.tzinfo:
        return value.astimezone(UTC)
    if isinstance(value, list | tuple):
        return [bits(item, stored) for item in value]
    if isinstance(value, Decimal | UUID | int):
        return f"{type(value).__name__} {value}"
    return bytes(value) if isinstance(value, bytearray | memoryview) else value


# -- what arrives ------------------------------------------------------------------------------


def check(bench: Any, origin: tuple[dict[str, Any], Tables], target: Target) -> None:
    options, tables = origin
    # Small batches take another way than large ones.
    ways = {name: {"table": name} for name in tables} | {"few": {"table": "plain", "batch_rows": 7}}
    streams = [{"name": name, "key": ["id"], **way} for name, way in ways.items()]
    ended = bench.sync(
        *streams,
        source=lambda: open_source(options),
        destination=open_destination(target.url),
        reconcile="full",
    )
    assert ended.state == "Completed", ended.log
    for (name, way), done in zip(ways.items(), ended.outcomes, strict=True):
        assert isinstance(done, Synced)
        columns = tables[str(way["table"])]
        learned = [str(column.type) for column in done.columns[1:]]
        assert learned == [column.stored for column in columns]
        rows = target.rows(name, columns)
        assert [row["id"] for row in rows] == list(range(max(len(c.values) for c in columns)))
        for place, column in enumerate(columns):
            found = [bits(row[f"c{place}"], column.stored) for row in rows]
            wanted = [bits(value, column.stored) for value in column.values]
            wanted += [None] * (len(rows) - len(wanted))
            differ = [pair for pair in zip(found, wanted, strict=True) if pair[0] != pair[1]]
            assert not differ, (name, column.declared)


def test_every_value_of_postgresql_arrives_bit_by_bit(
    bench: Any, postgresql: tuple[dict[str, Any], Tables], everywhere: Target
) -> None:
    check(bench, postgresql, everywhere)


def test_every_value_of_mariadb_arrives_bit_by_bit(
    bench: Any, mariadb_source: tuple[dict[str, Any], Tables], everywhere: Target
) -> None:
    check(bench, mariadb_source, everywhere)


def test_every_value_of_sqlite_arrives_bit_by_bit(
    bench: Any, sqlite_source: tuple[dict[str, Any], Tables], everywhere: Target
) -> None:
    check(bench, sqlite_source, everywhere)


# -- what does not ------------------------------------------------------------------------------

BIG = 16 * MIB
REFUSED = {
    "postgresql": {
        "date": ["'infinity'", "'-infinity'", "'0044-03-15 BC'", "'10000-01-01'"],
        "timestamp": ["'infinity'", "'-infinity'", "'0044-03-15 BC'", "'294276-12-31'"],
        "timestamptz": ["'infinity'", "'-infinity'", "'10000-01-01'"],
        "time": ["'24:00'"],
        "numeric(18,2)": ["'NaN'"],
        "integer[]": ["'{{1,2},{3,4}}'", "'[2:3]={1,2}'"],
        "date[]": ["'{infinity}'"],
        "text": [f"repeat('x', {BIG + 1})", f"repeat('é', {BIG // 2 + 1})"],
        "bytea": [f"decode(repeat('00', {BIG + 1}), 'hex')"],
    },
    "mariadb": {
        "date": ["'0000-00-00'", "'2024-02-00'", "'0000-01-01'"],
        "datetime(6)": ["'0000-00-00 00:00:00'", "'2024-00-10 01:02:03.5'"],
        "timestamp null": ["'0000-00-00 00:00:00'"],
        "time(6)": ["'24:00:00'", "'838:59:59'", "'-00:00:01'"],
        "varchar(9)": ["concat('a', char(0), 'b')"],
    },
    "sqlite": {
        "integer": ["'x'", "1.5", "x'01'", "1e300"],
        "smallint": ["32768"],
        "bigint": ["9223372036854775807.0"],
        "text": ["x'ff'", "'a' || char(0) || 'b'", "cast(x'ff' as text)", f"printf('%.*c', {BIG + 1}, 'x')"],
        "blob": ["'text'", "5", f"zeroblob({BIG + 1})"],
        "double": ["'x'"],
        "boolean": ["2", "'true'"],
        "decimal(12,2)": ["1.255", "0.30000000000000004", "12345678901.25", "'1,5'", "9e999"],
        "date": ["'2024-02-30'", "'2024-2-1'", "20240101", "'0000-01-01'", "'infinity'"],
        "timestamp": ["'2024-01-01 00:00:00.1234567'", "'2024-01-01 24:00:00'", "1700000000"],
        "timestamptz": ["'2024-01-01 00:00:00'"],
        "time": ["'24:00'", "'12:00:00+02'"],
        "uuid": ["'0b0e7e0c'"],
        # A number is no text any more in SQLite: how it was written is lost.
        "json": ["'{'", "'NaN'", "''", "'1.10'"],
        "interval": ["'nope'", "''", "'12'", "'1 year 2'", "5"],
    },
}  # fmt: skip


def _broken(bench: Any, request: pytest.FixtureRequest, source: str) -> tuple[Any, list[str]]:
    """Make a table for every value that cannot arrive, its second row, and a good one."""
    facts = [(kind, value) for kind, values in REFUSED[source].items() for value in values]
    tables = {f"r{place}": fact for place, fact in enumerate(facts)} | {"good": ("integer", "1")}
    statements = [
        statement
        for name, (kind, value) in tables.items()
        for statement in (f"create table {name} (id integer, v {kind})", f"insert into {name} values (1, null), (2, {value})")
    ]  # fmt: skip
    if source == "sqlite":
        file = request.getfixturevalue("tmp_path") / "broken.db"
        with closing(sqlite3.connect(file)) as db, db:
            for statement in statements:
                db.execute(statement)
        return {"kind": "sql", "url": f"sqlite:///{file}"}, list(tables)
    if source == "mariadb":
        maria = request.getfixturevalue("maria")
        maria.execute("set sql_mode = ''", *statements)
        return maria.options(), list(tables)
    bench.source.execute(*statements)
    return bench.source.options(), list(tables)


def refuse(bench: Any, origin: tuple[Any, list[str]], target: Target) -> None:
    options, names = origin
    ended = bench.sync(
        *({"name": name, "table": name} for name in names),
        source=lambda: open_source(options),
        destination=open_destination(target.url),
    )
    assert [done.stream for done in ended.outcomes if isinstance(done, Synced)] == ["good"]
    errors = [line.message for line in ended.lines if line.level is Level.ERROR]
    assert len(errors) == len(names) - 1
    sentence = "Value does not fit. Column 'v', row 2: a "
    assert [message for message in errors if not message.startswith(sentence)] == []


def test_what_postgresql_has_and_nobody_can_hold_is_an_error_that_names_column_and_row(
    bench: Any, request: pytest.FixtureRequest, target: Target
) -> None:
    refuse(bench, _broken(bench, request, "postgresql"), target)


def test_what_mariadb_has_and_nobody_can_hold_is_an_error_that_names_column_and_row(
    bench: Any, request: pytest.FixtureRequest, maria: Any, target: Target
) -> None:
    del maria
    refuse(bench, _broken(bench, request, "mariadb"), target)


def test_what_sqlite_has_and_nobody_can_hold_is_an_error_that_names_column_and_row(
    bench: Any, request: pytest.FixtureRequest, target: Target
) -> None:
    refuse(bench, _broken(bench, request, "sqlite"), target)


def test_a_value_beyond_the_limit_is_told_so_and_one_at_it_arrives(bench: Any) -> None:
    bench.fill("id int, v text", f"values (1, repeat('x', {BIG})), (2, repeat('x', {BIG + 1}))")
    ended = bench.sync()
    assert ended.code == "value-invalid"
    assert "Value does not fit. Column 'v', row 2: a str of more than 16 MiB." in ended.log
    bench.source.execute("delete from rows where id = 2")
    assert bench.sync().state == "Completed"
    assert bench.arrived("length(v)") == [(BIG,)]


# -- numbers with more digits than most can hold ------------------------------------------------

DIGITS = {
    "numeric": ["NaN", "Infinity", "-Infinity", "0.000000000000000000000000000001", "1" + "0" * 60, "-1.10", "0"],
    "numeric(3,-2)": ["12300", "-99900", "0"],
    "numeric(1000,500)": ["9" * 500 + "." + "9" * 500, "0." + "0" * 499 + "1"],
    "numeric(60,2)": ["-" + "9" * 58 + ".99", "0.01"],
}  # fmt: skip


@pytest.mark.parametrize("kind", DIGITS)
def test_long_numbers_arrive_or_are_refused_at_once_or_become_text(
    bench: Any, target: Target, kind: str
) -> None:
    values = ", ".join(f"({place}, '{text}')" for place, text in enumerate(DIGITS[kind]))
    bench.fill(f"id int primary key, c0 {kind}", f"values {values}, (99, null)")
    stream = {"name": "rows", "table": "rows", "key": ["id"]}
    wanted = [*DIGITS[kind], None]
    ended = bench.sync(stream, destination=open_destination(target.url), reconcile="full")
    if target.url.startswith("postgresql"):
        assert ended.state == "Completed", ended.log
        assert [text for (text,) in bench.arrived("c0::text", order="id")] == wanted
        assert bench.sync(stream).changes == (0, 0, len(wanted), 0)
        return
    assert ended.code == "column-mismatch", ended.log
    (error,) = [line.message for line in ended.lines if line.level is Level.ERROR]
    assert "cannot hold every decimal" in error
    assert "column 'c0' of rows" in error
    assert "`on_lossy: text`" in error
    assert ended.steps("rows").get("extract") != "Completed"
    as_text = stream | {"columns": {"c0": {"type": _learned(kind), "on_lossy": "text"}}}
    ended = bench.sync(as_text, destination=open_destination(target.url), reconcile="full")
    assert ended.state == "Completed", ended.log
    assert [row["c0"] for row in target.rows("rows")] == wanted


def _learned(kind: str) -> str:
    bounded = kind.replace("numeric(", "decimal(")
    return bounded if bounded != kind and "-" not in kind else "decimal"


# -- what may be changed ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "kind", "value", "stored", "arrived"),
    [
        ("null", "date", "'infinity'", "date", None),
        ("null", "timestamptz", "'-infinity'", "timestamptz", None),
        ("null", "numeric(18,2)", "'NaN'", "decimal(18,2)", None),
        ("null", "text", f"repeat('x', {BIG + 1})", "string", None),
        ("null", "integer[]", "'{{1,2},{3,4}}'", "list<int32>", None),
        ("round", "numeric", "1.005", "decimal(18,2)", Decimal("1.00")),
        ("round", "numeric", "-2.675001", "decimal(18,2)", Decimal("-2.68")),
        ("text", "date", "'infinity'", "date", "infinity"),
        ("text", "date", "'0044-03-15 BC'", "date", "0044-03-15 BC"),
        ("text", "timestamptz", "'-infinity'", "timestamptz", "-infinity"),
        ("text", "time", "'24:00'", "time", "24:00:00"),
        ("text", "numeric", "1e60", "decimal(18,2)", "1" + "0" * 60),
        ("text", "integer[]", "'{{1,2},{3,4}}'", "list<int32>", "{{1,2},{3,4}}"),
        ("text", "integer[]", "'[2:3]={1,2}'", "list<int32>", "[2:3]={1,2}"),
    ],
)  # fmt: skip
def test_an_allowed_change_is_made_counted_and_told(
    bench: Any, how: str, kind: str, value: str, stored: str, arrived: Any
) -> None:
    bench.fill(f"id int, v {kind}", f"values (1, null), (2, {value})")
    columns = {"v": {"type": stored, "on_lossy": how}}
    ended = bench.sync({"name": "rows", "table": "public.rows", "columns": columns})
    assert ended.state == "Completed", ended.log
    assert dict(bench.arrived("id, v"))[2] == arrived
    assert ended.outcomes[0].adjusted == (("v", how, 1),)
    assert f"1 values of column 'v' did not fit and were changed (on_lossy: {how})." in ended.log


@pytest.mark.parametrize(
    ("kind", "good"),
    [
        ("date", "2024-02-29"),
        ("timestamp", "2024-02-29 01:02:03.5"),
        ("timestamptz", "2024-02-29 01:02:03+00"),
    ],
)
def test_a_value_kept_as_text_is_written_alike_whatever_stands_beside_it(
    bench: Any, kind: str, good: str
) -> None:
    columns = {"v": {"type": kind, "on_lossy": "text"}}
    stream = {"name": "rows", "table": "public.rows", "key": ["id"], "columns": columns}
    bench.fill(f"id int, v {kind}", f"values (1, '{good}')")
    for batch_rows in (50_000, 7):
        assert bench.sync(stream | {"batch_rows": batch_rows}).state == "Completed"
        assert bench.arrived("v") == [(good,)]
    bench.source.execute("insert into rows values (2, 'infinity')")
    assert bench.sync(stream).changes == (1, 0, 1, 0)


@pytest.mark.parametrize(("how", "arrived"), [("null", None), ("text", "0000-00-00")])
def test_a_day_that_never_was_in_mariadb_is_changed_where_that_is_allowed(
    bench: Any, maria: Any, target: Target, how: str, arrived: str | None
) -> None:
    maria.execute(
        "set sql_mode = ''",
        "create table days (id int primary key, c0 date)",
        "insert into days values (1, '0000-00-00'), (2, '2024-02-29')",
    )
    columns = {"c0": {"type": "date", "on_lossy": how}}
    ended = bench.sync(
        {"name": "days", "table": "days", "key": ["id"], "columns": columns},
        source=lambda: open_source(maria.options()),
        destination=open_destination(target.url),
    )
    assert ended.state == "Completed", ended.log
    kept = dt.date(2024, 2, 29) if how == "null" else "2024-02-29"
    assert [row["c0"] for row in target.rows("days")] == [arrived, kept]
    assert ended.outcomes[0].adjusted == (("c0", how, 1),)
    assert f"1 values of column 'c0' did not fit and were changed (on_lossy: {how})." in ended.log


def test_negative_zero_of_sqlite_arrives_where_sqlite_keeps_it(
    bench: Any, tmp_path: Path, target: Target
) -> None:
    file = tmp_path / "zero.db"
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("create table zero (id integer primary key, c0)")
        db.execute("insert into zero values (1, ?)", (-0.0,))
    ended = bench.sync(
        {"name": "zero", "table": "zero", "key": ["id"], "columns": {"c0": {"type": "float64"}}},
        source=lambda: open_source({"kind": "sql", "url": f"sqlite:///{file}"}),
        destination=open_destination(target.url),
        reconcile="full",
    )
    assert ended.state == "Completed", ended.log
    assert bits(target.rows("zero")[0]["c0"], "float64") == bits(-0.0, "float64")


def test_a_time_of_mariadb_beyond_a_day_arrives_as_interval(
    bench: Any, maria: Any, target: Target
) -> None:
    spans = {"838:59:59": 0, "-00:00:01": 0, "01:02:03.5": 6, "10:00:00": 6, "-838:59:58.999999": 6}
    maria.execute(
        "create table spans (id int primary key, c0 time, c1 time(6))",
        *(
            f"insert into spans (id, c{digits // 6}) values ({place}, '{text}')"
            for place, (text, digits) in enumerate(spans.items())
        ),
    )
    columns = {name: {"type": "interval"} for name in ("c0", "c1")}
    ended = bench.sync(
        {"name": "spans", "table": "spans", "key": ["id"], "columns": columns},
        source=lambda: open_source(maria.options()),
        destination=open_destination(target.url),
        reconcile="full",
    )
    assert ended.state == "Completed", ended.log
    kinds = [Column("", "interval", [])] * 2
    assert [row["c0"] or row["c1"] for row in target.rows("spans", kinds)] == list(spans)
