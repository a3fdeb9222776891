"""Data on stdout in five forms, messages on stderr."""

import csv
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

import click

from aiia_pipelines.jobs.log import escape
from aiia_pipelines.jobs.redaction import REDACTOR

Form = Literal["table", "json", "ndjson", "csv", "plain"]
FORMS: tuple[Form, ...] = ("table", "json", "ndjson", "csv", "plain")
Record = Mapping[str, Any]
_GAP = 2
_NARROWEST = 20


@dataclass(frozen=True, slots=True)
class Shown:
    """One column of a table: its title, its text, and how it is set."""

    title: str
    text: Callable[[Any], str]
    right: bool = False
    style: Callable[[Any], str] | None = None
    # Columns that are cut when the terminal is narrow.
    yields: bool = False


@dataclass
class Output:
    """What the common options ask for."""

    asked: Form | None = None
    quiet: bool = False
    verbose: bool = False
    no_input: bool = False

    def form(self, default: Form | None = None) -> Form:
        """Return the form asked for; a table on a terminal and JSON elsewhere by default."""
        if self.asked:
            return self.asked
        return default or ("table" if sys.stdout.isatty() else "json")

    def rows(self, rows: Iterable[Any], facts: Callable[[Any], Record], *columns: Shown) -> None:
        """Write many things alike; `facts` gives the record that programs read."""
        match self.form():
            case "table":
                _table(list(rows), columns)
            case "json":
                _echo(to_json([facts(row) for row in rows]))
            case "ndjson":
                for row in rows:
                    _echo(to_json(facts(row), indent=None))
            case "csv":
                _csv([facts(row) for row in rows])
            case "plain":
                for row in rows:
                    _echo("\t".join(escape(column.text(row)) for column in columns))

    def one(self, facts: Record, text: Callable[[], Iterable[str]]) -> None:
        """Write one thing: as lines for people, or as a record."""
        match self.form():
            case "table" | "plain":
                self.lines(text())
            case "json":
                _echo(to_json(facts))
            case "ndjson":
                _echo(to_json(facts, indent=None))
            case "csv":
                _csv([facts])

    def lines(self, lines: Iterable[str]) -> None:
        """Write finished lines of data."""
        for line in lines:
            _echo(line)

    def say(self, message: str) -> None:
        """Tell people something that is not data."""
        if not self.quiet:
            click.echo(escape(REDACTOR.clean(message)), err=True)

    def asks(self) -> bool:
        """Tell whether questions may be asked."""
        return not self.no_input and sys.stdin.isatty()


def to_json(value: object, *, indent: int | None = 2) -> str:
    """Render as JSON: times in RFC 3339 UTC, durations as seconds."""
    return json.dumps(value, indent=indent, ensure_ascii=False, default=_plain)


def instant(at: datetime | None) -> str | None:
    """Render a time in RFC 3339 UTC, to the millisecond."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: object) -> object:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return instant(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    # Sets have no order of their own; the rest of what a source may give has a text.
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


def _echo(text: str) -> None:
    click.echo(text)


def _csv(records: Sequence[Record]) -> None:
    if not records:
        return
    writer = csv.writer(_Lines())
    writer.writerow(records[0])
    for record in records:
        writer.writerow(_cell(value) for value in record.values())


class _Lines:
    """A file for csv that writes through click."""

    def write(self, text: str) -> None:
        """Write a finished row."""
        click.echo(text, nl=False)


def _cell(value: object) -> object:
    if value is None or isinstance(value, str | int | float):
        return value
    rendered = to_json(value, indent=None)
    return rendered.strip('"') if isinstance(value, datetime | date | time) else rendered


def _table(rows: Sequence[Any], columns: Sequence[Shown]) -> None:
    # rich costs 0.15 s of CPU, which only tables have to pay.
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[escape(column.text(row)) for column in columns] for row in rows]
    widths = [
        max(cell_len(text) for text in (column.title, *(line[place] for line in cells)))
        for place, column in enumerate(columns)
    ]
    _fit(widths, columns)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    for column, width in zip(columns, widths, strict=True):
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(
            column.title, justify=justify, width=width, no_wrap=True, overflow="ellipsis"
        )
    for row, line in zip(rows, cells, strict=True):
        styles = [column.style(row) if column.style else "" for column in columns]
        table.add_row(*(Text(text, style) for text, style in zip(line, styles, strict=True)))
    width = sum(widths) + _GAP * len(widths)
    Console(file=sys.stdout, width=width, highlight=False, soft_wrap=True).print(table)


def _fit(widths: list[int], columns: Sequence[Shown]) -> None:
    """Cut the columns that yield to what a terminal leaves; elsewhere the reader's width is unknown."""
    yielding = [place for place, column in enumerate(columns) if column.yields]
    if not (sys.stdout.isatty() and yielding):
        return
    fixed = sum(width for place, width in enumerate(widths) if place not in yielding)
    left = shutil.get_terminal_size().columns - fixed - _GAP * len(widths)
    for place in yielding:
        widths[place] = min(widths[place], max(_NARROWEST, left // len(yielding)))
