"""Excel workbooks: the values of one worksheet, with the cell that each came from."""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, BinaryIO

import python_calamine as calamine

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors._tabular_bytes import check_archive, malformed
from aiia_pipelines.connectors._tabular_options import FormatOptions, LimitOptions
from aiia_pipelines.connectors._tabular_sheet import address, scan
from aiia_pipelines.connectors._text_values import parser
from aiia_pipelines.connectors.base import SourceFault

_LARGEST_WORKBOOK = 1 << 30
_TOTALS = {"total", "totals", "grand total", "subtotal", "sum", "summe", "gesamt", "gesamtsumme"}
_SOME_DAY = dt.datetime(2000, 1, 1)  # noqa: DTZ001 - only its clock is used
_WHOLE = 2**53  # up to here a double tells whole numbers apart

Values = list[Any]


class ExcelReader:
    """One worksheet, in memory."""

    def __init__(
        self, name: str, stream: BinaryIO, options: FormatOptions, limits: LimitOptions
    ) -> None:
        """Open the worksheet and find its header.

        Raises:
            SourceFault: It is damaged, too large, or has no clear header.
        """
        self._options = options
        bounded = limits.model_copy(update={"max_bytes": min(limits.max_bytes, _LARGEST_WORKBOOK)})
        if stream.read(8) == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
            raise malformed(name, "is an old or an encrypted workbook; save it as .xlsx.")
        check_archive(stream, name, bounded)
        self._file = name
        try:
            book = calamine.CalamineWorkbook.from_filelike(stream)
            self._sheet_name = self._pick(book)
            stream.seek(0)
            self._scan = scan(stream, name, self._sheet_name)
            sheet = book.get_sheet_by_name(self._sheet_name)
        except (calamine.CalamineError, calamine.XmlError, calamine.ZipError) as fault:
            raise malformed(name, "is damaged, or no Excel workbook.") from fault
        self._name = f"{name}, sheet '{self._sheet_name}'"
        self._sheet = sheet
        self._merged = sheet.merged_cell_ranges or []
        self._left = sheet.start[1] if sheet.start else 0
        self._check_scan(sheet)
        self._header_row = -1
        self.names: list[str] = []
        self._find_header()

    def _pick(self, book: calamine.CalamineWorkbook) -> str:
        sheets = [
            sheet.name
            for sheet in book.sheets_metadata
            if sheet.typ == calamine.SheetTypeEnum.WorkSheet
            and (self._options.sheet or sheet.visible == calamine.SheetVisibleEnum.Visible)
        ]
        wanted = self._options.sheet or next(iter(sheets), None)
        if wanted not in sheets:
            raise SourceFault(
                f"{self._file}: has no worksheet '{wanted}'; there are {', '.join(sheets) or 'none'}.",
                "source:not-found",
                place=self._file,
            )
        return str(wanted)

    def _check_scan(self, sheet: calamine.CalamineSheet) -> None:
        row, column = sheet.end or (-1, -1)
        if row >= self._scan.rows or column >= self._scan.columns:
            raise malformed(self._name, "is written in a way that cannot be checked for errors.")

    # -- header -----------------------------------------------------------------------------

    def _find_header(self) -> None:
        options = self._options
        for row, values in self._all_rows():
            if row < (options.skip_rows or 0) or not any(value != "" for value in values):
                continue
            filled = [place for place, value in enumerate(values) if value != ""]
            self._first, last = filled[0], filled[-1]
            self._header_row = row if options.header is not False else row - 1
            found = values[self._first : last + 1]
            if options.names is not None:
                self.names = list(options.names)
            elif options.header is False:
                self.names = [f"column_{number}" for number in range(1, len(found) + 1)]
            else:
                self.names = self._checked_names(row, found)
            return

    def _checked_names(self, row: int, found: Values) -> list[str]:
        advice = "State `skip_rows`, or all names with `names: [...]` and `header: true`."
        for place, value in enumerate(found):
            if value == "":
                raise self._fault(row, self._first + place, f"has no name in it. {advice}")
            if not isinstance(value, str) and self._options.header is None:
                raise self._fault(
                    row,
                    self._first + place,
                    "holds a value where a name should be. State `header`.",
                )
        names = [(value if isinstance(value, str) else _as_text(value)).strip() for value in found]
        twice = next((name for name, times in Counter(names).items() if times > 1), None)
        if twice is not None:
            one, other = [i for i, name in enumerate(names) if name == twice][:2]
            raise self._fault(
                row,
                self._first + other,
                f"repeats the name '{twice}' of {address(row, self._first + one)}. {advice}",
            )
        return names

    # -- rows -------------------------------------------------------------------------------

    def _all_rows(self) -> Iterator[tuple[int, Values]]:
        padding = [""] * self._left
        for row, values in enumerate(self._sheet.iter_rows()):
            yield row, [*padding, *values]

    def rows(self) -> Iterator[tuple[int, Values]]:
        """Read the rows, None where a cell is empty, with their numbers from 0.

        Raises:
            SourceFault: A cell holds an error, or stands outside the table.
        """
        typed: set[int] | None = None
        blank: int | None = None
        for row, values in self._table_rows():
            if all(value is None for value in values):
                if self._options.blank_lines == "error":
                    raise self._fault(row, self._first, "is in a blank row.")
                blank = row if blank is None else blank
                if self._options.blank_lines == "null":
                    yield row, values
                continue
            kinds = {place for place, v in enumerate(values) if v is not None and not _is_text(v)}
            if blank is not None and typed is not None and not kinds & typed:
                self._check_goes_on(blank)
            blank = None
            texts = {place for place, v in enumerate(values) if v is not None and _is_text(v)}
            typed = kinds if typed is None else (typed | kinds) - texts
            yield row, values

    def _check_goes_on(self, blank: int) -> None:
        if self._options.blank_lines is None:
            raise self._fault(
                blank,
                self._first,
                "is in a blank row, and rows follow that may be of another table."
                " State `blank_lines: skip` if they go on, or `skip_footer`.",
            )

    def _table_rows(self) -> Iterator[tuple[int, Values]]:
        """Cut the rows to the columns of the table, without header and footer."""
        held: list[tuple[int, Values]] = []
        for row, values in self._all_rows():
            if row <= self._header_row:
                continue
            held.append((row, values))
            if len(held) > (self._options.skip_footer or 0):
                yield self._cut(*held.pop(0))

    def _cut(self, row: int, values: Values) -> tuple[int, Values]:
        end = self._first + len(self.names)
        self._check_row(row, end)
        for place, value in enumerate(values):
            if value != "" and not self._first <= place < end:
                raise self._fault(row, place, "stands beside the columns that have names.")
            if isinstance(value, dt.date | dt.time) and self._scan.is_negative(row, place):
                raise self._fault(row, place, "holds a time before the first that Excel knows.")
        cells: Values = [None if v == "" else v for v in values[self._first : end]]
        cells += [None] * (len(self.names) - len(cells))
        if self._options.skip_footer is None and len(cells) > 1:
            first = next((v for v in cells if v is not None), None)
            if isinstance(first, str) and first.strip().rstrip(": ").lower() in _TOTALS:
                raise self._fault(
                    row,
                    self._first,
                    "begins a row that looks like totals. State `skip_footer: 1` to leave it out, or"
                    " `skip_footer: 0` if it is a row.",
                )
        return row, cells

    def _check_row(self, row: int, end: int) -> None:
        for column in range(self._first, end) if self._scan.faults else ():
            if mistake := self._scan.faults.get((row, column)):
                raise self._fault(row, column, f"{mistake}.")
        for (top, left), (bottom, right) in self._merged:
            if top <= row <= bottom and left < end and right >= self._first:
                raise self._fault(
                    top,
                    left,
                    f"is merged with the cells up to {address(bottom, right)}; split them.",
                )

    def where(self, row: int) -> str:
        """Name a row for people."""
        return f"{self._name}, row {row + 1:,}"

    def _fault(self, row: int, column: int, sentence: str) -> SourceFault:
        return malformed(f"{self._name}, cell {address(row, column)}", sentence)


# -- values ---------------------------------------------------------------------------------


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def kind_of(values: Sequence[Any]) -> ColumnType | None:
    """Find the type that holds every value of a column exactly; None for a mix."""
    classes = {type(value) for value in values}
    if not classes:
        return ColumnType("string")
    if classes <= {int, float}:
        whole = all(float(v).is_integer() and abs(v) < _WHOLE for v in values)
        return ColumnType("int64" if whole else "float64")
    if classes == {dt.date, dt.datetime}:
        return ColumnType("timestamp")
    names: dict[type, str] = {
        bool: "bool",
        str: "string",
        dt.date: "date",
        dt.datetime: "timestamp",
        dt.time: "time",
        dt.timedelta: "interval",
    }
    return ColumnType(names[classes.pop()]) if len(classes) == 1 else None


def cell_value(kind: ColumnType, options: FormatOptions) -> Callable[[Any], Any]:
    """Return what turns the value of a cell into one of a type, or leaves it for the contract to refuse."""
    parse = parser(kind, options)
    numbers = _NUMBERS.get(kind.name)

    def convert(value: Any) -> Any:  # noqa: ANN401 - any value of a cell
        if isinstance(value, str):
            return parse(value)
        if isinstance(value, float | int) and not isinstance(value, bool):
            return numbers(value) if numbers is not None else value
        return _moment(kind.name, value)

    return convert


def _as_text(value: float) -> str:
    """Write a number as Excel shows it in full."""
    whole = _as_whole(value)
    return str(whole) if isinstance(whole, int) else format(Decimal(repr(whole)), "f")


def _as_whole(value: float) -> float | int:
    return int(value) if float(value).is_integer() and abs(value) <= _WHOLE else value


def _as_decimal(value: float) -> Decimal:
    whole = _as_whole(value)
    return Decimal(whole) if isinstance(whole, int) else Decimal(repr(value))


_NUMBERS: dict[str, Callable[[float], Any]] = {
    "int16": _as_whole,
    "int32": _as_whole,
    "int64": _as_whole,
    "decimal": _as_decimal,
    "float32": float,
    "float64": float,
    "string": _as_text,
}


def _moment(name: str, value: Any) -> Any:  # noqa: ANN401 - any value of a cell
    is_day = isinstance(value, dt.date) and not isinstance(value, dt.datetime)
    if name == "timestamp" and is_day:
        return dt.datetime.combine(value, dt.time())
    if name == "date" and isinstance(value, dt.datetime) and value.time() == dt.time():
        return value.date()
    if isinstance(value, dt.timedelta):
        if name == "time" and dt.timedelta() <= value < dt.timedelta(days=1):
            return (_SOME_DAY + value).time()
        hours, rest = divmod(round(value.total_seconds()), 3600)
        return f"{hours:02}:{rest // 60:02}:{rest % 60:02}" if name == "interval" else value
    return value
