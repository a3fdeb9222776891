"""PostgreSQL's numeric on the wire: digits to the base of 10,000, as whole numbers of the column's last decimal.

A value is the number of its digits, the weight of the first one (a power of 10,000), its sign and its scale, two bytes
each, then the digits: `numeric_send` in src/backend/utils/adt/numeric.c. Digits behind the last one are zero.
"""

from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from aiia_pipelines.connectors._sql_wire_bytes import Bytes, Numbers, Places

_BASE, _WIDTH = 10_000, 4  # decimals of a digit
_NEGATIVE, _SPECIAL = 0x4000, 0x8000
_TEXTS = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}
_HEAD = 8  # bytes before the digits
_NARROW = 18  # decimals that a 64-bit number surely holds
_READ = 6  # digits that are looked at as a part of three words
_LIMITS = np.array([1, 10, 100, 1000, 10_000], np.uint64)
_16, _32, _FIRST = np.uint64(16), np.uint64(32), np.uint64(0xFFFF)


@dataclass(frozen=True, slots=True)
class _Heads:
    count: Places
    weight: Places
    negative: Numbers
    digits: Numbers  # the first two, in the lower half


def scaled(
    data: Bytes, begins: Places, nulls: Numbers | None, precision: int, scale: int
) -> Numbers | None:
    """Give 128-bit numbers, low half first; None when one has no such number: NaN, infinity, more digits.

    What stands for a NULL is zero. `precision` is at most 38.
    """
    heads = _heads(data, begins, nulls, precision, scale)
    if heads is None:
        return None
    if precision > _NARROW or int(heads.count.max(initial=0)) > _READ:
        return _wide(data, begins, heads, scale)
    return _narrow(data, begins, heads, scale)


def plain(data: Bytes, begins: Places, nulls: Numbers | None, precision: int, scale: int) -> bool:
    """Tell whether all values are numbers of at most so many digits and decimals."""
    return _heads(data, begins, nulls, precision, scale) is not None


def _heads(
    data: Bytes, begins: Places, nulls: Numbers | None, precision: int, scale: int
) -> _Heads | None:
    first, second = data.words(begins), data.words(begins + 4)
    if nulls is not None:
        first[nulls] = 0
        second[nulls] = 0
    sign = (second >> np.uint64(48)).astype(np.uint16)
    decimals = (second >> _32).astype(np.uint16)
    if int(sign.max(initial=0)) >= _SPECIAL or int(decimals.max(initial=0)) > scale:
        return None
    weight = (first >> _32).astype(np.uint16).view(np.int16).astype(np.int64)
    count = (first >> np.uint64(48)).astype(np.int64)
    # A foreign table may hold more digits than it declares; the first digit is never zero.
    most = _LIMITS[np.clip(precision - scale - _WIDTH * weight, 0, _WIDTH)]
    if (((second >> _16) & _FIRST >= most) & (count > 0)).any():
        return None
    return _Heads(count, weight, sign == _NEGATIVE, second)


def _narrow(data: Bytes, begins: Places, heads: _Heads, scale: int) -> Numbers:
    """Add up digits by 64-bit numbers that may run over meanwhile, since what comes out does not."""
    behind = -(-scale // _WIDTH)
    spare = behind * _WIDTH - scale
    most = int(heads.count.max(initial=0))
    rest = data.words(begins + _HEAD + 4) if most > 2 else None
    # The digit that reaches beyond the last decimal is the last one of its value.
    split = (heads.weight + behind + 1 == heads.count) & (heads.count > 0) if spare else None
    total = np.zeros(len(begins), np.uint64)
    factors = _factors(scale, int(heads.weight.min(initial=0)), int(heads.weight.max(initial=0)))
    row = heads.weight - int(heads.weight.min(initial=0))
    full = heads.count if split is None else heads.count - split
    for place in range(most):
        word, shift = (heads.digits, 1 - place) if place < 2 else (rest, 5 - place)
        if word is None:
            raise AssertionError("more than two digits are read by a word of their own")
        digit = (word >> (_16 * np.uint64(shift))) & _FIRST
        digit *= factors[place][row]
        digit *= place < full
        total += digit
    if split is not None:
        last = data.pairs(begins + _HEAD + 2 * np.maximum(heads.count - 1, 0))
        total += np.where(split, last // np.uint64(10**spare), np.uint64(0))
    return _signed(total, None, heads.negative)


def _factors(scale: int, low: int, high: int) -> list[Numbers]:
    """Give what a digit at each place counts for, by the weight of the first one."""
    exponents = [
        [scale + _WIDTH * (weight - place) for weight in range(low, high + 1)]
        for place in range(_READ)
    ]
    return [np.array([10**e % 2**64 if e >= 0 else 0 for e in row], np.uint64) for row in exponents]


def _wide(data: Bytes, begins: Places, heads: _Heads, scale: int) -> Numbers:
    """Add up digits by 128-bit numbers, from the highest power of 10,000 to the last decimal."""
    behind = -(-scale // _WIDTH)
    spare = behind * _WIDTH - scale
    low, high = np.zeros(len(begins), np.uint64), np.zeros(len(begins), np.uint64)
    top = int(np.max(np.where(heads.count > 0, heads.weight, -behind), initial=-behind))
    for power in range(top, -behind - 1, -1):
        place = heads.weight - power
        there = (place >= 0) & (place < heads.count)
        digit = data.pairs(begins + _HEAD + 2 * np.where(there, place, 0)) * there.astype(np.uint64)
        factor = _BASE
        if power == -behind and spare:
            factor, digit = 10 ** (_WIDTH - spare), digit // np.uint64(10**spare)
        low, high = _multiplied(low, high, np.uint64(factor), digit)
    return _signed(low, high, heads.negative)


def _multiplied(
    low: Numbers, high: Numbers, factor: np.uint64, more: Numbers
) -> tuple[Numbers, Numbers]:
    """Multiply 128-bit numbers by a small one and add another."""
    mask = np.uint64(0xFFFFFFFF)
    first = (low & mask) * factor + more
    second = (low >> _32) * factor + (first >> _32)
    return (second << _32) | (first & mask), high * factor + (second >> _32)


def _signed(low: Numbers, high: Numbers | None, negative: Numbers) -> Numbers:
    """Write two's complement."""
    found = np.zeros((len(low), 2), np.uint64)
    if high is not None:
        found[:, 1] = high
    found[:, 0] = low
    if negative.any():
        found[negative] = ~found[negative]
        found[negative, 0] += np.uint64(1)
        found[:, 1] += (negative & (found[:, 0] == 0)).astype(np.uint64)
    return found


def text(data: Bytes, place: int) -> str:
    """Write one value as PostgreSQL does."""
    at = np.array([place])
    count, weight, sign, scale = (int(data.pairs(at + 2 * step)[0]) for step in range(4))
    if sign >= _SPECIAL:
        return _TEXTS.get(sign, "NaN")
    power = weight - 0x10000 if weight >= 0x8000 else weight
    digits = [int(data.pairs(at + _HEAD + 2 * step)[0]) for step in range(count)]
    whole = sum(digit * _BASE ** (count - 1 - step) for step, digit in enumerate(digits))
    # Made of a text, since arithmetic would round to what the context says.
    value = Decimal(f"{'-' if sign == _NEGATIVE else ''}{whole}e{_WIDTH * (power - count + 1)}")
    return f"{value:.{scale}f}"
