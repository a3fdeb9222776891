"""CSV files: the whole file is read strictly under the one dialect that its beginning shows."""

from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from aiia_pipelines.connectors._tabular_arrow import LARGEST_RECORD, is_plain, split
from aiia_pipelines.connectors._tabular_bytes import malformed
from aiia_pipelines.connectors._tabular_dialect import Layout, layout
from aiia_pipelines.connectors._tabular_options import FormatOptions
from aiia_pipelines.connectors._tabular_records import (
    MAX_CELL,
    Broken,
    Cursor,
    Record,
    in_single_quotes,
    numberlike,
    records,
    torn_line_end,
)
from aiia_pipelines.connectors._tabular_text import count_lines, last_line_end, utf8_blocks
from aiia_pipelines.connectors.base import SourceFault

_SAMPLE = 1 << 20
_TOTALS = {"total", "totals", "grand total", "subtotal", "sum", "summe", "gesamt", "gesamtsumme"}

Lines = Callable[[int], int]
Chunk = tuple[pa.Table, Lines]


class CsvReader:
    """One CSV file, read once from its beginning."""

    def __init__(self, name: str, stream: BinaryIO, options: FormatOptions) -> None:
        """Read the beginning and find the layout.

        Raises:
            SourceFault: It is no CSV file, or one that can be read in several ways.
        """
        self._name = name
        self._options = options
        self._blocks = utf8_blocks(stream, name, options.encoding)
        self._head, self._ended = b"", False
        self._layout = self._find_layout()
        self._rows = 0
        self._blank: int | None = None  # the line of a blank line that no row has followed yet
        self._wanted: Sequence[int] = range(self._layout.width)
        self._line = self._layout.line

    @property
    def names(self) -> list[str]:
        """The names of the columns; none when the file is empty."""
        return self._layout.names

    def _find_layout(self) -> Layout:
        while True:
            self._more()
            self._check_text(self._head, 1)
            text = self._without_footer(self._head) if self._ended else self._head
            found = layout(self._name, text.decode(), self._options, final=self._ended)
            if found.header is not None or found.names or self._ended:
                self._head = self._head[len(text.decode()[: found.start].encode()) :]
                return found
            self._check_record(self._head, found.line)

    def _more(self) -> None:
        wanted = max(_SAMPLE, 4 * len(self._head))
        while not self._ended and len(self._head) < wanted:
            block = next(self._blocks, None)
            self._ended = block is None
            self._head += block or b""

    # -- chunks -----------------------------------------------------------------------------

    def chunks(self, wanted: Sequence[str]) -> Iterator[Chunk]:
        """Read the wanted columns as text, with a function that tells the line of the n-th row.

        Raises:
            SourceFault: A line does not fit the others; the sentence names it.
        """
        self._wanted = [self.names.index(name) for name in wanted]
        data = self._head
        self._head = b""
        while not self._ended:
            block = next(self._blocks, None)
            if block is None:
                break
            # One block is held back, so that the last chunk is known as such.
            yield from self._chunk(data, final=False)
            data = self._rest + block
            self._check_record(self._rest, self._line)
        yield from self._chunk(self._without_footer(data), final=True)

    def _chunk(self, data: bytes, *, final: bool) -> Iterator[Chunk]:
        cut = len(data) if final else self._cut(data)
        piece, self._rest = data[:cut], data[cut:]
        if not piece.strip(b"\r\n"):
            piece = self._only_blank(piece)
        if not piece:
            return
        self._check_text(piece, self._line)
        table = self._fast(piece)
        if table is None:
            yield from self._slow(piece, final=final)
            return
        first, lines = self._line, count_lines(piece)
        self._line += lines
        place = self._places(piece, first, table.num_rows, lines)
        self._finish(table, place, final=final)
        yield table, place

    def _only_blank(self, piece: bytes) -> bytes:
        """Leave out blank lines at the end of a chunk, unless they mean something."""
        if self._options.blank_lines is not None:
            return piece
        if piece:
            self._blank = self._blank or self._line
            self._line += count_lines(piece)
        return b""

    def _cut(self, data: bytes) -> int:
        """Find the last line end that is outside quotes and before a footer."""
        end = len(data) - 1
        for _ in range(self._options.skip_footer or 0):
            end = max(data.rfind(b"\n", 0, end), data.rfind(b"\r", 0, end))
            if end < 0:
                return 0
        dialect = self._layout.dialect
        # With an escape, quotes do not come in pairs: the records themselves tell where they end.
        quote = b"" if dialect.quote is None or dialect.escape else dialect.quote.encode()
        return last_line_end(data, end, quote) + 1

    def _without_footer(self, data: bytes) -> bytes:
        for _ in range(self._options.skip_footer or 0):
            data = data.rstrip(b"\r\n")
            data = data[: max(data.rfind(b"\n"), data.rfind(b"\r")) + 1]
        return data

    # -- fast -------------------------------------------------------------------------------

    def _fast(self, piece: bytes) -> pa.Table | None:
        """Let Arrow split lines on which it and the strict grammar agree; None for all others."""
        if self._blank is not None or not is_plain(piece, self._layout):
            return None
        dialect = self._layout.dialect
        if self._doubtful(piece) is not None or torn_line_end(piece, dialect) is not None:
            return None
        try:
            table = split(piece, self._layout, self._wanted)
        except pa.ArrowInvalid:
            return None  # the slow way finds the line
        if (
            self._layout.trailing
            and table.column(str(self._layout.width - 1)).null_count < table.num_rows
        ):
            return None
        table = table.select(list(map(str, self._wanted)))
        return None if self._repeats_header(table) else table

    def _repeats_header(self, table: pa.Table) -> bool:
        header = self._layout.header
        if header is None or not self._wanted or len(header) == 1:
            return False
        name = header[self._wanted[0]]
        return name is not None and bool(pc.any(pc.equal(table.column(0), name)).as_py())

    def _places(self, piece: bytes, first: int, rows: int, lines: int) -> Lines:
        ends_open = not piece.endswith((b"\n", b"\r"))
        if lines + ends_open == rows:
            return lambda row: first + row
        dialect = self._layout.dialect

        def place(row: int) -> int:
            found = records(piece.decode(), dialect, Cursor(first), final=True)
            return next((r.line for n, r in enumerate(found) if n == row), first)

        return place

    # -- slow -------------------------------------------------------------------------------

    def _slow(self, piece: bytes, *, final: bool) -> Iterator[Chunk]:
        text, cursor = piece.decode(), Cursor(self._line)
        rows: list[Record] = []
        try:
            for row in records(text, self._layout.dialect, cursor, final=final):
                rows += self._checked(row)
        except Broken as broken:
            raise self._fault(broken.line, f"{broken}.") from broken
        self._check_line_ends(cursor)
        self._check_doubts(text[: cursor.position].encode())
        self._rest = text[cursor.position :].encode() + self._rest
        self._line = cursor.line
        if not rows:
            return
        columns = [pa.array([row.values[i] for row in rows], pa.string()) for i in self._wanted]
        names = list(map(str, self._wanted))
        table = pa.table(columns, names=names)
        lines = [row.line for row in rows]
        self._finish(table, lines.__getitem__, final=final)
        yield table, lines.__getitem__

    def _checked(self, row: Record) -> list[Record]:
        width = self._layout.width
        if row.blank and (width > 1 or row.values[0] in {None, ""}):
            return self._blank_row(row)
        if len(row.values) != width:
            raise self._ragged(row)
        if self._layout.trailing and row.values[-1]:
            raise self._fault(row.line, "has a value after the last named column.")
        if width > 1 and row.values == self._layout.header:
            raise self._fault(row.line, "repeats the header: several tables stand in one file.")
        if (row.values[0] or "").startswith("\ufeff"):
            raise self._fault(row.line, "begins with a byte order mark: files were put together.")
        if self._blank is not None:
            self._check_goes_on(row)
        self._rows += 1
        return [row]

    def _blank_row(self, row: Record) -> list[Record]:
        if self._options.blank_lines == "error":
            raise self._fault(row.line, "is blank.")
        if self._options.blank_lines == "null":
            self._rows += 1
            return [Record([None] * self._layout.width, row.line)]
        if self._options.blank_lines is None:
            self._blank = self._blank or row.line
        return []

    def _check_goes_on(self, row: Record) -> None:
        """Accept rows after a blank line when they are beyond doubt of the same table."""
        blank, self._blank = self._blank, None
        alike = any(numberlike(row.values[place]) for place in self._layout.typed)
        if self._rows and not alike:
            raise self._fault(
                blank or row.line,
                "is blank, and rows follow that may be of another table. State `blank_lines: skip`"
                " if they go on, or `skip_footer`.",
            )

    def _ragged(self, row: Record) -> SourceFault:
        found, width = len(row.values), self._layout.width
        fields = "1 field" if found == 1 else f"{found:,} fields"
        advice = " If it is no row, state `skip_footer` or `skip_rows`."
        if found == width + 1 and row.values[-1] is None:
            advice = " It ends with a delimiter; the header does not."
        return self._fault(
            row.line, f"{fields} where {width:,} are expected ({self._layout.dialect}).{advice}"
        )

    # -- checks -----------------------------------------------------------------------------

    def _finish(self, table: pa.Table, lines: Lines, *, final: bool) -> None:
        """Look at the values of a chunk as a whole."""
        self._rows += table.num_rows
        if table.nbytes > MAX_CELL:
            for column in table.columns:
                self._check_cells(column, lines)
        if not final or self._options.skip_footer is not None or table.num_columns < 2:
            return
        last = table.num_rows - 1
        first = next((v for column in table.columns if (v := column[last].as_py())), "")
        if first.strip().rstrip(":").strip().lower() in _TOTALS:
            raise self._fault(
                lines(last),
                "looks like a line of totals. State `skip_footer: 1` to leave it out, or"
                " `skip_footer: 0` if it is a row.",
            )

    def _check_cells(self, column: pa.ChunkedArray, lines: Lines) -> None:
        sizes = pc.binary_length(column)
        if (pc.max(sizes).as_py() or 0) > MAX_CELL:
            row = pc.index(pc.greater(sizes, MAX_CELL), value=True).as_py()
            raise _huge(self._name, lines(row))

    def _check_text(self, data: bytes, line: int) -> None:
        zero = data.find(b"\0")
        if zero >= 0:
            raise self._fault(
                line + count_lines(data[:zero]), "holds a NUL byte; this is no clean text."
            )

    def _check_record(self, data: bytes, line: int) -> None:
        if len(data) > LARGEST_RECORD:
            raise _huge(self._name, line)

    def _doubtful(self, data: bytes) -> int | None:
        dialect = self._layout.dialect
        if self._options.quote is not None or dialect.quote != '"' or self._layout.width == 1:
            return None
        return in_single_quotes(data, dialect)

    def _check_doubts(self, data: bytes) -> None:
        torn = torn_line_end(data, self._layout.dialect)
        if torn is not None:
            raise self._fault(
                self._line + count_lines(data[:torn]),
                "delimiters stand between carriage return and line feed.",
            )
        place = self._doubtful(data)
        if place is not None:
            raise self._fault(
                self._line + count_lines(data[:place]),
                "single quotes enclose a delimiter, and the file is quoted by double ones; state"
                " `quote: '\"'` if these are text.",
            )

    def _check_line_ends(self, cursor: Cursor) -> None:
        if self._layout.width == 1 and cursor.lone_cr and cursor.line_feed:
            raise self._fault(
                cursor.lone_cr, "a carriage return without line feed may end a row or be text."
            )

    def _fault(self, line: int, sentence: str) -> SourceFault:
        return malformed(f"{self._name}, line {line:,}", sentence)


def _huge(name: str, line: int) -> SourceFault:
    return SourceFault(
        f"{name}, line {line:,}: a field of more than {MAX_CELL >> 20} MiB, or a quote that never closes.",
        "contract:value",
        place=f"{name}, line {line:,}",
    )
