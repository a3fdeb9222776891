"""Values of JSON as values of the contract's types, with every digit that was read."""

import json
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors._tabular_options import FormatOptions
from aiia_pipelines.connectors._text_values import as_float, parser

_INT64 = range(-(2**63), 2**63)


def kind_of(values: Sequence[Any]) -> ColumnType:
    """Find the narrowest type that holds every value exactly; a mix is JSON."""
    classes = {type(value) for value in values} - {type(None)}
    if classes == {bool}:
        return ColumnType("bool")
    if classes == {str}:
        return ColumnType("string")
    if classes == {int} and all(value is None or value in _INT64 for value in values):
        return ColumnType("int64")
    if classes and classes <= {int, Decimal}:
        return ColumnType("decimal")
    return ColumnType("json")


def json_value(kind: ColumnType, options: FormatOptions) -> Callable[[Any], Any]:
    """Return what turns a value of JSON into one of a type, or leaves it for the contract to refuse."""
    parse = parser(kind, options)
    if kind.name == "json":
        return lambda value: None if value is None else dumped(value)
    if kind.item is not None:
        item = json_value(kind.item, options)
        return lambda value: [item(one) for one in value] if isinstance(value, list) else value
    if kind.name in {"float32", "float64"}:
        return lambda value: parse(value) if isinstance(value, str) and value else _floating(value)
    if kind.name in {"string", "bool", "interval"}:
        return _unnested
    return lambda value: parse(value) if isinstance(value, str) and value else _unnested(value)


def _unnested(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    return dumped(value) if isinstance(value, dict | list) else value


def _floating(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, Decimal) or (isinstance(value, int) and not isinstance(value, bool)):
        near = as_float(value)
        return str(value) if near is None or math.isinf(near) else near
    return _unnested(value)


def dumped(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Write a JSON value with every digit that was read."""
    if isinstance(value, dict):
        inner = ", ".join(f"{_quoted(key)}: {dumped(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(dumped, value))}]"
    if isinstance(value, Decimal):
        return str(value)
    return _quoted(value)


def _quoted(value: Any) -> str:  # noqa: ANN401 - a scalar of JSON
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
