# ruff: noqa: DTZ001 - times without a zone are values of a source
"""SQLite as a source: what a column is declared as and what it holds are two things, told apart exactly."""

import datetime as dt
import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.connectors.base import Reading, Source
from aiia_pipelines.sync.contract import agree
from aiia_pipelines.sync.faults import ContractBroken

Opened = Callable[..., Source]
UTC = dt.UTC

# declared as, stored as, learned as, read as, whether the contract takes it
VALUES: list[tuple[str, Any, str, Any, bool]] = [
    ("integer", 2**63 - 1, "int64", 2**63 - 1, True),
    ("integer", -(2**63), "int64", -(2**63), True),
    ("int", 0, "int64", 0, True),
    ("bigint", 2**53 + 1, "int64", 2**53 + 1, True),
    ("unsigned big int", 5, "int64", 5, True),
    ("smallint", 32767, "int16", 32767, True),
    ("smallint", 32768, "int16", 32768, False),
    ("integer", "abc", "int64", "abc", False),
    ("integer", "", "int64", "", False),
    ("integer", 1.5, "int64", 1.5, False),
    ("integer", b"1", "int64", b"1", False),
    ("integer", 1e300, "int64", 1e300, False),
    ("boolean", 1, "bool", True, True),
    ("boolean", 0, "bool", False, True),
    ("boolean", 2, "bool", 2, False),
    ("boolean", "true", "bool", "true", False),
    ("real", 0.1, "float64", 0.1, True),
    ("real", -0.0, "float64", 0.0, True),
    ("real", float("inf"), "float64", float("inf"), True),
    ("real", float("-inf"), "float64", float("-inf"), True),
    ("real", 5e-324, "float64", 5e-324, True),
    ("real", 1.7976931348623157e308, "float64", 1.7976931348623157e308, True),
    ("real", 3, "float64", 3.0, True),
    ("real", float("nan"), "float64", None, True),
    ("double precision", "much", "float64", "much", False),
    ("float", b"\0", "float64", b"\0", False),
    ("decimal(10,2)", "12345678.90", "decimal(10,2)", Decimal("12345678.9"), True),
    ("decimal(10,2)", 10.1, "decimal(10,2)", Decimal("10.1"), True),
    ("decimal(10,2)", -3, "decimal(10,2)", -3, True),
    ("decimal(10,2)", 0.1 + 0.2, "decimal(10,2)", 0.1 + 0.2, False),
    ("decimal(10,2)", 10.125, "decimal(10,2)", Decimal("10.125"), False),
    ("decimal(10,2)", "12,50", "decimal(10,2)", "12,50", False),
    ("numeric", 1e20, "decimal", Decimal("1e+20"), True),
    ("numeric", "1234567890123456789012", "decimal", 1.2345678901234568e21, False),
    ("numeric(12)", 999999999999, "decimal(12,0)", 999999999999, True),
    ("decimal(38,10)", float("inf"), "decimal(38,10)", float("inf"), False),
    ("text", "", "string", "", True),
    ("text", "😀𐍈 ä", "string", "😀𐍈 ä", True),
    ("text", "007", "string", "007", True),
    ("varchar(3)", "longer than three", "string", "longer than three", True),
    ("text", 5, "string", "5", True),
    ("text", 1.0, "string", "1.0", True),
    ("text", "a\0b", "string", "a\0b", None),
    ("text", b"\xff\xfe", "string", b"\xff\xfe", False),
    ("nvarchar(9)", "x" * 100_000, "string", "x" * 100_000, True),
    ("clob", "line\r\nnext", "string", "line\r\nnext", True),
    ("blob", b"", "binary", b"", True),
    ("blob", b"\x00\xff", "binary", b"\x00\xff", True),
    ("blob", "text", "binary", "text", False),
    ("blob", 7, "binary", 7, False),
    ("date", "2024-02-29", "date", dt.date(2024, 2, 29), True),
    ("date", "2023-02-29", "date", "2023-02-29", False),
    ("date", "20240229", "date", 20240229, False),
    ("date", "2024-W01-1", "date", "2024-W01-1", False),
    ("date", "2024-02-29 00:00:00", "date", "2024-02-29 00:00:00", False),
    ("date", 1700000000, "date", 1700000000, False),
    ("date", "0000-00-00", "date", "0000-00-00", False),
    ("date", "0001-01-01", "date", dt.date(1, 1, 1), True),
    ("time", "23:59:59.999999", "time", dt.time(23, 59, 59, 999999), True),
    ("time", "07:30", "time", dt.time(7, 30), True),
    ("time", "24:00:00", "time", "24:00:00", False),
    ("time", "12:00:00.1234567", "time", "12:00:00.1234567", False),
    ("timestamp", "2024-01-02 03:04:05", "timestamp", dt.datetime(2024, 1, 2, 3, 4, 5), True),
    ("timestamp", "2024-01-02T03:04:05.6", "timestamp", dt.datetime(2024, 1, 2, 3, 4, 5, 600000), True),
    ("timestamp", "2024-01-02 03:04:05.123456", "timestamp",
     dt.datetime(2024, 1, 2, 3, 4, 5, 123456), True),
    ("timestamp", "2024-01-02 03:04:05.1234567", "timestamp", "2024-01-02 03:04:05.1234567", False),
    ("timestamp", "2024-01-02 03:04:05.123456000", "timestamp",
     dt.datetime(2024, 1, 2, 3, 4, 5, 123456), True),
    ("datetime", "2024-01-02 03:04", "timestamp", dt.datetime(2024, 1, 2, 3, 4), True),
    ("datetime", "2024-01-02", "timestamp", "2024-01-02", False),
    ("datetime", "2024-01-02 03:04:05Z", "timestamp", dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), False),
    ("datetime", 1700000000, "timestamp", 1700000000, False),
    ("datetime", 2460000.5, "timestamp", 2460000.5, False),
    ("timestamptz", "2024-01-02 03:04:05+00:00", "timestamptz",
     dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), True),
    ("timestamp with time zone", "2024-01-02T03:04:05-05:30", "timestamptz",
     dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.timezone(-dt.timedelta(hours=5, minutes=30))), True),
    ("timestamptz", "2024-01-02 03:04:05", "timestamptz", dt.datetime(2024, 1, 2, 3, 4, 5), False),
    ("json", '{"a": null}', "json", '{"a": null}', True),
    ("json", "null", "json", "null", True),
    ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "uuid",
     "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", True),
    ("interval", "1 day 02:00:00", "interval", "1 day 02:00:00", True),
    *((kind, None, learned, None, True) for kind, learned in (
        ("integer", "int64"), ("decimal(9,2)", "decimal(9,2)"), ("date", "date"), ("blob", "binary"),
        ("timestamp", "timestamp"), ("text", "string"), ("boolean", "bool"),
    )),
]  # fmt: skip


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


def rows_of(source: Source, stream: Any, **reading: Any) -> list[tuple[Any, ...]]:
    names = [column.name for column in source.columns(stream)]
    asked = Reading(names=names, **reading)
    return [tuple(row) for batch in source.batches(stream, asked) for row in batch.rows]


def same(found: object, expected: object) -> bool:
    return type(found) is type(expected) and repr(found) == repr(expected)


@pytest.mark.parametrize("place", ["table", "query"])
def test_every_hard_value_is_read_exactly(
    open_sql: Opened, stream: Any, shop: Shop, place: str
) -> None:
    columns = ", ".join(f"c{number} {entry[0]}" for number, entry in enumerate(VALUES))
    shop.execute(f"create table hard ({columns})")
    marks = ", ".join(
        "cast(? as text)" if entry[0] == "text" and isinstance(entry[1], bytes) else "?"
        for entry in VALUES
    )
    shop.execute(f"insert into hard values ({marks})", *(entry[1] for entry in VALUES))
    source = open_sql(shop.options())
    asked = stream(table="hard") if place == "table" else stream(query="select * from hard;")
    if place == "query":
        # A column without affinity and one of bytes look alike there.
        names = {f"c{number}": entry for number, entry in enumerate(VALUES) if entry[0] == "blob"}
        asked = stream(
            query="select * from hard;", columns={name: {"type": "binary"} for name in names}
        )
    found = source.columns(asked)
    assert [str(column.type) for column in found] == [entry[2] for entry in VALUES]
    (row,) = rows_of(source, asked)
    wrong = [
        (entry, value)
        for entry, value in zip(VALUES, row, strict=True)
        if not same(value, entry[3])
    ]
    assert wrong == []


def test_the_contract_takes_what_is_exactly_of_the_type_and_refuses_the_rest(
    open_sql: Opened, stream: Any, shop: Shop
) -> None:
    wrong = []
    for number, (kind, stored, *_) in enumerate(VALUES):
        shop.execute(f"create table t{number} (c {kind})")
        mark = "cast(? as text)" if kind == "text" and isinstance(stored, bytes) else "?"
        shop.execute(f"insert into t{number} values ({mark})", stored)
    source = open_sql(shop.options())
    for number, (kind, stored, _, read, taken) in enumerate(VALUES):
        asked = stream(name=f"t{number}", table=f"t{number}")
        contract = agree(asked, source.columns(asked), None)
        assert rows_of(source, asked)[0][0] == read or read != read  # noqa: PLR0124 - NaN
        try:
            contract.parse(rows_of(source, asked), 1)
            accepted = True
        except ContractBroken:
            accepted = False
        if taken is not None and accepted is not taken:
            wrong.append((kind, stored, accepted))
    assert wrong == []


def test_the_types_of_the_file_come_before_the_declarations(
    open_sql: Opened, stream: Any, shop: Shop
) -> None:
    shop.execute("create table t (a text, b, c numeric, d any, e integer)")
    shop.execute("insert into t values ('2024-01-02 03:04:05', '7.25', 2, 'x', 1)")
    source = open_sql(shop.options())
    assert [str(column.type) for column in source.columns(stream(table="t"))] == [
        "string", "None", "decimal", "None", "int64",
    ]  # fmt: skip
    kinds = {"a": "timestamp", "b": "decimal(9,2)", "c": "int64", "d": "string", "e": "bool"}
    asked = stream(table="t", columns={name: {"type": kind} for name, kind in kinds.items()})
    assert [str(column.type) for column in source.columns(asked)] == list(kinds.values())
    expected = (dt.datetime(2024, 1, 2, 3, 4, 5), Decimal("7.25"), 2, "x", True)
    assert rows_of(source, asked) == [expected]


def test_a_query_has_the_types_of_the_columns_it_takes_and_none_for_what_it_computes(
    open_sql: Opened, stream: Any, shop: Shop
) -> None:
    shop.execute("create table t (a decimal(10,2), b timestamp, c text)")
    source = open_sql(shop.options())
    found = source.columns(stream(query="select a as x, b, c, count(*) as n, a + 1 as m from t"))
    assert [(column.name, str(column.type)) for column in found][:4] == [
        ("x", "decimal(10,2)"),
        ("b", "timestamp"),
        ("c", "string"),
        ("n", "None"),
    ]
    # The view by which that was asked is gone, and nothing can be written.
    again = source.columns(stream(name="again", query="select 1 as one"))
    assert [column.name for column in again] == ["one"]
    with pytest.raises(Exception, match="readonly"):
        source._open.exec_driver_sql("create table u (a)")  # type: ignore[attr-defined]


def test_only_the_number_of_a_row_is_a_primary_key_without_null(
    open_sql: Opened, stream: Any, shop: Shop
) -> None:
    shop.execute("create table a (id integer primary key, b text not null)")
    shop.execute("create table c (id text primary key, d int generated always as (1))")
    source = open_sql(shop.options())
    for table, expected in (("a", [False, False]), ("c", [True, True])):
        found = source.columns(stream(name=table, table=table))
        assert [column.nullable for column in found] == expected


def test_views_attached_names_and_odd_names_are_read(
    open_sql: Opened, stream: Any, shop: Shop
) -> None:
    shop.execute('create table "Odd ""Table" ("a""b %s {}" integer)')
    shop.execute('insert into "Odd ""Table" values (1)')
    shop.execute('create view v as select * from "Odd ""Table"')
    source = open_sql(shop.options())
    assert rows_of(source, stream(table='Odd "Table')) == [(1,)]
    assert rows_of(source, stream(name="b", table='main.Odd "Table')) == [(1,)]
    assert rows_of(source, stream(name="c", table="v")) == [(1,)]
