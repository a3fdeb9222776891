# ruff: noqa: DTZ001, DTZ901 - times without a zone are values of a source
"""MariaDB as a source, on a real server: every value exactly."""

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from aiia_pipelines.connectors.base import Reading, Source

pytestmark = pytest.mark.integration
Opened = Callable[..., Source]
UTC = dt.UTC

# declared as, written as, learned as, read as
VALUES: list[tuple[str, str, str, Any]] = [
    ("tinyint", "-128", "int16", -128),
    ("tinyint", "127", "int16", 127),
    ("tinyint(1)", "1", "int16", 1),
    ("tinyint(1)", "-7", "int16", -7),
    ("boolean", "true", "int16", 1),
    ("tinyint unsigned", "255", "int16", 255),
    ("smallint", "-32768", "int16", -32768),
    ("smallint unsigned", "65535", "int32", 65535),
    ("mediumint", "-8388608", "int32", -8388608),
    ("mediumint unsigned", "16777215", "int32", 16777215),
    ("int", "-2147483648", "int32", -(2**31)),
    ("int unsigned", "4294967295", "int64", 2**32 - 1),
    ("int(5) zerofill", "42", "int64", 42),
    ("bigint", "-9223372036854775808", "int64", -(2**63)),
    ("bigint", "9007199254740993", "int64", 2**53 + 1),
    ("bigint unsigned", "18446744073709551615", "decimal(20,0)", 2**64 - 1),
    ("year", "1901", "int16", 1901),
    ("year", "0", "int16", 0),
    ("decimal(10,2)", "-12345678.90", "decimal(10,2)", Decimal("-12345678.90")),
    ("decimal(10,2)", "0.1", "decimal(10,2)", Decimal("0.10")),
    ("decimal(10,2)", "-0.00", "decimal(10,2)", Decimal("0.00")),
    ("decimal(5) unsigned", "99999", "decimal(5,0)", Decimal(99999)),
    ("decimal(3,3)", "-0.001", "decimal(3,3)", Decimal("-0.001")),
    ("decimal(38,10)", "-9999999999999999999999999999.9999999999", "decimal(38,10)",
     Decimal("-9999999999999999999999999999.9999999999")),
    ("decimal(65,30)", "12345678901234567890123456789012345.123456789012345678901234567890",
     "decimal(65,30)", Decimal("12345678901234567890123456789012345.123456789012345678901234567890")),
    ("decimal(65,0)", "9" * 65, "decimal(65,0)", Decimal("9" * 65)),
    ("float", "16777217", "float32", 16777216.0),
    ("float", "0.1", "float32", 0.10000000149011612),
    ("float", "3.4028234e38", "float32", 3.4028234663852886e38),
    ("float", "1.17549435e-38", "float32", 1.1754943508222875e-38),
    ("float", "-0e0", "float32", 0.0),
    ("float(8,2)", "123456.78", "float32", 123456.78125),
    ("double", "0.1", "float64", 0.1),
    ("double", "1.7976931348623157e308", "float64", 1.7976931348623157e308),
    ("double", "5e-324", "float64", 5e-324),
    ("double", "-0e0", "float64", 0.0),
    ("double", "0.30000000000000004", "float64", 0.30000000000000004),
    ("double", "123456789012345680", "float64", 123456789012345680.0),
    ("double(10,3)", "1.2345", "float64", 1.234),
    ("bit(1)", "b'1'", "bool", True),
    ("bit(1)", "b'0'", "bool", False),
    ("bit(8)", "b'101'", "binary", b"\x05"),
    ("bit(12)", "b'100000000001'", "binary", b"\x08\x01"),
    ("bit(64)", f"b'{'1' * 64}'", "binary", b"\xff" * 8),
    ("date", "'2024-02-29'", "date", dt.date(2024, 2, 29)),
    ("date", "'0001-01-01'", "date", dt.date(1, 1, 1)),
    ("date", "'9999-12-31'", "date", dt.date(9999, 12, 31)),
    ("date", "'0000-00-00'", "date", "0000-00-00"),
    ("date", "'2024-02-00'", "date", "2024-02-00"),
    ("date", "'0000-01-01'", "date", "0000-01-01"),
    ("datetime", "'2024-03-31 02:30:00'", "timestamp", dt.datetime(2024, 3, 31, 2, 30)),
    ("datetime(3)", "'2024-01-01 00:00:00.120'", "timestamp", dt.datetime(2024, 1, 1, 0, 0, 0, 120000)),
    ("datetime(6)", "'9999-12-31 23:59:59.999999'", "timestamp", dt.datetime.max),
    ("datetime(6)", "'0001-01-01 00:00:00.000001'", "timestamp", dt.datetime(1, 1, 1, 0, 0, 0, 1)),
    ("datetime", "'0000-00-00 00:00:00'", "timestamp", "0000-00-00 00:00:00"),
    ("datetime(6)", "'2024-00-10 01:02:03.5'", "timestamp", "2024-00-10 01:02:03.500000"),
    ("timestamp null", "'2024-07-01 12:00:00'", "timestamptz",
     dt.datetime(2024, 7, 1, 12, tzinfo=UTC)),
    ("timestamp(6) null", "'1970-01-01 00:00:01.000001'", "timestamptz",
     dt.datetime(1970, 1, 1, 0, 0, 1, 1, tzinfo=UTC)),
    ("timestamp null", "'2038-01-19 03:14:07'", "timestamptz",
     dt.datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC)),
    ("timestamp null", "'0000-00-00 00:00:00'", "timestamptz", "0000-00-00 00:00:00"),
    ("time", "'23:59:59'", "time", dt.time(23, 59, 59)),
    ("time(6)", "'00:00:00.000001'", "time", dt.time(0, 0, 0, 1)),
    ("time", "'24:00:00'", "time", "24:00:00"),
    ("time", "'838:59:59'", "time", "838:59:59"),
    ("time(6)", "'-838:59:58.999999'", "time", "-838:59:58.999999"),
    ("time", "'-00:00:01'", "time", "-00:00:01"),
    ("char(5)", "'ab'", "string", "ab"),
    ("char(5)", "''", "string", ""),
    ("varchar(20)", "'NULL'", "string", "NULL"),
    ("varchar(20)", "' a '", "string", " a "),
    ("varchar(20)", "'100%s {}'", "string", "100%s {}"),
    ("varchar(20)", "'back\\\\slash''s'", "string", "back\\slash's"),
    ("varchar(20)", "'😀𐍈'", "string", "😀𐍈"),
    ("varchar(20)", "concat('a', char(0), 'b')", "string", "a\0b"),
    ("varchar(20) character set latin1", "'Ünïcödé €'", "string", "Ünïcödé €"),
    ("varchar(20) character set utf8mb3", "'Grüße'", "string", "Grüße"),
    ("varchar(20) character set ucs2", "'Ωmega'", "string", "Ωmega"),
    ("varchar(20) character set cp1251", "'Привет'", "string", "Привет"),
    ("text", "repeat('x', 65535)", "string", "x" * 65535),
    ("longtext", "repeat('ß', 1000000)", "string", "ß" * 1_000_000),
    ("longtext", "'line\\r\\nnext'", "string", "line\r\nnext"),
    ("binary(4)", "'ab'", "binary", b"ab\0\0"),
    ("varbinary(20)", "''", "binary", b""),
    ("varbinary(20)", "x'00ff80'", "binary", b"\x00\xff\x80"),
    ("blob", "'😀'", "binary", "😀".encode()),
    ("longblob", "repeat(x'00', 100000)", "binary", b"\0" * 100_000),
    ("json", "'{\"a\": 1.10, \"b\": null}'", "string", '{"a": 1.10, "b": null}'),
    ("json", "'null'", "string", "null"),
    ("enum('a','','ü')", "'ü'", "string", "ü"),
    ("enum('a','')", "''", "string", ""),
    ("set('x','y')", "'x,y'", "string", "x,y"),
    ("set('x','y')", "''", "string", ""),
    ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("inet6", "'2001:db8::ff00:42:8329'", "string", "2001:db8::ff00:42:8329"),
    ("inet4", "'192.0.2.1'", "string", "192.0.2.1"),
    ("point", "point(1, -1)", "binary",
     bytes.fromhex("000000000101000000000000000000f03f000000000000f0bf")),
    *((kind, "null", learned, None) for kind, learned in (
        ("int", "int32"), ("decimal(9,2)", "decimal(9,2)"), ("float", "float32"), ("date", "date"),
        ("timestamp null", "timestamptz"), ("time", "time"), ("text", "string"), ("blob", "binary"),
        ("bit(1)", "bool"), ("uuid", "uuid"), ("json", "string"),
    )),
]  # fmt: skip


def rows_of(source: Source, stream: Any, **reading: Any) -> list[tuple[Any, ...]]:
    names = [column.name for column in source.columns(stream)]
    asked = Reading(names=names, **reading)
    return [tuple(row) for batch in source.batches(stream, asked) for row in batch.rows]


def same(found: object, expected: object) -> bool:
    """Tell two values of one class apart as far as their text does: negative zero, digits, zones."""
    return type(found) is type(expected) and repr(found) == repr(expected)


@pytest.mark.parametrize("place", ["table", "query"])
def test_every_hard_value_is_read_exactly(
    open_sql: Opened, stream: Any, maria: Any, place: str
) -> None:
    columns = ", ".join(f"c{number} {entry[0]}" for number, entry in enumerate(VALUES))
    maria.execute(
        "set sql_mode = 'ALLOW_INVALID_DATES'",
        "set time_zone = '+00:00'",
        f"create table hard ({columns}) row_format=dynamic",
        f"insert into hard values ({', '.join(entry[1] for entry in VALUES)})",
    )
    source = open_sql(maria.options())
    asked = stream(table="hard") if place == "table" else stream(query="select * from hard;")
    learned = [str(column.type) for column in source.columns(asked)]
    expected = [entry[2] for entry in VALUES]
    if place == "query":
        # The protocol does not tell a UUID from text.
        expected = ["string" if kind == "uuid" else kind for kind in expected]
    assert learned == expected
    (row,) = rows_of(source, asked)
    wrong = [
        (entry, found)
        for entry, found in zip(VALUES, row, strict=True)
        if not same(found, entry[3])
    ]
    assert wrong == []


def test_columns_are_told_with_the_words_and_nulls_of_the_source(
    open_sql: Opened, stream: Any, maria: Any
) -> None:
    maria.execute("create table t (id int unsigned not null primary key, e enum('a','b'))")
    found = open_sql(maria.options()).columns(stream(table="t"))
    assert [(column.declared, column.nullable) for column in found] == [
        ("int(10) unsigned", False),
        ("enum('a','b')", True),
    ]


@pytest.mark.parametrize(
    "case",
    [
        ("tinyint(1)", "1", "bool", True),
        ("tinyint(1)", "0", "bool", False),
        ("tinyint(1)", "2", "bool", 2),
        ("bit(8)", "5", "int16", 5),
        ("bit(64)", "18446744073709551615", "decimal(20,0)", 2**64 - 1),
        ("bigint unsigned", "7", "int64", 7),
        ("time", "'838:59:59'", "interval", "838:59:59"),
        ("time(6)", "'-01:02:03.000004'", "string", "-01:02:03.000004"),
        ("date", "'0000-00-00'", "string", "0000-00-00"),
        ("datetime(6)", "'2024-01-02 03:04:05.000006'", "string", "2024-01-02 03:04:05.000006"),
        ("float", "0.1", "string", "0.10000000149011612"),
        ("decimal(9,3)", "1.5", "string", "1.500"),
        ("json", "'[1]'", "json", "[1]"),
    ],
)
def test_a_file_may_name_another_type_that_the_server_can_write_exactly(
    open_sql: Opened, stream: Any, maria: Any, case: tuple[str, str, str, Any]
) -> None:
    declared, written, wanted, value = case
    maria.execute(
        "set sql_mode = ''", f"create table t (c {declared})", f"insert into t values ({written})"
    )
    source = open_sql(maria.options())
    asked = stream(table="t", columns={"mine": {"from": "c", "type": wanted}})
    assert [str(column.type) for column in source.columns(asked)] == [wanted]
    assert [same(found, value) for (found,) in rows_of(source, asked)] == [True]


def test_expressions_of_a_query_have_types(open_sql: Opened, stream: Any, maria: Any) -> None:
    maria.execute("create table t (i int, d decimal(9,2), ts timestamp null)")
    query = (
        "select 1 as a, 1.50 as b, 1e0 as c, 'x' as d, null as e, sum(i) as f, count(*) as g,"
        " max(ts) as h, cast('1' as date) as i, x'00' as j, '100%' as k from t"
    )
    found = open_sql(maria.options()).columns(stream(query=query))
    assert [str(column.type) for column in found] == [
        "int32", "decimal(3,2)", "float64", "string", "None", "decimal(32,0)", "int64",
        "timestamptz", "date", "binary", "string",
    ]  # fmt: skip
    assert {column.nullable for column in found} == {True}


def test_odd_names_are_quoted(open_sql: Opened, stream: Any, maria: Any) -> None:
    maria.execute('create table `Odd ``%s {} Table` (`a``b %s "{}` int)')
    maria.execute("insert into `Odd ``%s {} Table` values (1)")
    source = open_sql(maria.options())
    asked = stream(table="Odd `%s {} Table")
    assert [column.name for column in source.columns(asked)] == ['a`b %s "{}']
    assert rows_of(source, asked) == [(1,)]
    assert rows_of(source, stream(name="again", table=f"{maria.name}.Odd `%s {{}} Table")) == [(1,)]
