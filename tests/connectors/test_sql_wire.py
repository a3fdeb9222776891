"""Rows of PostgreSQL's binary COPY taken apart, against what the driver reads of the same rows."""

import uuid
from decimal import Decimal
from random import Random
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors import _sql_postgresql_faults as faults
from aiia_pipelines.connectors import _sql_wire as wire
from aiia_pipelines.connectors._sql_wire_bytes import PADDING, Bytes
from aiia_pipelines.connectors.base import SourceFault
from aiia_pipelines.jobs.classify import classify

pytestmark = pytest.mark.integration
Values = list[Any]


@pytest.fixture
def copied(source_db: Any) -> Any:
    """Store values in a column, and give them as COPY writes them and as the driver reads them."""

    def make(declared: str, kind: str, values: Values) -> tuple[wire.Rows, Values]:
        with psycopg.connect(source_db.url(), autocommit=True, prepare_threshold=None) as db:
            db.execute("drop table if exists wired")
            db.execute(f"create table wired (i int not null, v {declared}, t text)")
            with db.cursor().copy("copy wired from stdin") as into:
                for place, value in enumerate(values):
                    into.write_row((place, value, "ü" * (place % 5)))
            data, ends = bytearray(), []
            with db.cursor().copy("copy (select * from wired) to stdout (format binary)") as out:
                for row in out:
                    data += row
                    ends.append(len(data))
            expected = [row[0] for row in db.execute("select v from wired order by i").fetchall()]
        assert bytes(data[-2:]) == b"\xff\xff"
        until = np.array(ends[:-1], np.int64)
        begins = np.concatenate(([len(wire.HEADER)], until[:-1]))
        kinds = [ColumnType.parse(each) for each in ("int32", kind, "string")]
        return wire.Rows(Bytes(data + bytes(PADDING)), begins, until, kinds), expected

    return make


DECIMALS = [
    "18,2", "12,6", "18,0", "18,18", "5,4", "9,3", "17,5", "1,0", "1,1", "19,4", "20,1", "30,7", "38,0", "38,10", "38,38",
]  # fmt: skip


@pytest.mark.parametrize("form", DECIMALS)
def test_decimals_of_every_length_keep_each_digit(copied: Any, form: str) -> None:
    kind = ColumnType.parse(f"decimal({form})")
    precision, scale = kind.precision or 0, kind.scale or 0
    chance, values = Random(form), [None, Decimal(0)]
    for digits in range(precision + 1):
        # Whole powers of ten have fewer digits on the wire than they have places.
        every = [chance.randrange(10**digits) for _ in range(40)] + [10**digits - 1]
        every += [10 ** (digits - 1)] if digits else []
        values += [Decimal(f"{sign * number}e-{scale}") for number in every for sign in (1, -1)]
    rows, expected = copied(f"numeric({form})", str(kind), values)
    found = rows.column(1)
    assert found.type == pa.decimal128(precision, scale)
    assert found.to_pylist() == expected
    assert rows.column(2).to_pylist() == ["ü" * (place % 5) for place in range(len(values))]


def test_numbers_that_are_none_are_told_by_their_texts(copied: Any) -> None:
    values = [Decimal("1.50"), Decimal("NaN"), None, Decimal("-100.00"), Decimal("-0.05")]
    rows, _ = copied("numeric(8,2)", "decimal(8,2)", values)
    assert rows.column(1).to_pylist() == ["1.50", "NaN", None, "-100.00", "-0.05"]
    assert rows.blank(1) is None
    wide = [Decimal("NaN"), Decimal("-1234567890123456789012345678.0123456789")]
    rows, _ = copied("numeric(38,10)", "decimal(38,10)", wide)
    assert rows.column(1).to_pylist() == ["NaN", str(wide[1])]
    infinite, _ = copied("numeric", "decimal(8,2)", [Decimal("Infinity"), Decimal("-Infinity")])
    assert infinite.column(1).to_pylist() == ["Infinity", "-Infinity"]


def test_uuids_are_written_as_postgresql_does(copied: Any) -> None:
    chance = Random(7)
    values = [None, *(uuid.UUID(int=chance.getrandbits(128)) for _ in range(500)), uuid.UUID(int=0)]
    rows, expected = copied("uuid", "uuid", values)
    assert rows.column(1).to_pylist() == [None if v is None else str(v) for v in expected]


@pytest.mark.parametrize(
    ("declared", "kind", "values"),
    [
        ("bool", "bool", [True, None, False]), ("int2", "int16", [-1, None, 7]), ("int4", "int32", [-(2**31), None]),
        ("int8", "int64", [2**63 - 1, None, -1]), ("float4", "float32", [0.5, None]), ("float8", "float64", [-0.1, None]),
        ("text", "string", ["", None, "x" * 300]), ("bytea", "binary", [b"", None, b"\0"]), ("json", "json", ["1", None]),
        ("uuid", "uuid", [uuid.UUID(int=5), None]), ("numeric(9,2)", "decimal(9,2)", [Decimal("1.25"), None]),
    ],
)  # fmt: skip
def test_a_blank_column_tells_which_values_are_null_and_no_more(
    copied: Any, declared: str, kind: str, values: Values
) -> None:
    rows, expected = copied(declared, kind, values)
    blank, whole = rows.blank(1), rows.column(1)
    assert blank is not None
    blank.validate(full=True)
    assert blank.type == whole.type
    assert blank.is_null().to_pylist() == [value is None for value in expected]
    assert len(set(blank.drop_null().to_pylist())) == 1


def test_what_is_huge_is_never_blank(copied: Any) -> None:
    rows, _ = copied("text", "string", ["x" * (2**20 + 1)])
    assert rows.blank(1) is None


def test_rows_can_be_left_out(copied: Any) -> None:
    rows, _ = copied("text", "string", list(map(str, range(100))))
    kept = rows.only(np.array([0, 1, 2, 50, 98, 99]))
    assert kept.column(0).to_pylist() == [0, 1, 2, 50, 98, 99]
    header, *pieces, trailer = kept.copied()
    assert (header, trailer) == (wire.HEADER, b"\xff\xff")
    assert len(pieces) == 3
    assert sum(map(len, pieces)) == kept.wire_bytes < kept.nbytes
    assert rows.tail().column(1).to_pylist() == ["99"]
    assert list(rows.only(np.array([], np.int64)).copied()) == [wire.HEADER, b"\xff\xff"]


def test_rows_of_other_columns_are_refused(copied: Any) -> None:
    rows, _ = copied("int4", "int32", [1, 2])
    rows.kinds = rows.kinds[:2]
    with pytest.raises(wire.Garbled, match="other columns"):
        rows.column(0)
    rows, _ = copied("int4", "int64", [1, 2])
    with pytest.raises(wire.Garbled, match="8 bytes"):
        rows.column(1)
    beyond = Bytes(bytearray(b"\0\1\x7f\0\0\0" + bytes(PADDING)))
    ends = np.array([6])
    for kinds in (["int32"], ["int32", "string"]):
        lost = wire.Rows(beyond, ends - 6, ends, [ColumnType.parse(kind) for kind in kinds])
        with pytest.raises(wire.Garbled):
            lost.looked_through()


def test_garbled_rows_are_a_fault_of_the_protocol() -> None:
    told = faults.in_use(wire.Garbled("the rows have other columns than they should"))
    assert told.signals == ("protocol:error",)
    assert classify(SourceFault(told.sentence, *told.signals)).code == "protocol-error"
