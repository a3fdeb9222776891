import datetime as dt
import hashlib
import json
import math
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync._hashes import Hasher, canonical_text
from aiia_pipelines.sync.contract import Contract, ContractColumn
from aiia_pipelines.sync.convert import from_python
from aiia_pipelines.sync.reconcile import canonical, compare, mismatch
from aiia_pipelines.sync.totals import Totals, figures_of

D = Decimal
_WIDE = Context(prec=100)
INSTANT = dt.datetime(2026, 1, 31, 10, 0, 0, 1, tzinfo=dt.UTC)

# Written down by hand from the rules that all destinations follow.
CANONICAL: dict[str, list[tuple[Any, str]]] = {
    "bool": [(True, "t"), (False, "f")],
    "int16": [(-32768, "-32768")],
    "int64": [(2**63 - 1, "9223372036854775807")],
    "float32": [(0.5, "3fe0000000000000"), (0.1, "3fb99999a0000000"), (math.nan, "7ff8000000000000")],
    "float64": [(-0.0, "8000000000000000"), (math.inf, "7ff0000000000000"), (5e-324, "0000000000000001")],
    "decimal(18,2)": [(D(0), "0.00"), (D("-0.01"), "-0.01"), (D(5), "5.00")],
    "decimal(10,0)": [(D(-5), "-5")],
    "decimal(20,10)": [(D("1E-10"), "0.0000000001"), (D("-1.5"), "-1.5000000000")],
    "decimal(38,38)": [(D("-0." + "1" * 38), "-0." + "1" * 38)],
    "decimal(76,0)": [(D("9" * 76), "9" * 76)],
    "decimal(100,2)": [(D("1.5"), "1.50")],
    "decimal": [(D("1E+3"), "1000"), (D("NaN"), "NaN"), (D("0.000"), "0.000")],
    "string": [("", ""), ("ü😀", "ü😀")],
    "binary": [(b"", ""), (b"\x00\xff", "00ff")],
    "date": [(dt.date(1, 1, 1), "-719162"), (dt.date(1970, 1, 2), "1")],
    "time": [(dt.time(0, 0, 1), "1000000")],
    "timestamp": [(dt.datetime(1969, 12, 31, 23, 59, 59, 999999), "-1")],  # noqa: DTZ001
    "timestamptz": [(INSTANT, "1769853600000001")],
    "interval": [("1 mon", "1 mon")],
    "uuid": [("00000000-0000-0000-0000-00000000000A", "00000000-0000-0000-0000-00000000000a")],
    "json": [("null", "null")],
    "list<int32>": [([], ""), ([1, None, -1], "1:1-2:-1")],
    "list<string>": [(["a:b", "", "ü😀", None, "-"], "3:a:b0:2:ü😀-1:-")],
    "list<list<int32>>": [([[1, 2], None, []], "6:1:11:2-0:")],
    "list<float64>": [([0.5, None], "16:3fe0000000000000-")],
}  # fmt: skip


def contract(**kinds: str) -> Contract:
    columns = [
        ContractColumn(name=name, source=name, type=ColumnType.parse(kind), nullable=True, checks={})
        for name, kind in kinds.items()
    ]  # fmt: skip
    return Contract(tuple(columns), (), (), None, None)


def totals(level: str, kind: str, *batches: list[Any]) -> Totals:
    held = contract(c=kind)
    found = Totals(held, level)
    for batch in batches:
        found.add(held.parse([(value,) for value in batch], 1))
    return found


@pytest.mark.parametrize("name", CANONICAL)
def test_every_value_has_one_text_and_its_hash_is_that_of_md5(name: str) -> None:
    kind = ColumnType.parse(name)
    values = from_python(kind, [None, *(value for value, _ in CANONICAL[name])])
    assert canonical_text(kind, values).to_pylist() == [None, *(t for _, t in CANONICAL[name])]
    assert canonical_text(kind, values[1:]).to_pylist() == [text for _, text in CANONICAL[name]]
    hashes = [int(hashlib.md5(t.encode()).hexdigest()[:15], 16) for _, t in CANONICAL[name]]
    hasher = Hasher()
    assert hasher.sums(
        [(kind, values), (ColumnType("string"), pa.nulls(len(values), pa.string()))]
    ) == [
        sum(hashes),
        None,
    ]
    assert hasher.sums([(kind, values[:1])]) == [None]


def test_the_figures_of_a_level_go_with_the_type() -> None:
    kinds = ["int32", "decimal(38,2)", "decimal(39,2)", "float64", "string", "uuid", "list<int32>"]
    found = {kind: figures_of(ColumnType.parse(kind), "full") for kind in kinds}
    assert found == {
        "int32": ("nulls", "sum", "min", "max", "hash"),
        "decimal(38,2)": ("nulls", "sum", "min", "max", "hash"),
        "decimal(39,2)": ("nulls", "hash"),
        "float64": ("nulls", "min", "max", "hash"),
        "string": ("nulls", "min", "max", "hash"),
        "uuid": ("nulls", "hash"),
        "list<int32>": ("nulls", "hash"),
    }
    assert figures_of(ColumnType("int32"), "count") == ()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)), max_size=4))
def test_sums_of_whole_numbers_lose_no_digit(batches: list[list[int | None]]) -> None:
    values = [value for batch in batches for value in batch if value is not None]
    found = totals("totals", "int64", *batches).figures()
    assert found["c", "sum"] == (sum(values) if values else None)
    assert (found["c", "min"], found["c", "max"]) == (
        (min(values), max(values)) if values else (None, None)
    )
    assert found["c", "nulls"] == sum(batch.count(None) for batch in batches)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(10**38) + 1, 10**38 - 1) | st.integers(-9, 9), max_size=6))
def test_sums_of_the_widest_decimals_lose_no_digit(units: list[int]) -> None:
    values = [D(unit).scaleb(-10, context=_WIDE) for unit in units]
    found = totals("totals", "decimal(38,10)", values).figures()
    assert found["c", "sum"] == (D(sum(units)).scaleb(-10, context=_WIDE) if units else None)


@pytest.mark.parametrize("name", CANONICAL)
def test_figures_that_were_written_down_go_on_exactly(name: str) -> None:
    values = [None, *(value for value, _ in CANONICAL[name])]
    whole = totals("full", name, values, values[::-1])
    for first, second in ((values, values[::-1]), ([None], [*values, *values[1:]])):
        again = Totals(contract(c=name), "full")
        again.load(json.loads(json.dumps(totals("full", name, first).dump())))
        again.add(contract(c=name).parse([(value,) for value in second], 1))
        assert mismatch("rows", compare(whole.figures(), again.figures())) is None
        assert again.dump() == whole.dump()


def test_the_level_count_counts_rows_only() -> None:
    assert totals("count", "int32", [1, None], [2]).figures() == {("", "rows"): 3}


def test_not_a_number_is_neither_least_nor_greatest() -> None:
    found = totals("totals", "float64", [math.nan, None], [1.5, -0.0, math.nan], [math.inf])
    assert found.figures()["c", "min"] == 0
    assert found.figures()["c", "max"] == math.inf
    assert totals("totals", "float64", [math.nan]).figures()["c", "min"] is None


def test_a_text_of_the_data_stands_in_no_figure_and_no_sentence() -> None:
    found = totals("totals", "string", ["Secret-1", "Secret-2"]).figures()
    other = dict(found) | {("c", "max"): "Secret-3"}
    fault = mismatch("rows", compare(found, other))
    assert fault is not None
    assert "Secret" not in f"{fault}{fault.report}"
    digest = hashlib.sha256(b"Secret-2").hexdigest()[:12]
    assert f"c: max is {digest} at the source" in str(fault)


@pytest.mark.parametrize(
    ("one", "same"),
    [
        (D("1.50"), D("1.5")),
        (D("1E+3"), 1000),
        (-0.0, 0.0),
        (INSTANT, INSTANT.astimezone(dt.timezone(dt.timedelta(hours=2)))),
        ("a", "a"),
        (dt.date(2026, 1, 31), dt.date(2026, 1, 31)),
        (None, None),
    ],
)
def test_the_same_value_has_the_same_text(one: Any, same: Any) -> None:
    assert canonical(one) == canonical(same)


def test_batches_of_all_types_are_counted_by_column() -> None:
    held = contract(a="int32", b="list<string>")
    found = Totals(held, "full")
    found.add(pa.RecordBatch.from_pylist([], schema=held.schema))
    found.add(held.parse([(1, ["x"]), (None, None)], 1))
    figures = found.figures()
    assert figures["", "rows"] == 2
    assert (figures["a", "nulls"], figures["b", "nulls"]) == (1, 1)
    assert figures["a", "hash"] == int(hashlib.md5(b"1").hexdigest()[:15], 16)
