"""Whatever is written is read back, and whatever is damaged is never read shifted."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors._tabular import DataFile, read_batches, read_columns
from aiia_pipelines.connectors._tabular_csv import CsvReader
from aiia_pipelines.connectors._tabular_options import FormatOptions, LimitOptions
from aiia_pipelines.connectors._tabular_records import Cursor, Dialect, Record, records, regular
from aiia_pipelines.connectors.base import Reading, SourceFault

Cells = list[list[str | None]]
# Characters that mean something to a CSV file, and some that do not.
TEXT = st.text(
    st.one_of(
        st.sampled_from(",;\t|:'\"\\\r\n #=é€𝄞\ufeff\x85\u2028a1."),
        st.characters(codec="utf-8", exclude_characters="\0"),
    ),
    max_size=8,
)
NAMES = st.lists(
    st.text(st.sampled_from("abcdefgh_,; '\""), min_size=1, max_size=6).filter(str.strip),
    min_size=2,
    max_size=5,
    unique_by=str.strip,
)
QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=150)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], Cells]:
    names = draw(NAMES)
    row = st.lists(st.none() | TEXT, min_size=len(names), max_size=len(names))
    return names, draw(st.lists(row, max_size=6).filter(lambda rows: names not in rows))


def written(
    rows: Sequence[Sequence[str | None]], mark: str, quote: str, end: str, *, always: bool
) -> str:
    """Write NULL as nothing and text as what has to be quoted, or all of it."""
    special = {mark, quote, "\r", "\n"}

    def field(value: str | None) -> str:
        if value is None:
            return ""
        if (
            always
            or not value
            or special & set(value)
            or value != value.strip()
            or value[0] == "\ufeff"
        ):
            return quote + value.replace(quote, quote + quote) + quote
        return value

    return "".join(mark.join(map(field, row)) + end for row in rows)


def read(data: bytes, **options: Any) -> tuple[list[str], Cells]:
    file = DataFile("in.csv", len(data), lambda: io.BytesIO(data))
    stream = Stream(name="rows", path="in.csv")
    given_options, limits = FormatOptions(**options), LimitOptions()
    names = [column.name for column in read_columns([file], stream, given_options, limits)]
    rows: Cells = []
    for batch in read_batches([file], stream, Reading(names=names), given_options, limits):
        found = list(zip(*(column.to_pylist() for column in batch.rows.columns), strict=True))  # type: ignore[union-attr]  # Arrow
        assert len({batch.where(row) for row in range(len(found))}) == len(found)
        rows += map(list, found)
    return names, rows


@given(
    table=tables(),
    mark=st.sampled_from(",;\t|~"),
    quote=st.sampled_from("\"'"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    always=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
@QUIET
def test_a_table_comes_back_under_the_stated_dialect(
    table: tuple[list[str], Cells], mark: str, quote: str, end: str, always: bool, encoding: str
) -> None:
    names, rows = table
    data = written([names, *rows], mark, quote, end, always=always).encode(encoding)
    options = {"delimiter": mark, "quote": quote, "escape": "none", "header": True}
    found = read(data, **options, skip_rows=0, skip_footer=0)
    assert found == ([name.strip() for name in names], rows)


@given(table=tables(), mark=st.sampled_from(",;\t|"), end=st.sampled_from(["\n", "\r\n"]))
@QUIET
def test_a_table_comes_back_or_is_refused_under_the_detected_dialect(
    table: tuple[list[str], Cells], mark: str, end: str
) -> None:
    names, rows = table
    data = written([names, *rows], mark, '"', end, always=True).encode()
    try:
        found = read(data)
    except SourceFault:
        return
    assert found == ([name.strip() for name in names], rows)


@given(
    table=tables(),
    mark=st.sampled_from(",;"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@QUIET
def test_what_the_csv_module_writes_comes_back(
    table: tuple[list[str], Cells], mark: str, quoting: Any
) -> None:
    names, rows = table
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=mark, quoting=quoting).writerows([names, *rows])
    try:
        found, values = read(
            out.getvalue().encode(), delimiter=mark, quote='"', header=True, skip_footer=0
        )
    except SourceFault as fault:
        # It leaves a mark of order as it is at the beginning of a row.
        assert "\ufeff" in out.getvalue(), fault  # noqa: PT017 - the fault is allowed, not expected
        return
    same = [[value or None for value in row] for row in rows]
    assert found == [name.strip() for name in names]
    assert [[value or None for value in row] for row in values] == same


def plain_rows(width: int, height: int) -> list[list[str]]:
    return [[f"{'abcdefg'[c]}{r}" for c in range(width)] for r in range(height + 1)]


@st.composite
def damaged(draw: st.DrawFn) -> tuple[list[list[str]], bytes]:
    """A table of unlike cells, and its text with one byte added, lost or two swapped, or cut off."""
    rows = plain_rows(draw(st.integers(2, 5)), draw(st.integers(3, 8)))
    if draw(st.booleans()):
        rows[-2][0] = "x, y\nz"
    always = draw(st.booleans())
    text = bytearray(
        written(rows, ",", '"', draw(st.sampled_from(["\n", "\r\n"])), always=always).encode()
    )
    place = draw(st.integers(0, len(text) - 1))
    way = draw(st.sampled_from(["add", "lose", "swap", "cut"]))
    if way == "add":
        text.insert(place, draw(st.sampled_from(b",\"\n\r;'\\")))
    elif way == "lose":
        del text[place]
    elif way == "swap":
        # Two quotes that move at once can make another table that is as good as any.
        place, other = draw(
            st.tuples(*[st.sampled_from([i for i, byte in enumerate(text) if byte != 34])] * 2)
        )
        text[place], text[other] = text[other], text[place]
    else:
        del text[
            max(place, text.index(b"\n") + 1) :
        ]  # a header that is cut off is the contract's to miss
    return rows, bytes(text)


def distance(one: Sequence[object], other: Sequence[object]) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


@given(damaged())
@QUIET
def test_a_damaged_file_is_never_read_shifted(case: tuple[list[list[str]], bytes]) -> None:
    (names, *rows), data = case
    try:
        found, values = read(data, delimiter=",", skip_rows=0)
    except SourceFault:
        return
    assert len(found) == len(names), "the header lost or got a column"
    assert all(len(row) == len(names) for row in values)
    assert distance(found, names) <= 2
    # Rows may be missing at the end, as when the file is cut off; none may move to another column.
    assert len(values) <= len(rows)
    changed = [distance(row, known) for row, known in zip(values, rows, strict=False)]
    assert sum(changed) + distance(found, names) <= 4, (values, rows)


@given(damaged())
@QUIET
def test_detection_never_makes_a_damaged_file_another_table(
    case: tuple[list[list[str]], bytes],
) -> None:
    (names, *_), data = case
    try:
        found, values = read(data)
    except SourceFault:
        return
    assert all(len(row) == len(found) for row in values)
    assert len(found) == len(names) or len(values) <= 1, (found, data)


@given(st.text(st.sampled_from('",\n\rab '), max_size=24))
@example('"a""b",c\n"",\n')
@settings(QUIET, max_examples=400)
def test_arrow_and_the_strict_grammar_agree_on_what_is_regular(text: str) -> None:
    """Arrow is asked only about text that both understand the same way."""
    data = b"h,i\n" + text.encode()
    dialect = Dialect()

    def strict() -> list[Record]:
        return [r for r in records(data.decode(), dialect, Cursor(), final=True) if not r.blank]

    if not regular(data, dialect):
        return
    reader = CsvReader("in.csv", io.BytesIO(b"h,i\n"), FormatOptions(delimiter=",", quote='"'))
    reader._wanted = range(2)
    table = reader._fast(data)
    if table is None:
        return
    by_arrow = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    assert by_arrow == [tuple(row.values) for row in strict()]
