"""The dialect, header and first row of a CSV file: as stated, else detected where only one reading fits."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from aiia_pipelines.connectors._tabular_bytes import malformed
from aiia_pipelines.connectors._tabular_options import MAX_COLUMNS, NO_MARK, FormatOptions
from aiia_pipelines.connectors._tabular_records import (
    Broken,
    Cursor,
    Dialect,
    Record,
    numberlike,
    records,
)
from aiia_pipelines.connectors.base import SourceFault

_DELIMITERS = ",;\t|:"
_SAMPLE = 500
_BLANKS = 10_000  # lines after which a sample of nothing else ends
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)")
_SEPARATOR_LINE = re.compile(r"sep=(.)(?:\r\n|\r|\n)", re.IGNORECASE)
_SINGLE_QUOTED = re.compile(r"(?:^|[,;\t|:])'(?:[^'\r\n]|'')*+'(?=$|[,;\t|:\r\n])", re.MULTILINE)
_MARKUP = re.compile(r"\s*<(?:!doctype|html|\?xml|head|body|error)", re.IGNORECASE)
_JSON = re.compile(r"\s*(?:\{\s*\"|\[\s*[\[{])")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where and how the rows of a CSV file stand."""

    dialect: Dialect
    names: list[str]
    header: list[str | None] | None  # the header row, to know it again
    start: int  # of the first row, in characters
    line: int
    trailing: bool = False  # every row ends with a delimiter
    typed: tuple[int, ...] = ()  # columns that hold only numbers and dates in the sample

    @property
    def width(self) -> int:
        """How many fields a row has."""
        return len(self.names) + self.trailing


@dataclass(slots=True)
class _Trial:
    """What the sample looks like under one dialect."""

    dialect: Dialect
    rows: list[Record] = field(default_factory=list)  # without blank ones
    blank_lines: list[int] = field(default_factory=list)
    broken: Broken | None = None

    @property
    def widths(self) -> list[int]:
        return [len(row.values) for row in self.rows]

    def is_table(self, begin: int = 0, end: int = 0) -> bool:
        widths = set(self.widths[begin : len(self.rows) - end])
        return self.broken is None and len(widths) == 1 and widths != {1}


@dataclass(frozen=True, slots=True)
class _Head:
    """The beginning of a file, from its first line that counts."""

    name: str
    text: str
    line: int
    offset: int
    final: bool


def layout(name: str, text: str, options: FormatOptions, *, final: bool) -> Layout:
    """Find the layout of a file from its beginning; `final` when that is all of it.

    Raises:
        SourceFault: No reading or several readings fit; the sentence says what to state.
    """
    if _MARKUP.match(text):
        raise malformed(name, "is a web page or XML, not CSV; look at what the source delivered.")
    if _JSON.match(text):
        raise malformed(name, "looks like JSON, not CSV; state `format: json` if it is.")
    head, delimiter = _skipped(name, text, options, final=final)
    trial = _detected(head, options, delimiter)
    begin = _preamble(head, trial, options)
    return _read(head, trial, begin, options)


def _skipped(
    name: str, text: str, options: FormatOptions, *, final: bool
) -> tuple[_Head, str | None]:
    """Leave out the lines that are stated to come before, and the `sep=` line that Excel writes."""
    place, line = 0, 1
    for _ in range(options.skip_rows or 0):
        found = _LINE.match(text, place)
        if found is None:
            break
        place, line = found.end(), line + 1
    mark = _SEPARATOR_LINE.match(text, place)
    if mark is None:
        return _Head(name, text[place:], line, place, final), None
    return _Head(name, text[mark.end() :], line + 1, mark.end(), final), mark[1]


def _detected(head: _Head, options: FormatOptions, delimiter: str | None) -> _Trial:
    trials = [_trial(head, dialect) for dialect in _dialects(head.text, options, delimiter)]
    end = (options.skip_footer or 0) if head.final else 0
    tables = [t for t in trials if t.is_table(end=end)]
    # A colon also stands in every time of day: it separates where nothing else does.
    tables = [t for t in tables if t.dialect.delimiter != ":"] or tables
    if not tables and (titled := [t for t in trials if _title_rows(t, end)]):
        tables = titled
    if not tables:
        return max(trials, key=_likelihood)
    rivals = {t.dialect.delimiter for t in (*tables, *_rivals(trials, tables[0]))}
    if len(rivals) > 1:
        found = " or ".join(sorted(map(repr, rivals)))
        raise malformed(head.name, f"could be separated by {found}; state the `delimiter`.")
    best = _quoted_best(tables)
    others = [t for t in tables if t.dialect.quote != best.dialect.quote == '"']
    if any(max(t.widths) != max(best.widths) for t in others):
        raise malformed(
            head.name, "has other columns when single quotes enclose fields; state the `quote`."
        )
    return best


def _rivals(trials: Sequence[_Trial], chosen: _Trial) -> list[_Trial]:
    """List dialects whose first row is as wide: they may be right, and a dirty row hides it."""
    width = max(chosen.widths)
    return [t for t in trials if t.dialect.delimiter != ":" and t.widths[:1] >= [max(width, 2)]]


def _quoted_best(tables: Sequence[_Trial]) -> _Trial:
    """Take the double quote, unless single ones enclose a field in every row."""
    for trial in tables:
        if trial.dialect.quote == "'" and _encloses(trial):
            return trial
    return tables[0]


def _encloses(trial: _Trial) -> bool:
    texts = [str(value) for row in trial.rows[1:] for value in row.values if value]
    return bool(texts) and not any(text.startswith("'") for text in texts)


def _likelihood(trial: _Trial) -> tuple[int, int, int]:
    """Say how well a dialect fits a sample that is no clean table under any."""
    widths = trial.widths
    if not widths or widths[0] == 1:
        return (0, 0, -_DELIMITERS.find(trial.dialect.delimiter))
    alike = sum(width == widths[0] for width in widths)
    return alike, widths[0], -_DELIMITERS.find(trial.dialect.delimiter)


def _dialects(text: str, options: FormatOptions, delimiter: str | None) -> Iterator[Dialect]:
    delimiters = options.delimiter or delimiter or _DELIMITERS
    nulls = frozenset(options.null_values)
    quotes: list[str | None] = [None if options.quote == NO_MARK else options.quote]
    if options.quote is None:
        single = '"' not in text and _SINGLE_QUOTED.search(text)
        quotes = ['"', "'"] if single else ['"']
    escapes: list[str | None] = [None if options.escape == NO_MARK else options.escape]
    if options.escape is None and '\\"' in text:
        escapes = [None, "\\"]
    for mark in delimiters:
        for quote in quotes:
            for escape in escapes:
                yield Dialect(
                    mark, quote, escape, options.trim, options.stray_quotes == "keep", nulls
                )


def _trial(head: _Head, dialect: Dialect) -> _Trial:
    trial = _Trial(dialect)
    try:
        for row in records(head.text, dialect, Cursor(head.line), final=head.final):
            if row.blank:
                trial.blank_lines.append(row.line)
            else:
                trial.rows.append(row)
            if len(trial.rows) == _SAMPLE or len(trial.blank_lines) == _BLANKS:
                break
    except Broken as broken:
        trial.broken = broken
    return trial


def _title_rows(trial: _Trial, end: int = 0) -> int:
    """Count the rows of one field before a table of several."""
    widths = trial.widths
    count = next((place for place, width in enumerate(widths) if width > 1), 0)
    return count if count and trial.is_table(count, end) else 0


def _preamble(head: _Head, trial: _Trial, options: FormatOptions) -> int:
    """Tell how many rows before the header are titles, if that is beyond doubt."""
    if not trial.rows or options.skip_rows is not None:
        return 0
    count = _title_rows(trial, (options.skip_footer or 0) if head.final else 0)
    widths = trial.widths
    if not count:
        # A narrow first row over wider ones could also be a header that lost a field.
        if len(widths) > 2 and widths[0] == 1 < max(widths):
            raise _unclear(head, trial.rows[0].line)
        return 0
    last, first = trial.rows[count - 1].line, trial.rows[count].line
    marked = all(str(row.values[0]).startswith("#") for row in trial.rows[:count])
    apart = any(last < line < first for line in trial.blank_lines)
    if len(trial.rows) < count + 2 or not (marked or apart):
        raise _unclear(head, trial.rows[0].line)
    return count


def _unclear(head: _Head, line: int) -> SourceFault:
    return malformed(
        f"{head.name}, line {line:,}",
        "has one field and later lines have more. State `skip_rows: N` if lines come before the"
        " header, or the `delimiter`.",
    )


def _read(head: _Head, trial: _Trial, begin: int, options: FormatOptions) -> Layout:
    rows = trial.rows[begin:]
    if not rows:
        if trial.broken:
            raise malformed(f"{head.name}, line {trial.broken.line:,}", f"{trial.broken}.")
        return Layout(trial.dialect, options.names or [], None, len(head.text), head.line)
    names, header, trailing = _names(head.name, rows, options)
    data = rows[1:] if header else rows
    start, line = _begin(head, trial.dialect, rows[0].line, header=bool(header))
    typed = tuple(
        place
        for place in range(len(names))
        if _is_typed([row.values[place] for row in data if place < len(row.values)])
    )
    return Layout(trial.dialect, names, header, head.offset + start, line, trailing, typed)


def _is_typed(values: Sequence[str | None]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(map(numberlike, known))


def _begin(head: _Head, dialect: Dialect, first: int, *, header: bool) -> tuple[int, int]:
    """Find where the first row of data begins."""
    cursor = Cursor(head.line)
    reader = records(head.text, dialect, cursor, final=head.final)
    for row in reader:
        if row.line == first:
            if header:
                # The cursor goes on when the next record is asked for, even when there is none.
                with suppress(Broken):
                    next(reader, None)
            break
    return cursor.position, cursor.line


def _names(
    name: str, rows: Sequence[Record], options: FormatOptions
) -> tuple[list[str], list[str | None] | None, bool]:
    """Name the columns: stated, from the header row, or numbered."""
    first = rows[0]
    header = None if options.header is False else first.values
    if options.names is not None:
        return list(options.names), header, False
    if header is None:
        return [f"column_{number}" for number in range(1, len(first.values) + 1)], None, False
    place = f"{name}, line {first.line:,}"
    names = [(value or "").strip() for value in header]
    trailing = len(names) > 1 and not names[-1] and all(names[:-1])
    if trailing and all(not row.values[-1] for row in rows if len(row.values) == len(names)):
        names.pop()
    else:
        trailing = False
    if len(names) > MAX_COLUMNS:
        raise malformed(place, f"has {len(names):,} columns; {MAX_COLUMNS:,} may be.")
    _check_names(place, names)
    if options.header is None and all(numberlike(value) for value in names):
        raise malformed(
            place,
            "has numbers where names should be. State `header: false` if there are no names, or"
            " `header: true` if these are the names.",
        )
    return names, header, trailing


def _check_names(place: str, names: Sequence[str]) -> None:
    advice = "State all names with `names: [...]` and `header: true`."
    if "" in names:
        raise malformed(place, f"column {names.index('') + 1} has no name. {advice}")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        places = [str(i) for i, name in enumerate(names, 1) if name == twice[0]]
        raise malformed(
            place, f"columns {' and '.join(places)} are both named '{twice[0]}'. {advice}"
        )
