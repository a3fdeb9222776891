"""What the values of a column look like, in figures from which no value can be read: by them a renamed column is known."""

import datetime as dt
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from decimal import Decimal
from hashlib import blake2b
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors.base import Reading, Source, SourceFault
from aiia_pipelines.jobs.contracts import LearnedColumn, Profile

if TYPE_CHECKING:
    from aiia_pipelines.sync.contract import Contract

ROWS = 200  # looked at, which costs a first sync some milliseconds a column
FEW = 5  # values below which nothing is concluded
_SKETCH = 32
_FIRST = 48
_MOST_COMMON = 12
_NUMBER = re.compile(r"[-+]?[0-9]{1,30}(\.[0-9]{1,30})?", re.ASCII)
_RUNS = ((re.compile(r"[A-ZÀ-Þ]+"), "A"), (re.compile(r"[^\W\dA-Z_]+"), "a"))
_DIGITS = re.compile(r"[0-9]+")


def profile_of(values: Sequence[Any]) -> Profile:
    """Describe the values of one column."""
    given = [value for value in values if value is not None]
    texts = [_token(value) for value in given]
    # Most columns repeat themselves: each text and each shape is worked out once.
    count, looks = Counter[int](), Counter[str]()
    for text, times in Counter(texts).items():
        count[_hash(text)] += times
        looks[_shape(text)] += times
    shapes = Counter({_hash(look): times for look, times in looks.items()})
    total = len(given) or 1
    few = count if len(count) <= _MOST_COMMON else {}
    return Profile(
        values=len(given),
        nulls=round(1 - len(given) / (len(values) or 1), 3),
        distinct=round(len(count) / total, 3),
        sketch=sorted(count)[:_SKETCH],
        first=[-1 if v is None else _hash(_token(v)) & 0xFFFF for v in values[:_FIRST]],
        common={f"{key:x}": round(times / total, 3) for key, times in few.items()},
        shapes={
            f"{key:x}": round(times / total, 3) for key, times in shapes.most_common(_MOST_COMMON)
        },
        levels=_levels(given),
    )


def profiled(contract: "Contract", rows: pa.RecordBatch | None) -> list[LearnedColumn]:
    """Add to what a sync learned how the values of its first rows look."""
    learned = deepcopy(contract.learned or [])
    if rows is None:
        return learned
    places = {column.source: place for place, column in enumerate(contract.columns)}
    sample = rows.slice(0, ROWS)
    for column in learned:
        place = places.get(column["name"])
        if place is not None and not column.get("absent"):
            column["profile"] = profile_of(sample.column(place).to_pylist())
    return learned


def sampled(source: Source, stream: Stream, names: Sequence[str]) -> dict[str, Profile]:
    """Describe the values that the source has first now; nothing when it cannot be read."""
    few = stream.model_copy(update={"batch_rows": ROWS})
    batches = source.batches(few, Reading(names=list(names)))
    try:
        batch = next(iter(batches), None)
    except SourceFault:
        return {}
    finally:
        if close := getattr(batches, "close", None):
            close()
    if batch is None or not len(batch):
        return {}
    if isinstance(batch.rows, Sequence):
        columns = [list(column) for column in zip(*batch.rows[:ROWS], strict=True)]
    else:
        columns = [column.slice(0, ROWS).to_pylist() for column in batch.rows.columns]
    return {name: profile_of(values) for name, values in zip(names, columns, strict=True)}


# -- how alike two columns are --------------------------------------------------------------


def overlap(one: Profile, other: Profile) -> float:
    """Tell how much the values of two columns are the same ones, from 0 to 1."""
    if one["common"] and other["common"]:
        # Of few values most columns have the same: how often each occurs tells more.
        return _shared(one["common"], other["common"]) ** 2
    mine, theirs = set(one["sketch"]), set(other["sketch"])
    least = sorted(mine | theirs)[: max(len(mine), len(theirs))]
    return sum(key in mine and key in theirs for key in least) / len(least) if least else 0.0


def row_by_row(one: Profile, other: Profile) -> float | None:
    """Tell in how many of the first rows two columns have the same value; None when too few have one."""
    pairs = [pair for pair in zip(one["first"], other["first"], strict=False) if pair != (-1, -1)]
    return sum(a == b for a, b in pairs) / len(pairs) if len(pairs) >= FEW else None


def likeness(one: Profile, other: Profile) -> float:
    """Tell how much the values of two columns look alike without being the same, from 0 to 1."""
    parts = [
        1 - abs(one["nulls"] - other["nulls"]),
        1 - abs(one["distinct"] - other["distinct"]),
        _shared(one["shapes"], other["shapes"]),
    ]
    if one["levels"] and other["levels"]:
        gaps = (abs(a - b) for a, b in zip(one["levels"], other["levels"], strict=True))
        parts.append(fmean(max(0.0, 1 - gap / 6) for gap in gaps))
    # One part that is wholly different is not made up for by the others.
    return math.prod(parts) ** (1 / len(parts)) if min(parts) > 0 else 0.0


def _shared(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    return min(1.0, sum(min(share, other.get(key, 0.0)) for key, share in one.items()))


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=4).digest())


def _token(value: Any) -> str:  # noqa: ANN401 - a value of any type
    """Write a value so that it is the same text after a change of its type."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | Decimal) or (
        isinstance(value, str) and _NUMBER.fullmatch(value)
    ):
        number = Decimal(str(value))
        return format(number.normalize(), "f") if number.is_finite() else str(number).lower()
    if isinstance(value, dt.datetime):
        at = value.astimezone(dt.UTC).replace(tzinfo=None) if value.tzinfo else value
        return at.isoformat().removesuffix("T00:00:00")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    return value.isoformat() if isinstance(value, dt.date | dt.time) else str(value)


def _shape(text: str) -> str:
    for letters, sign in _RUNS:
        text = letters.sub(sign, text[:200])
    return _DIGITS.sub("0", text)


def _levels(values: Iterable[Any]) -> list[int]:
    numbers = [number for value in values if (number := _number(value)) is not None]
    if not numbers:
        return []
    return [
        round(2 * math.copysign(math.log2(1 + abs(number)), number))
        for number in (min(numbers), median(numbers), max(numbers))
    ]


def _number(value: Any) -> float | None:  # noqa: ANN401 - a value of any type
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        try:
            number = float(value)
        except (OverflowError, ValueError):  # a signaling NaN is no number
            return None
        return number if math.isfinite(number) else None
    if isinstance(value, dt.date):  # a datetime is one
        return float(value.toordinal() - dt.date(1970, 1, 1).toordinal())
    return None
