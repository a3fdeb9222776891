import datetime as dt
import math
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync.convert import arrow_type, masked, to_arrow
from aiia_pipelines.sync.faults import ContractBroken

UTC = dt.UTC
EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))
NAIVE = dt.datetime(2026, 1, 31, 10, 0)  # noqa: DTZ001 - a timestamp without zone


def kind(name: str) -> ColumnType:
    return ColumnType.parse(name)


EXACT: dict[str, list[Any]] = {
    "bool": [True, False],
    "int16": [-(2**15), 2**15 - 1],
    "int32": [-(2**31), 2**31 - 1],
    "int64": [-(2**63), 2**63 - 1],
    "float32": [0.5, 0.1, -0.0, math.inf, -math.inf, 3.4028235e38, 1e-45],
    "float64": [0.1, -0.0, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 7],
    "decimal(38,10)": [Decimal("1234567890123456789012345678.0123456789"), 5, Decimal("1E+3")],
    "decimal(60,2)": [Decimal("9" * 58 + ".99")],
    "string": [
        "",
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        "a\r\nb",
        "NULL",
    ],
    "binary": [b"", b"\x00\xff", bytearray(b"a"), memoryview(b"b")],
    "date": [dt.date(1, 1, 1), dt.date(9999, 12, 31)],
    "time": [dt.time(0), dt.time(23, 59, 59, 999999)],
    "timestamp": [dt.datetime.min, dt.datetime.max, NAIVE],  # noqa: DTZ901
    "timestamptz": [NAIVE.replace(tzinfo=UTC), NAIVE.replace(tzinfo=EAST, microsecond=1)],
    "interval": ["1 mon 2 days -03:00:00"],
    "uuid": [UUID(int=7), str(UUID(int=8))],
    "json": ["null", '{"big": 12345678901234567890.1234567890}'],
    "list<int32>": [[], [1, None, -1]],
    "list<string>": [['a"b', "c\\d", None, "", "NULL", "e\nf"]],
}


@pytest.mark.parametrize("name", EXACT)
def test_what_fits_stays_exactly_what_it_was(name: str) -> None:
    values = [*EXACT[name], None]
    found = to_arrow("c", kind(name), values, 1)
    assert found.type == arrow_type(kind(name))
    assert found.null_count == 1
    for before, after in zip(values, found.to_pylist(), strict=True):
        if name == "float32" and before is not None:
            assert np.float32(after) == np.float32(before)
            assert math.copysign(1, after) == math.copysign(1, before)
        elif name == "uuid":
            assert before is None or str(before) == after
        else:
            assert before == after


def test_not_a_number_stays_so_and_is_no_null() -> None:
    for name in ("float32", "float64"):
        found = to_arrow("c", kind(name), [math.nan], 1)
        assert found.null_count == 0
        assert math.isnan(found[0].as_py())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1E-20"), "0.00000000000000000001"),
        (Decimal("NaN"), "NaN"),
        (Decimal("-Infinity"), "-Infinity"),
        (Decimal("-0.00"), "0.00"),
        (10**60, "1" + "0" * 60),
    ],
)
def test_an_unbounded_decimal_travels_as_its_digits(value: Any, text: str) -> None:
    assert to_arrow("c", kind("decimal"), [value], 1).to_pylist() == [text]


MISFITS: list[tuple[str, Any]] = [
    ("bool", 1),
    ("int16", 2**15),
    ("int32", -(2**31) - 1),
    ("int64", 2**63),
    ("int32", True),
    ("int32", 1.0),
    ("float64", 2**53 + 1),
    ("float32", 2**24 + 1),
    ("float32", 0.123456789012),
    ("float32", 1e39),
    ("float64", Decimal("0.1")),
    ("decimal(5,2)", Decimal(1000)),
    ("decimal(5,2)", Decimal("1.005")),
    ("decimal(5,2)", Decimal("NaN")),
    ("decimal(5,2)", Decimal("Infinity")),
    ("decimal(5,2)", 0.5),
    ("string", "a\0b"),
    ("string", "\ud800"),
    ("string", 5),
    ("string", b"a"),
    ("date", NAIVE),
    ("date", "infinity"),
    ("time", dt.time(1, tzinfo=UTC)),
    ("time", "24:00:00"),
    ("timestamp", NAIVE.replace(tzinfo=UTC)),
    ("timestamp", "-infinity"),
    ("timestamp", dt.date(2026, 1, 1)),
    ("timestamptz", NAIVE),
    ("timestamptz", "0044-03-15 00:00:00+00 BC"),
    ("json", {"a": 1}),
    ("uuid", 5),
    ("list<int32>", [1, "x"]),
    ("list<int32>", [[1, 2], [3, 4]]),
    ("list<int16>", [2**15]),
    ("list<string>", "abc"),
    ("list<string>", ["a\0b"]),
    ("list<timestamp>", [NAIVE.replace(tzinfo=UTC)]),
    ("list<timestamptz>", [NAIVE]),
    ("list<bool>", [1]),
    ("list<int32>", [True]),
    ("list<date>", [NAIVE]),
]


@pytest.mark.parametrize(("name", "value"), MISFITS)
def test_what_does_not_fit_is_named_by_column_and_row(name: str, value: Any) -> None:
    with pytest.raises(ContractBroken) as broken:
        to_arrow("amount", kind(name), [None, value, None], 1000)
    sentence = f"Value does not fit. Column 'amount', row 1,001: a {type(value).__name__} that is"
    assert str(broken.value) == f"{sentence} no exact {kind(name)}."
    assert broken.value.signals == ("contract:value",)
    assert broken.value.report[0].startswith("column amount, row 1,001: ")


ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(),
    st.binary(),
    st.dates(),
    st.times(),
    st.datetimes(timezones=st.sampled_from([None, UTC, EAST])),
    st.uuids(),
    st.lists(st.one_of(st.none(), st.integers(), st.text())),
)


def same(before: Any, after: Any) -> bool:
    if isinstance(before, float) and isinstance(after, float):
        return after == before or (math.isnan(after) and math.isnan(before))
    if isinstance(after, str) and isinstance(before, Decimal | int | UUID):
        return (
            str(after) == str(before)
            or Decimal(after).compare_total(Decimal(before)) == 0
            or (Decimal(after) == Decimal(before))
        )
    return bool(before == after)


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from([name for name in EXACT if name != "float32"] + ["decimal"]),
    values=st.lists(ANY, min_size=1, max_size=5),
)
def test_any_value_survives_or_is_refused(name: str, values: list[Any]) -> None:
    try:
        found = to_arrow("c", kind(name), values, 1).to_pylist()
    except ContractBroken as broken:
        assert broken.report  # noqa: PT017 - both outcomes are right, silence is not
        return
    assert all(
        (before is None) == (after is None) and (before is None or same(before, after))
        for before, after in zip(values, found, strict=True)
    )


@settings(max_examples=200, deadline=None)
@given(value=st.floats(width=32))
def test_every_number_of_32_bits_fits(value: float) -> None:
    found = to_arrow("c", kind("float32"), [value], 1)[0].as_py()
    assert same(value, found)


def test_a_shown_value_shows_only_its_shape() -> None:
    assert masked("Ab-1 ä@x.org") == "xx-# x@x.xxx"
    assert masked("1" * 50) == "#" * 40 + "…"
    assert masked(10**5000) == "x xxx xx xxxx xxxx xxxxxx"
