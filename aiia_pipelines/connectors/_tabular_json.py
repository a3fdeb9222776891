"""JSON lines, and JSON documents that hold an array of records: one record at a time, to the letter."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, BinaryIO

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors._tabular_bytes import malformed, too_large
from aiia_pipelines.connectors._tabular_json_values import kind_of
from aiia_pipelines.connectors._tabular_options import FormatOptions
from aiia_pipelines.connectors._tabular_records import MAX_CELL
from aiia_pipelines.connectors._tabular_text import utf8_blocks
from aiia_pipelines.connectors.base import SourceFault

_DEEPEST = 64
_SAMPLE_ROWS = 1000
_SAMPLE_BYTES = 1 << 20
_LARGEST_RECORD = 2 * MAX_CELL
_LARGEST_DOCUMENT = 256 << 20
_BLANKS = " \t\r\n"
_LONGEST_TOKEN = 16  # such as -Infinity, or the escape of a character
_LARGEST_EXPONENT = 1000

Object = dict[str, Any]
Found = tuple[Object, int]


class _Refused(ValueError):
    """JSON that is well formed for the parser and still means nothing, or several things."""


def _pairs(pairs: list[tuple[str, Any]]) -> Object:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Refused(f"the key '{twice[:60]}' stands twice in one object")
    return found


def _constant(word: str) -> None:
    raise _Refused(f"{word} is no value of JSON")


def _fraction(text: str) -> Decimal:
    value = Decimal(text)
    if abs(value.adjusted()) > _LARGEST_EXPONENT:
        raise _Refused("a number has too large an exponent")
    return value


_DECODER = json.JSONDecoder(
    parse_float=_fraction, parse_constant=_constant, object_pairs_hook=_pairs
)


class JsonReader:
    """One file of JSON records, read once from its beginning."""

    def __init__(self, name: str, stream: BinaryIO, options: FormatOptions, *, lines: bool) -> None:
        """Read the first records, which tell the columns; `lines` when every line is a record.

        Raises:
            SourceFault: It holds no records.
        """
        self._name = name
        self._options = options
        self.read = 0  # characters so far
        blocks = (block.decode() for block in utf8_blocks(stream, name, options.encoding))
        self._records = self._by_line(blocks) if lines else self._by_value(blocks)
        self._sample: list[Found] = []
        for found in self._records:
            self._sample.append(found)
            if len(self._sample) == _SAMPLE_ROWS or self.read > _SAMPLE_BYTES:
                break

    def kinds(self) -> dict[str, ColumnType]:
        """Tell the columns of the first records, each with the type that holds all its values."""
        values: dict[str, list[Any]] = {}
        for record, _ in self._sample:
            for key, value in record.items():
                values.setdefault(key, []).append(value)
        return {key: kind_of(found) for key, found in values.items()}

    def rows(self) -> Iterator[Found]:
        """Read all records, each with its line.

        Raises:
            SourceFault: A record is damaged; the sentence names its line.
        """
        sample, self._sample = self._sample, []
        yield from sample
        yield from self._records

    # -- lines ------------------------------------------------------------------------------

    def _by_line(self, blocks: Iterator[str]) -> Iterator[Found]:
        rest, number = "", 0
        for block in blocks:
            *whole, rest = (rest + block).split("\n")
            for text in whole:
                number += 1
                self.read += len(text)
                if text.strip(_BLANKS):
                    yield self._object(self._decoded(text, number), number), number
            if len(rest) > _LARGEST_RECORD:
                raise self._huge(number + 1)
        if rest.strip(_BLANKS):
            yield self._object(self._decoded(rest, number + 1), number + 1), number + 1

    def _decoded(self, text: str, line: int) -> Any:  # noqa: ANN401 - any JSON value
        with _explained(self._place(line)):
            value = _DECODER.decode(text)
        self._check_depth(value, line)
        return value

    # -- documents --------------------------------------------------------------------------

    def _by_value(self, blocks: Iterator[str]) -> Iterator[Found]:
        """Read an array, or values one after the other; a named place needs the whole document."""
        if self._options.records is not None:
            yield from self._below(blocks, self._options.records)
            return
        window = _Window(blocks, self._huge)
        opening = window.peek()
        if opening == "[":
            yield from self._array(window)
            return
        while window.peek():
            line = window.line
            record = self._object(self._next(window), line)
            if line == 1 and not window.peek() and (inner := _list_inside(record)):
                raise malformed(
                    self._name,
                    f"is one object with a list; state `records: {inner}` if that is it.",
                )
            yield record, line

    def _array(self, window: "_Window") -> Iterator[Found]:
        window.skip(1)
        more = window.peek() != "]"
        while more:
            window.peek()
            line = window.line
            yield self._object(self._next(window), line), line
            more = window.peek() == ","
            window.skip(more)
        if window.peek() != "]":
            raise malformed(
                self._place(window.line),
                "a comma or the end of the array is missing; the file may be cut off.",
            )
        window.skip(1)
        if window.peek():
            raise malformed(self._place(window.line), "more follows after the end of the array.")

    def _next(self, window: "_Window") -> Any:  # noqa: ANN401 - any JSON value
        """Decode the value that begins here; one that reaches the end of the window may go on."""
        with _explained(self._place(window.line)):
            while True:
                try:
                    value, end = _DECODER.raw_decode(window.text, window.place)
                except json.JSONDecodeError as fault:
                    open_text = fault.msg.startswith("Unterminated")
                    near_end = fault.pos >= len(window.text) - _LONGEST_TOKEN
                    if not ((open_text or near_end) and window.grow()):
                        raise
                else:
                    if end < len(window.text) or not window.grow():
                        break
        line = window.line
        self.read += end - window.place
        window.skip(end - window.place)
        self._check_depth(value, line)
        return value

    def _below(self, blocks: Iterator[str], path: str) -> Iterator[Found]:
        pieces, size = [], 0
        for block in blocks:
            size += len(block)
            if size > _LARGEST_DOCUMENT:
                raise too_large(
                    self._name,
                    f"is a JSON document of more than {_LARGEST_DOCUMENT >> 20} MiB; have it written"
                    " as JSON lines.",
                )
            pieces.append(block)
        found = self._decoded("".join(pieces), 1)
        for key in path.split("."):
            if not isinstance(found, Mapping) or key not in found:
                raise malformed(self._name, f"has no '{key}' of `records: {path}`.")
            found = found[key]
        if not isinstance(found, list):
            raise malformed(self._name, f"`records: {path}` is no array.")
        for number, value in enumerate(found, 1):
            yield self._object(value, number), number

    # -- checks -----------------------------------------------------------------------------

    def _place(self, line: int) -> str:
        return f"{self._name}, {self.unit} {line:,}"

    @property
    def unit(self) -> str:
        """What the places of rows count."""
        return "line" if self._options.records is None else "record"

    def _object(self, value: Any, line: int) -> Object:  # noqa: ANN401 - any JSON value
        if not isinstance(value, dict):
            what = {list: "an array", str: "a text", type(None): "null"}.get(type(value), "a value")
            raise malformed(self._place(line), f"is {what} where an object is expected.")
        return value

    def _check_depth(self, value: Any, line: int) -> None:  # noqa: ANN401 - any JSON value
        level: list[Any] = [value]
        for _ in range(_DEEPEST + 1):
            level = [
                item
                for outer in level
                if isinstance(outer, dict | list)
                for item in (outer.values() if isinstance(outer, dict) else outer)
                if isinstance(item, dict | list)
            ]
            if not level:
                return
        raise malformed(self._place(line), f"is nested more than {_DEEPEST} levels deep.")

    def _huge(self, line: int) -> SourceFault:
        return SourceFault(
            f"{self._place(line)}: a record of more than {_LARGEST_RECORD >> 20} MiB.",
            "contract:value",
            place=self._place(line),
        )


class _Window:
    """The part of a text that is looked at."""

    def __init__(self, blocks: Iterator[str], huge: Callable[[int], SourceFault]) -> None:
        """Begin before the first block."""
        self._blocks = blocks
        self._huge = huge
        self.text = ""
        self.place = 0
        self.line = 1

    def peek(self) -> str:
        """Return the next character that is no blank; nothing at the end."""
        while True:
            rest = self.text[self.place : self.place + 4096]
            blanks = len(rest) - len(rest.lstrip(_BLANKS))
            self.skip(blanks)
            if self.place < len(self.text):
                if blanks < len(rest):
                    return self.text[self.place]
            elif not self.grow():
                return ""

    def skip(self, count: int) -> None:
        """Go on by so many characters."""
        self.line += self.text.count("\n", self.place, self.place + count)
        self.place += count

    def grow(self) -> bool:
        """Look at more of the text; False at its end."""
        block = next(self._blocks, None)
        if block is None:
            return False
        kept = self.text[self.place :]
        if len(kept) > _LARGEST_RECORD:
            raise self._huge(self.line)
        self.text, self.place = kept + block, 0
        return True


@contextmanager
def _explained(place: str) -> Iterator[None]:
    """Turn what the parser raises into a fault that names the place.

    Raises:
        SourceFault: The JSON is damaged.
    """
    try:
        yield
    except RecursionError as fault:
        raise malformed(place, f"is nested more than {_DEEPEST} levels deep.") from fault
    except _Refused as fault:
        raise malformed(place, f"{fault}.") from fault
    except json.JSONDecodeError as fault:
        raise malformed(place, f"is no JSON: {fault.msg}, column {fault.colno}.") from fault
    except ValueError as fault:
        raise malformed(place, "holds a number of too many digits.") from fault


def _list_inside(record: Object) -> str:
    """Name the part of an object that looks like the records."""
    lists = (k for k, v in record.items() if isinstance(v, list) and v and isinstance(v[0], dict))
    return next(lists, "")
