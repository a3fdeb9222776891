"""PostgreSQL's numeric on the wire: digits to the base of 10,000, as whole numbers of the column's last decimal.

A value is the number of its digits, the weight of the first one (a power of 10,000), its sign and its scale, two bytes
each, then the digits: `numeric_send` in src/backend/utils/adt/numeric.c. Digits behind the last one are zero.
"""

from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from aiia_pipelines.connectors._sql_wire_bytes import Bytes, Field, Numbers, Places

_BASE, _WIDTH = 10_000, 4  # decimals of a digit
_NEGATIVE, _SPECIAL = 0x4000, 0x8000
_TEXTS = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}
_HEAD = 8  # bytes before the digits
_NARROW = 18  # decimals that a 64-bit number surely holds
_READ = 6  # digits that a window of a field shows
SEEN = _HEAD + 2 * _READ  # bytes
_LIMITS = np.array([1, 10, 100, 1000, 10_000], np.uint16)
_32 = np.uint64(32)


@dataclass(frozen=True, slots=True)
class _Heads:
    count: Places
    weight: Places
    negative: Numbers


def scaled(field: Field, precision: int, scale: int) -> Numbers | None:
    """Give 128-bit numbers, low half first; None when one has no such number: NaN, infinity, more digits.

    What stands for a NULL is zero. `precision` is at most 38. The windows of the field show `SEEN` bytes.
    """
    heads = _heads(field, precision, scale)
    if heads is None:
        return None
    if precision > _NARROW or int(heads.count.max(initial=0)) > _READ:
        return _wide(field, heads, scale)
    return _narrow(field, heads, scale)


def plain(field: Field, precision: int, scale: int) -> bool:
    """Tell whether all values are numbers of at most so many digits and decimals."""
    return _heads(field, precision, scale) is not None


def _heads(field: Field, precision: int, scale: int) -> _Heads | None:
    count, weight, sign, decimals = (
        field.read(kind, at).astype(kind[1:]) for kind, at in ((">u2", 0), (">i2", 2), (">u2", 4), (">u2", 6))
    )  # fmt: skip
    if field.nulls is not None:
        for part in (count, weight, sign, decimals):
            part[field.nulls] = 0
    if int(sign.max(initial=0)) >= _SPECIAL or int(decimals.max(initial=0)) > scale:
        return None
    whole = precision - scale
    if _WIDTH * (int(weight.max(initial=0)) + 1) > whole:
        # A foreign table may hold more digits than it declares; the first digit is never zero.
        most = _LIMITS[np.clip(whole - _WIDTH * weight.astype(np.int32), 0, _WIDTH)]
        if ((field.read(">u2", _HEAD) >= most) & (count > 0)).any():
            return None
    return _Heads(count, weight, sign == _NEGATIVE)


def _narrow(field: Field, heads: _Heads, scale: int) -> Numbers:
    """Add up digits by 64-bit numbers that may run over meanwhile, since what comes out does not."""
    low, high = int(heads.weight.min(initial=0)), int(heads.weight.max(initial=0))
    row = (heads.weight - low).astype(np.intp) if high > low else 0
    fewest, most = int(heads.count.min(initial=_READ)), int(heads.count.max(initial=0))
    total = np.zeros(len(field), np.uint64)
    for place in range(most):
        digit = field.read(">u2", _HEAD + 2 * place).astype(np.uint64)
        if place >= fewest:
            digit *= heads.count > place
        exponents = [scale + _WIDTH * (weight - place) for weight in range(low, high + 1)]
        if min(exponents) < 0:
            # The digit that reaches beyond the last decimal is the last one of its value.
            digit //= np.array([10 ** max(-e, 0) % 2**64 or 1 for e in exponents], np.uint64)[row]
        digit *= np.array([10 ** max(e, 0) % 2**64 for e in exponents], np.uint64)[row]
        total += digit
    signed = total.view(np.int64)
    np.negative(signed, out=signed, where=heads.negative)
    found = np.empty((len(field), 2), np.int64)
    found[:, 0] = signed
    np.right_shift(signed, 63, out=found[:, 1])
    return found


def _wide(field: Field, heads: _Heads, scale: int) -> Numbers:
    """Add up digits by 128-bit numbers, from the highest power of 10,000 to the last decimal."""
    behind = -(-scale // _WIDTH)
    spare = behind * _WIDTH - scale
    count, weight = heads.count.astype(np.int64), heads.weight.astype(np.int64)
    digits = field.begins + _HEAD
    low, high = np.zeros(len(field), np.uint64), np.zeros(len(field), np.uint64)
    top = int(np.max(np.where(count > 0, weight, -behind), initial=-behind))
    for power in range(top, -behind - 1, -1):
        place = weight - power
        there = (place >= 0) & (place < count)
        digit = field.data.pairs(digits + 2 * np.where(there, place, 0)) * there.astype(np.uint64)
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


def _signed(low: Numbers, high: Numbers, negative: Numbers) -> Numbers:
    """Write two's complement."""
    found = np.zeros((len(low), 2), np.uint64)
    found[:, 0], found[:, 1] = low, high
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
