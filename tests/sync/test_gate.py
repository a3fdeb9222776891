import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from aiia_pipelines.config.checks import argument_mistake
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync._rule import rules_of
from aiia_pipelines.sync.contract import Contract, ContractColumn
from aiia_pipelines.sync.faults import ContractBroken
from aiia_pipelines.sync.gate import Gate, is_python_only
from aiia_pipelines.sync.rules import Rules

UTC = dt.UTC
EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))
DAYS = st.dates(dt.date(2026, 1, 1), dt.date(2026, 1, 4))
TIMES = st.sampled_from([dt.time(0), dt.time(1, 2, 3), dt.time(23, 59, 59, 999999)])
MOMENTS = st.builds(dt.datetime.combine, DAYS, TIMES)
NUMBERS = st.sampled_from([-2, -1, 0, 1, 2, 32767])
SMALL = st.sampled_from([-1.5, -0.0, 0.0, 0.5, 0.1, 1.0, 2.0])
TEXTS = st.sampled_from(
    ["", "a", "A", "ab", "ba", "ü", "😀", "a\n", "1", "٣", " ", "EUR", "a\u0301"]
)
WORDS = TEXTS.filter(bool)
PATTERNS = st.sampled_from(["^a", "a$", "a|b", "^a|b$", r"^\d+$", r"\s", ".", "(?i)A", "^(?!a)", "[^a]", "ü", "a{,1}$", "^.{1,2}$", r"\bA", "(?P<x>a)b?", "a\\Z"])  # fmt: skip

# Values of a column, and values as they stand in a file, which are few so that they meet.
KINDS: dict[str, tuple[Any, Any]] = {
    "bool": (st.booleans(), st.booleans()),
    "int16": (NUMBERS, NUMBERS | st.just(40_000)),
    "int64": (NUMBERS | st.sampled_from([2**63 - 1, -(2**63)]), NUMBERS | st.sampled_from([2**63, 10**30])),
    "float32": (SMALL | st.sampled_from([math.nan, math.inf]), SMALL | NUMBERS),
    "float64": (SMALL | st.sampled_from([math.nan, -math.inf, 2.0**53]), SMALL | NUMBERS | st.just(2**53 + 1)),
    "decimal(9,2)": (
        st.sampled_from([Decimal(text) for text in ("-0.01", "0.00", "0.10", "1.00", "1.10")]),
        st.sampled_from([0, 1, 0.1, "0.10", "1.100", "1.005", "1e20", "-0.01"]),
    ),
    "decimal(38,10)": (
        st.sampled_from([Decimal("0.0000000001"), Decimal(1), Decimal("9" * 28 + ".1")]),
        st.sampled_from([0, 1, "0.0000000001", "1.00000000000000000000001", "1e40", "9" * 28]),
    ),
    "decimal(60,2)": (
        st.sampled_from([Decimal("9" * 58), Decimal("1.00"), Decimal("-0.5")]),
        st.sampled_from([1, "-0.50", "9" * 58, "1.001", "1e70"]),
    ),
    "decimal(76,70)": (
        st.sampled_from([Decimal("1.5"), Decimal(-3)]),
        st.sampled_from([1.5, "1e20", "1e70", "-3"]),
    ),
    "decimal": (
        st.sampled_from([Decimal("1.5"), Decimal(0), Decimal("1E-30"), Decimal(10**50)]),
        st.sampled_from([0, 1.5, "1.50", "1e-30", "1e50"]),
    ),
    "string": (TEXTS, TEXTS),
    "date": (DAYS, DAYS.map(str)),
    "time": (TIMES, TIMES.map(str)),
    "timestamp": (MOMENTS, MOMENTS.map(str)),
    "timestamptz": (
        MOMENTS.map(lambda moment: moment.replace(tzinfo=UTC)),
        MOMENTS.map(lambda moment: str(moment.replace(tzinfo=EAST))),
    ),
    "uuid": (st.uuids().map(str) | st.just("0" * 31 + "a"), st.just("0" * 31 + "A")),
}  # fmt: skip
COMPARED = ("ge", "gt", "le", "lt", "eq", "ne")
LENGTHS = st.sampled_from(
    [{"min_value": 1}, {"max_value": 1}, {"min_value": 1, "max_value": 2**70}]
)


@st.composite
def checks(draw: Any, kind: str) -> dict[str, Any]:
    value = KINDS[kind][1]
    names = [*COMPARED, "in_range", "isin", "notin"]
    if kind == "string":
        names += ["str_matches", "str_contains", "str_startswith", "str_endswith", "str_length"]
    name = draw(st.sampled_from(names))
    if name in COMPARED:
        return {name: draw(value)}
    if name in {"isin", "notin"}:
        return {name: draw(st.lists(value, min_size=1, max_size=3))}
    if name == "in_range":
        bounds = {"min_value": draw(value), "max_value": draw(value)}
        return {
            name: bounds | {"include_min": draw(st.booleans()), "include_max": draw(st.booleans())}
        }
    if name == "str_length":
        return {name: draw(LENGTHS)}
    return {name: draw(PATTERNS if name in {"str_matches", "str_contains"} else WORDS)}


def is_empty(column: ContractColumn) -> bool:
    try:
        rules_of(Contract((column,), (), (), None, None))
    except ContractBroken as broken:
        return str(broken) == "Check in_range of column 'c' holds no value."
    return False


@st.composite
def cases(draw: Any) -> tuple[Contract, list[Any]]:
    kind = draw(st.sampled_from(sorted(KINDS)))
    rule = draw(checks(kind))
    column = ContractColumn(
        name="c", source="c", type=ColumnType.parse(kind), nullable=draw(st.booleans()), checks=rule
    )
    assume(not is_empty(column))
    values = draw(st.lists(KINDS[kind][0] | st.none(), max_size=6))
    return Contract((column,), (), (), None, None), values


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_the_gate_and_pandera_always_agree(case: tuple[Contract, list[Any]]) -> None:
    held, values = case
    ((name, argument),) = held.columns[0].checks.items()
    assert argument_mistake(name, argument, held.columns[0].type) is None
    batch = held.parse([(value,) for value in values], 1)
    rules = Rules(held)
    told = {(each.column, each.rule): each.places.tolist() for each in rules.check(batch, 1)}
    gate = Gate(rules_of(held))
    left = {rule.key for rule in gate.left}
    found = gate.check(batch)
    assert {finding.rule.key: finding.places.tolist() for finding in found} == {
        key: sorted(places) for key, places in told.items() if key not in left
    }


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_a_later_batch_is_judged_as_the_first(case: tuple[Contract, list[Any]]) -> None:
    held, values = case
    batch = held.parse([(value,) for value in values], 1)
    rules = Rules(held)
    first, second = (
        [(each.column, each.rule, sorted(each.places.tolist())) for each in rules.check(batch, 1)]
        for _ in range(2)
    )
    assert sorted(first) == sorted(second)


def test_only_what_arrow_cannot_decide_is_left_to_pandera() -> None:
    column = ContractColumn(
        name="c", source="c", type=ColumnType("string"), nullable=False,
        checks={"str_matches": "^(?!a)", "str_contains": "a", "str_length": {"min_value": 1}},
    )  # fmt: skip
    gate = Gate(rules_of(Contract((column,), (), (), None, None)))
    assert [rule.label for rule in gate.left] == ["str_matches(^(?!a))"]


@pytest.mark.parametrize(
    ("pattern", "only"),
    [("^a+$", False), ("(?!a)", True), (r"(a)\1", True), ("a{,3}", True), (r"\u0041", True), ("[[:alpha:]]", True)],
)  # fmt: skip
def test_expressions_that_arrow_reads_otherwise_are_left_to_python(
    pattern: str, only: bool
) -> None:
    assert is_python_only(pattern) is only
