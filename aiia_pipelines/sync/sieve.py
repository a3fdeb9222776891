"""The way of a batch from the source to staging: converted, checked, and told apart into good and bad rows."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from aiia_pipelines.connectors.base import Batch
from aiia_pipelines.sync._column import Values, convert, value_at
from aiia_pipelines.sync.contract import Contract, ContractColumn
from aiia_pipelines.sync.convert import masked, misfit, text_of
from aiia_pipelines.sync.destinations.base import REJECTED
from aiia_pipelines.sync.faults import ContractBroken
from aiia_pipelines.sync.outcome import Violation
from aiia_pipelines.sync.rules import SAMPLES, Places, Rules, Violations

_LARGEST = 2**63 - 1
_CELL = 4096  # characters kept of a value that is set aside
_NOT_EXACT = "type"

Reasons = dict[int, list[str]]


@dataclass(frozen=True)
class Parsed:
    """The rows of a batch whose values fit; `misfits` tells the others by their place in the batch."""

    rows: pa.RecordBatch
    batch: Batch
    places: Places
    misfits: Reasons
    size: int  # bytes of all rows that were read, as Arrow columns


@dataclass(frozen=True)
class Sifted:
    """The rows that may be staged, and those that are set aside, of the form `REJECTED`."""

    rows: pa.RecordBatch
    rejected: pa.RecordBatch | None = None


class Sieve:
    """Converts and checks one stream, batch by batch, and counts what it finds.

    Without quarantine nothing passes any more after the first broken rule; the rest is only counted.
    """

    def __init__(
        self, contract: Contract, *, quarantine: bool, schema: str | None, first_row: int = 1
    ) -> None:
        """Prepare for rows that are numbered from `first_row`.

        Raises:
            ContractBroken: A rule does not go with its column, or the Python schema cannot be used.
        """
        self._contract = contract
        self._quarantine = quarantine
        self._found = Violations()
        self._rules = Rules(contract, schema, self._found)
        self._adjusted: Counter[tuple[str, str]] = Counter()
        self.rows = first_row - 1
        self.rejected = 0

    @property
    def violations(self) -> list[Violation]:
        """List the rules broken so far."""
        return list(self._found)

    @property
    def adjusted(self) -> Mapping[tuple[str, str], int]:
        """Count the values changed under `on_lossy`, by column and way."""
        return self._adjusted

    def fault(self, stream: str) -> ContractBroken:
        """Make the fault that names the first broken rule and reports all."""
        return self._found.fault(stream)

    def parse(self, batch: Batch) -> Parsed:
        """Convert a batch and count its rows.

        Raises:
            ContractBroken: A value does not fit, and rows are not set aside.
        """
        first = self.rows + 1
        self.rows += len(batch)
        places = Places(first, batch.where)
        misfits: Reasons = defaultdict(list)
        arrays = []
        read = self._contract.read_columns
        for column, values in zip(read, _columns(batch, len(read)), strict=True):
            converted = convert(column, values)
            if converted.changed:
                self._adjusted[column.name, str(column.on_lossy)] += converted.changed
            if converted.misfits:
                self._note(column, values, converted.misfits, places)
                for place in converted.misfits:
                    misfits[place].append(_reason(column.name, _exact_type(column)))
            arrays.append(converted.values)
        size = sum(values.nbytes for values in arrays)
        rows = self._contract.complete(arrays, len(batch))
        if misfits:
            kept = np.setdiff1d(np.arange(len(batch)), np.fromiter(misfits, np.int64))
            rows, places = rows.take(pa.array(kept)), Places(first, batch.where, kept)
        return Parsed(rows, batch, places, misfits, size)

    def sift(self, parsed: Parsed) -> Sifted:
        """Check the rules and tell good rows from bad ones.

        Raises:
            ContractBroken: The rows break a rule together, so that none of them can be set aside for it.
        """
        breaches = self._rules.check(parsed.rows, parsed.places)
        if not self._quarantine:
            return Sifted(parsed.rows.slice(0, 0) if self.violations else parsed.rows)
        reasons, rows = dict(parsed.misfits), parsed.rows
        for breach in breaches:
            if not len(breach.places):
                raise self._found.fault("")
            for place in breach.places.tolist():
                told = _reason(breach.column, breach.rule)
                reasons.setdefault(parsed.places.read(place), []).append(told)
        if breaches:
            bad = np.unique(np.concatenate([breach.places for breach in breaches]))
            rows = rows.take(pa.array(np.setdiff1d(np.arange(rows.num_rows), bad)))
        self.rejected += len(reasons)
        return Sifted(rows, self._set_aside(parsed, reasons) if reasons else None)

    def dump(self) -> dict[str, Any]:
        """Write down what is counted, as JSON."""
        return {
            "rows": self.rows,
            "rejected": self.rejected,
            "violations": [asdict(violation) for violation in self._found],
            "adjusted": [[*key, count] for key, count in self._adjusted.items()],
        }

    def load(self, dumped: Mapping[str, Any]) -> None:
        """Go on from what was written down."""
        self.rows, self.rejected = dumped["rows"], dumped["rejected"]
        for violation in dumped["violations"]:
            self._found.add(Violation(**violation))
        self._adjusted = Counter(
            {(column, how): count for column, how, count in dumped["adjusted"]}
        )

    def _note(
        self, column: ContractColumn, values: Values, misfits: list[int], places: Places
    ) -> None:
        if not self._quarantine and not self.violations:
            first = misfits[0]
            kind = column.declared or column.type
            raise misfit(column.name, kind, value_at(values, first), places.told(first))
        violation = self._found.of(column.name, _exact_type(column), "value")
        violation.count += len(misfits)
        for place in misfits[: SAMPLES - len(violation.samples)]:
            violation.samples.append(f"{places.told(place)}: {masked(value_at(values, place))}")

    def _set_aside(self, parsed: Parsed, reasons: Reasons) -> pa.RecordBatch:
        names = [column.name for column in self._contract.read_columns]
        columns = _columns(parsed.batch, len(names))
        rows = Places(parsed.places.first, parsed.batch.where)
        records = [
            {
                "row": rows.number(place),
                "place": rows.name(place),
                "rules": "; ".join(told),
                "record": _record(names, columns, place),
            }
            for place, told in sorted(reasons.items())
        ]
        return pa.RecordBatch.from_pylist(records, schema=REJECTED)


def _columns(batch: Batch, count: int) -> list[Values]:
    if isinstance(batch.rows, pa.RecordBatch):
        return list(batch.rows.columns)
    return list(zip(*batch.rows, strict=True)) or [()] * count


def _exact_type(column: ContractColumn) -> str:
    return f"{_NOT_EXACT}({column.declared or column.type})"


def _reason(column: str, rule: str) -> str:
    return f"{column}: {rule}" if column else rule


def _record(names: list[str], columns: list[Values], place: int) -> str:
    """Write a row as its source gave it, long values cut."""
    cells = {
        name: _cell(value_at(values, place)) for name, values in zip(names, columns, strict=True)
    }
    text = json.dumps(cells, ensure_ascii=False, allow_nan=False)
    # Half of a character of two halves is no text that a destination takes.
    return text.encode("utf-8", "backslashreplace").decode()


def _cell(value: object) -> int | str | None:
    if value is None or (isinstance(value, int) and abs(value) <= _LARGEST):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        text = bytes(value[: _CELL // 2]).hex()
        return text if len(value) * 2 <= _CELL else f"{text}… ({len(value):,} bytes)"
    text = text_of(value)
    return text if len(text) <= _CELL else f"{text[:_CELL]}… ({len(text):,} characters)"
