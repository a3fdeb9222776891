"""What is said about time: zones and cron schedules."""

import re
from dataclasses import dataclass
from datetime import date
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
_HOURS, _DAYS_OF_MONTH, _WEEK = 24, 31, 7
_SIZES = (60, _HOURS, _DAYS_OF_MONTH, 12, _WEEK)
_EVERY_DAY, _EVERY_WEEKDAY = frozenset(range(1, _DAYS_OF_MONTH + 1)), frozenset(range(_WEEK))
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


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron schedule of five fields, as the numbers that each stands for."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    # Sunday is 0.
    weekdays: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> "Cron":
        """Read a schedule.

        Raises:
            ValueError: The text is no schedule, or one that never comes.
        """
        fields = text.lower().split()
        if len(fields) != len(_FIELDS):
            raise ValueError(
                "must have five fields (minute, hour, day of month, month, day of week), "
                "as in '0 2 * * *'"
            )
        chosen: list[frozenset[int]] = []
        for field, (title, low, high, names) in zip(fields, _FIELDS, strict=True):
            numbers = _numbers(field, low, high, names)
            if not numbers:
                raise ValueError(
                    f"the {title} field is wrong; allowed are {low}-{high}, *, lists, ranges and /n"
                )
            chosen.append(numbers)
        minutes, hours, days, months, weekdays = chosen
        weekdays = frozenset(day % _WEEK for day in weekdays)
        # Dagster finds no next time for such a day, even where a day of the week is named too.
        if min(days) > max(_LONGEST[month] for month in months):
            raise ValueError("this day never comes in the given months")
        if not fields[2].startswith("*") and not fields[4].startswith("*"):
            # Either is enough where both are named, and one of them names every day.
            every = len(days) == _DAYS_OF_MONTH or len(weekdays) == _WEEK
            days, weekdays = (_EVERY_DAY, _EVERY_WEEKDAY) if every else (days, weekdays)
        return cls(minutes, hours, days, months, weekdays)

    def __str__(self) -> str:
        """Write it with numbers only, in the order of the fields."""
        chosen = (self.minutes, self.hours, self.days, self.months, self.weekdays)
        return " ".join(_field(*each) for each in zip(chosen, _SIZES, strict=True))

    @property
    def is_hourly(self) -> bool:
        """Tell whether it names no hour, so that it goes by every hour that passes."""
        return len(self.hours) == _HOURS

    def has_day(self, day: date) -> bool:
        """Tell whether it ticks on a day; of a day of the month and one of the week either is enough."""
        if day.month not in self.months:
            return False
        by_date, by_week = day.day in self.days, day.isoweekday() % _WEEK in self.weekdays
        if len(self.days) == _DAYS_OF_MONTH or len(self.weekdays) == _WEEK:
            return by_date and by_week
        return by_date or by_week


def cron_mistake(text: str) -> str | None:
    """Say what is wrong with a cron schedule of five fields, or None."""
    try:
        Cron.parse(text)
    except ValueError as fault:
        return str(fault)
    return None


def _field(numbers: frozenset[int], size: int) -> str:
    """Write the numbers of one field."""
    return "*" if len(numbers) == size else ",".join(map(str, sorted(numbers)))


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
