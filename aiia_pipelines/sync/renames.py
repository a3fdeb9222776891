"""Which of the new columns of a source is which of the missing ones: by type, position and values, only when it is clear."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from statistics import median

from aiia_pipelines.config.types import ColumnType, widens
from aiia_pipelines.jobs.contracts import Profile
from aiia_pipelines.sync.profiles import FEW, likeness, overlap, row_by_row

_MARGIN = 0.1  # by which a pair must beat every other one that either of its columns could form
_FAMILIES = (
    {"int16", "int32", "int64", "float32", "float64", "decimal"},
    {"date", "timestamp", "timestamptz"},
    {"string", "uuid", "json"},
)
_PLACES = (0.5, 0.35, 0.15)  # weights of type, position and name where values are not known
_VALUES = (0.6, 0.2, 0.12, 0.08)  # weights of values, type, position and name
_ALIGNED = 0.8  # least share of rows in which the columns that stayed have the same value
_SAME_ROWS = 0.2  # least overlap of the columns that stayed, for two samples to be of the same rows


@dataclass(frozen=True, slots=True)
class Known:
    """A column before or after a change; `type` and `profile` may be unknown."""

    name: str
    type: ColumnType | None
    profile: Profile | None = None


@dataclass(frozen=True, slots=True)
class Rename:
    """A proposal; `confidence` and `margin` over the next best one go from 0 to 1."""

    old: str
    new: str
    confidence: float
    margin: float
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Pair:
    old: Known
    new: Known
    score: float
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Samples:
    """What the columns that stayed tell about two samples: the share of same values, and whether row meets row."""

    shared: float | None
    aligned: bool


def proposed(before: Sequence[Known], now: Sequence[Known]) -> list[Rename]:
    """Propose which columns were renamed, the surest first.

    `before` and `now` are all columns in their order; those with a name in common stayed.
    """
    stayed = {column.name for column in before} & {column.name for column in now}
    gone = [column for column in before if column.name not in stayed]
    new = [column for column in now if column.name not in stayed]
    places = _places(before, stayed) | {
        (name, "new"): place for (name, _), place in _places(now, stayed).items()
    }
    sample = _compared(before, now)
    pairs = [
        pair
        for old in gone
        for other in new
        if (pair := _pair(old, other, _position(places, old, other), sample))
    ]
    return list(_clear(pairs))


def _clear(pairs: list[_Pair]) -> Iterable[Rename]:
    """Take the pairs that beat all rivals; each one that is taken leaves fewer rivals to the rest."""
    while pairs:
        ranked = ((_lead(pair, pairs), pair) for pair in pairs)
        margin, best = max(ranked, key=lambda rank: (rank[0] >= _MARGIN, rank[1].score, rank[0]))
        if margin < _MARGIN:
            return
        yield Rename(best.old.name, best.new.name, round(best.score, 2), round(margin, 2), best.why)
        pairs = [pair for pair in pairs if pair.old != best.old and pair.new != best.new]


def _lead(pair: _Pair, pairs: Sequence[_Pair]) -> float:
    rivals = (p for p in pairs if p is not pair and (p.old == pair.old or p.new == pair.new))
    return pair.score - max((rival.score for rival in rivals), default=0.0)


def _pair(old: Known, new: Known, position: float, sample: _Samples) -> _Pair | None:
    """Weigh one pair; None when it is out of the question."""
    kind, name = _type(old.type, new.type), _name(old.name, new.name)
    why = [
        "same type" if kind == 1 else "a type that goes with it" if kind else "",
        "same place" if position == 1 else "",
        "a similar name" if name else "",
    ]
    if old.profile and new.profile and min(old.profile["values"], new.profile["values"]) >= FEW:
        likely = _values(old.profile, new.profile, sample)
        score = sum(w * s for w, s in zip(_VALUES, (likely, kind, position, name), strict=True))
        told = ("the same values", *filter(None, why))
        # Values that contradict are not made up for by anything; values of another type must be the same ones.
        return _Pair(old, new, score, told) if likely >= (0.55 if kind else 0.85) else None
    if _contradict(old.profile, new.profile) or kind < 0.7:
        return None
    score = sum(w * s for w, s in zip(_PLACES, (kind, position, name), strict=True))
    return _Pair(old, new, score, tuple(filter(None, why))) if score >= 0.5 else None


def _values(old: Profile, new: Profile, sample: _Samples) -> float:
    form = likeness(old, new)
    if sample.aligned and (same := row_by_row(old, new)) is not None:
        return 0.6 * same + 0.4 * form
    if sample.shared is not None and sample.shared < _SAME_ROWS and not old["common"]:
        # The samples are of other rows: values cannot be the same, but must look the same.
        return form if form >= 0.9 else 0.0
    return 0.6 * min(1.0, overlap(old, new) / (sample.shared or 1.0)) + 0.4 * form


def _compared(before: Sequence[Known], now: Sequence[Known]) -> _Samples:
    later = {column.name: column.profile for column in now}
    both = [
        (column.profile, other)
        for column in before
        if column.profile
        and (other := later.get(column.name))
        and min(column.profile["values"], other["values"]) >= FEW
        and not column.profile["common"]
    ]
    if not both:
        return _Samples(None, aligned=False)
    rows = [same for old, new in both if (same := row_by_row(old, new)) is not None]
    return _Samples(
        median(overlap(old, new) for old, new in both), bool(rows) and median(rows) >= _ALIGNED
    )


def _contradict(old: Profile | None, new: Profile | None) -> bool:
    """Tell whether one of them is empty and the other is not."""
    if old is None or new is None:
        return False
    empty = sorted((old["values"], new["values"]))
    return empty[0] < FEW <= empty[1]


def _type(old: ColumnType | None, new: ColumnType | None) -> float:
    if old is None or new is None:
        return 0.7
    if old == new:
        return 1.0
    if widens(old, new):
        return 0.7
    if widens(new, old):
        return 0.5
    return 0.4 if related(old, new) else 0.0


def related(one: ColumnType, other: ColumnType) -> bool:
    """Tell whether two types hold values of one sort: numbers, times or texts."""
    return any(one.name in family and other.name in family for family in _FAMILIES)


def _name(old: str, new: str) -> float:
    one, other = ("".join(re.findall(r"\w", name.lower())).replace("_", "") for name in (old, new))
    short, long = sorted((one, other), key=len)
    inside = len(short) >= 3 and short in long
    return 1.0 if inside or SequenceMatcher(None, one, other).ratio() >= 0.75 else 0.0


_Place = tuple[str, int, int]
_Places = Mapping[tuple[str, str], _Place]


def _places(columns: Sequence[Known], stayed: set[str]) -> dict[tuple[str, str], _Place]:
    """Place each column that did not stay: after which one that did, as which of how many."""
    runs: dict[str, list[str]] = {}
    anchor = ""
    for column in columns:
        if column.name in stayed:
            anchor = column.name
        else:
            runs.setdefault(anchor, []).append(column.name)
    return {
        (name, "old"): (after, place, len(names))
        for after, names in runs.items()
        for place, name in enumerate(names)
    }


def _position(places: _Places, old: Known, new: Known) -> float:
    before, now = places[old.name, "old"], places[new.name, "new"]
    if before == now:
        return 1.0
    return 0.5 if before[0] == now[0] else 0.0
