"""One stream of one job run, from the first row read to the commit."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pyarrow as pa

from aiia_pipelines.config.amounts import Budget
from aiia_pipelines.config.connector import Connector, Stream
from aiia_pipelines.connectors.base import Reading, Source, SourceColumn
from aiia_pipelines.jobs.contracts import LearnedColumn
from aiia_pipelines.jobs.log import Level
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import Changes
from aiia_pipelines.sync import guards
from aiia_pipelines.sync.contract import Contract, agree
from aiia_pipelines.sync.destinations.base import Destination, Landing, Load
from aiia_pipelines.sync.faults import ContractBroken, DestinationFault, Held, Stopped
from aiia_pipelines.sync.outcome import StoredColumn, Violation
from aiia_pipelines.sync.profiles import sampled
from aiia_pipelines.sync.pump import Pump, stop_if_asked
from aiia_pipelines.sync.reconcile import compare, mismatch
from aiia_pipelines.sync.sieve import Sieve
from aiia_pipelines.sync.totals import Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How a sync is to be done: `full` reads all rows again, `dry_run` commits nothing."""

    full: bool = False
    dry_run: bool = False


@dataclass(kw_only=True)
class StreamSync:
    """The task of one stream; its steps are recorded as they happen."""

    connector: Connector
    stream: Stream
    source: Source
    destination: Destination
    recorder: Recorder
    wish: Wish = field(default_factory=Wish)
    last: bool = True  # no other stream of the run comes after it
    sealed: bool = False
    landing: Landing | None = None
    found: Sequence[SourceColumn] = ()
    contract: Contract | None = None
    sieve: Sieve | None = None
    short: int = 0  # rows up to the cursor that the destination lacks because they were set aside
    first: pa.RecordBatch | None = None  # some of the rows, for what is learned of a stream

    def run(self, uid: str, learned: Sequence[LearnedColumn] | None) -> tuple[int, Changes]:
        """Sync the stream and tell how many rows were read and what the commit changed.

        Raises:
            SourceFault, ContractBroken, DestinationFault, Stopped: Nothing was committed.
        """
        name = self.stream.name
        stop_if_asked(self.recorder)
        with self.recorder.step(name, "parse", last=False):
            self.found = self.source.columns(self.stream)
            self.contract = agree(
                self.stream, self.found, learned,
                drift=self.connector.drift,
                sample=lambda names: sampled(self.source, self.stream, names),
            )  # fmt: skip
        for change in self.contract.changes:
            self.recorder.log(Level.WARNING, f"{name}: {change}")
        with self.recorder.work([name], "prepare"):
            landing = self.landing = self.destination.land(self._load(uid, self.contract))
            before = None if self.wish.dry_run else landing.committed_before()
        if before is not None:
            landing.discard()
            self._log(f"{name}: an earlier attempt of this run committed it.")
            self.recorder.committed(name, before[0])
            return before
        keep = False
        try:
            return self._land(landing, self.contract)
        except BaseException as fault:
            # What is wrong with the data or with the wish is wrong with the staged rows, too.
            stopped = isinstance(fault, Stopped) and not isinstance(fault, Held)
            wrong = isinstance(fault, ContractBroken) or stopped or self.recorder.cancelled
            # A reading of what has changed since cannot be gone on with.
            wrong = wrong or "source:changed" in getattr(fault, "signals", ())
            keep = not wrong and not self.wish.dry_run
            raise
        finally:
            with self.recorder.step(name, "clean_up"):
                landing.discard(keep=keep)

    def _load(self, uid: str, contract: Contract) -> Load:
        stream = self.stream
        plan = f"{stream.model_dump_json()}{contract!r}{self.wish}"
        return Load(
            connector=self.connector.name,
            stream=stream.name,
            mode=stream.mode,
            run_key=f"{uid}/{stream.name}",
            contract=contract,
            delete=stream.delete,
            plan=hashlib.sha256(plan.encode()).hexdigest(),
            trial=self.wish.dry_run,
        )

    def _land(self, landing: Landing, contract: Contract) -> tuple[int, Changes]:
        name, stream, recorder = self.stream.name, self.stream, self.recorder
        totals = Totals(contract, stream.reconcile or self.connector.reconcile)
        sieve = self.sieve = Sieve(
            contract, quarantine=self.connector.on_invalid == "quarantine", schema=stream.schema_
        )
        with recorder.work([name], "prepare"):
            reading = self._reading(landing, contract, sieve, totals)
        pump = Pump(
            stream=stream, source=self.source, landing=landing, recorder=recorder, sieve=sieve, totals=totals
        )  # fmt: skip
        resumed = sieve.rows
        pump.run(reading)
        self.first = pump.first
        for step in ("extract", "parse", "validate"):
            with recorder.step(name, step):
                pass
        with recorder.work([name], "validate"):
            self._accept(landing, contract, sieve, reading)
        if resumed + pump.read != totals.rows + sieve.rejected:
            raise AssertionError("every row that was read is staged or set aside")
        self._tell(sieve)
        changes = self._match(landing, reading)
        self._reconcile(landing, totals)
        self._finish(landing, reading, totals.rows, changes)
        return totals.rows, changes

    # -- what is read -----------------------------------------------------------------------

    def _reading(
        self, landing: Landing, contract: Contract, sieve: Sieve, totals: Totals
    ) -> Reading:
        """Decide what is read: all rows, those since the last commit, or the rest of a broken attempt."""
        cursor = self.stream.cursor
        origins = {column.name: column.source for column in contract.columns}
        whole = Reading(
            names=[column.source for column in contract.read_columns],
            cursor=origins[cursor] if cursor else None,
        )
        if self.stream.mode == "replace":
            return whole
        if self.wish.full and self.stream.mode == "append" and landing.live_rows():
            raise DestinationFault(
                f"{self.stream.name} is appended to: reading all rows again would double them."
                " Take mode upsert with a key, or replace.",
                "config:invalid",
            )
        since, self.short = (None, 0) if self.wish.full else guards.unpacked(landing.position())
        reading = replace(whole, since=since)
        until = self.source.position(self.stream, reading)
        if until is None:
            return whole
        broken = None if self.wish.dry_run else landing.resume()
        if broken is not None and broken["since"] == since:
            sieve.load(broken["sieve"])
            totals.load(broken["totals"])
            self._log(
                f"{self.stream.name}: going on after {sieve.rows:,} records that a broken attempt staged."
            )
            self.recorder.count(self.stream.name, "validate", sieve.rows)
            return replace(reading, until=broken["until"], after=broken["after"])
        return replace(reading, until=until)

    def _accept(self, landing: Landing, contract: Contract, sieve: Sieve, reading: Reading) -> None:
        """Check what can only be known when all rows are there."""
        name = self.stream.name
        if self.connector.on_invalid == "quarantine":
            guards.invalid_budget(name, self.connector.max_invalid or Budget(rows=0), sieve)
        elif sieve.violations:
            raise sieve.fault(name)
        guards.row_count(contract, name, sieve.rows)
        if sieve.rows == sieve.rejected and reading.since is None:
            guards.not_empty(contract, self.stream, landing, rejected=sieve.rejected)
        guards.unique(contract, name, landing)

    def _tell(self, sieve: Sieve) -> None:
        name = self.stream.name
        valid = sieve.rows - sieve.rejected
        self._log(f"{name}: {valid:,} records extracted and valid.")
        if sieve.rejected:
            report = tuple(str(violation) for violation in sieve.violations)
            text = f"{name}: {sieve.rejected:,} invalid records set aside in {name}__quarantine."
            self.recorder.log(Level.WARNING, text, detail=report)
        for column, how, count in self.adjusted:
            text = f"{name}: {count:,} values of column '{column}' did not fit and were changed"
            self.recorder.log(Level.WARNING, f"{text} (on_lossy: {how}).")

    # -- what is committed ------------------------------------------------------------------

    def _match(self, landing: Landing, reading: Reading) -> Changes:
        stream, recorder = self.stream, self.recorder
        # Rows that were set aside are not among the staged ones, and not gone either.
        complete = reading.since is None and not (self.rejected and stream.delete != "none")
        with recorder.step(stream.name, "match"):
            if stream.delete != "none" and not complete:
                self._stage_keys(landing)
                recorder.sent(stream.name, "match", landing.sent)
            changes = landing.match(complete=complete)
            guards.mass_delete(stream, landing, changes)
            at_source = self.source.rows_until(stream, reading) if reading.until else None
            may_lack = self.short + self.rejected
            self.short = guards.none_lost(stream, landing, changes, at_source, may_lack=may_lack)
        return changes

    def _stage_keys(self, landing: Landing) -> None:
        listed = 0
        for keys in self._keys():
            landing.stage_keys(keys)
            listed += keys.num_rows
            self.recorder.count(self.stream.name, "match", read=keys.nbytes)
        if not listed and self.contract is not None:
            # Nothing new was read because nothing is there any more.
            guards.not_empty(self.contract, self.stream, landing)

    def _keys(self) -> Iterator[pa.RecordBatch]:
        """Read the keys of all rows that the source has in this snapshot."""
        if self.contract is None:
            raise AssertionError("the contract comes first")
        keys = self.contract.only(self.stream.key)
        aside = self.connector.on_invalid == "quarantine"
        sieve = Sieve(keys, quarantine=aside, schema=None)
        names = [column.source for column in keys.columns]
        # Also when no batch comes: a source without rows has lost all of them.
        yield pa.RecordBatch.from_pylist([], keys.schema)
        for batch in self.source.batches(self.stream, Reading(names=names)):
            stop_if_asked(self.recorder)
            yield sieve.sift(sieve.parse(batch)).rows
        if sieve.violations and not aside:
            raise sieve.fault(self.stream.name)

    def _reconcile(self, landing: Landing, totals: Totals) -> None:
        name, recorder = self.stream.name, self.recorder
        with recorder.step(name, "reconcile"):
            wanted = totals.figures()
            figures = compare(wanted, landing.figures(list(wanted)))
            recorder.reconciled(name, figures)
            if (fault := mismatch(name, figures)) is not None:
                raise fault
        self._log(f"{name}: reconciled, {len(figures)} figures agree on both sides.")

    def _finish(self, landing: Landing, reading: Reading, rows: int, changes: Changes) -> None:
        name, recorder = self.stream.name, self.recorder
        told = (
            f"{changes.inserted:,} inserted, {changes.updated:,} updated,"
            f" {changes.unchanged:,} unchanged, {changes.deleted:,} deleted."
        )
        if self.wish.dry_run:
            self._log(f"{name}: dry run, nothing is committed; it would be {told}")
            return
        with recorder.step(name, "commit"):
            try:
                position = guards.packed(reading.until, self.short)
                landing.commit(rows, changes, position, seal=self._seal)
            except DestinationFault:
                if self.sealed:
                    recorder.unseal()
                raise
            recorder.sent(name, "commit", landing.sent)
        self._log(f"{name}: committed, {told}")

    def _seal(self) -> None:
        """Decide between the commit and a cancel: the last commit of a run is not followed by any."""
        if not self.last:
            # What the last pulse knew is up to a second old; here it decides whether readers see new rows.
            self.recorder.ask()
            stop_if_asked(self.recorder)
        elif self.recorder.seal():
            self.sealed = True
        else:
            raise Stopped("Somebody asked this job run to stop.")

    def committed(self) -> tuple[int, Changes] | None:
        """Tell, after an interruption, whether the commit was done all the same."""
        if not self.sealed or self.landing is None:
            return None
        with suppress(DestinationFault):
            return self.landing.committed_before()
        return None

    @property
    def rejected(self) -> int:
        """Count the rows that were set aside."""
        return self.sieve.rejected if self.sieve else 0

    @property
    def violations(self) -> tuple[Violation, ...]:
        """List the broken rules."""
        return tuple(self.sieve.violations) if self.sieve else ()

    @property
    def adjusted(self) -> tuple[tuple[str, str, int], ...]:
        """List the values changed under `on_lossy` as (column, way, count)."""
        found = self.sieve.adjusted if self.sieve else {}
        return tuple((column, how, count) for (column, how), count in found.items())

    def _log(self, text: str) -> None:
        self.recorder.note(text)

    def stored_columns(self) -> tuple[StoredColumn, ...]:
        """Describe the columns as they are stored."""
        columns = self.contract.columns if self.contract else ()
        return tuple(StoredColumn(c.name, c.type, c.nullable, c.description) for c in columns)
