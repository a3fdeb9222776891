"""What is kept of the values of a column: enough to know it again, and no value."""

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors.base import Batch, Reading, SourceFault
from aiia_pipelines.sync.profiles import likeness, overlap, profile_of, row_by_row, sampled

ANY = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.decimals(), st.text(), st.binary(),
    st.dates(), st.times(), st.datetimes(), st.datetimes(timezones=st.just(dt.UTC)), st.uuids(),
    st.lists(st.integers(), max_size=3),
)  # fmt: skip
STREAM = Stream(name="rows", table="rows")


@given(st.lists(ANY, max_size=60), st.lists(ANY, max_size=60))
def test_any_values_have_a_profile_that_is_json_and_compares(
    one: list[Any], two: list[Any]
) -> None:
    mine, theirs = profile_of(one), profile_of(two)
    assert json.loads(json.dumps(mine, allow_nan=False)) == mine
    for compare in (overlap, likeness):
        assert 0 <= compare(mine, theirs) <= 1
        assert compare(mine, theirs) == pytest.approx(compare(theirs, mine))
    assert 0 <= (row_by_row(mine, theirs) or 0) <= 1


@given(st.lists(ANY.filter(lambda value: value is not None), min_size=5, max_size=60))
def test_a_column_is_like_itself(values: list[Any]) -> None:
    profile = profile_of(values)
    assert row_by_row(profile, profile) == 1
    assert overlap(profile, profile) == pytest.approx(1, abs=0.01)
    assert likeness(profile, profile) > 0.2


@given(st.lists(st.from_regex(r"[a-z]{6,12}", fullmatch=True), min_size=5, max_size=40))
def test_no_value_stands_in_a_profile(values: list[str]) -> None:
    kept = json.dumps(profile_of(values))
    assert not [value for value in values if value in kept]
    numbers = [987_654_321_000 + place for place in range(9)]
    assert "98765" not in json.dumps(profile_of(numbers))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (list(range(9)), [str(n) for n in range(9)]),
        (list(range(9)), [float(n) for n in range(9)]),
        ([Decimal(n) / 4 for n in range(9)], [f"{n / 4:.6f}" for n in range(9)]),
        (
            [dt.date(2024, 1, n) for n in range(1, 9)],
            [dt.datetime.fromisoformat(f"2024-01-0{n}") for n in range(1, 9)],
        ),
        (
            [dt.datetime.fromisoformat(f"2024-01-0{n}T07:00") for n in range(1, 9)],
            [dt.datetime(2024, 1, n, 7, tzinfo=dt.UTC) for n in range(1, 9)],
        ),
        ([True, False] * 5, ["true", "false"] * 5),
        ([b"a", b"b"] * 5, [memoryview(b"a"), memoryview(b"b")] * 5),
    ],
)
def test_a_value_of_another_type_is_the_same_value(before: Any, after: Any) -> None:
    assert row_by_row(profile_of(before), profile_of(after)) == 1


def test_too_few_values_tell_nothing() -> None:
    assert row_by_row(profile_of([1, None]), profile_of([1, None])) is None
    assert overlap(profile_of([]), profile_of([])) == 0


# -- samples of a source --------------------------------------------------------------------


class Rows:
    """A source of ready batches."""

    def __init__(self, *batches: Batch, fault: bool = False) -> None:
        self.batches_, self.fault, self.asked = batches, fault, SimpleNamespace(closed=False)

    def batches(self, stream: Stream, reading: Reading) -> Iterator[Batch]:
        self.asked.rows, self.asked.names = stream.batch_rows, reading.names
        try:
            if self.fault:
                raise SourceFault("The source broke off.")
            yield from self.batches_
        finally:
            self.asked.closed = True


def sample(source: Any, *names: str) -> Sequence[str]:
    return [name for name, profile in sampled(source, STREAM, names).items() if profile["values"]]


def test_the_first_rows_of_a_source_are_looked_at_and_the_rest_is_not_read() -> None:
    source = Rows(Batch([(1, "a"), (2, None)]), Batch([(3, "b")]))
    found = sampled(source, STREAM, ["n", "t"])  # type: ignore[arg-type]
    assert found == {"n": profile_of([1, 2]), "t": profile_of(["a", None])}
    assert source.asked == SimpleNamespace(closed=True, rows=200, names=["n", "t"])


def test_arrow_batches_are_looked_at_alike() -> None:
    rows = pa.RecordBatch.from_pydict({"n": [1, 2], "t": ["a", None]})
    found = sampled(Rows(Batch(rows)), STREAM, ["n", "t"])  # type: ignore[arg-type]
    assert found == {"n": profile_of([1, 2]), "t": profile_of(["a", None])}


@pytest.mark.parametrize("source", [Rows(), Rows(Batch([])), Rows(fault=True)])
def test_a_source_without_rows_or_answer_leaves_the_values_unknown(source: Rows) -> None:
    assert sample(source, "n") == []
    assert source.asked.closed
