"""PostgreSQL as destination: rows staged out of sight, then one short transaction.

The control tables live in the destination's own database so that they share the transaction of the rows:
`lease` fences off an older attempt that still runs, `ledger` tells for ever which task committed what.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import adbc_driver_manager as adbc
import psycopg
import pyarrow as pa
from psycopg import sql

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors.base import Position, Wired
from aiia_pipelines.jobs.run import Changes
from aiia_pipelines.sync.destinations import _postgres_figures as sums
from aiia_pipelines.sync.destinations import _postgres_structure as structure
from aiia_pipelines.sync.destinations._postgres_apply import Step
from aiia_pipelines.sync.destinations._postgres_control import Control, Db, set_up
from aiia_pipelines.sync.destinations._postgres_faults import (
    fenced_when_gone,
    lost,
    needed_by_others,
    overtaken,
    translated,
)
from aiia_pipelines.sync.destinations._postgres_lane import CopyLane, Lane, fit, lane_of
from aiia_pipelines.sync.destinations._postgres_leftovers import drop_leftovers
from aiia_pipelines.sync.destinations._postgres_plan import Plan, Planner, build_key
from aiia_pipelines.sync.destinations._postgres_quarantine import publish
from aiia_pipelines.sync.destinations._postgres_session import Session
from aiia_pipelines.sync.destinations._postgres_sql import short
from aiia_pipelines.sync.destinations._postgres_staging import REJECTED, Staging
from aiia_pipelines.sync.destinations.base import DELETED_AT, VALID_TO, Landing, Load, nothing
from aiia_pipelines.sync.faults import DestinationFault

_SETTLE_SECONDS = 60.0


class PostgresDestination:
    """One database of a PostgreSQL server."""

    def __init__(self, url: str) -> None:
        """Keep a libpq URL; nothing is opened yet."""
        self._session = Session(url)

    def describe(self) -> str:
        """Name the database for people, without password."""
        return self._session.describe()

    def connect(self) -> None:
        """Connect and make sure the control tables are there."""
        with translated(self._session.place(), login=True):
            set_up(self._session.reconnect())

    def land(self, load: Load) -> Landing:
        """Take over a stream: a higher epoch, and no staging left of lower ones."""
        with translated(self._session.place()):
            return PostgresLanding(self._session, load)

    def cancel(self) -> None:
        """Ask the server to stop the statement in progress."""
        self._session.cancel()

    def close(self) -> None:
        """Disconnect."""
        self._session.close()


class PostgresLanding:
    """The staged rows of one stream in one attempt."""

    def __init__(self, session: Session, load: Load) -> None:
        """Take the lease, which waits for an attempt that is inside its commit, and drop older staging."""
        self._session = session
        self._place = session.place()
        self._load = load
        self._name = f"{load.connector}.{load.stream}"
        self._table = sql.Identifier(load.connector, short(load.stream))
        self._refuse_contract()
        self._db = session.db
        self._control = Control(self._db, load.connector, load.stream)
        self._epoch = self._control.take_lease()
        self._since, self._generation = self._control.state()
        self._staging = Staging(
            self._db, self._control, load, epoch=self._epoch, generation=self._generation
        )
        self._staging.collect()
        self._staging.final = self._final()
        self._stage = self._staging.table()
        self._keyed = self._handed_on = False
        self._kinds: Sequence[ColumnType] | None = None  # those that `_handed_on` is about
        self._plan: Plan | None = None

    def _refuse_contract(self) -> None:
        added = structure.added_columns(self._load.mode, self._load.delete)
        for column in self._load.contract.columns:
            if column.name in added:
                raise DestinationFault(
                    f"Column '{column.name}' of {self._name} has the name of a column that"
                    f" mode {self._load.mode} adds: give it another one under `columns:`.",
                    "destination:rejected",
                )
            if why := structure.refused_name(column.name):
                raise DestinationFault(
                    f"No column of {self._name} can be called '{column.name[:70]}': {why};"
                    " give it another name under `columns:`.",
                    "contract:column",
                )
            if column.type.item is not None and column.type.item.item is not None:
                raise DestinationFault(
                    f"Column '{column.name}' of {self._name} is a list of lists, which PostgreSQL"
                    " cannot hold: declare it as json.",
                    "destination:rejected",
                )

    def _final(self) -> structure.Structure | None:
        """Tell what the staging table has to be to become the table; None when it cannot."""
        load = self._load
        if load.mode == "history" or structure.read(self._db, self._table) is not None:
            return None
        # Rights that a schema gives to its new tables are not given to one that moves in.
        if self._db.execute(structure.SCHEMA_GRANTS, (load.connector,)).fetchone():
            return None
        added = structure.added_columns(load.mode, load.delete)
        return structure.wanted(load.contract, added)

    @property
    def sent(self) -> int:
        """Count the bytes that went to the server so far."""
        return self._staging.sent

    def committed_before(self) -> tuple[int, Changes] | None:
        """Tell what the ledger has of this task."""
        with translated(self._place):
            return self._control.committed(self._load.run_key)

    def position(self) -> Position | None:
        """Tell up to where the source was read by the last commit of the stream."""
        return self._since

    def resume(self) -> Position | None:
        """Take over the rows that a broken attempt of the same plan staged, and give its last checkpoint."""
        with translated(self._place):
            return self._staging.adopt()

    # -- staging ----------------------------------------------------------------------------

    def _lane(self) -> Lane:
        kinds = [column.type for column in self._load.contract.columns]
        return lane_of(kinds, self._session.arrow, self._db)

    def _copy_lane(self) -> CopyLane:
        return CopyLane(self._db)

    def stage(self, batch: pa.RecordBatch, checkpoint: Position | None = None) -> None:
        """Add a batch to the staging table, in one step with the checkpoint that it reaches."""
        with translated(self._place), fenced_when_gone(self._name, self._place):
            self._staging.write(self._lane, batch, checkpoint)

    def takes(self, kinds: Sequence[ColumnType]) -> bool:
        """Tell whether every field is of the type of its column; what is set aside takes the same lane then."""
        if kinds != self._kinds:
            self._kinds = kinds
            self._handed_on = fit(self._load.contract.read_columns, kinds)
        return self._handed_on

    def forward(self, rows: Wired, checkpoint: Position | None = None) -> bool:
        """Add rows to the staging table as they came, unless the stream has begun by the other lane."""
        with translated(self._place), fenced_when_gone(self._name, self._place):
            taken = self.takes(rows.kinds)
            return taken and self._staging.forward(self._copy_lane, rows, checkpoint)

    def stage_keys(self, batch: pa.RecordBatch) -> None:
        """Add to the keys that the source has now."""
        with translated(self._place), fenced_when_gone(self._name, self._place):
            self._staging.write_keys(self._lane, batch)

    def reject(self, rows: pa.RecordBatch) -> None:
        """Set rows aside until the commit."""
        with translated(self._place), fenced_when_gone(self._name, self._place):
            self._staging.reject(self._copy_lane if self._handed_on else self._lane, rows)

    def duplicates(self, columns: Sequence[str]) -> tuple[int, list[str]]:
        """Count the staged rows that share their values in these columns with another row."""
        with translated(self._place):
            self._staging.seal()
            if tuple(columns) == self._load.contract.key and self._builds_key():
                return 0, []
            return sums.duplicates(self._db, self._stage, columns)

    def _builds_key(self) -> bool:
        """Build the key of a table to be, which also shows that no two rows share it."""
        if self._staging.final is not None and not self._keyed:
            self._keyed = build_key(self._db, self._stage, self._load.contract.key)
        return self._keyed

    def figures(self, wanted: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Any]:
        """Compute the figures over the staged rows."""
        with translated(self._place):
            self._staging.seal()
            final = self._staging.final
            filled = final.filled if final is not None else ()
            return sums.figures(self._db, self._stage, self._load.contract, wanted, filled)

    # -- matching and committing ------------------------------------------------------------

    def live_rows(self) -> int:
        """Count the rows that are neither deleted softly nor ended versions."""
        with translated(self._place):
            self._staging.seal()
            found = structure.read(self._db, self._table)
            if found is None:
                return 0
            live = [name for name in (DELETED_AT, VALID_TO) if name in found.columns]
            where = [sql.SQL("{} is null").format(sql.Identifier(name)) for name in live]
            query = sql.SQL("select count(*) from {} where {}").format(
                self._table, sql.SQL(" and ").join(where) if where else sql.SQL("true")
            )
            row = self._db.execute(query).fetchone()
            return int(row[0]) if row else 0

    def match(self, *, complete: bool) -> Changes:
        """Count what a commit would insert, update, leave and delete."""
        with translated(self._place), fenced_when_gone(self._name, self._place):
            self._staging.seal()
            if self._load.contract.key and self._staging.final is not None:
                self._builds_key()
            planner = Planner(self._db, self._load, self._staging)
            self._plan = planner.plan(complete=complete)
        return self._plan.changes

    def commit(
        self,
        rows: int,
        changes: Changes,
        position: Position | None,
        *,
        seal: Callable[[], None] = nothing,
    ) -> None:
        """Apply the staged rows, move the ledger, and become visible in one transaction."""
        with translated(self._place):
            try:
                self._commit(rows, changes, position, seal)
            except psycopg.Error as fault:
                if not (lost(fault) and self._db.closed and self._did_commit()):
                    raise

    def _commit(
        self, rows: int, changes: Changes, position: Position | None, seal: Callable[[], None]
    ) -> None:
        load = self._load
        with self._db.transaction():
            self._control.prepare_commit()
            if self._control.hold_lease() != self._epoch:
                raise overtaken(self._name, self._place)
            at = self._control.moment()
            self._apply(changes, at)
            if not self._control.move_state(position, load.run_key, at, self._generation):
                raise overtaken(self._name, self._place)
            facts = {
                "run_key": load.run_key, "mode": load.mode, "epoch": self._epoch, "rows": rows,
                "since": self._since, "position": position, "at": at,
            }  # fmt: skip
            self._control.write_ledger(facts, changes)
            self._control.drop_checkpoint(self._epoch)
            seal()

    def _apply(self, changes: Changes, at: object) -> None:
        if self._plan is None or self._plan.changes != changes:
            raise AssertionError("match() comes first, and commit() gets its result")
        moment = sql.Literal(at)
        try:
            with needed_by_others(self._name, self._place):
                for step in self._plan.steps(moment):
                    self._do(step)
        except psycopg.errors.DuplicateTable as taken:
            raise overtaken(self._name, self._place) from taken
        if self._staging.has(REJECTED):
            publish(self._db, self._load, self._staging.table(REJECTED), moment)

    def _do(self, step: Step) -> None:
        cursor = self._db.execute(step.statement)
        found = cursor.fetchone() if isinstance(step.expected, tuple) else cursor.rowcount
        if step.expected is not None and found != step.expected:
            raise DestinationFault(
                f"The rows of {self._name} were changed by somebody else while this run was matching:"
                f" {step.expected} rows expected, {found} found.",
                "destination:fenced",
                place=self._place,
            )

    def _did_commit(self) -> bool:
        """Ask the ledger on a new connection, once the old one's transaction is certain to have ended."""
        began, pause = time.monotonic(), 0.2
        while True:
            try:
                self._use(self._session.reconnect())
                self._epoch = self._control.take_lease()
                return self._control.committed(self._load.run_key) is not None
            except psycopg.OperationalError:
                if time.monotonic() - began > _SETTLE_SECONDS:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, 5.0)

    def _use(self, db: Db) -> None:
        self._db = db
        self._control = Control(db, self._load.connector, self._load.stream)
        self._staging.use(db, self._control)

    def discard(self, *, keep: bool = False) -> None:
        """Drop what is staged; what cannot be dropped now, the next run of the stream drops."""
        try:
            self._staging.abandon()
        except (adbc.Error, psycopg.Error):
            self._session.close_arrow()
        with suppress(psycopg.Error):
            self._staging.drop(keep=keep)


def reach(url: str) -> str:
    """Connect, change nothing, and name the database for people.

    Raises:
        DestinationFault: It cannot be reached or refuses.
    """
    session = Session(url)
    with translated(session.place(), login=True):
        session.reconnect()
    session.close()
    return session.describe()


def collect(url: str, most: int) -> int:
    """Drop at most so many staging tables of attempts that a newer one took the place of, and count them."""
    session = Session(url)
    try:
        with translated(session.place(), login=True):
            return drop_leftovers(session.reconnect(), most)
    finally:
        session.close()


def open_postgres(url: str) -> PostgresDestination:
    """Open a PostgreSQL destination; nothing is connected yet."""
    return PostgresDestination(url)
