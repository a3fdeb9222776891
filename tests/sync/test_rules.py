import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pytest

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.jobs.failures import classify
from aiia_pipelines.sync.contract import Contract, ContractColumn
from aiia_pipelines.sync.faults import ContractBroken
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
        assert bool(rules.check(held.parse(rows, first), first)) is (first != 101)
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


@pytest.mark.parametrize(
    ("kind", "checks", "told"),
    [
        ("int32", {"str_matches": "^a"}, "needs a column of type string; the column is int32"),
        ("json", {"eq": "1"}, "a column of type json cannot be compared"),
    ],
)
def test_a_check_that_does_not_go_with_its_learned_type_is_told_before_a_row_is_read(
    kind: str, checks: dict[str, Any], told: str
) -> None:
    with pytest.raises(ContractBroken, match=told) as broken:
        Rules(contract(kind, checks))
    assert classify(broken.value).code == "config-invalid"


def test_a_number_that_no_column_holds_is_compared_all_the_same() -> None:
    held = contract("int64", {"le": 10**30, "ne": 10**30, "notin": [10**30, 7], "ge": -(10**40)})
    assert check(held, 2**63 - 1, -(2**63), None).violations == []
    (broken,) = check(held, 7, 8).violations
    assert (broken.rule, broken.count) == (f"notin([{10**30}, 7])", 1)


@pytest.mark.parametrize(
    ("checks", "good", "bad"),
    [
        ({"str_matches": "^(?!x)a"}, "ab", "xa"),
        ({"str_matches": r"(.)\1"}, "aab", "aba"),
        ({"str_contains": "a(?=b)"}, "xab", "xa"),
        ({"str_matches": "a{,2}$"}, "aa", "aaa"),
    ],
)
def test_an_expression_that_only_python_reads_means_what_it_means_to_python(
    checks: dict[str, Any], good: str, bad: str
) -> None:
    held = contract("string", checks)
    assert check(held, good, None).violations == []
    (broken,) = check(held, bad, good, None).violations
    assert (broken.count, broken.samples) == (1, [f"row 1: {'x' * len(bad)}"])


def test_a_uuid_is_compared_in_its_canonical_form() -> None:
    held = contract("uuid", {"isin": ["0000000000000000000000000000000A"]})
    assert check(held, "00000000-0000-0000-0000-00000000000A").violations == []


def test_uniqueness_is_left_to_the_staging() -> None:
    rules = check(contract("int32", {"unique": True}), 1, 1)
    assert (rules.names, rules.violations) == ([], [])


def test_the_report_of_very_many_broken_rules_is_capped() -> None:
    columns = [
        ContractColumn(name=f"c{n}", source=f"c{n}", type=ColumnType("int32"), nullable=True, checks={"ge": 0})
        for n in range(60)
    ]  # fmt: skip
    held = Contract(tuple(columns), (), (), None, None)
    rules = Rules(held)
    rules.check(held.parse([(-1,) * 60], 1), 1)
    fault = rules.fault("rows")
    assert (len(fault.report), fault.report[-1]) == (51, "and 10 more broken rules")
    assert len(fault.rules) == 60
