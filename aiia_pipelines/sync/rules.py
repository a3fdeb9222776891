"""The rules of a contract as a pandera schema, applied batch by batch and counted over the whole stream."""

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.compute as pc
from pandera.errors import SchemaError, SchemaErrors

from aiia_pipelines.sync._rule import NOT_NULL, Rule, rules_of
from aiia_pipelines.sync._schema import own_schema
from aiia_pipelines.sync.contract import Contract, ContractColumn
from aiia_pipelines.sync.convert import arrow_type, masked, travels_as_text
from aiia_pipelines.sync.faults import ContractBroken
from aiia_pipelines.sync.gate import Finding, Gate, is_python_only
from aiia_pipelines.sync.outcome import Violation

__all__ = ["NOT_NULL", "SAMPLES", "Places", "Rules", "Violation", "Violations"]

SAMPLES = 20  # rows shown of each broken rule
_REPORTED = 50  # rules shown of each stream
_NOWHERE = np.empty(0, np.int64)
Positions = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Places:
    """Where the rows of a batch come from: their numbers in the stream, and what the source calls them."""

    first: int
    where: Callable[[int], str] | None = None
    kept: Positions | None = None  # places in the batch that was read, where some rows are left out

    def read(self, place: int) -> int:
        """Give the place in the batch that was read."""
        return place if self.kept is None else int(self.kept[place])

    def number(self, place: int) -> int:
        """Give the number of a row in the stream, from 1."""
        return self.first + self.read(place)

    def name(self, place: int) -> str:
        """Give the source's own name of a row, if it has one."""
        return self.where(self.read(place)) if self.where else ""

    def told(self, place: int) -> str:
        """Name a row for people."""
        named = self.name(place)
        return f"row {self.number(place):,}" + (f" ({named})" if named else "")


class Violations:
    """The rules that a stream has broken so far."""

    def __init__(self) -> None:
        """Begin with none."""
        self._found: dict[tuple[str, str], Violation] = {}

    def __iter__(self) -> Iterator[Violation]:
        """List them in the order they were found."""
        return iter(self._found.values())

    def of(self, column: str, rule: str, family: str = "rule") -> Violation:
        """Give the violation of a rule, which is new when it was not broken before."""
        return self._found.setdefault((column, rule), Violation(column, rule, family=family))

    def add(self, violation: Violation) -> None:
        """Take in a violation that was found before."""
        self._found[violation.column, violation.rule] = violation

    def is_shown(self, rule: Rule) -> bool:
        """Tell whether enough samples of a broken rule are known."""
        known = self._found.get(rule.key)
        return known is not None and len(known.samples) >= SAMPLES

    def fault(self, stream: str) -> ContractBroken:
        """Make the fault that names the first broken rule and reports all."""
        every = list(self)
        more = len(every) - _REPORTED
        report = [str(violation) for violation in every[:_REPORTED]]
        return ContractBroken(
            f"Invalid values{f' in {stream}' if stream else ''}: {every[0].told}.",
            "contract:value",
            report=(*report, *([f"and {more:,} more broken rules"] if more > 0 else [])),
            rules=tuple(self._found),
        )


@dataclass(frozen=True)
class Breach:
    """A rule that rows of a batch break; `places` are empty when it is broken by the batch as a whole."""

    column: str
    rule: str
    places: Positions


class Rules:
    """The pandera schema of a contract; a compiled gate spares it the batches that are good."""

    def __init__(
        self, contract: Contract, schema: str | None = None, found: Violations | None = None
    ) -> None:
        """Build the schemas once; validating a batch is cheap afterwards.

        Raises:
            ContractBroken: A rule does not go with its column, or the Python schema cannot be used.
        """
        self._rules = rules = rules_of(contract)
        self._every = frozenset(column.name for column in contract.columns)
        self.names = [rule.key for rule in rules]
        self.found = Violations() if found is None else found
        self._gate = Gate(rules)
        left = self._gate.left
        # To build a schema takes longer than to check a small stream that has no rules.
        columns = contract.columns if rules else ()
        self._gated = _schema(columns, [rule for rule in rules if rule not in left])
        self._left = _schema(
            [c for c in contract.columns if c.name in {r.column for r in left}], left
        )
        self._own = own_schema(schema) if schema else None
        self._first = True

    @property
    def columns(self) -> frozenset[str]:
        """Name the columns whose values a rule looks at, beyond their NULLs; all with a schema of somebody's own."""
        if self._own is not None:
            return self._every
        return frozenset(rule.column for rule in self._rules if rule.check != NOT_NULL)

    @property
    def violations(self) -> list[Violation]:
        """List the rules broken so far."""
        return list(self.found)

    def fault(self, stream: str) -> ContractBroken:
        """Make the fault that names the first broken rule and reports all."""
        return self.found.fault(stream)

    def check(self, batch: pa.RecordBatch, places: Places | int) -> list[Breach]:
        """Validate a batch, counting what is broken; an int is the number of its first row."""
        if isinstance(places, int):
            places = Places(places)
        if not batch.num_rows:
            return []
        breaches = self._gatekept(batch, places)
        for schema, family in ((self._left, "rule"), (self._own, "schema")):
            if schema is not None and (family == "schema" or schema.columns):
                part = batch if family == "schema" else batch.select(list(schema.columns))
                breaches += self._validated(schema, part, None, places, family)
        return breaches

    def _gatekept(self, batch: pa.RecordBatch, places: Places) -> list[Breach]:
        """Let pandera see the first batch, and later only the rows that the gate stops."""
        if not self._rules:
            return []
        if self._first:
            self._first = False
            return self._validated(self._gated, batch, None, places)
        found = self._gate.check(batch)
        if not found:
            return []
        if all(self.found.is_shown(each.rule) for each in found):
            return [self._counted(each) for each in found]
        rows = np.unique(np.concatenate([each.places for each in found]))
        return self._validated(self._gated, batch, rows, places)

    def _counted(self, finding: Finding) -> Breach:
        self.found.of(*finding.rule.key).count += len(finding.places)
        return Breach(*finding.rule.key, finding.places)

    def _validated(
        self,
        schema: pandera.DataFrameSchema,
        batch: pa.RecordBatch,
        rows: Positions | None,
        places: Places,
        family: str = "rule",
    ) -> list[Breach]:
        part = batch if rows is None else batch.take(pa.array(rows))
        frame = pa.Table.from_batches([part]).to_pandas(types_mapper=pd.ArrowDtype)
        try:
            schema.validate(frame, lazy=True)
        except SchemaErrors as broken:
            return [self._noted(error, rows, places, family) for error in broken.schema_errors]
        return []

    def _noted(
        self, error: SchemaError, rows: Positions | None, places: Places, family: str
    ) -> Breach:
        column, rule = _told(error, family)
        found, shown = _cases(error)
        if rows is not None:
            found = rows[found]
        violation = self.found.of(column, rule, family)
        violation.count += max(len(found), 1)
        wanted = SAMPLES - len(violation.samples)
        for place, case in zip(found[:wanted].tolist(), shown, strict=False):
            text = "null" if rule == NOT_NULL else masked(case)
            violation.samples.append(f"{places.told(place)}: {text}")
        if not len(found) and wanted > 0:
            violation.samples.append(masked(error.failure_cases))
        return Breach(column, rule, found)


def _told(error: SchemaError, family: str) -> tuple[str, str]:
    """Name the column and the rule that a fault of pandera is about."""
    name = getattr(error.schema, "name", None)
    column = "" if name is None or isinstance(error.schema, pandera.DataFrameSchema) else str(name)
    check = error.check
    if str(check) == "not_nullable":
        return column, NOT_NULL
    if isinstance(check, pandera.Check):
        told = check.error if family == "rule" else check.name
        return column, str(told or check.error or check.name)
    return column, str(check)


def _cases(error: SchemaError) -> tuple[Positions, list[Any]]:
    """Give the rows that a fault of pandera is about, and a value of each."""
    cases = error.failure_cases
    if not isinstance(cases, pd.DataFrame) or "index" not in cases:
        return _NOWHERE, []
    cases = cases[[isinstance(place, Integral) for place in cases["index"]]]
    cases = cases.drop_duplicates("index")
    return cases["index"].to_numpy(np.int64), cases["failure_case"].head(SAMPLES).tolist()


def _schema(columns: Sequence[ContractColumn], rules: Sequence[Rule]) -> pandera.DataFrameSchema:
    return pandera.DataFrameSchema(
        {
            column.name: pandera.Column(
                pd.ArrowDtype(arrow_type(column.type)),
                checks=[
                    _check(r) for r in rules if r.column == column.name and r.check != NOT_NULL
                ],
                nullable=(column.name, NOT_NULL) not in {rule.key for rule in rules},
            )
            for column in columns
        },
        strict=True,
        ordered=True,
    )


def _check(rule: Rule) -> pandera.Check:
    build = getattr(pandera.Check, rule.check)
    argument = _for_pandas(rule.argument)
    if rule.check in _SEARCHES and is_python_only(argument):
        search = partial(_SEARCHES[rule.check], argument)
        return pandera.Check(
            lambda series: series.map(lambda text: search(text) is not None).astype(bool),
            name=rule.check,
            error=rule.label,
        )
    if rule.check == "str_contains" and re.compile(argument).groups:
        # What pandas does as well, which then warns that it does not give back the groups.
        return pandera.Check(partial(_contains, argument), name=rule.check, error=rule.label)
    if isinstance(argument, Mapping):
        check: pandera.Check = build(**argument, error=rule.label)
    else:
        check = build(argument, error=rule.label)
    return _on_decimals(check) if travels_as_text(rule.kind) else check


def _for_pandas(argument: Any) -> Any:  # noqa: ANN401 - a value, several or bounds
    if isinstance(argument, dt.datetime):
        return pd.Timestamp(argument)
    if isinstance(argument, Mapping):
        return {key: _for_pandas(value) for key, value in argument.items()}
    return [_for_pandas(value) for value in argument] if isinstance(argument, list) else argument


def _contains(pattern: str, series: pd.Series) -> pd.Series:
    found = pc.match_substring_regex(pa.array(series), pattern)
    return pd.Series(found.to_numpy(zero_copy_only=False), index=series.index)


_SEARCHES = {"str_matches": re.match, "str_contains": re.search}


def _on_decimals(check: pandera.Check) -> pandera.Check:
    """Apply a check to numbers that travel as text because Arrow has no decimal that wide."""
    # pandera offers no public way to wrap a built-in check.
    inner, given = check._check_fn, check._check_kwargs  # noqa: SLF001
    return pandera.Check(
        lambda series: inner(series.map(Decimal, na_action="ignore").astype(object), **given),
        name=check.name,
        error=check.error,
    )
