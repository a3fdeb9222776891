"""When a connector may run: the key `window` of its file, and what follows from it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal, Self, get_args
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from aiia_pipelines.config.checks import refused
from aiia_pipelines.config.localtime import first_moment, last_moment

_DAY = timedelta(days=1)
_WEEK = 7
_DATE = r"2[0-9]{3}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_HOURS = re.compile(rf"({_CLOCK})-({_CLOCK}|24:00)", re.ASCII)
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)


@dataclass(frozen=True, slots=True)
class Hours:
    """Part of a day, by the clock; one that ends before it begins goes on over midnight."""

    begin: time
    end: time

    @classmethod
    def parse(cls, text: str) -> "Hours":
        """Read hours such as 22:00-05:00.

        Raises:
            ValueError: The text is something else.
        """
        match = _HOURS.fullmatch(text)
        if match is None:
            raise ValueError("must be two times of day as in '22:00-05:00'")
        begin, end = (time.fromisoformat(part.replace("24:", "00:")) for part in match.groups())
        if match[1] == match[2]:
            raise ValueError("must not begin and end at the same time; leave it out for whole days")
        return cls(begin, end)

    def __str__(self) -> str:
        """Write the hours as they are read."""
        end = "24:00" if self.end == time() else f"{self.end:%H:%M}"
        return f"{self.begin:%H:%M}-{end}"


def _day(value: object) -> date:
    """Read a day."""
    if isinstance(value, date):
        return value
    try:
        if isinstance(value, str) and re.fullmatch(_DATE, value, re.ASCII):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise refused("must be a day from 2000 to 2999 as in 2026-12-31")


def _hours(value: object) -> Hours:
    """Read hours."""
    if isinstance(value, Hours):
        return value
    try:
        return Hours.parse(value if isinstance(value, str) else "")
    except ValueError as fault:
        raise refused(str(fault)) from None


Day = Annotated[
    date,
    PlainValidator(_day),
    PlainSerializer(date.isoformat, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": f"^{_DATE}$", "examples": ["2026-12-31"]}),
]
HoursText = Annotated[
    Hours,
    PlainValidator(_hours),
    PlainSerializer(str),
    WithJsonSchema(
        {"type": "string", "pattern": f"^{_HOURS.pattern}$", "examples": ["22:00-05:00"]}
    ),
]


class Window(BaseModel):
    """The key `window` of a connector file; a part that is left out does not limit."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    from_: Day | None = Field(default=None, alias="from")
    until: Day | None = None
    hours: HoursText | None = None
    weekdays: list[Weekday] = Field(default_factory=lambda: list(_WEEKDAYS), min_length=1)

    @model_validator(mode="after")
    def _opens_at_all(self) -> Self:
        """Refuse a window that never opens."""
        if self.from_ and self.until and self.from_ > self.until:
            raise refused("until must not be before from")
        if self.until and next(self.days(self.from_ or self.until - _WEEK * _DAY), None) is None:
            raise refused("none of its weekdays lies between from and until")
        return self

    def days(self, start: date) -> Iterator[date]:
        """Give the days on which it opens, from a day on."""
        day = max(start, self.from_ or start)
        chosen = {_WEEKDAYS.index(name) for name in self.weekdays}
        while self.until is None or day <= self.until:
            if day.weekday() in chosen:
                yield day
            day += _DAY

    @property
    def is_unbroken(self) -> bool:
        """Tell whether it does not close between its first day and its last."""
        return self.hours is None and len({*self.weekdays}) == _WEEK

    @property
    def last_day(self) -> date | None:
        """The last day on which it opens, None when there is no end."""
        if self.until is None:
            return None
        return max(self.days(self.until - (_WEEK - 1) * _DAY))


@dataclass(frozen=True, slots=True)
class Opening:
    """A window in its time zone; without one it is always open. All moments are aware, and given in UTC.

    A border that the clocks jump over stands at the moment of the jump; of a border that comes twice a
    window begins at the first and ends at the second. So none is ever shorter than nothing, and one that
    lies wholly in the time left out does not open on that day.
    """

    window: Window | None
    timezone: str

    def is_open(self, at: datetime) -> bool:
        """Tell whether it is open at a moment."""
        return self.next_opening(at) == at

    def next_opening(self, at: datetime) -> datetime | None:
        """Give the first moment from this one on at which it is open; None when it never opens again."""
        at = at.astimezone(UTC)
        for begin, end in self._spans(at):
            if at < end:
                return max(at, begin)
        return at if self.window is None else None

    def closes_at(self, at: datetime) -> datetime | None:
        """Give the first moment from this one on at which it is closed; None when it never closes again."""
        at = at.astimezone(UTC)
        if not self.is_open(at):
            return at
        if self.window is None or self.window.is_unbroken:
            return self.ends_at
        closed = at
        for begin, end in self._spans(at):
            if begin > closed:
                break
            closed = max(closed, end)
        return closed

    @property
    def ends_at(self) -> datetime | None:
        """The moment after which it never opens again; None when there is no end."""
        last = self.window.last_day if self.window else None
        return self._span(last)[1] if last else None

    def _spans(self, at: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Give what is open, from the day before a moment on; days that follow each other touch."""
        if self.window is None:
            return
        start = at.astimezone(ZoneInfo(self.timezone)).date() - _DAY
        for day in self.window.days(start):
            begin, end = self._span(day)
            if begin < end:
                yield begin, end

    def _span(self, day: date) -> tuple[datetime, datetime]:
        """Give the borders of what begins on a day."""
        zone = ZoneInfo(self.timezone)
        hours = (self.window.hours if self.window else None) or Hours(time(), time())
        until = day if hours.begin < hours.end else day + _DAY
        begin = first_moment(datetime.combine(day, hours.begin), zone)
        return begin, last_moment(datetime.combine(until, hours.end), zone)
