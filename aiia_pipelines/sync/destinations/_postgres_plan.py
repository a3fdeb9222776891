"""What a commit is going to do, decided at the match: nothing of it can be seen before the commit."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from aiia_pipelines.jobs.run import Changes
from aiia_pipelines.sync.destinations import _postgres_structure as structure
from aiia_pipelines.sync.destinations._postgres_apply import Applying, Before, Step, Steps
from aiia_pipelines.sync.destinations._postgres_control import Db
from aiia_pipelines.sync.destinations._postgres_match import (
    BY_LOOKUP,
    BY_SCAN,
    FEW,
    SETTINGS,
    Comparison,
    Sides,
    count_moves,
)
from aiia_pipelines.sync.destinations._postgres_sql import short
from aiia_pipelines.sync.destinations._postgres_staging import HELD, KEYS, MOVES, ROWS, Staging
from aiia_pipelines.sync.destinations._postgres_structure import Structure
from aiia_pipelines.sync.destinations.base import VALID_FROM, Load
from aiia_pipelines.sync.faults import DestinationFault

_BEFORE = """select pg_relation_filenode(oid)::int8, pg_snapshot_xmax(pg_current_snapshot())::text,
  reltuples::int8 from pg_class where oid = {name}::regclass"""
_NONE = Changes(inserted=0, updated=0, unchanged=0, deleted=0)


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes that a commit makes, and its statements."""

    changes: Changes
    steps: Steps


class Planner:
    """Compares what is staged with what the table holds."""

    def __init__(self, db: Db, load: Load, staging: Staging) -> None:
        """Look at nothing yet."""
        self._db = db
        self._load = load
        self._staging = staging
        self._schema = sql.Identifier(load.connector)
        self._table = sql.Identifier(load.connector, short(load.stream))
        keys = staging.table(KEYS) if staging.has(KEYS) else None
        self._sides = Sides(self._table, staging.table(ROWS), staging.table(MOVES), keys)

    def plan(self, *, complete: bool) -> Plan:
        """Count what a commit would do, and say how.

        Raises:
            DestinationFault: The table is made of something that the mode cannot go on with.
        """
        with self._db.transaction():
            self._db.execute(SETTINGS)
            old = structure.read(self._db, self._table)
            added = structure.added_columns(self._load.mode, self._load.delete)
            new = structure.wanted(self._load.contract, added)
            if old is None:
                return self._first(new)
            return self._next(old, new, complete=complete)

    def _one(self, query: sql.Composed) -> tuple[Any, ...]:
        row = self._db.execute(query).fetchone()
        if row is None:
            raise AssertionError("an aggregate has one row")
        return row

    def _count(self, table: sql.Identifier) -> int:
        return int(self._one(sql.SQL("select count(*) from {}").format(table))[0])

    # -- a table that is not there ----------------------------------------------------------

    def _first(self, new: Structure) -> Plan:
        changes = replace(_NONE, inserted=self._count(self._sides.stage))
        if self._staging.final is not None:
            renamed = self._renamed_key()
            return Plan(changes, lambda _: self._attached(renamed))
        applying = self._applying(new, new, Before(None, 0, "", 0), changes)

        def steps(at: sql.Literal) -> Iterator[Step]:
            yield self._schema_step()
            yield from applying.created(at)

        return Plan(changes, steps)

    def _schema_step(self) -> Step:
        return Step(sql.SQL("create schema if not exists {}").format(self._schema))

    def _attached(self, renamed: Step | None) -> Iterator[Step]:
        """Make the staging table the table, so that its rows are written once."""
        yield self._schema_step()
        move = sql.SQL("alter table {} set schema {}").format(self._sides.stage, self._schema)
        yield Step(move)
        moved = sql.Identifier(self._load.connector, self._staging.name(ROWS))
        name = sql.Identifier(short(self._load.stream))
        yield Step(sql.SQL("alter table {} rename to {}").format(moved, name))
        if renamed is not None:
            yield renamed

    def _renamed_key(self) -> Step | None:
        """Give the key of the table to be the name that PostgreSQL would, unless something has it."""
        if not self._load.contract.key:
            return None
        stage = structure.read(self._db, self._sides.stage)
        wanted = short(f"{self._load.stream}_pkey")
        taken = sql.Literal(sql.Identifier(self._load.connector, wanted).as_string())
        if stage is None or not stage.key_name:
            return None
        if self._one(sql.SQL("select to_regclass({}) is not null").format(taken))[0]:
            return None
        index = sql.Identifier(self._load.connector, stage.key_name)
        rename = sql.SQL("alter index {} rename to {}")
        return Step(rename.format(index, sql.Identifier(wanted)))

    # -- a table that is there --------------------------------------------------------------

    def _next(self, old: Structure, new: Structure, *, complete: bool) -> Plan:
        load = self._load
        before = self._before()
        rows = self._count(self._table) if self._is_whole(old, new) else None
        before = replace(before, rows=rows)
        if load.mode != "replace" and (rows is None or rows):
            self._refuse_mode(old, new)
            return self._kept(old, new, before, complete=complete)
        self._refuse_history(old, rows or 0)
        if load.mode == "replace" and load.contract.key and old.same(new):
            changes, _ = self._compare(old, before, complete=True)
            return Plan(changes, self._applying(old, new, before, changes).by_key(lambda: iter(())))
        changes = replace(_NONE, inserted=self._count(self._sides.stage), deleted=rows or 0)
        return Plan(changes, self._applying(old, new, before, changes).anew)

    def _is_whole(self, old: Structure, new: Structure) -> bool:
        """Tell whether the commit depends on every row of the table."""
        return self._load.mode == "replace" or not old.same(new)

    def _before(self) -> Before:
        name = sql.Literal(self._table.as_string())
        file, horizon, about = self._one(sql.SQL(_BEFORE).format(name=name))
        return Before(None, file, horizon, about)

    def _applying(
        self, old: Structure, new: Structure, before: Before, changes: Changes
    ) -> Applying:
        return Applying(
            load=self._load, sides=self._sides, old=old, new=new, before=before, changes=changes
        )

    def _compare(self, old: Structure, before: Before, *, complete: bool) -> tuple[Changes, int]:
        """Write down the moves, and count them and those of them that bring a row back."""
        comparison = Comparison(self._load, self._sides, old, complete)
        staged = self._count(self._sides.stage)
        looks_up = not comparison.reads_all and staged * FEW < before.about
        if looks_up:
            self._db.execute(BY_LOOKUP)
        self._staging.add(MOVES, comparison.moves())
        if looks_up:
            self._db.execute(BY_SCAN)
        if (gone := comparison.gone()) is not None:
            self._db.execute(gone)
        added, updated, deleted, returned = self._one(count_moves(self._sides.moves))
        changes = Changes(
            inserted=added + returned,
            updated=updated,
            unchanged=staged - added - returned - updated,
            deleted=deleted,
        )
        return changes, returned

    def _kept(self, old: Structure, new: Structure, before: Before, *, complete: bool) -> Plan:
        """Plan a commit beside rows that stay."""
        stays = {name: kind for name, kind in old.columns.items() if name not in new.columns}
        new = replace(new, columns=dict(new.columns) | stays)
        if self._load.contract.key:
            changes, returned = self._compare(old, before, complete=complete)
        else:
            changes, returned = replace(_NONE, inserted=self._count(self._sides.stage)), 0
        applying = replace(self._applying(old, new, before, changes), returned=returned)
        additions = structure.additions(self._table, old, new)
        if additions is None:
            self._staging.add(HELD, applying.held())
            count = self._count(self._staging.table(HELD))
            if self._load.delete == "hard":
                count -= changes.deleted
            return Plan(changes, applying.anew_with(self._staging.table(HELD), count))
        statements = list(additions)
        if self._load.contract.key:
            # What only adds columns does not depend on rows that it does not touch.
            applying = replace(applying, before=replace(before, rows=None))
            return Plan(changes, applying.by_key(lambda: iter(statements)))
        return Plan(changes, applying.added(lambda: iter(statements)))

    # -- refusals ---------------------------------------------------------------------------

    def _refuse(self, sentence: str) -> DestinationFault:
        table = f"{self._load.connector}.{self._load.stream}"
        return DestinationFault(sentence.format(table=table), "destination:rejected")

    def _refuse_history(self, old: Structure, rows: int) -> None:
        if rows and VALID_FROM in old.columns and self._load.mode != "history":
            raise self._refuse(
                "The table {table} holds the history of its rows, which mode"
                f" {self._load.mode} would lose: rename or drop the table, or go back to mode history."
            )

    def _refuse_mode(self, old: Structure, new: Structure) -> None:
        if self._load.mode == "history" and VALID_FROM not in old.columns:
            raise self._refuse(
                "The table {table} holds rows without versions, beside which mode history cannot begin:"
                " rename or drop the table, or give the stream another name."
            )
        self._refuse_history(old, 1)
        if old.key != new.key:
            raise self._refuse(
                "The table {table} has other columns or another key than the contract, and mode"
                f" {self._load.mode} keeps its rows: alter or drop the table, or sync it once in mode replace."
            )
        missing = [name for name in new.columns if name in new.filled and name not in old.columns]
        if missing:
            raise self._refuse(
                f"Column '{missing[0]}' is new and takes no NULL, but the rows of {{table}} that stay have"
                " no value for it: set `nullable: true` on it, or sync once in mode replace."
            )


def build_key(db: Db, stage: sql.Identifier, key: tuple[str, ...]) -> bool:
    """Build the primary key of a staging table; False when rows share it."""
    names = sql.SQL(", ").join(map(sql.Identifier, key))
    try:
        db.execute(sql.SQL("alter table {} add primary key ({})").format(stage, names))
    except psycopg.errors.UniqueViolation:
        return False
    return True
