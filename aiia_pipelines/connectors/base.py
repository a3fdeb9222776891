"""What every connector kind offers, and how a kind is found by its name."""

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoints, entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, Union

from pydantic import BaseModel, ValidationError

import aiia_pipelines.connectors as kinds
from aiia_pipelines.config.connector import Stream
from aiia_pipelines.config.types import ColumnType

if TYPE_CHECKING:
    # Loading definitions must not import Arrow.
    import numpy as np
    import pyarrow as pa

    Numbers = np.ndarray[Any, np.dtype[Any]]

Row = Sequence[Any]
# A place in a stream that a kind can go on from: JSON that only the kind that made it reads.
Position = Mapping[str, Any]
_CELL = 48  # bytes that a Python value is taken for
THIRD_PARTY = "aiia_pipelines.connectors"


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
class FileSeen:
    """A file of a source as a listing shows it; another `mark` is another version of the file."""

    name: str
    size: int
    mark: str
    changed_at: float  # seconds since 1970, by the clock of the source


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """A column as the source describes it; `type` is None when the source cannot tell."""

    name: str
    type: ColumnType | None
    nullable: bool
    declared: str  # the source's own word for the type
    # Whether the source itself refuses values that are none of the type; else JSON is checked here.
    enforced: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What of a stream is read; columns go by their names at the source.

    `since` leaves out what an earlier sync has read, `until` what came after this sync began, and `after`
    what a broken attempt of the same reading already delivered.
    """

    names: Sequence[str]
    cursor: str | None = None
    since: Position | None = None
    until: Position | None = None
    after: Position | None = None


class Wired(ABC):
    """Rows as PostgreSQL's binary COPY writes them, whose values are looked at only where somebody asks.

    `kinds` are the types of their fields. A destination of the same types can take the bytes as they are.
    """

    kinds: Sequence[ColumnType]

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """Count the rows."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Count the bytes of memory that they take, with what was found out about them."""

    @property
    @abstractmethod
    def wire_bytes(self) -> int:
        """Count their bytes."""

    @property
    @abstractmethod
    def arrow_bytes(self) -> int:
        """Count the bytes that their values take as Arrow columns, whether those are made or not."""

    @abstractmethod
    def column(self, place: int) -> "pa.Array":
        """Give the values of a column."""

    @property
    def columns(self) -> "list[pa.Array]":
        """Give the values of all columns."""
        return [self.column(place) for place in range(len(self.kinds))]

    @abstractmethod
    def blank(self, place: int) -> "pa.Array | None":
        """Give a column that tells which values are NULL, and nothing true of the others; None if one is huge."""

    @abstractmethod
    def arrow(self) -> "pa.RecordBatch":
        """Give all columns, named by their places."""

    @abstractmethod
    def bare(self) -> "Wired":
        """Give the same rows without what was found out about their values so far, which takes memory."""

    @abstractmethod
    def tail(self) -> "Wired":
        """Give the last row."""

    @abstractmethod
    def only(self, places: "Numbers") -> "Wired":
        """Give the rows at these places, which ascend."""

    @abstractmethod
    def copied(self) -> Iterator[bytes | memoryview]:
        """Give a binary COPY of these rows, in as few pieces as they lie apart."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a stream, as Python values or as columns in the order of `Reading.names`.

    A `checkpoint` says that a later reading may begin `after` this batch. `where` names the place of the
    n-th row (from 0) for people, for kinds where a row has one, such as the line of a file.
    """

    rows: Union[Sequence[Row], "pa.RecordBatch", Wired]
    checkpoint: Position | None = None
    where: Callable[[int], str] | None = None

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.rows) if isinstance(self.rows, Sequence) else int(self.rows.num_rows)

    @property
    def nbytes(self) -> int:
        """Count the bytes of memory that the rows take; those of Python values are a guess."""
        if isinstance(self.rows, Sequence):
            return len(self.rows) * len(self.rows[0]) * _CELL if self.rows else 0
        return int(self.rows.nbytes)


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

    def position(self, stream: Stream, reading: Reading) -> Position | None:
        """Tell where the stream is now; None when it has to be read whole.

        Asked before `batches`, in the same snapshot: what is read `until` it and `since` it is everything.
        """
        ...

    def rows_until(self, stream: Stream, reading: Reading) -> int | None:
        """Count the rows that the source has up to `reading.until`; None when none can hide behind `since`."""
        ...

    def batches(self, stream: Stream, reading: Reading) -> Iterator[Batch]:
        """Read the columns of the wanted rows in one snapshot, at most `batch_rows` at a time.

        Raises:
            SourceFault: The source broke off.
        """
        ...

    def stages(self, streams: Sequence[Stream]) -> Iterator[tuple[str, Callable[[], str]]]:
        """List the stages of a Connection Test; each returns a note or raises SourceFault.

        Those of one stream are called `permission NAME` and `query NAME`: when one fails, the other streams
        are still tried. After any other that fails nothing is. A note may begin with `Warning: `.
        """
        ...

    def cancel(self) -> None:
        """Make a read in progress stop; may be called from another thread."""
        ...

    def close(self) -> None:
        """Leave nothing open at the source; may be called twice."""
        ...


def kind_names() -> list[str]:
    """List the kinds, third parties' as well, without importing their drivers."""
    found = (module.name for module in pkgutil.iter_modules(kinds.__path__))
    own = {name for name in found if name != "base" and not name.startswith("_")}
    return sorted(own | _third_parties().names)


def _third_parties() -> EntryPoints:
    return entry_points(group=THIRD_PARTY)


def open_source(source: Mapping[str, Any]) -> Source:
    """Open a source whose secrets are resolved.

    Raises:
        LookupError: There is no such kind.
        pydantic.ValidationError: An option is wrong.
    """
    module = _kind(str(source.get("kind")))
    opened: Source = module.open(module.Options.model_validate(dict(source)))
    return opened


def lists_files(kind: str) -> bool:
    """Tell whether sources of a kind are files that can be listed."""
    try:
        return hasattr(_kind(kind), "listing")
    except LookupError:
        return False  # told by `source_problems`


def listing(source: Mapping[str, Any], streams: Sequence[Stream]) -> list[FileSeen]:
    """List the files of some streams without reading any, of a source whose secrets are resolved.

    Raises:
        SourceFault: They cannot be listed.
        pydantic.ValidationError: An option is wrong.
    """
    module = _kind(str(source.get("kind")))
    found: list[FileSeen] = module.listing(module.Options.model_validate(dict(source)), streams)
    return found


def wrong_option(invalid: ValidationError) -> str:
    """Say which option of a source is wrong, once what its references lead to is known."""
    first = invalid.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, ('source', *first['loc'])))}: {first['msg']}"


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


def stream_problems(
    kind: str, options: Mapping[str, Any]
) -> list[tuple[tuple[str | int, ...], str]]:
    """Check the `options:` of a stream against what its kind knows: (path, sentence) of each mistake."""
    try:
        model: type[BaseModel] | None = getattr(_kind(kind), "StreamOptions", None)
    except LookupError:
        return []  # told by `source_problems`
    if model is None:
        return [((key,), f"streams of kind {kind} have no options") for key in options]
    try:
        model.model_validate(dict(options))
    except ValidationError as invalid:
        return [(tuple(fault["loc"]), _sentence(fault, model)) for fault in invalid.errors()]
    return []


def _kind(name: str) -> ModuleType:
    # A name of ours is ours: a package that somebody installed must not take over `sql`. Looking for
    # packages reads their metadata, which a thousand connector files must not do a thousand times.
    if _is_own(name):
        return import_module(f"{kinds.__name__}.{name}")
    for entry in _third_parties().select(name=name):
        module: ModuleType = entry.load()
        return module
    raise LookupError(f"unknown kind {name!r}; known: {', '.join(kind_names())}")


def _is_own(name: str) -> bool:
    return name != "base" and not name.startswith("_") and name in _own_modules()


@cache
def _own_modules() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(kinds.__path__))


def _sentence(fault: Mapping[str, Any], options: type[BaseModel]) -> str:
    if fault["type"] == "extra_forbidden":
        return f"unknown key; allowed: {', '.join(options.model_fields)}"
    if fault["type"] == "missing":
        return "this key is required"
    return str(fault["msg"]).removeprefix("Value error, ")
