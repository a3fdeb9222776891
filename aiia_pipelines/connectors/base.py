"""What every connector kind offers, and how a kind is found by its name."""

import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

import aiia_pipelines.connectors as kinds
from aiia_pipelines.config.connector import Stream
from aiia_pipelines.config.types import ColumnType

Row = Sequence[Any]


class SourceFault(Exception):
    """The source refused, vanished or answered something unusable.

    The text is one clean sentence without secrets; the signals lead to a row of the failure catalogue.
    """

    def __init__(self, message: str, *signals: str, place: str = "") -> None:
        """Keep the sentence, the signals and the place (`host:port`) it happened at."""
        super().__init__(message)
        self.signals = signals
        self.place = place


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """A column as the source describes it; `type` is None when the source cannot tell."""

    name: str
    type: ColumnType | None
    nullable: bool
    declared: str  # the source's own word for the type


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a Connection Test that went well."""

    name: str
    seconds: float
    note: str = ""


class Source(Protocol):
    """An opened connector: not yet connected, one user at a time."""

    def describe(self) -> str:
        """Name the source for people, without password or driver."""
        ...

    def place(self) -> str:
        """Tell the `host:port` (or path) that has to be reachable."""
        ...

    def connect(self) -> None:
        """Connect and log in within the connect timeout.

        Raises:
            SourceFault: The source could not be reached or refused the login.
        """
        ...

    def columns(self, stream: Stream) -> list[SourceColumn]:
        """Describe the columns of a stream, in order.

        Raises:
            SourceFault: The stream is missing or may not be read.
        """
        ...

    def batches(self, stream: Stream, names: Sequence[str]) -> Iterator[Sequence[Row]]:
        """Read the named columns of all rows in one snapshot, `batch_rows` at a time.

        Raises:
            SourceFault: The source broke off.
        """
        ...

    def stages(self, streams: Sequence[Stream]) -> Iterator[tuple[str, Callable[[], str]]]:
        """List the stages of a Connection Test; each returns a note or raises SourceFault."""
        ...

    def cancel(self) -> None:
        """Make a read in progress stop; may be called from another thread."""
        ...

    def close(self) -> None:
        """Leave nothing open at the source; may be called twice."""
        ...


def kind_names() -> list[str]:
    """List the kinds without importing their drivers."""
    found = (module.name for module in pkgutil.iter_modules(kinds.__path__))
    return sorted(name for name in found if name != "base" and not name.startswith("_"))


def open_source(source: Mapping[str, Any]) -> Source:
    """Open a source whose secrets are resolved.

    Raises:
        LookupError: There is no such kind.
        pydantic.ValidationError: An option is wrong.
    """
    module = _kind(str(source.get("kind")))
    opened: Source = module.open(module.Options.model_validate(dict(source)))
    return opened


def source_problems(
    kind: str, source: Mapping[str, Any]
) -> list[tuple[tuple[str | int, ...], str]]:
    """Check the options of a source as they stand in the file: (path, sentence) of each mistake."""
    try:
        module = _kind(kind)
    except LookupError as unknown:
        return [(("kind",), str(unknown))]
    options: type[BaseModel] = module.Options
    try:
        options.model_validate(dict(source))
    except ValidationError as invalid:
        return [(tuple(fault["loc"]), _sentence(fault, options)) for fault in invalid.errors()]
    return []


def _kind(name: str) -> ModuleType:
    if name not in kind_names():
        raise LookupError(f"unknown kind {name!r}; known: {', '.join(kind_names())}")
    return import_module(f"{kinds.__name__}.{name}")


def _sentence(fault: Mapping[str, Any], options: type[BaseModel]) -> str:
    if fault["type"] == "extra_forbidden":
        return f"unknown key; allowed: {', '.join(options.model_fields)}"
    if fault["type"] == "missing":
        return "this key is required"
    return str(fault["msg"]).removeprefix("Value error, ")
