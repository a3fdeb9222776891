"""Nested values of Arrow as documents of JSON."""

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa


def is_list(kind: pa.DataType) -> bool:
    """Tell whether a value is a list, of any form."""
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in tests)


def as_json(array: pa.Array) -> pa.Array:
    """Write nested values as JSON, with every digit.

    Raises:
        pyarrow.ArrowInvalid: JSON has no such value.
    """
    return pa.array([_document(value) for value in array], pa.string())  # a null stays null


def _document(value: pa.Scalar) -> str | None:
    return None if not value.is_valid else _json(value)


def _json(value: pa.Scalar) -> str:
    if not value.is_valid:
        return "null"
    kind = value.type
    if isinstance(kind, pa.BaseExtensionType) or pa.types.is_dictionary(kind):
        return _json(value.value)
    if pa.types.is_struct(kind):
        inner = ", ".join(f"{_quoted(name)}: {_json(item)}" for name, item in value.items())
        return f"{{{inner}}}"
    if pa.types.is_map(kind):
        pairs = [(pair["key"], pair["value"]) for pair in value.values]
        keys = [_key(key) for key, _ in pairs]
        if len(set(keys)) < len(keys):
            raise pa.ArrowInvalid("a key stands twice in a map")
        inner = ", ".join(
            f"{_quoted(key)}: {_json(item)}" for key, (_, item) in zip(keys, pairs, strict=True)
        )
        return f"{{{inner}}}"
    if is_list(kind):
        return f"[{', '.join(_json(item) for item in value.values)}]"
    return _leaf(value)


def _key(value: pa.Scalar) -> str:
    found = value.value if pa.types.is_dictionary(value.type) else value
    return str(found.as_py()) if _is_text(found.type) else _json(found)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _leaf(value: pa.Scalar) -> str:
    kind = value.type
    found: Any = (
        value.as_py() if not pa.types.is_temporal(kind) else value.cast(pa.string()).as_py()
    )
    if isinstance(found, Decimal):
        return format(found, "f")
    if isinstance(found, bytes):
        return _quoted(found.hex())
    if isinstance(found, float) and not np.isfinite(found):
        raise pa.ArrowInvalid("JSON has no such number")
    if pa.types.is_floating(kind) and kind.bit_width < 64:
        return str(np.float32(found))
    return _quoted(found)


def _quoted(value: Any) -> str:  # noqa: ANN401 - a scalar of JSON
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
