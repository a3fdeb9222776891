from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiia_pipelines.config.amounts import Budget, Lookback

counts = st.integers(0, 2**63 - 1)
spans = st.builds(
    lambda number, unit: f"{number}{unit}", st.integers(0, 36_500), st.sampled_from("smhd")
)
shares = st.decimals(0, 100, places=4).map(lambda share: f"{share}%")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), (" 2 h ", 7200), ("1d", 86_400), ("0s", 0)]
)
def test_a_time_is_read_in_seconds(text: str, seconds: int) -> None:
    assert Lookback.parse(text) == Lookback(seconds=seconds)


def test_a_whole_number_is_steps_or_rows() -> None:
    assert Lookback.parse(5) == Lookback(steps=5)
    assert Budget.parse(5) == Budget(rows=5)


@pytest.mark.parametrize(
    "value", ["", "10", "m", "1.5h", "10 weeks", "-1s", -1, True, 1.5, None, 2**63]
)
def test_what_is_no_time_and_no_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="a time such as 10m"):
        Lookback.parse(value)


@pytest.mark.parametrize(
    "value", ["", "5", "%", "100.1%", "-1%", "1e1%", "٣%", -1, True, 0.5, None]
)
def test_what_is_no_share_and_no_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="a share of them such as"):
        Budget.parse(value)


@given(counts | spans)
def test_what_a_lookback_is_written_as_is_read_back(value: int | str) -> None:
    lookback = Lookback.parse(value)
    assert Lookback.parse(lookback.written) == lookback
    assert str(lookback) == str(lookback.written)


@given(counts | shares)
def test_what_a_budget_is_written_as_is_read_back(value: int | str) -> None:
    budget = Budget.parse(value)
    assert Budget.parse(budget.written) == budget
    assert str(budget) == str(budget.written)


@given(st.text(max_size=12) | st.floats() | st.integers() | st.none() | st.lists(st.integers()))
def test_any_value_is_an_amount_or_a_plain_refusal(value: Any) -> None:
    for kind in (Lookback, Budget):
        assert _told(kind, value).startswith("must be ")


def _told(kind: type[Lookback | Budget], value: Any) -> str:
    try:
        kind.parse(value)
    except ValueError as refusal:
        return str(refusal)
    return "must be nothing else"


@given(counts, st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_budget_of_rows_allows_so_many_and_not_one_more(
    allowed: int, rows: int, total: int
) -> None:
    assert Budget(rows=allowed).allows(rows, total) == (rows <= allowed)


@given(st.decimals(0, 100, places=2), st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_share_is_counted_exactly(percent: Decimal, rows: int, total: int) -> None:
    within = rows * 10_000 <= int(percent * 100) * total
    assert Budget(percent=percent).allows(rows, total) == within


def test_half_a_percent_of_a_thousand_rows_is_five() -> None:
    budget = Budget.parse("0.5%")
    assert budget.allows(5, 1000)
    assert not budget.allows(6, 1000)
    assert Budget().allows(0, 0)
    assert not Budget().allows(1, 10)
