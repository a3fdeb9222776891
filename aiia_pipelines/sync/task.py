"""One stream of one job run, from the first row read to the commit."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from aiia_pipelines.config.connector import Connector, Stream
from aiia_pipelines.connectors.base import Row, Source, SourceColumn
from aiia_pipelines.jobs.contracts import LearnedColumn
from aiia_pipelines.jobs.log import Level
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import Changes
from aiia_pipelines.sync.contract import Contract, agree
from aiia_pipelines.sync.destinations.base import Destination, Landing, Load
from aiia_pipelines.sync.faults import ContractBroken, Stopped
from aiia_pipelines.sync.outcome import StoredColumn
from aiia_pipelines.sync.reconcile import compare, mismatch
from aiia_pipelines.sync.rules import Rules
from aiia_pipelines.sync.totals import Totals


class StreamSync:
    """The task of one stream; its steps are recorded as they happen."""

    def __init__(
        self,
        connector: Connector,
        stream: Stream,
        source: Source,
        destination: Destination,
        recorder: Recorder,
    ) -> None:
        """Bring `stream` from a connected source to a connected destination."""
        self._connector = connector
        self._stream = stream
        self._source = source
        self._destination = destination
        self._recorder = recorder
        self.found: Sequence[SourceColumn] = ()
        self._contract: Contract | None = None

    def run(self, uid: str, learned: Sequence[LearnedColumn] | None) -> tuple[int, Changes]:
        """Sync the stream and tell how many rows it has and what the commit changed.

        Raises:
            SourceFault, ContractBroken, DestinationFault, Stopped: Nothing was committed.
        """
        name = self._stream.name
        self._stop_if_asked()
        with self._recorder.step(name, "parse", last=False):
            self.found = self._source.columns(self._stream)
            self._contract = agree(self._stream, self.found, learned)
        rules = Rules(self._contract)
        load = Load(
            connector=self._connector.name,
            stream=name,
            mode=self._stream.mode,
            run_key=f"{uid}/{name}",
            contract=self._contract,
        )
        landing = self._destination.land(load)
        before = landing.committed_before()
        if before is not None:
            self._recorder.log(Level.INFO, f"{name}: an earlier attempt of this run committed it.")
            self._recorder.committed(name, before[0])
            return before
        try:
            return self._land(landing, self._contract, rules)
        finally:
            with self._recorder.step(name, "clean_up"):
                landing.discard()

    def _land(self, landing: Landing, contract: Contract, rules: Rules) -> tuple[int, Changes]:
        name, recorder = self._stream.name, self._recorder
        level = self._stream.reconcile or self._connector.reconcile
        totals = Totals(contract, level)
        for batch in self._checked(contract, rules, totals):
            landing.stage(batch)
        self._accept(landing, contract, rules, totals.rows)
        recorder.log(Level.INFO, f"{name}: {totals.rows:,} records extracted and valid.")
        with recorder.step(name, "match"):
            changes = landing.match()
        with recorder.step(name, "reconcile"):
            wanted = totals.figures()
            figures = compare(wanted, landing.figures(list(wanted)))
            recorder.reconciled(name, figures)
            if (fault := mismatch(name, figures)) is not None:
                raise fault
        recorder.log(Level.INFO, f"{name}: reconciled, {len(figures)} figures agree on both sides.")
        # What the last pulse knew is up to a second old; here it decides whether readers see new rows.
        recorder.flush()
        self._stop_if_asked()
        with recorder.step(name, "commit"):
            landing.commit(totals.rows, changes)
        recorder.log(
            Level.INFO,
            f"{name}: committed, {changes.inserted:,} inserted, {changes.updated:,} updated,"
            f" {changes.unchanged:,} unchanged, {changes.deleted:,} deleted.",
        )
        return totals.rows, changes

    def _checked(
        self, contract: Contract, rules: Rules, totals: Totals
    ) -> Iterator[pa.RecordBatch]:
        """Give the batches that may be staged; after a broken rule the rest is only counted."""
        name, recorder = self._stream.name, self._recorder
        for rows in self._extracted(contract):
            first = totals.rows + 1
            with recorder.step(name, "parse", last=False):
                batch = contract.parse(rows, first)
            recorder.count(name, "parse", batch.num_rows)
            with recorder.step(name, "validate", last=False):
                valid = rules.check(batch, first)
                totals.add(batch)
            recorder.count(name, "validate", batch.num_rows, batch.nbytes)
            if totals.rows > self._stream.max_rows:
                raise ContractBroken(
                    f"Too many records in {name}: more than max_rows ({self._stream.max_rows:,}).",
                    "contract:max-rows",
                )
            if valid and not rules.violations:
                yield batch
        for step in ("extract", "parse", "validate"):
            with recorder.step(name, step):
                pass

    def _extracted(self, contract: Contract) -> Iterator[Sequence[Row]]:
        name, recorder = self._stream.name, self._recorder
        batches = self._source.batches(self._stream, [column.source for column in contract.columns])
        while True:
            with recorder.step(name, "extract", last=False):
                rows = next(batches, None)
            if rows is None:
                return
            self._stop_if_asked()
            recorder.count(name, "extract", len(rows))
            yield rows

    def _accept(self, landing: Landing, contract: Contract, rules: Rules, rows: int) -> None:
        """Check what can only be known when all rows are there."""
        name = self._stream.name
        if rules.violations:
            raise rules.fault(name)
        low, high = contract.min_rows, contract.max_rows
        if (low is not None and rows < low) or (high is not None and rows > high):
            raise ContractBroken(
                f"Row count of {name} is {rows:,}; expected {_range(low, high)}.",
                "contract:row-count",
            )
        if rows == 0 and low is None and self._stream.mode == "replace" and landing.holds_rows():
            raise ContractBroken(
                f"The source has no rows of {name}, the destination has; if that is right,"
                " set `checks: {row_count: {min: 0}}`.",
                "contract:empty",
            )
        for columns in contract.unique:
            count, samples = landing.duplicates(columns)
            if count:
                raise ContractBroken(
                    f"Duplicate values in {name}: {count:,} rows share their {', '.join(columns)}.",
                    "contract:unique",
                    report=tuple(samples),
                )

    def _stop_if_asked(self) -> None:
        if self._recorder.cancelled:
            raise Stopped("Somebody asked this job run to stop.")

    def stored_columns(self) -> tuple[StoredColumn, ...]:
        """Describe the columns as they are stored."""
        columns = self._contract.columns if self._contract else ()
        return tuple(StoredColumn(c.name, c.type, c.nullable, c.description) for c in columns)


def _range(low: int | None, high: int | None) -> str:
    if high is None:
        return f"at least {low:,}"
    return f"at most {high:,}" if low is None else f"{low:,} to {high:,}"
