"""Short plain sentences for what pydantic finds wrong."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from aiia_pipelines.config.checks import ColumnChecks, Lengths, Range
from aiia_pipelines.config.connector import (
    Column,
    Connector,
    Loc,
    Mistake,
    Partition,
    RowCount,
    Stream,
    StreamChecks,
)
from aiia_pipelines.config.document import shown
from aiia_pipelines.config.faults import nearest
from aiia_pipelines.config.retry import Retry
from aiia_pipelines.config.triggers import FileArrival, Triggers, Webhook
from aiia_pipelines.config.window import Window

_COLUMN = ("streams", "*", "columns", "*")
_PARTS: dict[tuple[str, ...], type[Any]] = {
    (): Connector,
    ("window",): Window,
    ("retry",): Retry,
    ("triggers",): Triggers,
    ("triggers", "webhook"): Webhook,
    ("triggers", "files"): FileArrival,
    ("streams", "*"): Stream,
    ("streams", "*", "partition"): Partition,
    ("streams", "*", "checks"): StreamChecks,
    ("streams", "*", "checks", "row_count"): RowCount,
    _COLUMN: Column,
    (*_COLUMN, "checks"): ColumnChecks,
    (*_COLUMN, "checks", "in_range"): Range,
    (*_COLUMN, "checks", "str_length"): Lengths,
}
SENTENCES = {
    "string_type": "must be a text; put it in quotes",
    "string_pattern_mismatch": (
        "must start with a small letter and hold only small letters, digits and _"
    ),
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} entry",
}


def mistakes_of(fault: ValidationError) -> Iterator[Mistake]:
    """Yield each mistake with the place it is at."""
    for error in fault.errors(include_url=False):
        loc = tuple(part for part in error["loc"] if part != "[key]")
        context = error.get("ctx", {})
        if error["type"] == "mistakes":
            for inner, sentence in context["mistakes"]:
                yield (*loc, *inner), sentence
        else:
            yield loc, _sentence(error, loc, context)


def place(loc: Loc) -> str:
    """Render a place as `streams[0].columns.amount`."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = re.fullmatch(r"[\w-]{1,60}", part, re.ASCII)
            text += f".{part if plain else shown(part)}"
    return text.removeprefix(".")


def _sentence(error: ErrorDetails, loc: Loc, context: Mapping[str, Any]) -> str:
    """Say one mistake."""
    match error["type"]:
        case "missing":
            return "missing key"
        case "extra_forbidden":
            return _unknown_key(loc)
        case "literal_error":
            return _not_one_of(error["input"], re.findall(r"'([^']*)'", context["expected"]))
        case "mistake":
            return str(context["sentence"])
        case kind:
            return SENTENCES.get(kind, "cannot be used").format_map(context)


def _shape(loc: Loc) -> tuple[str, ...]:
    """Return a place without the numbers and names that the user chose."""
    return tuple(
        "*" if isinstance(part, int) or (index == 3 and loc[2] == "columns") else part
        for index, part in enumerate(loc)
    )


def _unknown_key(loc: Loc) -> str:
    """Say that a key is not known."""
    shape, key = _shape(loc[:-1]), str(loc[-1])
    known = _keys(_PARTS[shape])
    return f"unknown key{nearest(key, known) or '.'} Allowed: {', '.join(known)}"


def _keys(part: type[Any]) -> list[str]:
    """Return the keys that a part of the file may have."""
    if issubclass(part, BaseModel):
        return [field.alias or name for name, field in part.model_fields.items()]
    return list(get_type_hints(part))


def _not_one_of(value: object, allowed: list[str]) -> str:
    """Say which values are allowed."""
    text = value if isinstance(value, str) else ""
    return f"must be one of {', '.join(allowed)}{nearest(text, allowed)}"
