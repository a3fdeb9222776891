"""Amounts in connector files: a span of time such as `10m`, and a share of rows such as `0.5%`."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Self, TypeGuard

_MOST = 2**63 - 1
_LONGEST = 36_500 * 86_400  # seconds; a time so long ago is no time any more for some databases
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN = re.compile(r"([0-9]{1,9})\s*([smhd])", re.ASCII)
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%", re.ASCII)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST


@dataclass(frozen=True, slots=True)
class Lookback:
    """How far before its last position a cursor is read again: `seconds` of a time, `steps` of a number."""

    seconds: int | None = None
    steps: int | None = None

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read `90s`, `10m`, `2h`, `1d`, or a whole number for a cursor that is a number.

        Raises:
            ValueError: It is neither.
        """
        if _is_count(value):
            return cls(steps=value)
        if isinstance(value, str) and (match := _SPAN.fullmatch(value.strip())):
            seconds = int(match[1]) * _SECONDS[match[2]]
            if seconds <= _LONGEST:
                return cls(seconds=seconds)
            raise ValueError("must be at most 36500d")
        raise ValueError("must be a time such as 10m (s, m, h, d), or a whole number of steps")

    @property
    def written(self) -> int | str:
        """What stands in a file."""
        return str(self) if self.steps is None else self.steps

    def __str__(self) -> str:
        """Write it as it stands in a file."""
        if self.seconds is None:
            return str(self.steps or 0)
        unit = next(u for u in ("d", "h", "m", "s") if self.seconds % _SECONDS[u] == 0)
        return f"{self.seconds // _SECONDS[unit]}{unit}"


@dataclass(frozen=True, slots=True)
class Budget:
    """How many of a stream's rows may be something: a number of rows, or a share in percent."""

    rows: int | None = None
    percent: Decimal | None = None

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read a whole number of rows, or `0.5%`.

        Raises:
            ValueError: It is neither.
        """
        if _is_count(value):
            return cls(rows=value)
        if isinstance(value, str) and (match := _SHARE.fullmatch(value.strip())):
            percent = Decimal(match[1])
            if percent <= 100:
                return cls(percent=percent)
        raise ValueError("must be a whole number of rows, or a share of them such as 0.5%")

    @property
    def written(self) -> int | str:
        """What stands in a file."""
        return str(self) if self.rows is None else self.rows

    def allows(self, rows: int, total: int) -> bool:
        """Tell whether `rows` out of `total` stay within the budget."""
        if self.percent is not None:
            return rows * 100 <= self.percent * total
        return rows <= (self.rows or 0)

    def __str__(self) -> str:
        """Write it as it stands in a file."""
        return f"{self.percent}%" if self.percent is not None else str(self.rows or 0)
