"""What a clock on the wall shows against moments: times that do not exist, and those that come twice."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)


def moments(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """List the moments, in UTC, at which a clock shows this time: one, none or two."""
    first, second = (wall.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    before, after = first.utcoffset(), second.utcoffset()
    if before is not None and after is not None and before < after:
        return []
    found = [first.astimezone(UTC)]
    return found if before == after else [*found, second.astimezone(UTC)]


def first_moment(wall: datetime, zone: ZoneInfo) -> datetime:
    """Give the moment at which a clock shows this time first, or jumps over it."""
    found = moments(wall, zone)
    return found[0] if found else _jump(wall, zone)


def last_moment(wall: datetime, zone: ZoneInfo) -> datetime:
    """Give the moment at which a clock shows this time last, or jumps over it."""
    found = moments(wall, zone)
    return found[-1] if found else _jump(wall, zone)


def changes(zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[datetime]:
    """Give the moments at which the clocks of a zone change, up to the second."""
    early = after.astimezone(UTC)
    while early < until:
        late = early + _DAY
        if early.astimezone(zone).utcoffset() != late.astimezone(zone).utcoffset():
            yield _turn(early, late, zone)
        early = late


def _jump(wall: datetime, zone: ZoneInfo) -> datetime:
    """Find the moment of a change of the clocks that leaves a time out."""
    late, early = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return _turn(early, late, zone)


def _turn(early: datetime, late: datetime, zone: ZoneInfo) -> datetime:
    """Find the first moment after a change of the clocks between two others, by halves."""
    before = early.astimezone(zone).utcoffset()
    while late - early > _SECOND:
        middle = early + timedelta(seconds=(late - early) // _SECOND // 2)
        if middle.astimezone(zone).utcoffset() == before:
            early = middle
        else:
            late = middle
    return late
