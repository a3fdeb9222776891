import datetime as dt
import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors.base import Batch
from aiia_pipelines.jobs.failures import classify
from aiia_pipelines.sync.contract import Contract, ContractColumn
from aiia_pipelines.sync.destinations.base import REJECTED
from aiia_pipelines.sync.faults import ContractBroken
from aiia_pipelines.sync.sieve import Sieve, Sifted


def column(name: str, kind: str, **more: Any) -> ContractColumn:
    given = {"nullable": True, "checks": {}} | more
    return ContractColumn(name=name, source=name.upper(), type=ColumnType.parse(kind), **given)


def contract(*columns: ContractColumn) -> Contract:
    return Contract(columns, (), (), None, None)


ORDERS = contract(
    column("id", "int32", nullable=False),
    column("amount", "decimal(5,2)", checks={"ge": 0}),
    column("note", "string", checks={"isin": ["a", "b"]}),
)


def sift(sieve: Sieve, batch: Batch) -> Sifted:
    return sieve.sift(sieve.parse(batch))


def rows(*values: tuple[Any, ...]) -> Batch:
    return Batch(values, where=lambda place: f"orders.csv, line {place + 2}")


def arrow(**columns: list[Any]) -> Batch:
    return Batch(pa.RecordBatch.from_pydict({name: pa.array(v) for name, v in columns.items()}))


GOOD = (1, Decimal("1.00"), "a")


def test_good_rows_pass_as_they_are() -> None:
    sieve = Sieve(ORDERS, quarantine=False, schema=None)
    found = sift(sieve, rows(GOOD, (2, None, None)))
    assert found.rows.to_pylist() == [
        {"id": 1, "amount": Decimal("1.00"), "note": "a"},
        {"id": 2, "amount": None, "note": None},
    ]
    assert (found.rejected, sieve.rows, sieve.rejected, sieve.violations) == (None, 2, 0, [])


@pytest.mark.parametrize("quarantine", [False, True])
def test_a_batch_without_rows_passes(quarantine: bool) -> None:
    sieve = Sieve(ORDERS, quarantine=quarantine, schema=None)
    for empty in (Batch(()), arrow(id=[], amount=[], note=[])):
        found = sift(sieve, empty)
        assert (found.rows.num_rows, found.rows.schema) == (0, ORDERS.schema)
        assert found.rejected is None


def test_a_value_that_does_not_fit_is_named_by_column_row_and_line() -> None:
    sieve = Sieve(ORDERS, quarantine=False, schema=None)
    sift(sieve, rows(GOOD, GOOD))
    with pytest.raises(ContractBroken) as broken:
        sieve.parse(rows(GOOD, (2, Decimal("1.005"), "a")))
    assert str(broken.value) == (
        "Value does not fit. Column 'amount', row 4 (orders.csv, line 3): a Decimal that is no exact decimal(5,2)."
    )
    assert broken.value.report == ("column amount, row 4 (orders.csv, line 3): #.###",)


def test_a_text_column_is_refused_by_the_same_sentence() -> None:
    sieve = Sieve(ORDERS, quarantine=False, schema=None)
    with pytest.raises(ContractBroken, match="Column 'amount', row 2: a str that is no exact"):
        sieve.parse(arrow(id=["1", "2"], amount=["1.00", "NaN"], note=["a", "a"]))


def test_after_a_broken_rule_rows_are_counted_but_not_given_any_more() -> None:
    sieve = Sieve(ORDERS, quarantine=False, schema=None)
    assert sift(sieve, rows(GOOD)).rows.num_rows == 1
    for _ in range(3):
        found = sift(sieve, rows(GOOD, (2, Decimal(-1), "x"), GOOD))
        assert (found.rows.num_rows, found.rejected) == (0, None)
    assert sift(sieve, rows(GOOD)).rows.num_rows == 0
    assert sieve.rows == 11
    assert {violation.rule: violation.count for violation in sieve.violations} == {
        "ge(0)": 3,
        "isin(['a', 'b'])": 3,
    }
    fault = sieve.fault("orders")
    assert str(fault) == "Invalid values in orders: column 'amount' breaks ge(0) in 3 rows."
    assert "row 3 (orders.csv, line 3): -#; row" not in fault.report[0]
    assert "row 3 (orders.csv, line 3): -#" in fault.report[0]


def test_a_value_that_does_not_fit_is_counted_with_what_was_broken_before_it() -> None:
    sieve = Sieve(ORDERS, quarantine=False, schema=None)
    sift(sieve, rows((1, Decimal(-1), "a")))
    assert sift(sieve, rows(GOOD, ("x", None, None))).rows.num_rows == 0
    assert [(v.rule, v.count) for v in sieve.violations] == [("ge(0)", 1), ("type(int32)", 1)]


def test_under_quarantine_bad_rows_are_set_aside_with_their_reasons() -> None:
    sieve = Sieve(ORDERS, quarantine=True, schema=None)
    first = sift(sieve, rows(GOOD))
    assert (first.rows.num_rows, first.rejected) == (1, None)
    found = sift(
        sieve,
        rows(GOOD, ("x", Decimal("1.005"), "a"), (3, Decimal(-1), "z"), (None, None, None), GOOD),
    )
    assert found.rows.to_pylist() == [{"id": 1, "amount": Decimal("1.00"), "note": "a"}] * 2
    assert found.rejected is not None
    assert found.rejected.schema == REJECTED
    assert found.rejected.to_pylist() == [
        {
            "row": 3,
            "place": "orders.csv, line 3",
            "rules": "id: type(int32); amount: type(decimal(5,2))",
            "record": '{"id": "x", "amount": "1.005", "note": "a"}',
        },
        {
            "row": 4,
            "place": "orders.csv, line 4",
            "rules": "amount: ge(0); note: isin(['a', 'b'])",
            "record": '{"id": 3, "amount": "-1", "note": "z"}',
        },
        {
            "row": 5,
            "place": "orders.csv, line 5",
            "rules": "id: not_null",
            "record": '{"id": null, "amount": null, "note": null}',
        },
    ]
    assert (sieve.rows, sieve.rejected) == (6, 3)
    assert [(v.column, v.rule, v.family, v.samples) for v in sieve.violations] == [
        ("id", "type(int32)", "value", ["row 3 (orders.csv, line 3): x"]),
        ("amount", "type(decimal(5,2))", "value", ["row 3 (orders.csv, line 3): #.###"]),
        ("id", "not_null", "rule", ["row 5 (orders.csv, line 5): null"]),
        ("amount", "ge(0)", "rule", ["row 4 (orders.csv, line 4): -#.##"]),
        ("note", "isin(['a', 'b'])", "rule", ["row 4 (orders.csv, line 4): x"]),
    ]


def test_every_row_is_given_or_set_aside_never_both() -> None:
    sieve = Sieve(ORDERS, quarantine=True, schema=None)
    given, aside = 0, 0
    for _ in range(40):  # beyond the samples, where the gate alone counts
        batch = arrow(
            id=[str(n) if n % 7 else "x" for n in range(100)],
            amount=["1.5" if n % 5 else "-1" for n in range(100)],
            note=["a" if n % 3 else "?" for n in range(100)],
        )
        found = sift(sieve, batch)
        given += found.rows.num_rows
        aside += found.rejected.num_rows if found.rejected else 0
        assert {row["id"] for row in found.rows.to_pylist()} == {
            n for n in range(100) if n % 3 and n % 5 and n % 7
        }
    assert given + aside == sieve.rows == 4000
    assert aside == sieve.rejected
    assert {violation.count for violation in sieve.violations} == {15 * 40, 17 * 40, 29 * 40}


def test_a_record_that_is_set_aside_keeps_what_can_be_kept() -> None:
    held = contract(*(column(name, "int32") for name in "abcdefgh"))
    sieve = Sieve(held, quarantine=True, schema=None)
    row = (
        "x" * 5000,
        b"\0\xff",
        "\ud800",
        "a\0",
        [1, None],
        dt.date(2026, 1, 31),
        float("nan"),
        10**5000,
    )
    found = sift(sieve, Batch((row,)))
    assert found.rejected is not None
    (record,) = found.rejected["record"].to_pylist()
    kept = json.loads(record)
    assert kept["a"] == "x" * 4096 + "… (5,000 characters)"
    assert (kept["b"], kept["c"], kept["d"], kept["e"]) == ("00ff", "\ud800", "a\0", "[1, None]")
    assert (kept["f"], kept["g"]) == ("2026-01-31", "nan")
    assert kept["h"] == "a int of very many digits"
    far = pa.RecordBatch.from_arrays([pa.array([10**7], pa.date32())] * 8, names=list("abcdefgh"))
    found = sift(sieve, Batch(far))
    assert found.rejected is not None
    assert json.loads(found.rejected["record"][0].as_py())["a"] == 10**7


def test_changed_values_are_counted_by_column_and_way() -> None:
    held = contract(
        column("a", "decimal(5,2)", on_lossy="round"),
        column("b", "date", on_lossy="null"),
        column("c", "string", on_lossy="text", declared=ColumnType("int32")),
        column("d", "date", on_lossy="null", nullable=False),
    )
    sieve = Sieve(held, quarantine=True, schema=None)
    good = ["1.00", "2026-01-31", "5", "2026-01-31"]
    bad = ["1.005", "infinity", "5.5", "2026-01-31"]
    worse = ["1e9", "2026-01-31", "5", "infinity"]
    columns = zip(*[good, bad, worse], strict=True)
    found = sift(sieve, arrow(**dict(zip("abcd", map(list, columns), strict=True))))
    assert found.rows.to_pylist()[1] == {
        "a": Decimal("1.00"), "b": None, "c": "5.5", "d": dt.date(2026, 1, 31)
    }  # fmt: skip
    assert found.rejected is not None
    assert found.rejected["rules"].to_pylist() == ["a: type(decimal(5,2)); d: type(date)"]
    assert sieve.adjusted == {("a", "round"): 1, ("b", "null"): 1, ("c", "text"): 1}


def test_columns_that_the_source_has_no_longer_are_null() -> None:
    held = contract(column("a", "int32"), column("gone", "date", absent=True))
    found = sift(Sieve(held, quarantine=False, schema=None), arrow(a=[1, 2]))
    assert found.rows.to_pylist() == [{"a": 1, "gone": None}, {"a": 2, "gone": None}]


def test_a_resumed_reading_counts_on() -> None:
    sieve = Sieve(ORDERS, quarantine=True, schema=None)
    sift(sieve, rows(GOOD, (2, Decimal(-1), "a"), (3, "x", "a")))
    again = Sieve(ORDERS, quarantine=True, schema=None)
    again.load(json.loads(json.dumps(sieve.dump())))
    for one in (sieve, again):
        sift(one, rows((4, Decimal(-2), "a")))
    assert again.dump() == sieve.dump()
    assert (again.rows, again.rejected) == (4, 3)


@pytest.fixture(autouse=True)
def _schemas(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    sys.modules.pop("schemas_under_test", None)


LEDGER = contract(column("a", "int32"), column("b", "int32"))


@pytest.mark.parametrize("quarantine", [False, True])
def test_a_schema_in_python_holds_as_the_rules_of_the_file_do(quarantine: bool) -> None:
    sieve = Sieve(LEDGER, quarantine=quarantine, schema="schemas_under_test:Ledger")
    assert sift(sieve, Batch([(1, 9), (0, 10)])).rows.num_rows == 2
    found = sift(sieve, Batch([(1, 9), (-1, 11), (5, 6)]))
    assert [(v.column, v.rule, v.count, v.family) for v in sieve.violations] == [
        ("a", "greater_than_or_equal_to", 1, "schema"),
        ("", "sums_up", 1, "schema"),
    ]
    if quarantine:
        assert found.rejected is not None
        assert found.rejected["rules"].to_pylist() == ["a: greater_than_or_equal_to", "sums_up"]
        assert found.rows.num_rows == 1
    else:
        assert found.rows.num_rows == 0
        assert "the rows break sums_up in 1 rows" in sieve.fault("ledger").report[1]


def test_a_check_of_the_whole_batch_sets_nothing_aside_but_ends_the_sync() -> None:
    held = contract(column("a", "int32"))
    sieve = Sieve(held, quarantine=True, schema="schemas_under_test:Whole")
    assert sift(sieve, Batch([(1,), (2,)])).rows.num_rows == 2
    with pytest.raises(ContractBroken, match=r"^Invalid values: the rows break is_short in 1 rows"):
        sift(sieve, Batch([(1,), (2,), (3,)]))


def test_a_schema_that_wants_other_types_is_broken_by_every_batch() -> None:
    held = contract(column("a", "int64"))
    sieve = Sieve(held, quarantine=False, schema="schemas_under_test:Whole")
    assert sift(sieve, Batch([(1,)])).rows.num_rows == 0
    (violation,) = sieve.violations
    assert (violation.column, violation.rule) == ("a", "dtype('int32[pyarrow]')")


def test_a_check_that_raises_is_a_broken_rule_and_shows_no_value() -> None:
    held = contract(column("a", "int32"))
    sieve = Sieve(held, quarantine=False, schema="schemas_under_test:Raising")
    assert sift(sieve, Batch([(1,)])).rows.num_rows == 0
    (violation,) = sieve.violations
    assert (violation.column, violation.rule) == ("a", "odd")
    assert "Secret" not in str(violation)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("schemas_under_test:Missing", "it cannot be imported (AttributeError: module"),
        ("no_such_package.schemas:X", "it cannot be imported (ModuleNotFoundError: No module"),
        ("schemas_under_test:nothing", "it is neither a DataFrameModel nor a DataFrameSchema"),
        ("schemas_under_test:Coercing", "it has coerce; declare the types"),
        ("schemas_under_test:Unique", "it has unique, which would hold in each batch only"),
        ("schemas_under_test:Dropping", "it has drop_invalid_rows; take `on_invalid: quarantine`"),
        ("schemas_under_test:Parsing", "it has parsers, which would change values"),
    ],
)
def test_a_schema_that_cannot_be_used_is_told_plainly(name: str, reason: str) -> None:
    with pytest.raises(ContractBroken) as broken:
        Sieve(LEDGER, quarantine=False, schema=name)
    assert str(broken.value).startswith(f"Schema {name} cannot be used: {reason}")
    assert classify(broken.value).code == "config-invalid"
