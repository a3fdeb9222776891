"""Staged rows compared with those of the table: which of them differ, found once and written down.

A move names a row of the table (`t`), a row of the staging table (`s`), or both, by their places on disk.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync.contract import Contract, ContractColumn
from aiia_pipelines.sync.convert import arrow_type
from aiia_pipelines.sync.destinations._postgres_sql import type_of
from aiia_pipelines.sync.destinations._postgres_structure import Structure
from aiia_pipelines.sync.destinations.base import DELETED_AT, VALID_TO, Load

# Only rows that differ leave the workers; PostgreSQL expects all of them.
SETTINGS = "set local work_mem = '64MB'; set local parallel_tuple_cost = 0"
# Few rows are found by the index of their key, or by their place; PostgreSQL would rather read the table,
# as it takes each look-up for a read from disk.
BY_LOOKUP = "set local enable_hashjoin = off; set local enable_mergejoin = off"
BY_SCAN = "set local enable_hashjoin = on; set local enable_mergejoin = on"
FEW = 8  # times as many rows has a table of which some are few


@dataclass(frozen=True, slots=True)
class Sides:
    """The tables of a comparison; `keys` when the source listed the keys that it has."""

    table: sql.Identifier
    stage: sql.Identifier
    moves: sql.Identifier
    keys: sql.Identifier | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How rows of a keyed stream are compared with those of its table."""

    load: Load
    sides: Sides
    old: Structure
    complete: bool

    @property
    def deletes(self) -> bool:
        """Tell whether rows that the source has no more are deletions."""
        return self.load.mode == "replace" or self.load.delete != "none"

    @property
    def reads_all(self) -> bool:
        """Tell whether rows of the table that nothing staged matches matter."""
        return self.deletes and self.complete and self.sides.keys is None

    def moves(self) -> sql.Composed:
        """Give the query of the rows that are new or changed, or gone because nothing staged has their key."""
        either = [sql.SQL("t.{k} is null").format(k=self._key), self._changed()]
        if self.reads_all:
            either.append(sql.SQL("s.{k} is null").format(k=self._key) + self._alive(" and "))
        return sql.SQL(
            "select t._aiia_row as t, s.ctid as s, {back} as back from {left} {join} {stage} s on {keys} where {either}"
        ).format(
            back=self._back(),
            left=self._left(),
            join=sql.SQL("full join" if self.reads_all else "right join"),
            stage=self.sides.stage,
            keys=keys_equal(self.load.contract, "s"),
            either=sql.SQL(" or ").join(sql.SQL("({})").format(one) for one in either),
        )

    def gone(self) -> sql.Composed | None:
        """Give the statement that adds the rows whose key the source did not list."""
        if not self.deletes or self.sides.keys is None:
            return None
        return sql.SQL(
            "insert into {moves} select t._aiia_row, null, false from {left} where"
            " not exists (select from {keys} k where {listed})"
            " and not exists (select from {stage} s where {staged})"
        ).format(
            moves=self.sides.moves,
            left=self._left(),
            keys=self.sides.keys,
            stage=self.sides.stage,
            listed=keys_equal(self.load.contract, "k"),
            staged=keys_equal(self.load.contract, "s"),
        ) + self._alive(" and ")

    @property
    def _key(self) -> sql.Identifier:
        return sql.Identifier(self.load.contract.key[0])

    def _alive(self, before: str) -> sql.Composed:
        """Leave out rows that are deleted already."""
        if DELETED_AT not in self.old.columns:
            return sql.SQL("").format()
        return sql.SQL(before + "t.{} is null").format(sql.Identifier(DELETED_AT))

    def _back(self) -> sql.Composed:
        """Tell whether a row that was deleted softly comes back."""
        if DELETED_AT not in self.old.columns:
            return sql.SQL("false").format()
        return sql.SQL("t.{} is not null").format(sql.Identifier(DELETED_AT))

    def _left(self) -> sql.Composed:
        """Give the rows of the table that may match, in the columns and types that it is going to have."""
        columns = list(self._columns())
        if DELETED_AT in self.old.columns:
            columns.append(sql.SQL("{}").format(sql.Identifier(DELETED_AT)))
        current = sql.SQL("").format()
        if self.load.mode == "history":
            current = sql.SQL(" where {} is null").format(sql.Identifier(VALID_TO))
        return sql.SQL("(select ctid as _aiia_row, {} from {}{}) t").format(
            sql.SQL(", ").join(columns), self.sides.table, current
        )

    def _columns(self) -> Iterator[sql.Composed]:
        for column in self.load.contract.columns:
            name, kind = sql.Identifier(column.name), type_of(column.type)
            if column.name not in self.old.columns:
                yield sql.SQL("null::{} as {}").format(sql.SQL(kind), name)
            elif self.old.columns[column.name] != kind:
                yield sql.SQL("{name}::{kind} as {name}").format(name=name, kind=sql.SQL(kind))
            else:
                yield sql.SQL("{}").format(name)

    def _changed(self) -> sql.Composed:
        contract = self.load.contract
        rest = [_same(column) for column in contract.columns if column.name not in contract.key]
        same = sql.SQL(" and ").join(rest) if rest else sql.SQL("true")
        differs = sql.SQL("not ({})").format(same)
        if DELETED_AT in self.old.columns:
            differs += sql.SQL(" or {}").format(self._back())
        both = sql.SQL("t.{k} is not null and s.{k} is not null").format(k=self._key)
        return sql.SQL("{} and ({})").format(both, differs)


def keys_equal(contract: Contract, other: str) -> sql.Composed:
    """Compare the key of a row `t` with that of another row."""
    return sql.SQL(" and ").join(
        sql.SQL(f"t.{{c}} = {other}.{{c}}").format(c=sql.Identifier(name)) for name in contract.key
    )


def count_moves(moves: sql.Identifier) -> sql.Composed:
    """Count new, changed, gone and returning rows."""
    return sql.SQL(
        "select count(*) filter (where t is null),"
        " count(*) filter (where t is not null and s is not null and not back),"
        " count(*) filter (where s is null), count(*) filter (where back) from {}"
    ).format(moves)


def _same(column: ContractColumn) -> sql.Composed:
    """Tell whether a value is what it was, to the last digit and sign."""
    form = "t.{c} is not distinct from s.{c}"
    if column.type.name in {"float32", "float64"}:
        send = "float4send" if column.type.name == "float32" else "float8send"
        form = f"({form} and (coalesce(t.{{c}}, 1) <> 0 or {send}(t.{{c}}) = {send}(s.{{c}})))"
    elif _equals_loosely(column.type):
        form = "t.{c}::text is not distinct from s.{c}::text"
    return sql.SQL(form).format(c=sql.Identifier(column.name))


def _equals_loosely(kind: ColumnType) -> bool:
    # json has no equality in PostgreSQL, a month equals 30 days, 1.0 equals 1.00, and 0 equals -0:
    # their text is what was stored.
    if kind.item is not None:
        return kind.item.name.startswith("float") or _equals_loosely(kind.item)
    if kind.name == "decimal":
        return str(arrow_type(kind)) == "string"
    return kind.name in {"json", "interval"}
