"""A DuckDB file as destination: rows are staged in temporary tables, then one transaction shows them.

Only one process at a time can have the file open, so what fences off another run of the same process is
the `lease`, and what fences off other processes is the lock that DuckDB puts on the file.
"""

import datetime as dt
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import duckdb
import pyarrow as pa

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors.base import Position, Wired
from aiia_pipelines.jobs.run import Changes
from aiia_pipelines.sync.destinations import _duckdb_apply as apply
from aiia_pipelines.sync.destinations import _duckdb_control as control
from aiia_pipelines.sync.destinations import _duckdb_session as session
from aiia_pipelines.sync.destinations import _duckdb_sql as text
from aiia_pipelines.sync.destinations._duckdb_session import translated
from aiia_pipelines.sync.destinations.base import DELETED_AT, VALID_TO, Landing, Load, nothing
from aiia_pipelines.sync.faults import DestinationFault


class DuckdbDestination:
    """One DuckDB file; it is made at the first connect."""

    def __init__(self, url: str) -> None:
        """Keep the path of `duckdb:///path/to/file`; nothing is opened yet."""
        parts = urlsplit(url)
        if parts.netloc or not parts.path.strip("/"):
            raise DestinationFault(
                "The URL of a DuckDB destination needs the path of a file, as in"
                " duckdb:///data/warehouse.duckdb.",
                "config:invalid",
            )
        self._path = Path(unquote(parts.path))
        self._db: duckdb.DuckDBPyConnection | None = None

    def describe(self) -> str:
        """Name the file."""
        return f"duckdb://{self._path}"

    def look(self) -> None:
        """See whether the file, or the folder it will be made in, may be written."""
        wanted = (self._path, *self._path.absolute().parents)
        nearest = next(each for each in wanted if each.exists())
        if not os.access(nearest, os.R_OK | os.W_OK):
            place = str(nearest)
            raise DestinationFault(
                f"This user may not write to {place}.", "sqlstate:42501", place=place
            )

    def connect(self) -> None:
        """Open the file, or make it, with its control tables."""
        place = str(self._path)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise DestinationFault(
                f"The folder {self._path.parent} cannot be made: {fault.strerror}.",
                "sqlstate:42501" if isinstance(fault, PermissionError) else "source:not-found",
                place=place,
            ) from fault
        spill = self._path.with_name(f"{self._path.name}.spill")
        with translated(place):
            self._db = duckdb.connect(place)
            session.settle(self._db, spill)
            for statement in control.TABLES:
                self._db.execute(statement)

    def land(self, load: Load) -> Landing:
        """Take over a stream: a higher epoch, and staging of its own."""
        if self._db is None:
            raise AssertionError("connect() comes first")
        with translated(str(self._path)):
            return DuckdbLanding(self._db, load, str(self._path))

    def cancel(self) -> None:
        """Make a statement in progress stop."""
        if (db := self._db) is not None:
            with suppress(duckdb.Error):
                db.interrupt()

    def close(self) -> None:
        """Close the file, which also frees what was staged."""
        db, self._db = self._db, None
        if db is not None:
            with suppress(duckdb.Error):
                db.close()


class DuckdbLanding:
    """The staged rows of one stream in one attempt; another attempt starts with nothing staged."""

    def __init__(self, db: duckdb.DuckDBPyConnection, load: Load, place: str) -> None:
        """Take the lease; whoever had it can no longer commit."""
        self._db = db
        self._load = load
        self._place = place
        self._layout = text.layout(load, where="DuckDB")
        self._catalog = str(session.one_row(db, "select current_database() as name")["name"])
        self._schema = f"{text.quoted(self._catalog)}.{text.quoted(load.connector)}"
        self._table = self._named(load.stream)
        self._who = (load.connector, load.stream)
        with self._transaction():
            self._db.execute(control.END_LEASE, self._who)
            self._epoch = int(self._row(control.TAKE_LEASE, *self._who)[0])
        # Temporary tables are the connection's own, and gone with it.
        prefix = text.quoted(f"{load.connector}.{load.stream}.{self._epoch}.")[:-1]
        self._staged, self._keys, self._rejected = (
            f'temp.{prefix}{part}"' for part in ("rows", "keys", "rejected")
        )
        self._made: set[str] = set()
        self.sent = 0  # bytes
        self._matched: apply.Plan | None = None

    def _named(self, table: str) -> str:
        return f"{self._schema}.{text.quoted(table)}"

    def _row(self, query: str, *values: object) -> tuple[Any, ...]:
        # All rows, since DuckDB takes no other statement while a result is not read to its end.
        rows = self._db.execute(query, values).fetchall()
        return rows[0] if rows else ()

    def committed_before(self) -> tuple[int, Changes] | None:
        """Tell what the ledger has of this task."""
        with translated(self._place):
            found = self._row(control.LEDGER_ROW, self._load.run_key)
        if not found:
            return None
        rows, inserted, updated, unchanged, deleted = found
        return rows, Changes(
            inserted=inserted, updated=updated, unchanged=unchanged, deleted=deleted
        )

    def position(self) -> Position | None:
        """Tell the position that the last commit of the stream left."""
        with translated(self._place):
            found = self._row(control.POSITION, *self._who)
        return json.loads(found[0]) if found and found[0] is not None else None

    def resume(self) -> Position | None:
        """Find nothing: what another process staged went with it."""
        return None

    # -- staging ----------------------------------------------------------------------------

    def _make(self, table: str, columns: Mapping[str, str]) -> None:
        if table not in self._made:
            self._db.execute(f"create temp table {table} ({apply.definition(columns)})")
            self._made.add(table)

    def _make_staged(self) -> None:
        self._make(
            self._staged,
            {column.name: self._layout[column.name] for column in self._load.contract.columns},
        )

    def stage(self, batch: pa.RecordBatch, checkpoint: Position | None = None) -> None:  # noqa: ARG002 - nothing of a broken attempt is left that a checkpoint could speak of
        """Add a batch to a temporary table."""
        with translated(self._place):
            self._make_staged()
            session.insert(self._db, self._staged, session.arrange(batch, self._load.contract))
        self.sent += batch.nbytes

    def takes(self, kinds: Sequence[ColumnType]) -> bool:  # noqa: ARG002 - only PostgreSQL reads this form
        """Take no rows as they came."""
        return False

    def forward(self, rows: Wired, checkpoint: Position | None = None) -> bool:  # noqa: ARG002
        """Take no rows as they came."""
        return False

    def stage_keys(self, batch: pa.RecordBatch) -> None:
        """Add to the keys that the source has now."""
        with translated(self._place):
            self._make(self._keys, {name: self._layout[name] for name in self._load.contract.key})
            session.insert(self._db, self._keys, session.arrange(batch, self._load.contract))
        self.sent += batch.nbytes

    def reject(self, rows: pa.RecordBatch) -> None:
        """Set rows aside until the commit."""
        with translated(self._place):
            self._make(self._rejected, control.REJECTED)
            session.insert(self._db, self._rejected, rows)
        self.sent += rows.nbytes

    def duplicates(self, columns: Sequence[str]) -> tuple[int, list[str]]:
        """Count the staged rows that share their values in these columns with another row."""
        with translated(self._place):
            self._make_staged()
            return session.duplicates(self._db, self._staged, columns)

    def figures(self, wanted: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Any]:
        """Compute the figures over the staged rows."""
        with translated(self._place):
            self._make_staged()
            return session.figures(self._db, self._staged, self._load.contract, wanted)

    # -- matching and committing ------------------------------------------------------------

    def _plan(self, *, follows: bool) -> apply.Plan:
        load = self._load
        have = apply.columns(self._db, load.connector, load.stream)
        rows = 0
        if have:
            rows = session.one_row(self._db, f"select count(*) as n from {self._table}")["n"]
        return apply.Plan(
            load=load,
            table=self._table,
            staged=self._staged,
            have=have,
            layout=self._layout,
            rows=rows,
            keys=self._keys if self._keys in self._made else None,
            follows=follows,
        )

    def live_rows(self) -> int:
        """Count the rows of the table that are neither softly deleted nor ended."""
        with translated(self._place):
            have = apply.columns(self._db, self._load.connector, self._load.stream)
            if not have:
                return 0
            marks = [f"{name} is null" for name in (DELETED_AT, VALID_TO) if name in have]
            query = f"select count(*) as n from {self._table} where {' and '.join(marks) or 'true'}"
            return int(session.one_row(self._db, query)["n"])

    def match(self, *, complete: bool) -> Changes:
        """Count what a commit would insert, update, leave and delete; nothing becomes visible for it."""
        load = self._load
        told = complete or self._keys in self._made
        with translated(self._place):
            self._make_staged()
            session.refuse_missing_keys(self._db, self._staged, load.contract, load.stream)
            plan = self._plan(follows=load.mode == "replace" or (load.delete != "none" and told))
            plan.accept(self._place)
            inserted, updated, unchanged, deleted = self._row(plan.counts())
        self._matched = plan
        return Changes(inserted=inserted, updated=updated, unchanged=unchanged, deleted=deleted)

    def commit(
        self,
        rows: int,
        changes: Changes,
        position: Position | None,
        *,
        seal: Callable[[], None] = nothing,
    ) -> None:
        """Change the table, set rows aside, and move position and ledger in one transaction."""
        load, plan = self._load, self._matched
        if plan is None:
            raise AssertionError("match() comes first")
        with translated(self._place), self._transaction():
            self._db.execute(control.HOLD_LEASE, self._who)
            if self._row(control.LEASE, *self._who) != (self._epoch,):
                raise self._fenced("another run took it over")
            at = self._time()
            self._db.execute(f"create schema if not exists {self._schema}")
            self._apply(plan, changes, f"'{at.isoformat()}'::{text.TIME}")
            self._quarantine(at)
            told = None if position is None else json.dumps(dict(position))
            self._db.execute(control.FORGET, self._who)
            self._db.execute(control.MOVE, (*self._who, told, load.run_key, at))
            facts = (load.run_key, *self._who, load.mode, self._epoch, rows)
            counts = (changes.inserted, changes.updated, changes.unchanged, changes.deleted)
            self._db.execute(control.WRITE_LEDGER, (*facts, *counts, at))
            seal()

    def _time(self) -> dt.datetime:
        micros = self._row(control.NEXT_TIME, *self._who)[0]
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=micros)

    def _apply(self, plan: apply.Plan, changes: Changes, at: str) -> None:
        if self._plan(follows=plan.follows) != plan:
            raise self._fenced("somebody else changed its table")
        done = {"superseded": 0, "deleted": 0, "written": 0, "rebuilt": 0}
        for kind, statement in plan.statements(at, changes):
            count = self._db.execute(statement).rowcount
            if kind in done:
                done[kind] += count
        wanted = {"written": changes.inserted + changes.updated, "deleted": changes.deleted}
        if plan.rebuilds:
            wanted = {"rebuilt": changes.inserted + changes.updated + changes.unchanged}
            wanted = wanted if done["rebuilt"] or wanted["rebuilt"] != changes.unchanged else {}
        if any(done[kind] != count for kind, count in wanted.items()):
            raise self._fenced(f"somebody else changed its rows ({wanted} expected, {done} found)")

    def _quarantine(self, at: dt.datetime) -> None:
        if self._rejected not in self._made:
            return
        table = self._named(f"{self._load.stream}__quarantine")
        names = text.listed([*control.REJECTED])
        all_names = text.listed([*control.QUARANTINE])
        columns = apply.definition(control.QUARANTINE)
        self._db.execute(f"create table if not exists {table} ({columns})")
        self._db.execute(
            f"insert into {table} ({all_names}) select {names}, ?, ? from {self._rejected}",
            (self._load.run_key, at),
        )

    def _fenced(self, why: str) -> DestinationFault:
        stream = f"{self._load.connector}.{self._load.stream}"
        return DestinationFault(
            f"{stream} was not committed: {why} while this run was reading.",
            "destination:fenced",
            place=self._place,
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("begin")
        done = False
        try:
            yield
            self._db.execute("commit")
            done = True
        finally:
            if not done:
                with suppress(duckdb.Error):
                    self._db.execute("rollback")

    def discard(self, *, keep: bool = False) -> None:  # noqa: ARG002 - nothing outlives the connection
        """Drop the temporary tables."""
        while self._made:
            with suppress(duckdb.Error):
                self._db.execute(f"drop table if exists {self._made.pop()}")


def reach(url: str) -> str:
    """Look whether the file may be written, and name it; opened, it would be locked for a sync.

    Raises:
        DestinationFault: It may not be written.
    """
    destination = DuckdbDestination(url)
    destination.look()
    return destination.describe()


def collect(url: str, most: int) -> int:  # noqa: ARG001 - nothing outlives an attempt
    """Remove nothing: what is staged is gone with its attempt."""
    return 0


def open_duckdb(url: str) -> DuckdbDestination:
    """Open a DuckDB destination; nothing is opened yet."""
    return DuckdbDestination(url)
