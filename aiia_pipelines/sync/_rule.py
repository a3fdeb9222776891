"""The rules of single values that a contract sets, read once for everything that applies them."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

from aiia_pipelines.config.checks import argument_mistake
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync.contract import Contract, ContractColumn
from aiia_pipelines.sync.convert import MISFITS, arrow_type, from_python, travels_as_text
from aiia_pipelines.sync.faults import ContractBroken
from aiia_pipelines.sync.outcome import rule_name

NOT_NULL = "not_null"
SETS = {"isin", "notin"}
_KEPT = {"bool", "string", "float32", "float64"}
_LARGEST = 2**63 - 1
_LONGEST = 2**31  # characters, which no text of Arrow has


@dataclass(frozen=True)
class Rule:
    """One rule of one column; `argument` holds values of the column's type."""

    column: str
    kind: ColumnType
    check: str
    argument: Any
    label: str

    @property
    def key(self) -> tuple[str, str]:
        """The rule as it is told."""
        return self.column, self.label


def rules_of(contract: Contract) -> list[Rule]:
    """List the rules; `unique` holds over the whole stream and is checked in staging.

    Raises:
        ContractBroken: A rule does not go with the type of its column.
    """
    return [rule for column in contract.columns for rule in _of(column)]


def _of(column: ContractColumn) -> list[Rule]:
    kind = column.type
    rules = []
    for check, given in column.checks.items():
        if check == "unique":
            continue
        if mistake := argument_mistake(check, given, kind):
            kept = " because of `on_lossy: text`" if column.declared else ""
            raise _unfit(column, check, f"{mistake}; the column is {kind}{kept}")
        argument = _read(check, given, kind)
        if check == "in_range" and _is_empty(**argument):
            raise _unfit(column, check, "holds no value")
        rules.append(Rule(column.name, kind, check, argument, rule_name(check, given)))
    if not column.nullable:
        rules.append(Rule(column.name, kind, NOT_NULL, None, NOT_NULL))
    return rules


def _unfit(column: ContractColumn, check: str, why: str) -> ContractBroken:
    return ContractBroken(f"Check {check} of column '{column.name}' {why}.", "config:invalid")


def _is_empty(
    min_value: Any,  # noqa: ANN401 - a value of the column
    max_value: Any,  # noqa: ANN401
    *,
    include_min: bool = True,
    include_max: bool = True,
) -> bool:
    whole = include_min and include_max
    return bool(max_value < min_value or (min_value == max_value and not whole))


def _read(check: str, given: Any, kind: ColumnType) -> Any:  # noqa: ANN401 - as in the file
    if check == "str_length":
        return {key: min(length, _LONGEST) for key, length in given.items()}
    if check.startswith("str_"):
        return given
    if isinstance(given, Mapping):
        return {
            key: value if key.startswith("include") else _as(kind, value)
            for key, value in given.items()
        }
    if isinstance(given, Sequence) and not isinstance(given, str):
        values = [_as(kind, value) for value in given]
        return [value for value in values if check not in SETS or _is_held(kind, value)]
    return _as(kind, given)


def _is_held(kind: ColumnType, value: Any) -> bool:  # noqa: ANN401
    """Tell whether a column can hold a value; what it cannot hold is in no row."""
    if travels_as_text(kind) or kind.name.startswith("float"):
        return True
    try:
        from_python(kind, [value])
    except MISFITS:
        return False
    return True


def _as(kind: ColumnType, value: Any) -> Any:  # noqa: ANN401
    """Read a value of the connector file as one of the column's type."""
    if isinstance(value, bool) or kind.name in _KEPT:
        return value
    if kind.name == "decimal":
        return Decimal(str(value))
    if isinstance(value, int) and abs(value) > _LARGEST:
        return Decimal(value)  # Arrow compares it with whole numbers, which a wider int is none for
    if isinstance(value, str):
        return _FROM_TEXT[kind.name](value)
    return value


_FROM_TEXT: dict[str, Callable[[str], object]] = {
    "date": dt.date.fromisoformat,
    "time": dt.time.fromisoformat,
    "timestamp": dt.datetime.fromisoformat,
    "timestamptz": dt.datetime.fromisoformat,
    "uuid": lambda text: str(UUID(text)),
}


def arrow_values(kind: ColumnType, values: Sequence[Any]) -> pa.Array:
    """Give values of a rule as a column of its type."""
    if kind.name == "timestamptz":
        # Arrow would drop the offset when PYARROW_IGNORE_TIMEZONE is set, which importing pandera does.
        values = [value.astimezone(dt.UTC) for value in values]
    return pa.array(values, arrow_type(kind))
