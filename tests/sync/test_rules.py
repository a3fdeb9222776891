import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pytest

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.jobs.failures import classify
from aiia_pipelines.sync.contract import Contract, ContractColumn
from aiia_pipelines.sync.rules import Rules

UTC = dt.UTC
NAIVE = dt.datetime(2026, 1, 31, 10, 0)  # noqa: DTZ001 - a timestamp without zone


def contract(kind: str, checks: dict[str, Any] | None = None, *, nullable: bool = True) -> Contract:
    column = ContractColumn(
        name="c", source="c", type=ColumnType.parse(kind), nullable=nullable, checks=checks or {}
    )
    return Contract((column,), (), (), None, None)


def check(held: Contract, *values: Any) -> Rules:
    rules = Rules(held)
    rules.check(held.parse([(value,) for value in values], 1), 1)
    return rules


CASES: list[tuple[str, dict[str, Any], Any, Any]] = [
    ("int32", {"ge": 0}, 0, -1),
    ("int64", {"gt": 2**53}, 2**53 + 1, 2**53),
    ("int16", {"le": 5}, 5, 6),
    ("int32", {"lt": 5}, 4, 5),
    ("int32", {"eq": 5}, 5, 6),
    ("int32", {"ne": 5}, 6, 5),
    ("int32", {"in_range": {"min_value": 1, "max_value": 3}}, 3, 4),
    ("int32", {"in_range": {"min_value": 1, "max_value": 3, "include_max": False}}, 2, 3),
    ("string", {"isin": ["EUR", "USD"]}, "EUR", "SAR"),
    ("string", {"notin": ["EUR"]}, "USD", "EUR"),
    ("string", {"str_matches": "^[0-9]{3}$"}, "123", "12a"),
    ("string", {"str_contains": "b+"}, "abc", "ac"),
    ("string", {"str_startswith": "a"}, "ab", "ba"),
    ("string", {"str_endswith": "a"}, "ba", "ab"),
    ("string", {"str_length": {"min_value": 1, "max_value": 2}}, "ab", "abc"),
    ("string", {"str_length": {"max_value": 2}}, "", "abc"),
    ("string", {"ge": "b"}, "b", "a"),
    ("float64", {"ge": 0.5}, 0.5, 0.25),
    ("float32", {"lt": 1}, 0.5, 2.5),
    ("bool", {"eq": True}, True, False),
    ("decimal(18,2)", {"ge": 0}, Decimal("0.00"), Decimal("-0.01")),
    ("decimal(38,10)", {"le": "1.1"}, Decimal("1.1"), Decimal("1.1000000001")),
    ("decimal(60,2)", {"gt": 1}, Decimal("1.01"), Decimal("1.00")),
    ("decimal", {"gt": 1}, Decimal("1.00000000000000000000000000000000000000000001"), Decimal(1)),
    ("decimal", {"isin": ["1.5", 2]}, Decimal("1.50"), Decimal("1.6")),
    ("date", {"ge": "2026-01-31"}, dt.date(2026, 1, 31), dt.date(2026, 1, 30)),
    ("date", {"isin": ["2026-01-31"]}, dt.date(2026, 1, 31), dt.date(2026, 1, 30)),
    ("time", {"lt": "10:00:00"}, dt.time(9), dt.time(10)),
    ("timestamp", {"ge": "2026-01-31T10:00:00"}, NAIVE, NAIVE - dt.timedelta(microseconds=1)),
    (
        "timestamptz",
        {"ge": "2026-01-31T11:00:00+01:00"},
        NAIVE.replace(tzinfo=UTC),
        NAIVE.replace(tzinfo=UTC, hour=9),
    ),
    ("uuid", {"ne": "00000000-0000-0000-0000-000000000000"}, "a" * 8, "0" * 8),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "checks", "good", "bad"), CASES)
def test_each_check_passes_and_breaks(
    kind: str, checks: dict[str, Any], good: Any, bad: Any
) -> None:
    if kind == "uuid":
        good, bad = (f"{part}-0000-0000-0000-000000000000" for part in (good, bad))
    held = contract(kind, checks)
    assert check(held, good, None).violations == []
    rules = check(held, good, bad, None)
    (broken,) = rules.violations
    assert (broken.column, broken.count) == ("c", 1)
    assert [("c", broken.rule)] == rules.names
    assert broken.samples[0].startswith("row 2: ")


EVERY = {
    "bool": True, "int16": 1, "int32": 1, "int64": 1, "float32": 0.5, "float64": math.nan,
    "decimal": Decimal("NaN"), "decimal(5,2)": Decimal(1), "decimal(60,2)": Decimal(1),
    "decimal(100,2)": Decimal(1), "string": "", "binary": b"\0", "date": dt.date(9999, 12, 31),
    "time": dt.time(1), "timestamp": dt.datetime.max, "timestamptz": NAIVE.replace(tzinfo=UTC),  # noqa: DTZ901
    "interval": "1 mon", "uuid": "00000000-0000-0000-0000-000000000000", "json": "null",
    "list<int32>": [1, None], "list<string>": [], "list<timestamptz>": [NAIVE.replace(tzinfo=UTC)],
}  # fmt: skip


@pytest.mark.parametrize("kind", EVERY)
def test_a_column_of_every_type_passes_without_rules(kind: str) -> None:
    value = EVERY[kind]
    assert check(contract(kind), value, None).violations == []
    assert check(contract(kind, nullable=False), value).violations == []
    assert [v.rule for v in check(contract(kind, nullable=False), value, None).violations] == [
        "not_null"
    ]
    assert check(contract(kind), None).violations == []


def test_samples_are_masked_and_capped_while_all_rows_are_counted() -> None:
    held = contract("string", {"isin": ["EUR"]})
    rules = Rules(held)
    for first in (1, 101, 201):
        rows = [("Secret-Name 42",)] * 100 if first != 101 else [("EUR",)] * 100
        assert rules.check(held.parse(rows, first), first) is (first == 101)
    (broken,) = rules.violations
    assert (broken.count, len(broken.samples)) == (200, 20)
    assert broken.samples[0] == "row 1: xxxxxx-xxxx ##"
    fault = rules.fault("rows")
    assert str(fault) == "Invalid values in rows: column 'c' breaks isin(['EUR']) in 200 rows."
    assert classify(fault).code == "value-invalid"
    assert fault.rules == (("c", "isin(['EUR'])"),)
    assert "Secret" not in "".join(fault.report)


def test_several_broken_rules_are_all_reported() -> None:
    held = contract("int32", {"ge": 0, "lt": 10}, nullable=False)
    rules = check(held, -1, 11, 12, None, 5)
    assert {broken.rule: broken.count for broken in rules.violations} == {
        "ge(0)": 1,
        "lt(10)": 2,
        "not_null": 1,
    }


def test_a_check_that_does_not_go_with_its_learned_type_is_told_plainly() -> None:
    rules = check(contract("int32", {"str_matches": "^a"}), 5)
    (broken,) = rules.violations
    assert broken.rule == "str_matches(^a)"
    assert "Error" not in str(broken)
