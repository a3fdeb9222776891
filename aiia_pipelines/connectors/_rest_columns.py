"""The columns of JSON records, and the value of each in a record, exactly."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors._rest_json import Json, compact
from aiia_pipelines.connectors._rest_options import OPTIONAL, StreamOptions
from aiia_pipelines.connectors._tabular_options import FormatOptions
from aiia_pipelines.connectors._text_values import as_float, parser
from aiia_pipelines.connectors.base import SourceColumn

# JSON has its own null and its own words for true and false: an empty text is none of them.
_STRICT = FormatOptions(null_values=[], true_values=["true"], false_values=["false"])
_INT64 = range(-(2**63), 2**63)
Record = Mapping[str, Any]


def describe(
    stream: Stream, options: StreamOptions, records: Sequence[Record]
) -> list[SourceColumn]:
    """Describe the columns of records: declared types as declared, the others as narrow as all values allow."""
    declared = declared_types(stream, options)
    found = dict.fromkeys(key for record in records for key in record)
    if options.fields is not None:
        # A key that no record has any more is missing, unless it may be.
        names = [
            n for n, t in options.fields.items() if n in found or t.endswith(OPTIONAL) or not found
        ]
    else:
        names = list(found or declared)
    return [_described(name, declared.get(name), records) for name in names]


def declared_types(stream: Stream, options: StreamOptions) -> dict[str, ColumnType]:
    """Give the types that the connector file states, by the keys of a record."""
    fields = {
        name: ColumnType.parse(text.removesuffix(OPTIONAL))
        for name, text in (options.fields or {}).items()
    }
    columns = {
        column.from_ or name: column.type
        for name, column in stream.columns.items()
        if column.type is not None
    }
    return fields | columns


def _described(name: str, declared: ColumnType | None, records: Sequence[Record]) -> SourceColumn:
    seen = {_kind(record[name]) for record in records if record.get(name) is not None}
    words = " or ".join(sorted(seen)) or "unknown"
    found = declared or (ColumnType.parse(_type(seen)) if seen else None)
    return SourceColumn(name, found, nullable=True, declared=words)


def _kind(value: object) -> str:
    """Tell what JSON calls a value, with the numbers told apart."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if value in _INT64 else "number"
    if isinstance(value, Decimal):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, Mapping) else "array"


def _type(seen: set[str]) -> str:
    if len(seen) == 1:
        only = {"boolean": "bool", "integer": "int64", "number": "decimal", "string": "string"}
        return only.get(next(iter(seen)), "json")
    # Whatever else a column mixes, JSON text holds all of it.
    return "decimal" if seen == {"integer", "number"} else "json"


def reader(kind: ColumnType | None) -> Callable[[Json], Any]:
    """Give what turns a JSON value into a value of a type; what does not fit stays, for the contract to refuse."""
    if kind is None:
        return _as_it_is
    if kind.item is not None:
        item = reader(kind.item)
        return lambda value: [item(v) for v in value] if isinstance(value, list) else value
    if kind.name in _READERS:
        return _READERS[kind.name]
    finish = _FINISH.get(kind.name, _unchanged)
    parse = parser(kind, _STRICT)
    return lambda value: parse(value) if isinstance(value, str) else finish(value)


def _as_it_is(value: Json) -> Json:
    return compact(value) if isinstance(value, dict | list) else value


def _json(value: Json) -> Any:  # noqa: ANN401 - a value of any type
    return None if value is None else compact(value)


_READERS = {"json": _json, "string": _as_it_is}


def _whole(value: Json) -> Json:
    """Take 5.0 for 5, which it is."""
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    return value


def _float(value: Json) -> Json:
    """Take a number whose digits a float gives back; one with more digits is none."""
    near = as_float(value) if isinstance(value, Decimal) else None
    return value if near is None else near


def _unchanged(value: Json) -> Any:  # noqa: ANN401 - a value of any type
    return value


_FINISH = dict.fromkeys(("int16", "int32", "int64"), _whole) | dict.fromkeys(
    ("float32", "float64"), _float
)
