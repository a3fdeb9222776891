"""Parquet files in a folder or an S3 bucket as destination.

Data files never change; a commit is one new entry in the log of the stream, which names the files that make
up the stream from then on. Readers take the entry with the highest number: see `read`.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors.base import Position, Wired
from aiia_pipelines.jobs.run import Changes
from aiia_pipelines.sync.destinations import _duckdb_session as session
from aiia_pipelines.sync.destinations import _duckdb_sql as text
from aiia_pipelines.sync.destinations import _parquet_commit as commits
from aiia_pipelines.sync.destinations._parquet_files import Parts, aligned, schema_of
from aiia_pipelines.sync.destinations._parquet_log import DataFile, Log, Version
from aiia_pipelines.sync.destinations._parquet_merge import Merge, types_of
from aiia_pipelines.sync.destinations._parquet_store import (
    LocalStore,
    Store,
    scratch_folder,
    sweep_scratch,
    translated,
)
from aiia_pipelines.sync.destinations.base import (
    DELETED_AT,
    REJECTED,
    VALID_TO,
    Landing,
    Load,
    nothing,
)
from aiia_pipelines.sync.faults import DestinationFault


def _store(url: str) -> Store:
    parts = urlsplit(url)
    if parts.scheme == "s3":
        # boto3 takes half a second to load, which folders need not pay.
        from aiia_pipelines.sync.destinations._parquet_s3 import S3Store  # noqa: PLC0415

        return S3Store(url)
    if parts.netloc or parts.query or not parts.path.strip("/"):
        raise DestinationFault(
            "The URL of a Parquet destination needs the path of a folder, as in parquet:///data/lake.",
            "config:invalid",
        )
    return LocalStore(Path(unquote(parts.path)))


def read(url: str, connector: str, stream: str) -> pa.Table:
    """Read the rows that the last commit of a stream left, also while a sync runs.

    `<stream>__quarantine` gives the rows that were set aside. A stream that was never committed has no
    columns. What the type of a column is in the contract stands in the metadata of its field, `aiia:type`.
    """
    store = _store(url)
    store.connect(writes=False)
    for _ in range(3):
        schema, files = _visible(store, connector, stream)
        contents = [store.read(file.path) for file in files]
        if None not in contents:
            found = [pq.read_table(io.BytesIO(content)) for content in contents if content]
            return pa.concat_tables([schema.empty_table(), *(aligned(t, schema) for t in found)])
        # So many commits went by since the log was read that the files are gone: it has others now.
    raise DestinationFault(
        f"Files of {connector}.{stream} are missing at {store.describe()}.", "data:malformed"
    )


def _visible(store: Store, connector: str, stream: str) -> tuple[pa.Schema, Sequence[DataFile]]:
    latest = Log(store, f"{connector}/{stream}").latest()
    if latest is not None:
        return schema_of(latest.columns), latest.files
    latest = Log(store, f"{connector}/{stream.removesuffix(commits.QUARANTINE)}").latest()
    if latest is not None:
        return commits.QUARANTINED, latest.quarantine
    return pa.schema([]), ()


class ParquetDestination:
    """A folder or a bucket."""

    def __init__(self, url: str) -> None:
        """Read the URL; nothing is connected yet."""
        self._store = _store(url)
        self._landing: ParquetLanding | None = None

    def describe(self) -> str:
        """Name folder or bucket."""
        return self._store.describe()

    def connect(self) -> None:
        """See whether it is there."""
        with translated(self.describe()):
            self._store.connect(writes=True)

    def land(self, load: Load) -> Landing:
        """Begin with what the stream is now; who commits first wins."""
        with translated(self.describe()):
            self._landing = ParquetLanding(self._store, load)
        return self._landing

    def cancel(self) -> None:
        """Make a comparison or a merge in progress stop."""
        if self._landing is not None:
            self._landing.cancel()

    def close(self) -> None:
        """Leave nothing behind: every landing cleans up after itself."""


class ParquetLanding:
    """The staged files of one stream in one attempt."""

    def __init__(self, store: Store, load: Load) -> None:
        """Read the version to build on; the next one is taken by the first run that commits it."""
        self._store = store
        self._load = load
        self._place = store.describe()
        text.layout(load, where="A Parquet file")
        self._folder = f"{load.connector}/{load.stream}"
        self._log = Log(store, self._folder)
        self._base = self._log.latest()
        self._open = ExitStack()
        self._scratch = self._open.enter_context(scratch_folder(store.scratch()))
        self._merge = Merge(self._scratch)
        self._open.callback(self._merge.close)
        columns = {column.name: str(column.type) for column in load.contract.columns}
        self._types = types_of(columns)
        self._staged = Parts(self._scratch, "rows", schema_of(columns))
        self._keys = Parts(
            self._scratch, "keys", schema_of({name: columns[name] for name in load.contract.key})
        )
        self._rejected = Parts(self._scratch, "rejected", REJECTED)
        for parts in (self._staged, self._keys, self._rejected):
            self._open.callback(parts.abandon)
        self._keyed = False
        self.sent = 0  # bytes of the files that were put in their place
        self._matched: commits.Plan | None = None

    def committed_before(self) -> tuple[int, Changes] | None:
        """Look for this task among the last commits."""
        with translated(self._place):
            latest = self._log.latest()
            number = latest.runs.get(self._load.run_key) if latest else None
            found = self._log.version(number) if number is not None else None
        return (found.rows, Changes(**found.changes)) if found else None

    def position(self) -> Position | None:
        """Tell the position that the last commit left."""
        return self._base.position if self._base else None

    def resume(self) -> Position | None:
        """Find nothing: what another attempt staged is gone with it."""
        return None

    # -- staging ----------------------------------------------------------------------------

    def stage(self, batch: pa.RecordBatch, checkpoint: Position | None = None) -> None:  # noqa: ARG002 - nothing is taken up again
        """Add a batch to a file that no log names."""
        with translated(self._place):
            self._staged.write(batch)

    def takes(self, kinds: Sequence[ColumnType]) -> bool:  # noqa: ARG002 - only PostgreSQL reads this form
        """Take no rows as they came."""
        return False

    def forward(self, rows: Wired, checkpoint: Position | None = None) -> bool:  # noqa: ARG002
        """Take no rows as they came."""
        return False

    def stage_keys(self, batch: pa.RecordBatch) -> None:
        """Add to the keys that the source has now."""
        self._keyed = True
        with translated(self._place):
            self._keys.write(batch)

    def reject(self, rows: pa.RecordBatch) -> None:
        """Set rows aside until the commit."""
        with translated(self._place):
            self._rejected.write(rows)

    def _relation(self, parts: Parts) -> str:
        paths = [path for path, _ in parts.finish()]
        names = parts.schema.names
        return self._merge.relation(paths, {name: self._types[name] for name in names})

    def duplicates(self, columns: Sequence[str]) -> tuple[int, list[str]]:
        """Count the staged rows that share their values in these columns with another row."""
        with translated(self._place), session.translated(self._place):
            return session.duplicates(self._merge.db, self._relation(self._staged), columns)

    def figures(self, wanted: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Any]:
        """Compute the figures over the staged files as they can be read back."""
        with translated(self._place), session.translated(self._place):
            staged = self._relation(self._staged)
            return session.figures(self._merge.db, staged, self._load.contract, wanted)

    # -- matching and committing ------------------------------------------------------------

    def _comparison(self, plan: commits.Plan) -> text.Comparison:
        columns = types_of(plan.columns)
        paths = [self._store.local(file.path, self._scratch) for file in plan.files]
        return text.Comparison(
            load=self._load,
            staged=self._relation(self._staged),
            stored=self._merge.relation(paths, columns),
            columns=columns,
            keys=self._relation(self._keys) if self._keyed else None,
            follows=plan.follows,
        )

    def live_rows(self) -> int:
        """Count the rows of the stream that are neither softly deleted nor ended."""
        if self._base is None:
            return 0
        marks = [name for name in (DELETED_AT, VALID_TO) if name in self._base.columns]
        if not marks:
            return sum(file.rows for file in self._base.files)
        with translated(self._place), session.translated(self._place):
            paths = [self._store.local(file.path, self._scratch) for file in self._base.files]
            stored = self._merge.relation(paths, types_of(self._base.columns))
            live = " and ".join(f"{name} is null" for name in marks)
            query = f"select count(*) as n from {stored} where {live}"
            return int(session.one_row(self._merge.db, query)["n"])

    def match(self, *, complete: bool) -> Changes:
        """Count what a commit would insert, update, leave and delete."""
        load = self._load
        told = complete or self._keyed
        follows = load.mode == "replace" or (load.delete != "none" and told)
        plan = commits.Plan(load, self._base, follows=follows)
        plan.accept(self._place)
        with translated(self._place), session.translated(self._place):
            staged = self._relation(self._staged)
            session.refuse_missing_keys(self._merge.db, staged, load.contract, load.stream)
            counts = plan.known_counts(self._staged.rows)
            if counts is None:
                plan.comparison = self._comparison(plan)
                counts = self._merge.counts(plan.comparison)
        self._matched = plan
        inserted, updated, unchanged, deleted = counts
        return Changes(inserted=inserted, updated=updated, unchanged=unchanged, deleted=deleted)

    def commit(
        self,
        rows: int,
        changes: Changes,
        position: Position | None,
        *,
        seal: Callable[[], None] = nothing,
    ) -> None:
        """Put the files in their place, then take the next number of the log for them."""
        if self._matched is None:
            raise AssertionError("match() comes first")
        published: list[str] = []
        with ExitStack() as undo, translated(self._place), session.translated(self._place):
            undo.callback(self._withdraw, published)
            new = self._version(self._matched, rows, changes, position, published)
            seal()
            # From here on a fault may mean that only the answer is lost: then the files have to stay.
            undo.pop_all()
            if not self._log.commit(new):
                self._withdraw(published)
                raise DestinationFault(
                    f"Another run committed {self._load.connector}.{self._load.stream}"
                    " while this one was reading.",
                    "destination:fenced",
                    place=self._place,
                )
        # What cannot be removed now is removed after the next commit.
        with suppress(DestinationFault, OSError):
            commits.vacuum(self._store, self._log, self._folder, new)

    def _version(
        self,
        plan: commits.Plan,
        rows: int,
        changes: Changes,
        position: Position | None,
        published: list[str],
    ) -> Version:
        """Put files in their place, where nobody looks yet, and make the version that will name them."""
        at = plan.time()
        kept, parts = self._written(plan, changes, at.isoformat())
        files = self._publish(parts, self._folder, published)
        rejected = commits.stamped(self._rejected, self._load.run_key, at)
        aside = self._publish(rejected, f"{self._folder}{commits.QUARANTINE}", published)
        return plan.version(
            rows=rows,
            changes=changes,
            position=position,
            at=at,
            files=[*kept, *files],
            quarantine=aside,
        )

    def _written(
        self, plan: commits.Plan, changes: Changes, at: str
    ) -> tuple[Sequence[DataFile], Parts]:
        """Give the files that stay, and those that are new."""
        if plan.is_idle(changes):
            return plan.files, Parts(self._scratch, "none", self._staged.schema)
        compared = plan.comparison
        if compared is None or self._load.mode == "replace":
            stays = () if self._load.mode == "replace" else plan.files
            return stays, self._staged
        paths = {self._store.local(file.path, self._scratch): file for file in plan.files}
        touched = self._merge.touched(compared)
        merged = Parts(self._scratch, "merged", schema_of(plan.columns))
        source = self._merge.relation(sorted(touched), compared.columns)
        for batch in self._merge.merged(compared, source, at):
            merged.write(batch)
        merged.finish()
        return [file for path, file in paths.items() if path not in touched], merged

    def _publish(self, parts: Parts, folder: str, published: list[str]) -> list[DataFile]:
        done = []
        for path, rows in parts.finish():
            name = f"{folder}/data/{uuid4().hex}.parquet"
            published.append(name)
            size = path.stat().st_size
            self._store.publish(path, name)
            self.sent += size
            done.append(DataFile(name, rows))
        return done

    def _withdraw(self, published: Sequence[str]) -> None:
        """Remove the files of a commit that is certain not to happen."""
        with suppress(DestinationFault, OSError):
            for name in published:
                self._store.remove(name)

    def cancel(self) -> None:
        """Interrupt the engine."""
        self._merge.interrupt()

    def discard(self, *, keep: bool = False) -> None:  # noqa: ARG002 - nothing outlives the attempt
        """Drop the staged files."""
        with suppress(OSError):
            self._open.close()


def reach(url: str) -> str:
    """Make sure the folder or bucket is there and may be used, and name it for people."""
    destination = ParquetDestination(url)
    destination.connect()
    return destination.describe()


def collect(url: str, most: int) -> int:  # noqa: ARG001 - there are as many as attempts were killed
    """Remove the scratch folders of attempts that were killed, and count them."""
    place = _store(url)
    with translated(place.describe()):
        return sweep_scratch(place.scratch())


def open_parquet(url: str) -> ParquetDestination:
    """Open a Parquet destination; nothing is connected yet."""
    return ParquetDestination(url)
