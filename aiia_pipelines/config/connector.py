"""What a connector file may hold."""

from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from aiia_pipelines.config.checks import ColumnChecks, argument_mistake, refused
from aiia_pipelines.config.clock import cron_mistake, is_timezone
from aiia_pipelines.config.faults import UnknownStream
from aiia_pipelines.config.secrets import is_secret_key, literal_mistake
from aiia_pipelines.config.types import ColumnType

Loc = tuple[str | int, ...]
Mistake = tuple[Loc, str]
PLACES = ("table", "query", "path", "endpoint")


def _several(mistakes: list[Mistake]) -> PydanticCustomError:
    """Return one validation error that carries mistakes at places of their own."""
    sentence = "; ".join(text for _, text in mistakes)
    return PydanticCustomError(
        "mistakes", "{sentence}", {"sentence": sentence, "mistakes": mistakes}
    )


def _repeated(names: list[str]) -> list[str]:
    """Return the names that stand more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def _line(text: str) -> str:
    """Accept one line of text."""
    if not text.isprintable() or text != text.strip():
        raise refused("must be one line of text, without blanks around it")
    return text


def _column_type(value: object) -> ColumnType:
    """Read a column type."""
    if isinstance(value, ColumnType):
        return value
    if not isinstance(value, str):
        raise refused("must be the name of a type, as in decimal(18,2)")
    try:
        return ColumnType.parse(value)
    except ValueError as fault:
        raise refused(str(fault)) from None


def _schedule(value: object) -> object:
    """Take a blank schedule for none."""
    return None if isinstance(value, str) and not value.strip() else value


def _cron(text: str) -> str:
    """Accept a cron schedule of five fields."""
    if mistake := cron_mistake(text):
        raise refused(mistake)
    return " ".join(text.split())


def _timezone(text: str) -> str:
    """Accept the name of a time zone."""
    if not is_timezone(text):
        raise refused("must be a known time zone, for example UTC or Europe/Berlin")
    return text


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
Title = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_line)]
ColumnName = Annotated[str, Field(min_length=1, max_length=63), AfterValidator(_line)]
TypeOfColumn = Annotated[
    ColumnType,
    PlainValidator(_column_type),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "examples": ["string", "decimal(18,2)", "list<int64>"]}),
]
Schedule = Annotated[str, AfterValidator(_cron)]
Reconcile = Literal["count", "totals"]


class _Part(BaseModel):
    """A part of a connector file: closed, unchangeable, and silent about its values."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Column(_Part):
    """One column: where it comes from, what it becomes, what must hold."""

    from_: ColumnName | None = Field(default=None, alias="from")
    type: TypeOfColumn | None = None
    nullable: bool | None = None
    description: str | None = None
    checks: ColumnChecks = Field(default_factory=ColumnChecks)

    @model_validator(mode="after")
    def _checks_go_with_the_type(self) -> Self:
        """Refuse checks that a column of this type cannot pass or fail."""
        if self.type is None:
            return self
        mistakes: list[Mistake] = [
            (("checks", check), mistake)
            for check, argument in self.checks.items()
            if (mistake := argument_mistake(check, argument, self.type))
        ]
        if mistakes:
            raise _several(mistakes)
        return self


class RowCount(_Part):
    """How many rows a stream must have."""

    min: int | None = Field(default=None, ge=0)
    max: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        """Refuse a range that holds no number."""
        if self.min is not None and self.max is not None and self.min > self.max:
            raise refused("min must not be greater than max")
        return self


class StreamChecks(_Part):
    """The checks over all rows of a stream."""

    unique: list[ColumnName] = Field(default_factory=list)
    row_count: RowCount = Field(default_factory=RowCount)


class Stream(_Part):
    """One set of rows that a connector brings over."""

    name: Name
    table: Title | None = None
    query: str | None = Field(default=None, min_length=1)
    path: Title | None = None
    endpoint: Title | None = None
    description: str | None = None
    mode: Literal["replace", "append", "upsert"] = "replace"
    key: list[ColumnName] = Field(default_factory=list)
    batch_rows: int = Field(default=50_000, ge=1, le=10_000_000)
    max_rows: int = Field(default=100_000_000, ge=1, le=1_000_000_000_000)
    reconcile: Reconcile | None = None
    columns: dict[ColumnName, Column] = Field(default_factory=dict)
    checks: StreamChecks = Field(default_factory=StreamChecks)

    @model_validator(mode="after")
    def _parts_go_together(self) -> Self:
        """Refuse a stream without one place of its rows, and an upsert without a key."""
        mistakes: list[Mistake] = []
        given = [place for place in PLACES if getattr(self, place) is not None]
        if len(given) != 1:
            found = f"found {' and '.join(given)}" if given else "found none"
            mistakes.append(((), f"needs exactly one of {', '.join(PLACES)}; {found}"))
        if self.mode == "upsert" and not self.key:
            mistakes.append((("mode",), "upsert needs key, the columns that tell rows apart"))
        origins = [column.from_ or name for name, column in self.columns.items()]
        mistakes += [(("columns",), f"take '{twice}' twice") for twice in _repeated(origins)]
        for loc, names in ((("key",), self.key), (("checks", "unique"), self.checks.unique)):
            mistakes += [(loc, f"names '{twice}' twice") for twice in _repeated(names)]
        if mistakes:
            raise _several(mistakes)
        return self


class Connector(_Part):
    """One connector file."""

    name: Name
    title: Title
    description: str | None = None
    owners: list[Title] = Field(default_factory=list)
    tier: Literal["normal", "critical"] = "normal"
    source: dict[str, Any]
    destination: Name = "warehouse"
    schedule: Annotated[Schedule | None, BeforeValidator(_schedule)] = None
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"
    overlap: Literal["queue"] = "queue"
    priority: Literal["low", "normal", "high", "critical"] = "normal"
    drift: Literal["freeze"] = "freeze"
    reconcile: Reconcile = "totals"
    on_invalid: Literal["fail"] = "fail"
    streams: list[Stream] = Field(min_length=1)

    @field_validator("source")
    @classmethod
    def _source_is_usable(cls, source: dict[str, Any]) -> dict[str, Any]:
        """Refuse a source without kind, and secrets that stand in the file."""
        mistakes = list(_literals(source))
        kind = source.get("kind")
        if "kind" not in source:
            mistakes.append(((), "missing key 'kind', the kind of connector, for example sql"))
        elif not isinstance(kind, str) or not kind.strip():
            mistakes.append((("kind",), "must be the name of a kind, for example sql"))
        if mistakes:
            raise _several(mistakes)
        return source

    @field_validator("streams")
    @classmethod
    def _names_differ(cls, streams: list[Stream]) -> list[Stream]:
        """Refuse two streams of the same name."""
        seen: set[str] = set()
        mistakes: list[Mistake] = []
        for index, stream in enumerate(streams):
            if stream.name in seen:
                mistakes.append(((index, "name"), f"another stream is named '{stream.name}'"))
            seen.add(stream.name)
        if mistakes:
            raise _several(mistakes)
        return streams

    def stream(self, name: str) -> Stream:
        """Return the stream of this name.

        Raises:
            UnknownStream: there is none.
        """
        for stream in self.streams:
            if stream.name == name:
                return stream
        raise UnknownStream(name, [stream.name for stream in self.streams])

    def public(self) -> dict[str, Any]:
        """Return the configuration as it was written, secrets as references."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _literals(value: object, loc: Loc = (), *, secret: bool = False) -> list[Mistake]:
    """Find secrets that stand in the source's options, and broken references."""
    if isinstance(value, dict):
        return [
            mistake
            for key, item in value.items()
            for mistake in _literals(item, (*loc, key), secret=secret or is_secret_key(str(key)))
        ]
    if isinstance(value, list):
        return [
            mistake
            for index, item in enumerate(value)
            for mistake in _literals(item, (*loc, index), secret=secret)
        ]
    if value is None or not (secret or isinstance(value, str)):
        return []
    mistake = literal_mistake(str(value), secret=secret)
    return [(loc, mistake)] if mistake else []
