"""Checks of what is said about time: zones and cron schedules."""

import re
from zoneinfo import ZoneInfo

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)
_ITEM = re.compile(r"(?:\*|([a-z0-9]{1,3})(?:-([a-z0-9]{1,3}))?)(?:/([0-9]{1,2}))?", re.ASCII)
_LONGEST = dict(enumerate((31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), 1))


def is_timezone(name: str) -> bool:
    """Tell whether a time zone of this name is known."""
    if name == "UTC":
        return True
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return False
    return True


def cron_mistake(text: str) -> str | None:
    """Say what is wrong with a cron schedule of five fields, or None."""
    fields = text.lower().split()
    if len(fields) != len(_FIELDS):
        return (
            "must have five fields (minute, hour, day of month, month, day of week), "
            "as in '0 2 * * *'"
        )
    chosen: list[frozenset[int]] = []
    for field, (title, low, high, names) in zip(fields, _FIELDS, strict=True):
        numbers = _numbers(field, low, high, names)
        if not numbers:
            return f"the {title} field is wrong; allowed are {low}-{high}, *, lists, ranges and /n"
        chosen.append(numbers)
    days, months = chosen[2], chosen[3]
    # Dagster finds no next time for such a day, even where a day of the week is named too.
    if min(days) > max(_LONGEST[month] for month in months):
        return "this day never comes in the given months"
    return None


def _numbers(field: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    """Return the numbers a field stands for; none when it is wrong."""
    found: set[int] = set()
    for part in field.split(","):
        match = _ITEM.fullmatch(part)
        numbers = _range(match, low, high, names) if match else range(0)
        if not numbers:
            return frozenset()
        found.update(numbers)
    return frozenset(found)


def _range(match: re.Match[str], low: int, high: int, names: dict[str, int]) -> range:
    """Return the numbers of one `*`, `a`, `a-b` or `…/n`; none when out of bounds."""
    first, last, step = match.groups()
    start = low if first is None else _number(first, names)
    end = high if first is None else _number(last or first, names)
    if not low <= start <= end <= high or (step and first and not last):
        return range(0)
    every = int(step or 1)
    return range(start, end + 1, every) if every else range(0)


def _number(text: str, names: dict[str, int]) -> int:
    """Read a number or a name; -1 when it is neither."""
    return int(text) if text.isdigit() else names.get(text, -1)
