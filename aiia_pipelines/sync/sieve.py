"""The way of a batch from the source to staging: converted, checked, and told apart into good and bad rows."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from aiia_pipelines.connectors.base import Batch, Wired
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
    """The rows of a batch whose values fit; `misfits` tells the others by their place in the batch.

    `wired` are the same rows as they came, unless a value was changed.
    """

    rows: pa.RecordBatch
    batch: Batch
    places: Places
    misfits: Reasons
    size: int  # bytes of all rows that were read
    wired: Wired | None = None


@dataclass(frozen=True)
class Sifted:
    """The rows that may be staged, and those that are set aside, of the form `REJECTED`.

    `wired` are the same rows as they came. Where only those are to be staged, columns of `rows` may be blank.
    """

    rows: pa.RecordBatch
    rejected: pa.RecordBatch | None = None
    wired: Wired | None = None


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

    def parse(self, batch: Batch, unseen: Collection[str] = ()) -> Parsed:
        """Convert a batch and count its rows; of `unseen` columns nobody wants to know more than the NULLs.

        Raises:
            ContractBroken: A value does not fit, and rows are not set aside.
        """
        first = self.rows + 1
        self.rows += len(batch)
        places = Places(first, batch.where)
        misfits: Reasons = defaultdict(list)
        came = batch.rows if isinstance(batch.rows, Wired) else None
        wired, arrays = came, []
        read = self._contract.read_columns
        columns = [] if came else _columns(batch, len(read))
        for index, column in enumerate(read):
            if came and column.name in unseen and (blank := came.blank(index)) is not None:
                arrays.append(blank)
                continue
            values = came.column(index) if came else columns[index]
            converted = convert(column, values)
            if converted.changed:
                self._adjusted[column.name, str(column.on_lossy)] += converted.changed
                wired = None
            if converted.misfits:
                self._note(column, values, converted.misfits, places)
                for place in converted.misfits:
                    misfits[place].append(_reason(column.name, _exact_type(column)))
            arrays.append(converted.values)
        size = wired.arrow_bytes if wired else sum(values.nbytes for values in arrays)
        rows = self._contract.complete(arrays, len(batch))
        wired = wired.bare() if wired else None
        if misfits:
            kept = np.setdiff1d(np.arange(len(batch)), np.fromiter(misfits, np.int64))
            rows, places = rows.take(pa.array(kept)), Places(first, batch.where, kept)
            wired = wired.only(kept) if wired else None
        return Parsed(rows, batch, places, misfits, size, wired)

    def sift(self, parsed: Parsed) -> Sifted:
        """Check the rules and tell good rows from bad ones.

        Raises:
            ContractBroken: The rows break a rule together, so that none of them can be set aside for it.
        """
        breaches = self._rules.check(parsed.rows, parsed.places)
        if not self._quarantine:
            if self.violations:
                return Sifted(parsed.rows.slice(0, 0))
            return Sifted(parsed.rows, wired=parsed.wired)
        reasons, rows, wired = dict(parsed.misfits), parsed.rows, parsed.wired
        for breach in breaches:
            if not len(breach.places):
                raise self._found.fault("")
            for place in breach.places.tolist():
                told = _reason(breach.column, breach.rule)
                reasons.setdefault(parsed.places.read(place), []).append(told)
        if breaches:
            bad = np.unique(np.concatenate([breach.places for breach in breaches]))
            good = np.setdiff1d(np.arange(rows.num_rows), bad)
            rows, wired = rows.take(pa.array(good)), wired.only(good) if wired else None
        self.rejected += len(reasons)
        return Sifted(rows, self._set_aside(parsed, reasons) if reasons else None, wired)

    @property
    def unruled(self) -> frozenset[str]:
        """Name the columns whose values no rule, change or report depends on, and the source itself has checked."""
        contract = self._contract
        if self._quarantine or any(column.on_lossy for column in contract.columns):
            return frozenset()
        checked = (column.name for column in contract.columns if column.given == column.type)
        return frozenset(checked) - self._rules.columns

    def converted(self, rows: Wired) -> pa.RecordBatch:
        """Convert rows that were counted and checked before."""
        contract = self._contract
        read = enumerate(contract.read_columns)
        found = [convert(column, rows.column(place)) for place, column in read]
        if any(column.misfits or column.changed for column in found):
            raise AssertionError("what the source has checked fits")
        return contract.complete([column.values for column in found], rows.num_rows)

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
    if isinstance(batch.rows, Sequence):
        return list(zip(*batch.rows, strict=True)) or [()] * count
    return list(batch.rows.columns)


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
