"""The rules of a contract as a pandera schema, applied batch by batch and counted over the whole stream."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Integral
from typing import Any

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
from pandera.errors import SchemaError, SchemaErrors

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync.contract import Contract, ContractColumn
from aiia_pipelines.sync.convert import arrow_type, masked
from aiia_pipelines.sync.faults import ContractBroken
from aiia_pipelines.sync.outcome import rule_name

SAMPLES = 20  # rows shown of each broken rule
NOT_NULL = "not_null"
_ROUNDED = {"float32", "float64"}


@dataclass
class Violation:
    """A broken rule: how often, and what some of the values look like (masked)."""

    column: str
    rule: str
    count: int = 0
    samples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Tell column, rule, count and samples in one line."""
        shown = f"; masked samples: {', '.join(self.samples)}" if self.samples else ""
        return f"column '{self.column}' breaks {self.rule} in {self.count:,} rows{shown}"


class Rules:
    """The pandera schema of a contract, and what it has found so far."""

    def __init__(self, contract: Contract) -> None:
        """Build the schema once; validating a batch is cheap afterwards."""
        self._names = {
            column.name: {check.error or "": rule for rule, check in _checks(column).items()}
            for column in contract.columns
        }
        self._schema = pandera.DataFrameSchema(
            {column.name: _pandera_column(column) for column in contract.columns},
            strict=True,
            ordered=True,
        )
        self._violations: dict[tuple[str, str], Violation] = {}

    @property
    def names(self) -> list[tuple[str, str]]:
        """List every rule as (column, rule)."""
        return [(column, rule) for column, rules in self._names.items() for rule in rules.values()]

    @property
    def violations(self) -> list[Violation]:
        """List the rules broken so far."""
        return list(self._violations.values())

    def check(self, batch: pa.RecordBatch, first_row: int) -> bool:
        """Validate a batch; False when a rule is broken, which is then counted."""
        frame = pa.Table.from_batches([batch]).to_pandas(types_mapper=pd.ArrowDtype)
        try:
            self._schema.validate(frame, lazy=True)
        except SchemaErrors as broken:
            for error in broken.schema_errors:
                self._note(error, first_row)
            return False
        return True

    def fault(self, stream: str) -> ContractBroken:
        """Make the fault that names the first broken rule and reports all."""
        first = self.violations[0]
        return ContractBroken(
            f"Invalid values in {stream}: column '{first.column}' breaks {first.rule} in {first.count:,} rows.",
            "contract:value",
            report=tuple(str(violation) for violation in self.violations),
            rules=tuple(self._violations),
        )

    def _note(self, error: SchemaError, first_row: int) -> None:
        column = str(error.schema.name)
        rule = self._names.get(column, {}).get(
            str(getattr(error.check, "error", "")), str(error.check)
        )
        if str(error.check) == "not_nullable":
            rule = NOT_NULL
        cases = error.failure_cases
        rows = cases if isinstance(cases, pd.DataFrame) else pd.DataFrame({"failure_case": [cases]})
        violation = self._violations.setdefault((column, rule), Violation(column, rule))
        violation.count += len(rows)
        for case in rows.head(SAMPLES - len(violation.samples)).itertuples():
            place = getattr(case, "index", None)
            row = f"row {first_row + int(place):,}: " if isinstance(place, Integral) else ""
            shown = "null" if rule == NOT_NULL else masked(case.failure_case)
            violation.samples.append(f"{row}{shown}")


def _pandera_column(column: ContractColumn) -> pandera.Column:
    checks = [check for rule, check in _checks(column).items() if rule != NOT_NULL]
    return pandera.Column(
        pd.ArrowDtype(arrow_type(column.type)), checks=checks, nullable=column.nullable
    )


def _checks(column: ContractColumn) -> dict[str, pandera.Check]:
    """Give each rule its pandera check; `unique` holds over the whole stream and is checked in staging."""
    rules = {
        rule_name(name, argument): _check(name, argument, column.type)
        for name, argument in column.checks.items()
        if name != "unique"
    }
    if not column.nullable:
        rules[NOT_NULL] = pandera.Check(_always, name=NOT_NULL, error=NOT_NULL)
    return rules


def _always(series: pd.Series) -> pd.Series:  # pragma: no cover - the column's `nullable` decides
    return series.notna()


def _check(name: str, argument: Any, kind: ColumnType) -> pandera.Check:  # noqa: ANN401
    build = getattr(pandera.Check, name)
    error = rule_name(name, argument)
    if isinstance(argument, Mapping):
        bounds = {key: _as(kind, value) for key, value in argument.items()}
        check: pandera.Check = build(**bounds, error=error)
    elif isinstance(argument, Sequence) and not isinstance(argument, str):
        check = build([_as(kind, value) for value in argument], error=error)
    else:
        check = build(argument if name.startswith("str_") else _as(kind, argument), error=error)
    if kind.name == "decimal" and pa.types.is_string(arrow_type(kind)):
        return _on_decimals(check)
    return check


def _on_decimals(check: pandera.Check) -> pandera.Check:
    """Apply a check to numbers that travel as text because Arrow has no decimal that wide."""
    # pandera offers no public way to wrap a built-in check.
    inner, given = check._check_fn, check._check_kwargs  # noqa: SLF001
    return pandera.Check(
        lambda series: inner(series.map(Decimal, na_action="ignore").astype(object), **given),
        name=check.name,
        error=check.error,
    )


def _as(kind: ColumnType, value: Any) -> Any:  # noqa: ANN401
    """Read a value of the connector file as one of the column's type."""
    if isinstance(value, bool) or kind.name in {"bool", "string"} | _ROUNDED:
        return value
    if kind.name == "decimal":
        return Decimal(str(value))
    if isinstance(value, str):
        return _FROM_TEXT[kind.name](value) if kind.name in _FROM_TEXT else value
    return value


def _moment(text: str) -> pd.Timestamp:
    return pd.Timestamp(dt.datetime.fromisoformat(text))


_FROM_TEXT = {
    "date": dt.date.fromisoformat,
    "time": dt.time.fromisoformat,
    "timestamp": _moment,
    "timestamptz": _moment,
}
