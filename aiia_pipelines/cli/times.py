"""Durations and dates as people write and read them."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import click

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"([0-9]{1,6})\s*([smhdw])", re.ASCII)


class Duration(click.ParamType[timedelta]):
    """A duration such as 90s, 30m, 24h or 7d."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read the duration."""
        if isinstance(value, timedelta):
            return value
        found = duration(str(value))
        if found is None:
            self.fail("write a duration such as 90s, 30m, 24h or 7d", param, ctx)
        return found


class Since(click.ParamType[datetime | timedelta]):
    """A time: so long ago, or a date; a date without a zone is meant in the settings' one."""

    name = "since"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime | timedelta:
        """Read the time."""
        if isinstance(value, datetime | timedelta):
            return value
        ago = duration(str(value))
        if ago is not None:
            return ago
        try:
            return datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(
                "write a duration such as 24h or 7d, or a date such as 2026-01-31", param, ctx
            )


def duration(text: str) -> timedelta | None:
    """Read a duration; None when it is none."""
    found = _DURATION.fullmatch(text.strip())
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]]) if found else None


def moment(since: datetime | timedelta, timezone: str) -> datetime:
    """Return the moment that `--since` means."""
    if isinstance(since, timedelta):
        return datetime.now(UTC) - since
    return since if since.tzinfo else since.replace(tzinfo=ZoneInfo(timezone))


def lasting(seconds: float | None) -> str:
    """Render a duration: 31.7s, 1m 47s, 2h 03m."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def brief(seconds: float) -> str:
    """Render the time of a short stage: 3 ms, 1.2 s."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def amount(count: int) -> str:
    """Render a number of bytes: 512 bytes, 3.4 KiB, 38.9 MiB."""
    if count < 1024:
        return f"{count} bytes"
    units = ("KiB", "MiB", "GiB", "TiB")
    power = min((count.bit_length() - 1) // 10, len(units))
    return f"{count / 1024**power:.1f} {units[power - 1]}"


def shown(at: datetime | None, timezone: str) -> str:
    """Render a time in a zone, to the second."""
    if at is None:
        return ""
    return at.astimezone(ZoneInfo(timezone)).strftime("%Y-%m-%d %H:%M:%S")
