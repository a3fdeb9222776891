"""How a stream is followed by a cursor column, where the database tells nothing better of its changes."""

import re
from typing import Protocol

from aiia_pipelines.config.amounts import Lookback
from aiia_pipelines.connectors._sql_wanted import Wanted
from aiia_pipelines.connectors.base import Position, SourceColumn, SourceFault

NUMBERS = {"int16", "int32", "int64", "float32", "float64", "decimal"}
TIMES = {"date", "timestamp", "timestamptz"}
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?", re.ASCII)


class Words(Protocol):
    """What a dialect writes in its own way."""

    def as_text(self, expression: str, column: SourceColumn) -> str:
        """Write a value of a column as text."""
        ...

    def literal(self, text: str, column: SourceColumn) -> str:
        """Write such a text as a value of the column's type."""
        ...

    def earlier(self, literal: str, lookback: Lookback, column: SourceColumn) -> str:
        """Write a value that lies so much before another."""
        ...


def position(words: Words, wanted: Wanted) -> Position | None:
    """Tell the greatest cursor that the stream has now."""
    name = wanted.reading.cursor
    if name is None:
        return None
    greatest = words.as_text(f"MAX({wanted.quote(name)})", wanted.column(name))
    found = wanted.ask(f"SELECT {greatest} FROM {wanted.relation}")[0][0]
    return {"column": name, "cursor": None if found is None else str(found)}


def rows_until(words: Words, wanted: Wanted) -> int | None:
    """Count the rows up to `reading.until`, those without cursor as well."""
    if wanted.reading.until is None or wanted.reading.cursor is None:
        return None
    statement = f"SELECT COUNT(*) FROM {wanted.relation}{where(upto(words, wanted))}"
    return int(wanted.ask(statement)[0][0])


def condition(words: Words, wanted: Wanted) -> str:
    """Say which rows are wanted."""
    return both(since(words, wanted), upto(words, wanted))


def since(words: Words, wanted: Wanted) -> str:
    """Leave out what lies before the last position.

    Rows that are read again are matched on their key; without one, a row may not be read twice.
    """
    reading = wanted.reading
    last = usable(wanted)
    if reading.cursor is None or last is None or last["cursor"] is None:
        return ""
    name = wanted.quote(reading.cursor)
    if not wanted.stream.key:
        edge = words.literal(str(last["cursor"]), wanted.column(reading.cursor))
        return f"{name} > {edge}"
    return f"({name} >= {edge_of(words, wanted, last)} OR {name} IS NULL)"


def edge_of(words: Words, wanted: Wanted, last: Position) -> str:
    """Write the cursor of a position, and so much before it as the stream looks back.

    Raises:
        SourceFault: The cursor is nothing of which that can be told.
    """
    cursor, lookback = str(wanted.reading.cursor), wanted.stream.lookback
    column = wanted.column(cursor)
    edge = words.literal(str(last["cursor"]), column)
    if lookback is None:
        return edge
    fitting = TIMES if lookback.seconds is not None else NUMBERS
    if column.type is None or column.type.name not in fitting:
        raise SourceFault(
            f"Stream {wanted.stream.name} looks back {lookback} on column '{cursor}', which is"
            f" {column.type or column.declared}; a time such as 10m goes with dates and times, a whole"
            " number with numbers.",
            "config:invalid",
        )
    return words.earlier(edge, lookback, column)


def upto(words: Words, wanted: Wanted) -> str:
    """Leave out what came after this sync began."""
    until, cursor = wanted.reading.until, wanted.reading.cursor
    if cursor is None or until is None:
        return ""
    name = wanted.quote(cursor)
    if until["cursor"] is None:
        return f"{name} IS NULL"
    edge = words.literal(str(until["cursor"]), wanted.column(cursor))
    return f"({name} <= {edge} OR {name} IS NULL)"


def usable(wanted: Wanted) -> Position | None:
    """Give the last position, unless another column was the cursor then.

    Raises:
        SourceFault: It cannot be used, and reading all rows again would double them.
    """
    last = wanted.reading.since
    if last is not None and last.get("column") != wanted.reading.cursor:
        refuse_doubling(wanted, "another column was its cursor at the last sync")
        return None
    return last


def refuse_doubling(wanted: Wanted, why: str) -> None:
    """Allow all rows to be read again only where they have a key to be matched on.

    Raises:
        SourceFault: They have none.
    """
    if not wanted.stream.key:
        raise SourceFault(
            f"Stream {wanted.stream.name} cannot go on where it stopped: {why}. Empty its table at the"
            " destination and sync with --full, or give it a key and mode upsert.",
            "config:invalid",
        )


def text(value: str) -> str:
    """Write a text as standard SQL does."""
    return "'" + value.replace("'", "''") + "'"


def number(value: str) -> str:
    """Write a number; one that is none, such as NaN, is left to the database as text."""
    return value if _NUMBER.fullmatch(value) else text(value)


def both(*conditions: str) -> str:
    """Join conditions by AND; an empty one is always true."""
    return " AND ".join(condition for condition in conditions if condition)


def where(condition: str) -> str:
    """Write a WHERE clause, or none."""
    return f" WHERE {condition}" if condition else ""
