"""The rules of a contract compiled to Arrow: whether a batch is good, at a fraction of what pandera costs.

pandera stays the authority (see `rules`): the gate only says which rows it has to look at.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aiia_pipelines.sync._rule import NOT_NULL, SETS, Rule, arrow_values
from aiia_pipelines.sync.convert import arrow_type, travels_as_text

Test = Callable[[pa.Array], pa.Array]
_COMPARE = {
    "ge": pc.greater_equal, "gt": pc.greater, "le": pc.less_equal, "lt": pc.less,
    "eq": pc.equal, "ne": pc.not_equal,
}  # fmt: skip
_AFFIXES = {"str_startswith": pc.starts_with, "str_endswith": pc.ends_with}
# Python reads `{,3}` as a repetition and `[[:` as a set; Arrow's engine reads text, and a POSIX class.
_READ_DIFFERENTLY = re.compile(r"\{,|\[\[:")


@dataclass(frozen=True)
class Finding:
    """Rows of a batch that break a rule."""

    rule: Rule
    places: np.ndarray[Any, np.dtype[np.int64]]


class Gate:
    """The rules that Arrow can decide, as tests of whole columns."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Compile what can be; the rest is `left` to pandera."""
        tests = [(rule, compiled(rule)) for rule in rules]
        self._tests = [(rule, test) for rule, test in tests if test is not None]
        self.left = [rule for rule, test in tests if test is None]

    def check(self, batch: pa.RecordBatch) -> list[Finding]:
        """List the rules that a batch breaks, and where."""
        findings = (_applied(rule, test, batch.column(rule.column)) for rule, test in self._tests)
        return [finding for finding in findings if finding is not None]


def _applied(rule: Rule, test: Test, values: pa.Array) -> Finding | None:
    holds = test(values)
    if pc.all(holds, skip_nulls=True, min_count=0).as_py():
        return None
    broken = pc.fill_null(pc.invert(holds), fill_value=False)
    return Finding(rule, np.flatnonzero(broken.to_numpy(zero_copy_only=False)))


def compiled(rule: Rule) -> Test | None:
    """Give the test of a rule, null where a value is null; None when only pandera can tell.

    Whether Arrow has an answer depends on the types alone, so that asking it of no values tells.
    """
    if rule.check == NOT_NULL:
        return _not_null
    if travels_as_text(rule.kind):
        return None
    try:
        test = _test(rule)
        if test is not None:
            test(pa.nulls(0, arrow_type(rule.kind)))
    except (pa.ArrowException, OverflowError):
        return None
    return test


def _test(rule: Rule) -> Test | None:
    if rule.check in _COMPARE:
        return partial(_compared, _COMPARE[rule.check], _scalar(rule, rule.argument))
    if rule.check in SETS:
        members = arrow_values(rule.kind, rule.argument)
        return partial(_member, members, wanted=rule.check == "isin")
    if rule.check in _AFFIXES:
        return partial(_AFFIXES[rule.check], pattern=rule.argument)
    return _OTHERS[rule.check](rule)


def _matches(rule: Rule) -> Test | None:
    if is_python_only(rule.argument):
        return None
    start = rule.check == "str_matches"
    pattern = f"^({rule.argument.removeprefix('^')})" if start else rule.argument
    return partial(pc.match_substring_regex, pattern=pattern)


def is_python_only(pattern: str) -> bool:
    """Tell whether Arrow cannot read a regular expression of Python, or reads it differently."""
    if _READ_DIFFERENTLY.search(pattern):
        return True
    try:
        pc.match_substring_regex(pa.array([""]), f"^({pattern.removeprefix('^')})")
    except pa.ArrowInvalid:
        return True
    return False


def _scalar(rule: Rule, value: Any) -> pa.Scalar:  # noqa: ANN401 - of the column's type
    plain = isinstance(value, Decimal | float | int)
    return pa.scalar(value) if plain else arrow_values(rule.kind, [value])[0]


def _in_range(rule: Rule) -> Test:
    bounds = rule.argument
    low = pc.greater_equal if bounds.get("include_min", True) else pc.greater
    high = pc.less_equal if bounds.get("include_max", True) else pc.less
    least, most = _scalar(rule, bounds["min_value"]), _scalar(rule, bounds["max_value"])
    return lambda values: pc.and_(low(values, least), high(values, most))


def _compared(compare: Callable[..., pa.Array], bound: pa.Scalar, values: pa.Array) -> pa.Array:
    return compare(values, bound)


def _member(members: pa.Array, values: pa.Array, *, wanted: bool) -> pa.Array:
    found = pc.is_in(values, value_set=members)
    return pc.if_else(pc.is_valid(values), found if wanted else pc.invert(found), None)


def _length(rule: Rule) -> Test:
    return partial(_of_length, rule.argument.get("min_value"), rule.argument.get("max_value"))


def _of_length(least: int | None, most: int | None, values: pa.Array) -> pa.Array:
    lengths = pc.utf8_length(values)
    if most is None:
        return pc.greater_equal(lengths, least)
    return pc.and_(pc.greater_equal(lengths, least or 0), pc.less_equal(lengths, most))


def _not_null(values: pa.Array) -> pa.Array:
    return pc.is_valid(values)


_OTHERS: dict[str, Callable[[Rule], Test | None]] = {
    "in_range": _in_range,
    "str_length": _length,
    "str_matches": _matches,
    "str_contains": _matches,
}
