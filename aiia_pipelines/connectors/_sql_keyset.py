"""Reading a table in the order of its cursor, so that a reading that broke off can go on where it was."""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors import _sql_cursor as cursor
from aiia_pipelines.connectors._sql_wanted import Wanted
from aiia_pipelines.connectors.base import Batch, Position, SourceColumn, Wired

# Types whose text says exactly where a value lies in their order.
EXACT = frozenset(
    {"int16", "int32", "int64", "decimal", "date", "timestamp", "timestamptz", "string"}
)
_TEXT = ColumnType("string")


def order(wanted: Wanted, schema: str | None, table: str, kinds: frozenset[str]) -> list[str]:
    """Give the columns that put rows with a cursor in one order, when indexes make that cheap and sure."""
    reading, stream = wanted.reading, wanted.stream
    if reading.after is not None:
        # Also when the index that made it cheap is gone.
        return list(reading.after["columns"])
    if not reading.cursor or reading.until is None or stream.table is None or stream.partition:
        return []
    columns = list(dict.fromkeys([reading.cursor, *(wanted.origin(key) for key in stream.key)]))
    if not all(_is_ordered(wanted, name, kinds) for name in columns):
        return []
    indexes = _indexes(wanted, schema, table)
    leads = any(index[0] == reading.cursor for index, _ in indexes)
    unique = any(is_unique and set(index) <= {*columns} for index, is_unique in indexes)
    return columns if leads and unique else []


def _is_ordered(wanted: Wanted, name: str, kinds: frozenset[str]) -> bool:
    if name not in wanted.columns:
        return False
    column = wanted.column(name)
    filled = name == wanted.reading.cursor or not column.nullable
    return filled and column.type is not None and column.type.name in kinds


def _indexes(wanted: Wanted, schema: str | None, table: str) -> list[tuple[list[str], bool]]:
    """List the indexes over plain columns of all rows, and whether each is unique."""
    with suppress(SQLAlchemyError, NotImplementedError):
        inspector = sa.inspect(wanted.connection)
        primary = list(inspector.get_pk_constraint(table, schema)["constrained_columns"])
        found = [([str(column) for column in primary], True)] if primary else []
        for index in inspector.get_indexes(table, schema):
            names = [name for name in index["column_names"] if name is not None]
            some = any(key.endswith("where") for key in index.get("dialect_options", {}))
            if names and len(names) == len(index["column_names"]) and not some:
                found.append((names, bool(index["unique"])))
        return found
    return []


def parts(words: cursor.Words, wanted: Wanted, ordered: Sequence[str]) -> list[tuple[str, bool]]:
    """Cut the wanted rows in those with a cursor, to be read in order, and those without."""
    if not ordered:
        return [(cursor.condition(words, wanted), False)]
    name = wanted.quote(str(wanted.reading.cursor))
    last, until = cursor.usable(wanted), wanted.reading.until
    newer = f"{name} IS NOT NULL"
    if last is not None and last["cursor"] is not None:
        beyond = ">=" if wanted.stream.key else ">"
        newer = f"{name} {beyond} {cursor.edge_of(words, wanted, last)}"
    found = []
    if until is not None and until["cursor"] is not None:
        edge = words.literal(str(until["cursor"]), wanted.column(str(wanted.reading.cursor)))
        after = _after(words, wanted, wanted.reading.after) if wanted.reading.after else ""
        found.append((cursor.both(newer, f"{name} <= {edge}", after), True))
    # Without a key, rows without cursor are read once, at the first sync.
    if wanted.stream.key or last is None or last["cursor"] is None:
        found.append((f"{name} IS NULL", False))
    return found


def _after(words: cursor.Words, wanted: Wanted, mark: Position) -> str:
    """Write what follows a checkpoint; not every database compares rows of values."""
    condition = ""
    for name, text in reversed(list(zip(mark["columns"], mark["values"], strict=True))):
        value, column = words.literal(text, wanted.column(name)), wanted.quote(name)
        rest = f" OR ({column} = {value} AND {condition})" if condition else ""
        condition = f"({column} > {value}{rest})"
    return condition


def extended(words: cursor.Words, wanted: Wanted, ordered: Sequence[str]) -> Wanted:
    """Ask for the texts of what orders the rows as further columns."""
    columns = dict(wanted.columns)
    names = list(wanted.reading.names)
    for name in ordered:
        text = words.as_text(wanted.quote(name), wanted.column(name))
        further = f"{name} as text"
        columns[further] = (
            SourceColumn(further, _TEXT, nullable=False, declared="text"),
            text.replace("{", "{{").replace("}", "}}"),
        )
        names.append(further)
    return replace(wanted, columns=columns, reading=replace(wanted.reading, names=names))


def marked(batches: Iterator[Batch], width: int, ordered: Sequence[str]) -> Iterator[Batch]:
    """Take the texts of what orders the rows off each batch; those of its last row are its checkpoint."""
    for batch in batches:
        yield mark(batch, width, ordered)


def last(batch: Batch, places: Sequence[int], ordered: Sequence[str]) -> Position:
    """Give the checkpoint of a batch by the values of its last row, which `places` tell."""
    if isinstance(batch.rows, Sequence):
        values = [batch.rows[-1][place] for place in places]
    else:
        # Of rows whose values nobody has looked at, only those of the last one are wanted.
        end = batch.rows.tail() if isinstance(batch.rows, Wired) else batch.rows
        values = [end.column(place)[-1].as_py() for place in places]
    return {"columns": list(ordered), "values": [_written(value) for value in values]}


def _written(value: object) -> str:
    """Write a value so that the database reads the same one."""
    if isinstance(value, dt.date):
        return value.isoformat()
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def mark(batch: Batch, width: int, ordered: Sequence[str]) -> Batch:
    """Take the texts off one batch."""
    rows: Any
    if isinstance(batch.rows, Sequence):
        texts = [str(text) for text in batch.rows[-1][width:]]
        rows = [row[:width] for row in batch.rows]
    else:
        found = batch.rows.arrow() if isinstance(batch.rows, Wired) else batch.rows
        texts = [str(column[-1].as_py()) for column in found.columns[width:]]
        rows = found.select(range(width))
    return Batch(rows, {"columns": list(ordered), "values": texts})
