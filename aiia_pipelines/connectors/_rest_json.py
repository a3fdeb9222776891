"""JSON read without loss: every digit counts, and what two readers could take differently is refused."""

import codecs
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

_DEEPEST = 64
# Plain digits of a larger exponent would fill the memory.
_LARGEST_EXPONENT = 4300
_MISSING = object()
Json = Any  # what JSON can say


class Unreadable(Exception):
    """A text is no JSON that can be taken; the sentence shows none of its values."""


def read(body: bytes, charset: str | None = None) -> Json:
    """Read a JSON text; numbers with a point become Decimal.

    Raises:
        Unreadable: It is empty, broken, ambiguous or nested too deep.
        UnicodeDecodeError: It is not in its character set.
    """
    text = _decoded(body, charset)
    if not text.strip():
        raise Unreadable("is empty")
    try:
        return json.loads(
            text,
            parse_float=_number,
            parse_int=_integer,
            parse_constant=_refuse,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as broken:
        raise Unreadable(
            f"is no JSON: {broken.msg.lower()} at line {broken.lineno:,}, character {broken.colno:,}"
        ) from None
    except RecursionError:
        raise Unreadable(f"is nested more than {_DEEPEST} levels deep") from None


def _decoded(body: bytes, charset: str | None) -> str:
    try:
        codec = codecs.lookup(charset or "utf-8").name
    except LookupError:
        raise Unreadable("is in a character set that is not known") from None
    return body.decode("utf-8-sig" if codec == "utf-8" else codec)


def _number(text: str) -> Decimal:
    value = Decimal(text)
    if abs(value.adjusted()) > _LARGEST_EXPONENT or len(text) > _LARGEST_EXPONENT:
        raise Unreadable("has a number of more digits than can be held")
    return value


def _integer(text: str) -> int:
    if len(text) > _LARGEST_EXPONENT:
        raise Unreadable("has a number of more digits than can be held")
    return int(text)


def _refuse(word: str) -> None:
    raise Unreadable(f"has the number {word}, which JSON does not know")


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # adds and goes on
        raise Unreadable(f"has the key '{twice[:40]}' twice in one object")
    return found


def compact(value: Json, depth: int = 0) -> str:
    """Write a JSON value in the fewest characters, numbers with all their digits.

    Raises:
        Unreadable: It is nested too deep.
    """
    if depth > _DEEPEST:
        raise Unreadable(f"is nested more than {_DEEPEST} levels deep")
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        items = (f"{encode_basestring(k)}:{compact(v, depth + 1)}" for k, v in value.items())
        return f"{{{','.join(items)}}}"
    if isinstance(value, Sequence):
        return f"[{','.join(compact(item, depth + 1) for item in value)}]"
    return str(value)


def at(value: Json, path: str | None) -> Json:
    """Follow a path such as `data.items`; `MISSING` when it leads nowhere."""
    for key in path.split(".") if path else ():
        if not isinstance(value, Mapping) or key not in value:
            return _MISSING
        value = value[key]
    return value


def is_missing(value: object) -> bool:
    """Tell what `at` did not find."""
    return value is _MISSING
