"""The XML of a worksheet, looked through for what a reader of values would pass over in silence."""

import re
import zipfile
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from html import unescape
from posixpath import join, normpath
from typing import BinaryIO

from aiia_pipelines.connectors._tabular_bytes import damage, malformed, too_large
from aiia_pipelines.connectors._text_values import as_float

_WORKBOOK = "xl/workbook.xml"
_RELATIONS = "xl/_rels/workbook.xml.rels"
_TEXTS = "xl/sharedStrings.xml"
_LARGEST_INDEX = 16 << 20
_LARGEST_TEXTS = 512 << 20
_LARGEST_SHEET = 2 << 30
_WINDOW = 1 << 20
_LARGEST_CELL = 4 << 20
_MOST_FAULTS = 1000
_MOST_COLUMNS = 16_384
# A sheet with one cell in the last corner would fill the memory with empty ones.
_FREE_AREA = 2_000_000
_SPARSE = 20
_MOST_CELLS = 50_000_000

_SHEET = re.compile(rb"<(?:\w+:)?sheet\s([^>]*)>")
_RELATION = re.compile(rb"<(?:\w+:)?Relationship\s([^>]*)>")
_ATTRIBUTE = re.compile(rb"([\w:]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
# Possessive, and never past the next element: damaged XML must not make the search quadratic.
_ROW_OR_CELL = re.compile(
    rb"<(?:\w+:)?(?:row(?=[\s/>])(?P<row>[^>]*)>"
    rb"|c(?=[\s/>])(?P<cell>[^>]*?)(?:/>|>(?P<body>(?:[^<]++|<(?!/?(?:\w+:)?c[\s/>]))*+)</))"
)
_VALUE = re.compile(rb"<(?:\w+:)?v(?:\s[^>]*)?>([^<]*)<")
_FORMULA = re.compile(rb"<(?:\w+:)?f[\s/>]")
_TEXT_ITEM = re.compile(
    rb"<(?:\w+:)?si(?=[\s/>])[^>]*?(?:/>|>((?:[^<]++|<(?!/?(?:\w+:)?si[\s/>]))*+)</)"
)
_ADDRESS = re.compile(rb"([A-Z]{1,3})([0-9]{1,7})")


@dataclass(slots=True)
class Scan:
    """What a worksheet holds: how far it reaches, and the cells that have no plain value."""

    rows: int = 0
    columns: int = 0
    cells: int = 0
    row: int = 0  # of the last cell, from 1
    column: int = 0
    text: int = 0  # characters, each time they are shown
    faults: dict[tuple[int, int], str] = field(default_factory=dict)  # by row and column, from 0
    negative: "array[int]" = field(default_factory=lambda: array("Q"))  # the numbers below zero

    def is_negative(self, row: int, column: int) -> bool:
        """Tell whether a cell holds a number below zero."""
        wanted = row * _MOST_COLUMNS + column
        place = bisect_left(self.negative, wanted)
        return place < len(self.negative) and self.negative[place] == wanted


def address(row: int, column: int) -> str:
    """Name a cell, as in B7; both count from 0."""
    letters, column = "", column + 1
    while column:
        column, place = divmod(column - 1, 26)
        letters = chr(ord("A") + place) + letters
    return f"{letters}{row + 1}"


def scan(stream: BinaryIO, name: str, sheet: str) -> Scan:
    """Look through a worksheet of an archive whose sizes are checked.

    Raises:
        SourceFault: It is damaged, or its cells would fill the memory.
    """
    with damage(name), zipfile.ZipFile(stream) as archive:
        part = _part(archive, name, sheet)
        lengths = list(_text_lengths(archive, name))
        found = Scan()
        if archive.getinfo(part).file_size > _LARGEST_SHEET:
            raise too_large(name, "has a sheet of more than 2 GiB.")
        for element in _matches(archive, part, _ROW_OR_CELL):
            if element["row"] is not None:
                _enter_row(found, element["row"])
                continue
            _note(found, element["cell"], element["body"] or b"", lengths)
            if found.text > _LARGEST_TEXTS:
                raise too_large(name, "repeats its texts to more than 512 MiB.")
            if len(found.faults) > _MOST_FAULTS or found.cells > _MOST_CELLS:
                raise too_large(name, f"sheet '{sheet}' has too many cells, or too many errors.")
    area = found.rows * found.columns
    if area > max(_FREE_AREA, _SPARSE * found.cells):
        corner = address(found.rows - 1, found.columns - 1)
        raise too_large(
            name,
            f"sheet '{sheet}' reaches to {corner} and is almost empty; delete what is far out.",
        )
    return found


def _part(archive: zipfile.ZipFile, name: str, sheet: str) -> str:
    """Find the file of a worksheet."""
    targets = {
        about["Id"]: about.get("Target", "")
        for about in _attributes(archive, name, _RELATIONS, _RELATION)
        if "Id" in about
    }
    for about in _attributes(archive, name, _WORKBOOK, _SHEET):
        if about.get("name") == sheet:
            keys = [value for key, value in about.items() if key.rpartition(":")[2] == "id"]
            target = next((targets[key] for key in keys if key in targets), "")
            path = target.lstrip("/") if target.startswith("/") else normpath(join("xl", target))
            if path in archive.namelist():
                return path
    raise malformed(name, f"the worksheet '{sheet}' is missing in it.")


def _attributes(
    archive: zipfile.ZipFile, name: str, part: str, element: re.Pattern[bytes]
) -> Iterator[dict[str, str]]:
    if part not in archive.namelist():
        raise malformed(name, "is no complete Excel workbook.")
    if archive.getinfo(part).file_size > _LARGEST_INDEX:
        raise too_large(name, "has an index of more than 16 MiB.")
    for found in element.finditer(archive.read(part)):
        yield {
            key.decode(): unescape((one or other).decode("utf-8", "replace"))
            for key, one, other in _ATTRIBUTE.findall(found[1])
        }


def _text_lengths(archive: zipfile.ZipFile, name: str) -> Iterator[int]:
    if _TEXTS not in archive.namelist():
        return
    if archive.getinfo(_TEXTS).file_size > _LARGEST_TEXTS:
        raise too_large(name, "has more than 512 MiB of text.")
    for found in _matches(archive, _TEXTS, _TEXT_ITEM):
        yield len(found[1] or b"")


def _matches(
    archive: zipfile.ZipFile, part: str, element: re.Pattern[bytes]
) -> Iterator[re.Match[bytes]]:
    """Find an element all through a part, window by window."""
    rest = b""
    with archive.open(part) as stream:
        while block := stream.read(_WINDOW):
            rest += block
            end = 0
            for found in element.finditer(rest):
                end = found.end()
                yield found
            # An element may begin near the end and go on in the next window.
            rest = rest[max(end, len(rest) - _LARGEST_CELL) :]


def _about(attributes: bytes) -> dict[bytes, bytes]:
    return {key: one or other for key, one, other in _ATTRIBUTE.findall(attributes)}


def _enter_row(found: Scan, attributes: bytes) -> None:
    number = _about(attributes).get(b"r", b"")
    found.row = int(number) if number.isdigit() and len(number) < 8 else found.row + 1
    found.column = 0


def _note(found: Scan, attributes: bytes, body: bytes, lengths: list[int]) -> None:
    about = _about(attributes)
    place = _ADDRESS.fullmatch(about.get(b"r", b""))
    if place is None:
        found.column += 1  # the address may be left out
    else:
        found.row, found.column = int(place[2]), _number_of(place[1])
    found.rows, found.columns = max(found.rows, found.row), max(found.columns, found.column)
    found.cells += 1
    value = _VALUE.search(body)
    text = value[1] if value else b""
    kind = about.get(b"t", b"n")
    if kind == b"s":
        index = int(text) if text.isdigit() else -1
        found.text += lengths[index] if 0 <= index < len(lengths) else 0
    row, column = found.row - 1, found.column - 1
    if text.startswith(b"-"):
        found.negative.append(row * _MOST_COLUMNS + column)
    if mistake := _mistake(kind, text, body):
        found.faults[row, column] = mistake


def _number_of(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def _mistake(kind: bytes, text: bytes, body: bytes) -> str:
    if kind == b"e":
        shown = text.decode("utf-8", "replace")[:20]
        return f"holds the error {shown}"
    if not text and kind != b"str" and _FORMULA.search(body):
        return "holds a formula without its result; open the file in Excel and save it"
    if kind == b"n" and len(text) > 15:
        try:
            number = Decimal(text.decode().strip())
        except (InvalidOperation, UnicodeDecodeError):
            return "holds something that is no number"
        if as_float(number) is None:
            return "holds a number of more digits than Excel keeps"
    return ""
