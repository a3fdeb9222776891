"""What a connector file may hold."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from aiia_pipelines.config.checks import ColumnChecks, argument_mistake, refused
from aiia_pipelines.config.faults import UnknownStream
from aiia_pipelines.config.fields import (
    BudgetText,
    ColumnName,
    LookbackText,
    Name,
    OnLossy,
    PythonName,
    Reconcile,
    Schedule,
    TimeZone,
    Title,
    TypeOfColumn,
)
from aiia_pipelines.config.retry import Retry
from aiia_pipelines.config.secrets import is_secret_key, literal_mistake
from aiia_pipelines.config.together import connector_mistakes, name_mistakes, stream_mistakes
from aiia_pipelines.config.triggers import Triggers
from aiia_pipelines.config.window import Opening, Window

Loc = tuple[str | int, ...]
Mistake = tuple[Loc, str]


def _several(mistakes: list[Mistake]) -> PydanticCustomError:
    """Return one validation error that carries mistakes at places of their own."""
    sentence = "; ".join(text for _, text in mistakes)
    return PydanticCustomError(
        "mistakes", "{sentence}", {"sentence": sentence, "mistakes": mistakes}
    )


class _Part(BaseModel):
    """A part of a connector file: closed, unchangeable, and silent about its values."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Column(_Part):
    """One column: where it comes from, what it becomes, what must hold."""

    from_: ColumnName | None = Field(default=None, alias="from")
    type: TypeOfColumn | None = None
    nullable: bool | None = None
    description: str | None = None
    on_lossy: OnLossy = None
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


class Partition(_Part):
    """How a stream is cut into parts that are read at the same time."""

    column: ColumnName
    ranges: int | None = Field(default=None, ge=2, le=64)
    by: Literal["hour", "day", "month", "year"] | None = None

    @model_validator(mode="after")
    def _is_cut_one_way(self) -> Self:
        """Refuse both ways of cutting, and none."""
        if (self.ranges is None) == (self.by is None):
            raise refused("needs exactly one of ranges and by")
        return self


class Stream(_Part):
    """One set of rows that a connector brings over."""

    name: Name
    table: Title | None = None
    query: str | None = Field(default=None, min_length=1)
    path: Title | None = None
    endpoint: Title | None = None
    description: str | None = None
    mode: Literal["replace", "append", "upsert", "history"] = "replace"
    key: list[ColumnName] = Field(default_factory=list)
    cursor: ColumnName | None = None
    lookback: LookbackText | None = None
    delete: Literal["none", "soft", "hard"] = "none"
    max_delete: BudgetText | None = None
    partition: Partition | None = None
    # How this stream is read, by kind: the dialect of a CSV file, the pages of an endpoint.
    options: dict[str, Any] = Field(default_factory=dict)
    batch_rows: int = Field(default=50_000, ge=1, le=10_000_000)
    max_rows: int = Field(default=100_000_000, ge=1, le=1_000_000_000_000)
    reconcile: Reconcile | None = None
    schema_: PythonName | None = Field(default=None, alias="schema")
    columns: dict[ColumnName, Column] = Field(default_factory=dict)
    checks: StreamChecks = Field(default_factory=StreamChecks)

    @model_validator(mode="after")
    def _parts_go_together(self) -> Self:
        """Refuse parts that are right alone and wrong together."""
        if mistakes := list(stream_mistakes(self)):
            raise _several(mistakes)
        return self

    @property
    def added_columns(self) -> tuple[str, ...]:
        """The columns that the destination adds to those of the source."""
        if self.mode == "history":
            return ("_valid_from", "_valid_to")
        return ("_deleted_at",) if self.delete == "soft" else ()


class Connector(_Part):
    """One connector file."""

    name: Name
    title: Title
    description: str | None = None
    owners: list[Title] = Field(default_factory=list)
    tier: Literal["normal", "critical"] = "normal"
    source: dict[str, Any]
    destination: Name = "warehouse"
    schedule: Schedule = None
    timezone: TimeZone = "UTC"
    window: Window | None = None
    # Which ticks of the schedule are made up for when nothing ran at their time.
    missed: Literal["one", "skip", "all"] = "one"
    triggers: Triggers = Field(default_factory=Triggers)
    overlap: Literal["queue", "skip", "replace"] = "queue"
    retry: Retry = Field(default_factory=Retry)
    priority: Literal["low", "normal", "high", "critical"] = "normal"
    drift: Literal["freeze", "add_only", "evolve"] = "freeze"
    reconcile: Reconcile = "totals"
    on_invalid: Literal["fail", "quarantine"] = "fail"
    max_invalid: BudgetText | None = None
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
        if mistakes := list(name_mistakes(streams)):
            raise _several(mistakes)
        return streams

    @model_validator(mode="after")
    def _parts_go_together(self) -> Self:
        """Refuse streams and settings that are right alone and wrong together."""
        if mistakes := list(connector_mistakes(self)):
            raise _several(mistakes)
        return self

    @property
    def opening(self) -> Opening:
        """Tell when it may run: its window in its time zone."""
        return Opening(self.window, self.timezone)

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
