"""The column types of connector files, and which of them holds which."""

import re
from dataclasses import dataclass
from typing import Self

from aiia_pipelines.config.faults import nearest

PLAIN_TYPES = (
    "bool",
    "int16",
    "int32",
    "int64",
    "float32",
    "float64",
    "decimal",
    "string",
    "binary",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "interval",
    "uuid",
    "json",
)
_MAX_PRECISION = 1000
_MAX_LENGTH = 200
_DECIMAL = re.compile(r"decimal\s*\(\s*([0-9]{1,4})\s*(?:,\s*([0-9]{1,4})\s*)?\)", re.ASCII)
_LIST = re.compile(r"list\s*<(.*)>", re.DOTALL)
_INTEGER_DIGITS = {"int16": 5, "int32": 10, "int64": 19}
_WIDER = {
    "int16": {"int32", "int64", "float32", "float64"},
    "int32": {"int64", "float64"},
    "float32": {"float64"},
    "uuid": {"string"},
    "json": {"string"},
}


@dataclass(frozen=True, slots=True)
class ColumnType:
    """One column type; `decimal` without precision is unbounded."""

    name: str
    precision: int | None = None
    scale: int | None = None
    item: "ColumnType | None" = None

    def __post_init__(self) -> None:
        """Refuse what no column can have.

        Raises:
            ValueError: the parts do not go together.
        """
        if self.name not in {*PLAIN_TYPES, "list"}:
            raise ValueError(_unknown(self.name))
        if (self.name == "list") != (self.item is not None):
            raise ValueError("a list names the type of its items, as in list<string>")
        if self.precision is None and self.scale is None:
            return
        if self.name != "decimal" or self.precision is None or self.scale is None:
            raise ValueError("only decimal has precision and scale, and always both")
        if not (1 <= self.precision <= _MAX_PRECISION and 0 <= self.scale <= self.precision):
            raise ValueError(
                f"decimal(p,s) needs p from 1 to {_MAX_PRECISION} and s from 0 to p, "
                "as in decimal(18,2)"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `decimal(18,2)`, `list<string>` and the like.

        Raises:
            ValueError: the text names no type.
        """
        text = text.strip()
        # The bound also keeps nested lists far from the recursion limit.
        if len(text) > _MAX_LENGTH:
            raise ValueError(_unknown(text))
        if match := _DECIMAL.fullmatch(text):
            return cls("decimal", int(match[1]), int(match[2] or 0))
        if match := _LIST.fullmatch(text):
            return cls("list", item=cls.parse(match[1]))
        return cls(text)

    def __str__(self) -> str:
        """Return the canonical text."""
        if self.item is not None:
            return f"list<{self.item}>"
        if self.precision is not None:
            return f"{self.name}({self.precision},{self.scale})"
        return self.name


def widens(source: ColumnType, target: ColumnType) -> bool:
    """Tell whether every value of the source type fits the target type exactly."""
    if source == target:
        return True
    if source.item is not None and target.item is not None:
        return widens(source.item, target.item)
    if target.name == "decimal":
        return _fits_decimal(source, target)
    return target.name in _WIDER.get(source.name, ())


def _fits_decimal(source: ColumnType, target: ColumnType) -> bool:
    """Tell whether a whole or decimal number keeps all digits in a decimal."""
    if source.name not in {*_INTEGER_DIGITS, "decimal"}:
        return False
    if target.precision is None or target.scale is None:
        return True
    if source.name in _INTEGER_DIGITS:
        return target.precision - target.scale >= _INTEGER_DIGITS[source.name]
    if source.precision is None or source.scale is None:
        return False
    room = target.precision - target.scale >= source.precision - source.scale
    return room and target.scale >= source.scale


def _unknown(text: str) -> str:
    """Say that a text names no type, and which there are."""
    shown = ascii(text if len(text) <= 40 else text[:40] + "...")
    hint = nearest(text[:40], (*PLAIN_TYPES, "list"))
    known = f"{', '.join(PLAIN_TYPES)}, decimal(p,s), list<type>"
    return f"unknown type {shown}{hint or '.'} Allowed: {known}"
