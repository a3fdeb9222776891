"""What a commit of Parquet files is made of, and the removal of files that nobody needs any more."""

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from aiia_pipelines.connectors.base import Position
from aiia_pipelines.jobs.run import Changes
from aiia_pipelines.sync.destinations._duckdb_sql import Comparison, extras_of, refuse_other_columns
from aiia_pipelines.sync.destinations._parquet_files import Parts
from aiia_pipelines.sync.destinations._parquet_log import (
    KEPT_VERSIONS,
    DataFile,
    Log,
    Retired,
    Version,
)
from aiia_pipelines.sync.destinations._parquet_store import Store
from aiia_pipelines.sync.destinations.base import REJECTED, Load

QUARANTINE = "__quarantine"
QUARANTINED = REJECTED.append(pa.field("run_key", pa.string(), nullable=False)).append(
    pa.field("at", pa.timestamp("us", "UTC"), nullable=False)
)
# A reader has this long, and so many commits, to open the files of the version it has read.
READERS_HAVE = 3600.0  # seconds
_READ_VERSIONS = 2
# A file that no version names belongs to an attempt under way, or to one that died long ago.
_ATTEMPTS_HAVE = 24 * 3600.0  # seconds


@dataclass(slots=True)
class Plan:
    """How the next version comes from the one before."""

    load: Load
    base: Version | None
    follows: bool
    comparison: Comparison | None = None

    @property
    def files(self) -> Sequence[DataFile]:
        """The files of the version before."""
        return self.base.files if self.base else ()

    @property
    def _rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def _keeps(self) -> bool:
        return self.base is not None and self.load.mode != "replace" and bool(self._rows)

    @property
    def _wanted(self) -> dict[str, str]:
        found = {column.name: str(column.type) for column in self.load.contract.columns}
        return found | dict.fromkeys(extras_of(self.load), "timestamptz")

    @property
    def columns(self) -> dict[str, str]:
        """The columns to be stored, typed as in connector files; rows that stay may have more."""
        kept = self.base.columns if self.base and self._keeps else {}
        return {**kept, **self._wanted}

    @property
    def _same(self) -> bool:
        return self.base is None or dict(self.base.columns) == self.columns

    def accept(self, place: str) -> None:
        """Refuse files whose rows stay and cannot get the columns of the contract."""
        if self.base is not None and self._keeps:
            refuse_other_columns(self.load, self.base.columns, self._wanted, place)

    def known_counts(self, staged: int) -> tuple[int, int, int, int] | None:
        """Give the counts when no row has to be compared."""
        if self.load.mode == "replace" and not (self.load.contract.key and self._same):
            return staged, 0, 0, self._rows
        alone = not self._rows and self.load.mode != "history"
        return (staged, 0, 0, 0) if alone or not self.load.contract.key else None

    def is_idle(self, changes: Changes) -> bool:
        """Tell whether the files stay as they are."""
        return (
            self.base is not None
            and self._same
            and not (changes.inserted or changes.updated or changes.deleted)
        )

    def time(self) -> dt.datetime:
        """Give the time of the commit; a stream never goes back in time, whatever the clock does."""
        now = dt.datetime.now(dt.UTC)
        if self.base is None:
            return now
        return max(now, dt.datetime.fromisoformat(self.base.at) + dt.timedelta(microseconds=1))

    def version(
        self,
        *,
        rows: int,
        changes: Changes,
        position: Position | None,
        at: dt.datetime,
        files: Sequence[DataFile],
        quarantine: Sequence[DataFile],
    ) -> Version:
        """Make the next version."""
        before = self.base
        number = before.version + 1 if before else 1
        named = {file.path for file in files}
        dropped = [
            Retired(file.path, number, at.timestamp())
            for file in self.files
            if file.path not in named
        ]
        old = (
            [entry for entry in before.retired if not _was_removed(entry, before)] if before else []
        )
        runs = {**(before.runs if before else {}), self.load.run_key: number}
        recent = {key: version for key, version in runs.items() if version > number - KEPT_VERSIONS}
        return Version(
            version=number,
            attempt=uuid4().hex,
            run_key=self.load.run_key,
            mode=self.load.mode,
            at=at.isoformat(),
            rows=rows,
            changes=asdict(changes),
            position=None if position is None else dict(position),
            columns=self.columns,
            files=files,
            quarantine=[*(before.quarantine if before else ()), *quarantine],
            retired=[*old, *dropped],
            runs=recent,
        )


def _expired(entry: Retired, latest: Version, now: float) -> bool:
    """Tell whether no reader can need a file any more."""
    return entry.version <= latest.version - _READ_VERSIONS and entry.at < now - READERS_HAVE


def _was_removed(entry: Retired, latest: Version) -> bool:
    """Tell whether the vacuum that followed a version has removed a file."""
    return _expired(entry, latest, dt.datetime.fromisoformat(latest.at).timestamp())


def stamped(rejected: Parts, run_key: str, at: dt.datetime) -> Parts:
    """Write the rows that were set aside with the run and the time of their commit."""
    found = Parts(rejected.folder, "quarantine", QUARANTINED)
    for path, _ in rejected.finish():
        with pq.ParquetFile(str(path)) as file:
            for batch in file.iter_batches():
                columns = [
                    *batch.columns,
                    pa.array([run_key] * batch.num_rows, pa.string()),
                    pa.array([at] * batch.num_rows, pa.timestamp("us", "UTC")),
                ]
                found.write(pa.RecordBatch.from_arrays(columns, schema=QUARANTINED))
    return found


def vacuum(store: Store, log: Log, folder: str, latest: Version) -> None:
    """Remove what neither a reader nor an attempt under way can need."""
    for entry in latest.retired:
        if _expired(entry, latest, time.time()):
            store.remove(entry.path)
    known = {file.path for file in latest.every}
    known |= {entry.path for entry in latest.retired}
    for place in (folder, f"{folder}{QUARANTINE}"):
        for found in store.names(f"{place}/data"):
            if found.name not in known and found.changed < time.time() - _ATTEMPTS_HAVE:
                store.remove(found.name)
    log.prune(latest)
