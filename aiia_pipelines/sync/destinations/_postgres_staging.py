"""The staging tables of one attempt: rows out of sight until the commit, or until another attempt goes on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import psycopg
import pyarrow as pa
from psycopg import sql

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors.base import Position, Wired
from aiia_pipelines.sync.destinations import _postgres_structure as structure
from aiia_pipelines.sync.destinations._postgres_control import STAGING, Control, Db, as_json
from aiia_pipelines.sync.destinations._postgres_lane import CopyLane, Lane
from aiia_pipelines.sync.destinations._postgres_sql import (
    column_list,
    names_of,
    staging_prefix,
    type_of,
)
from aiia_pipelines.sync.destinations.base import Load

ROWS, KEYS, REJECTED, MOVES, HELD = "", "k", "q", "m", "h"
_OF_STREAM = f"select tablename from pg_tables where schemaname = '{STAGING}' and tablename ~ %s"
_IS_LOGGED = "select relpersistence = 'p' from pg_class where oid = to_regclass(%s)"
_REJECTED_KINDS = {
    "row": ColumnType("int64"),
    "place": ColumnType("string"),
    "rules": ColumnType("string"),
    "record": ColumnType("json"),
    "part": ColumnType("int64"),
}
_REJECTED_COLUMNS = '"row" bigint, place text, rules text, record json, part bigint'
_ANALYZED_FROM = 5_000  # rows; fewer are quickly read in any order


class Staging:
    """Where the rows of an attempt wait."""

    def __init__(
        self, db: Db, control: Control, load: Load, *, epoch: int, generation: int
    ) -> None:
        """Touch nothing yet; `generation` counts the commits of the stream."""
        self._db = db
        self._control = control
        self._load = load
        self._epoch = epoch
        # What was read before the last commit is not gone on with: an attempt that was stopped, and goes on
        # after that commit, can still leave a checkpoint.
        goes_on = load.plan and not load.trial
        self._plan = f"{load.plan} after {generation}" if goes_on else ""
        self._prefix = staging_prefix(load.connector, load.stream)
        self._kinds = {column.name: column.type for column in load.contract.columns}
        self._read = [column.name for column in load.contract.read_columns]
        self._made: set[str] = set()
        self.sent = 0  # bytes
        self._lane: Lane | None = None
        self._part = 0  # checkpoints so far
        self._rows = 0
        self._trailing = False  # rows behind the last checkpoint
        # The staging table can become the table itself: it is logged and has its final form.
        self.final: structure.Structure | None = None

    def use(self, db: Db, control: Control) -> None:
        """Go on with another connection."""
        self._db = db
        self._control = control

    def table(self, role: str = ROWS, epoch: int | None = None) -> sql.Identifier:
        """Name the table that plays a role."""
        return sql.Identifier(STAGING, self.name(role, epoch))

    def name(self, role: str, epoch: int | None = None) -> str:
        """Give the bare name of the table that plays a role."""
        return f"{self._prefix}__{self._epoch if epoch is None else epoch}{role}"

    def has(self, role: str) -> bool:
        """Tell whether a table was made."""
        return role in self._made

    # -- what other attempts left -----------------------------------------------------------

    def collect(self) -> None:
        """Drop what older attempts left, but for what this one may go on from."""
        if self._load.trial:
            return
        found = self._db.execute(_OF_STREAM, (f"^{self._prefix}__[0-9]+[kqmh]?$",)).fetchall()
        kept = self._adoptable()
        spared = set() if kept is None else {self.name(role, kept) for role in (ROWS, REJECTED)}
        for (name,) in found:
            if name not in spared and int(name.rstrip("kqmh").rpartition("__")[2]) < self._epoch:
                self._drop(name)

    def _adoptable(self) -> int | None:
        """Tell the epoch of a broken attempt of the same plan."""
        last = self._control.checkpoint()
        return last[1] if last and self._plan and last[0] == self._plan else None

    def _drop(self, name: str) -> None:
        table = sql.Identifier(STAGING, name)
        try:
            with self._db.transaction():
                # An attempt that stands still in the middle of a COPY locks it: a later one drops it.
                self._db.execute("set local lock_timeout = '2s'")
                self._db.execute(sql.SQL("drop table if exists {}").format(table))
        except psycopg.errors.LockNotAvailable:
            return

    def adopt(self) -> Position | None:
        """Take over the tables of a broken attempt of the same plan, and give its checkpoint."""
        old = self._adoptable()
        if old is None or old == self._epoch or self._made:
            return None
        try:
            with self._db.transaction():
                self._db.execute("set local lock_timeout = '5s'")
                if self._control.hold_lease() != self._epoch:
                    return None
                return self._take_over(old)
        except psycopg.errors.LockNotAvailable:
            return None

    def _take_over(self, old: int) -> Position | None:
        last = self._control.checkpoint()
        found = structure.read(self._db, self.table(ROWS, old))
        if last is None or last[1] != old or found is None or not self._holds(found):
            return None
        if found.key_name:
            # It was built to end an attempt, and would slow down and interrupt one that goes on.
            drop = sql.SQL("alter table {} drop constraint {}")
            self._db.execute(drop.format(self.table(ROWS, old), sql.Identifier(found.key_name)))
        self._part = last[2]
        for role in (ROWS, REJECTED):
            if self._exists(self.table(role, old)):
                rename = sql.SQL("alter table {} rename to {}")
                new = sql.Identifier(self.name(role))
                self._db.execute(rename.format(self.table(role, old), new))
                self._made.add(role)
        if REJECTED in self._made:
            late = sql.SQL("delete from {} where part > {}")
            self._db.execute(late.format(self.table(REJECTED), sql.Literal(self._part)))
        self._control.adopt_checkpoint(old, self._epoch)
        logged = self._db.execute(_IS_LOGGED, (self.table().as_string(self._db),)).fetchone()
        if not (logged and logged[0]):
            self.final = None
        return last[3]

    def _holds(self, found: structure.Structure) -> bool:
        """Tell whether a staging table has the columns of this contract."""
        return all(found.columns.get(name) == type_of(kind) for name, kind in self._kinds.items())

    def _exists(self, table: sql.Identifier) -> bool:
        found = self._db.execute("select to_regclass(%s)", (table.as_string(self._db),)).fetchone()
        return bool(found and found[0])

    # -- writing ----------------------------------------------------------------------------

    def write(
        self, lane: Callable[[], Lane], batch: pa.RecordBatch, checkpoint: Position | None
    ) -> None:
        """Add rows, in one step with the checkpoint that they reach."""
        way = self._begin(lane)
        self.make()
        if batch.num_rows:
            self.sent += way.write(self.name(ROWS), batch, self._kinds)
        self._reached(way, batch.num_rows, checkpoint)

    def forward(
        self, lane: Callable[[], CopyLane], rows: Wired, checkpoint: Position | None
    ) -> bool:
        """Add rows as they came; False when others went by a lane that cannot."""
        way = self._begin(lane)
        if not isinstance(way, CopyLane):
            return False
        self.make()
        self.sent += way.forward(self.name(ROWS), rows, self._read)
        self._reached(way, rows.num_rows, checkpoint)
        return True

    def _reached(self, way: Lane, rows: int, checkpoint: Position | None) -> None:
        if rows:
            self._rows += rows
            self._trailing = True
        if checkpoint is not None and self._plan:
            self._part += 1
            load = self._load
            state = as_json(checkpoint) or ""
            way.save((load.connector, load.stream, self._plan, self._epoch, self._part, state))
            way.commit()
            self._trailing = False
        else:
            self._keep(way)

    def write_keys(self, lane: Callable[[], Lane], batch: pa.RecordBatch) -> None:
        """Add keys that the source has."""
        way = self._begin(lane)
        self._make(KEYS, column_list(self._load.contract, self._load.contract.key))
        if batch.num_rows:
            self.sent += way.write(self.name(KEYS), batch, self._kinds)
        self._keep(way)

    def reject(self, lane: Callable[[], Lane], rows: pa.RecordBatch) -> None:
        """Add rows that were set aside before the next checkpoint."""
        way = self._begin(lane)
        self._make(REJECTED, sql.SQL(_REJECTED_COLUMNS).format())
        if rows.num_rows:
            parts = pa.array([self._part + 1] * rows.num_rows, pa.int64())
            names = [*rows.schema.names, "part"]
            batch = pa.RecordBatch.from_arrays([*rows.columns, parts], names=names)
            self.sent += way.write(self.name(REJECTED), batch, _REJECTED_KINDS)
        self._keep(way)

    def _begin(self, lane: Callable[[], Lane]) -> Lane:
        if self._lane is None:
            self._lane = lane()
        return self._lane

    def _keep(self, lane: Lane) -> None:
        # Rows behind the last checkpoint would be read again: they must vanish with a broken attempt.
        if not (self._part or lane.fresh):
            lane.commit()

    def make(self) -> None:
        """Make the table of the rows."""
        if ROWS in self._made:
            return
        if self.final is None:
            self._make(ROWS, column_list(self._load.contract))
            return
        with self._making(ROWS):
            for statement in structure.create(self.table(), self.final.without_key()):
                self._db.execute(statement)

    def _make(self, role: str, columns: sql.Composed) -> None:
        if role not in self._made:
            create = sql.SQL("create unlogged table {} ({})")
            with self._making(role):
                self._db.execute(create.format(self.table(role), columns))

    @contextmanager
    def _making(self, role: str) -> Iterator[None]:
        with self._lane.making(self.name(role)) if self._lane else nullcontext():
            yield
        self._made.add(role)

    def add(self, role: str, query: sql.Composed) -> None:
        """Make a table of what a query finds."""
        create = sql.SQL("create unlogged table {} as {}")
        self._db.execute(create.format(self.table(role), query))
        self._db.execute(sql.SQL("analyze {}").format(self.table(role)))
        self._made.add(role)

    def seal(self) -> None:
        """End writing: everything that was staged can be seen by this session."""
        self.make()
        if self._lane is not None:
            lane, self._lane = self._lane, None
            if self._trailing and self._part:
                # Sealed rows that no checkpoint knows of would be read again by an attempt that goes on.
                self._control.drop_checkpoint(self._epoch)
                self._part = 0
            lane.commit()
            # A table to be is compared with nothing, and knows its size from the index of its key.
            compared = self.final is None and self._load.contract.key
            if self._rows >= _ANALYZED_FROM and compared:
                columns = names_of(self._load.contract.key)
                self._db.execute(sql.SQL("analyze {} ({})").format(self.table(), columns))

    # -- leaving ----------------------------------------------------------------------------

    def abandon(self) -> None:
        """Forget what is not sealed; the session can be used for something else."""
        if self._lane is not None:
            lane, self._lane = self._lane, None
            lane.rollback()

    def drop(self, *, keep: bool) -> None:
        """Drop the tables of this attempt; with `keep` those stay that another one can go on from."""
        # Nobody goes on from an attempt that was overtaken: the one that overtook it reads for itself.
        kept = keep and bool(self._part) and self._control.newest() == self._epoch
        kept = kept and self._adoptable() == self._epoch
        if not kept and not self._load.trial:
            self._control.drop_checkpoint(self._epoch)
        if gone := self._made.intersection(self._roles(kept=kept)):
            tables = sql.SQL(", ").join(map(self.table, sorted(gone)))
            self._db.execute(sql.SQL("drop table if exists {}").format(tables))
        self._made.clear()

    def _roles(self, *, kept: bool) -> Iterator[str]:
        yield from (KEYS, MOVES, HELD)
        if not kept:
            yield from (ROWS, REJECTED)
