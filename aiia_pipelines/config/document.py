"""YAML text read strictly, with the line of every value."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from aiia_pipelines.config.connector import Loc

MAX_BYTES = 1 << 20
_MAX_DEPTH = 20
_MAX_VALUES = 50_000
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,30})", re.ASCII)
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII
)
_SPECIAL = re.compile(r"([-+]?)\.(?:(inf|Inf|INF)|nan|NaN|NAN)")


@dataclass(slots=True)
class Document:
    """The value of a YAML text, the line of every path in it, and what is wrong with it."""

    value: Any = None
    lines: dict[Loc, int] = field(default_factory=dict)
    mistakes: list[tuple[int | None, str]] = field(default_factory=list)

    def line(self, loc: Loc) -> int | None:
        """Return the line of a place, or of the nearest place around it."""
        while loc not in self.lines and loc:
            loc = loc[:-1]
        return self.lines.get(loc)


class _Unreadable(Exception):
    """The text cannot be read any further."""

    def __init__(self, line: int, message: str) -> None:
        """Keep the line."""
        super().__init__(message)
        self.line = line


def read_document(data: bytes) -> Document:
    """Read one YAML document; mistakes are in the result."""
    document = Document()
    if len(data) > MAX_BYTES:
        document.mistakes.append((None, f"is larger than {MAX_BYTES} bytes"))
        return document
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = data.count(b"\n", 0, fault.start) + 1
        document.mistakes.append((line, "is not UTF-8 text"))
        return document
    try:
        _Builder(document, yaml.parse(text, Loader=_LOADER)).build()
    except _Unreadable as fault:
        document.mistakes.append((fault.line, str(fault)))
    except yaml.YAMLError as fault:
        # The library's own text may quote the file, and so a secret.
        sentence = "is not valid YAML here; look at indentation, quotes, colons and brackets"
        document.mistakes.append((_line_of(fault, data), sentence))
    return document


class _Builder:
    """Builds the value of one document from the parser's events.

    Events and not the composer: it recurses without bound, and reads `no`, `010` and `22:30` as
    something else than what is written.
    """

    def __init__(self, document: Document, events: Iterator[Any]) -> None:
        """Start before the first event."""
        self._document = document
        self._events = events
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = 0

    def build(self) -> None:
        """Read the only document of the text."""
        next(self._events)
        start = next(self._events)
        if isinstance(start, yaml.StreamEndEvent):
            raise _Unreadable(1, "is empty")
        self._document.value = self._value(next(self._events), ())
        next(self._events)
        end = next(self._events)
        if not isinstance(end, yaml.StreamEndEvent):
            raise _Unreadable(end.start_mark.line + 1, "holds a second document; keep one a file")

    def _value(self, event: Any, loc: Loc) -> Any:  # noqa: ANN401 - YAML holds anything
        """Read the value that starts with this event."""
        line = event.start_mark.line + 1
        self._document.lines.setdefault(loc, line)
        before = self._count
        self._add(1, line)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), line)
        if len(loc) > _MAX_DEPTH:
            raise _Unreadable(line, "is nested too deeply")
        if event.tag not in {None, "!"}:
            self._mistake(line, "tags are not supported; write the plain value")
        if isinstance(event, yaml.ScalarEvent):
            value: Any = _scalar(event.value) if _is_plain(event) else event.value
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(loc)
        else:
            value = self._mapping(loc)
        if event.anchor:
            self._anchors[event.anchor] = (value, self._count - before)
        return value

    def _alias(self, anchor: str, line: int) -> Any:  # noqa: ANN401
        """Return what was anchored before, counted as often as it is used."""
        if anchor not in self._anchors:
            raise _Unreadable(line, "the alias leads to nothing that is complete before it")
        value, count = self._anchors[anchor]
        self._add(count, line)
        return value

    def _sequence(self, loc: Loc) -> list[Any]:
        """Read the items of a list."""
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*loc, len(items))))
        return items

    def _mapping(self, loc: Loc) -> dict[str, Any]:
        """Read the keys and values of a mapping; every key is a text and stands once."""
        items: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            key = self._key(event, line)
            place = (*loc, key)
            if key in items:
                first = self._document.lines[place]
                self._mistake(line, f"the key {shown(key)} stands twice; first in line {first}")
            self._document.lines.setdefault(place, line)
            value = self._value(next(self._events), place)
            items.setdefault(key, value)
        return items

    def _key(self, event: Any, line: int) -> str:  # noqa: ANN401
        """Read the key of a mapping."""
        if not isinstance(event, yaml.ScalarEvent):
            raise _Unreadable(line, "a key must be a text; put it in quotes")
        key = str(event.value)
        if _is_plain(event) and not isinstance(_scalar(key), str):
            self._mistake(line, f"a key must be a text; write {shown(key)} in quotes")
        if key == "<<" and _is_plain(event):
            self._mistake(line, "merge keys (<<) are not supported; write the keys out")
        return key

    def _add(self, count: int, line: int) -> None:
        """Count values, so that aliases of aliases cannot fill the memory."""
        self._count += count
        if self._count > _MAX_VALUES:
            raise _Unreadable(line, f"holds more than {_MAX_VALUES} values, aliases counted")

    def _mistake(self, line: int, message: str) -> None:
        """Note a mistake and go on."""
        self._document.mistakes.append((line, message))


def _is_plain(event: yaml.ScalarEvent) -> bool:
    """Tell whether a scalar stands without quotes, so that its text says its type."""
    return bool(event.implicit[0]) and not event.style


def _line_of(fault: yaml.YAMLError, data: bytes) -> int:
    """Return the line at which the parser gave up."""
    if isinstance(fault, yaml.MarkedYAMLError) and fault.problem_mark:
        return fault.problem_mark.line + 1
    return data.count(b"\n", 0, getattr(fault, "position", 0)) + 1


def shown(key: str) -> str:
    """Return a key in quotes, on one line and not too long."""
    return ascii(key if len(key) <= 60 else key[:60] + "...")


def _scalar(text: str) -> str | bool | int | float | None:
    """Read a plain scalar as YAML 1.2 does: `no`, `010`, `22:30` and dates stay text."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    if match := _SPECIAL.fullmatch(text):
        return float(f"{match[1]}inf" if match[2] else "nan")
    return float(text) if _FLOAT.fullmatch(text) else text
