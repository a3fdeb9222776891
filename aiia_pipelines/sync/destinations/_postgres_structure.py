"""A table whose columns or key are no longer those of the contract, altered inside the commit.

Nothing here rewrites the table: readers with an older snapshot go on seeing its old rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from aiia_pipelines.sync.contract import Contract

_COLUMNS = """
select attname, format_type(atttypid, atttypmod), attnotnull from pg_attribute
where attrelid = %s::regclass and attnum > 0 and not attisdropped"""
_KEY = """
select conname, array(
  select attname::text from unnest(conkey) with ordinality k(attnum, place)
  join pg_attribute a on a.attrelid = conrelid and a.attnum = k.attnum order by place)
from pg_constraint where conrelid = %s::regclass and contype = 'p'"""


@dataclass(frozen=True, slots=True)
class Structure:
    """What a table is made of: types by column name, the columns that take no NULL, and the key."""

    columns: Mapping[str, str]
    filled: frozenset[str]
    key: tuple[str, ...]
    key_name: str


def read(db: psycopg.Connection[tuple[Any, ...]], table: sql.Identifier) -> Structure:
    """Read the structure of an existing table."""
    name = table.as_string(db)
    columns = db.execute(_COLUMNS, (name,)).fetchall()
    key = db.execute(_KEY, (name,)).fetchone() or ("", [])
    return Structure(
        {column: kind for column, kind, _ in columns},
        frozenset(column for column, _, filled in columns if filled),
        tuple(key[1]),
        key[0],
    )


def wanted(stage: Structure, contract: Contract) -> Structure:
    """Give the structure that the contract asks for; the staging table has its types already."""
    filled = {column.name for column in contract.columns if not column.nullable}
    return Structure(stage.columns, frozenset(filled | set(contract.key)), contract.key, "")


def same(one: Structure, other: Structure) -> bool:
    """Tell whether two tables differ in name of the key at most."""
    return (one.columns, one.filled, one.key) == (other.columns, other.filled, other.key)


def alterations(table: sql.Identifier, old: Structure, new: Structure) -> Iterator[sql.Composed]:
    """Give the statements that make an emptied table of the old structure one of the new."""

    def alter(action: str, **parts: sql.Composable) -> sql.Composed:
        return sql.SQL(f"alter table {{table}} {action}").format(table=table, **parts)

    kept = {name for name, kind in old.columns.items() if new.columns.get(name) == kind}
    # A key goes with any column of it that is made anew.
    rekeyed = old.key != new.key or not kept.issuperset(new.key)
    if old.key_name and rekeyed:
        yield alter("drop constraint {name}", name=sql.Identifier(old.key_name))
    for name in old.columns:
        if name not in kept:
            # Refused while a view needs the column: then the person who made the view must decide.
            yield alter("drop column {name}", name=sql.Identifier(name))
    for name, kind in new.columns.items():
        if name not in kept:
            yield alter("add column {name} {kind}", name=sql.Identifier(name), kind=sql.SQL(kind))
    if new.key and rekeyed:
        names = sql.SQL(", ").join(map(sql.Identifier, new.key))
        yield alter("add primary key ({names})", names=names)
    for name in new.columns:
        before = name in kept and name in old.filled
        if (name in new.filled) != before and name not in new.key:
            action = "set" if name in new.filled else "drop"
            yield alter(f"alter column {{name}} {action} not null", name=sql.Identifier(name))
