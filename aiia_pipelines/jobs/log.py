"""The lines of a job run's log: how they are made, written and read back."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import IntEnum
from typing import Self

from aiia_pipelines.jobs.redaction import REDACTOR
from aiia_pipelines.jobs.state import FINAL, JobState

MAX_BYTES = 8192
_INDENT = "    "
# C0 and C1 controls, line and paragraph separators, bidirectional controls, lone surrogates:
# whatever could break a line, hide text or show it in another order.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


class Level(IntEnum):
    """How serious a log line is."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40
    FATAL = 50


_LINE = re.compile(
    r"\[([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2})\]"
    rf" ({'|'.join(level.name for level in Level)}): (.*)"
)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One event of a log; no piece of it can hold a line break or a control character."""

    at: datetime
    level: Level
    message: str
    detail: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Escape every piece, also of a line that was not made by `of`."""
        if self.at.utcoffset() is None:
            raise ValueError("The time of a log line needs a time zone.")
        object.__setattr__(self, "message", _piece(self.message))
        object.__setattr__(self, "detail", tuple(_piece(piece) for piece in self.detail))

    @classmethod
    def of(
        cls,
        level: Level,
        message: str,
        *,
        at: datetime | None = None,
        detail: Iterable[str] = (),
    ) -> Self:
        """Make a line of now from text that may hold secrets."""
        # Secrets go before the text is cut: half a secret would not be recognised.
        pieces = tuple(REDACTOR.clean(piece) for piece in detail)
        return cls(at or datetime.now(UTC), level, REDACTOR.clean(message), pieces)


def escape(text: str) -> str:
    r"""Return the text with each unsafe character as a visible \uXXXX."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def headline(text: str, limit: int = 200) -> str:
    """Return the first line that says something, at most `limit` characters long."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    safe = escape(first)
    return safe if len(safe) <= limit else safe[: limit - 1].rstrip() + "…"


def headline_at(text: str, place: str, limit: int = 200) -> str:
    """Return a headline that ends with a place, which is never cut."""
    ending = f" ({place})"
    return headline(text, limit - len(ending)) + ending


def render(line: LogLine, zone: tzinfo = UTC) -> str:
    """Return the line as it is written everywhere, without a line break at its end."""
    at = line.at.astimezone(zone).replace(tzinfo=None).isoformat(" ", "seconds")
    first = f"[{at}] {line.level.name}: {line.message}"
    return f"\n{_INDENT}".join((first, *line.detail))


def parse(text: str, zone: tzinfo = UTC) -> LogLine | None:
    """Return the line a rendered text stands for, or None when it is not one."""
    first, *rest = text.split("\n")
    found = _LINE.fullmatch(first)
    if found is None or not all(piece.startswith(_INDENT) for piece in rest):
        return None
    try:
        at = datetime.fromisoformat(found[1]).replace(tzinfo=zone)
    except ValueError:
        return None
    detail = tuple(piece.removeprefix(_INDENT) for piece in rest)
    return LogLine(at, Level[found[2]], found[3], detail)


def type_words(job_type: str) -> str:
    """Return the words people read for a job type."""
    return "data refresh" if job_type == "sync" else job_type.replace("_", " ")


def starting(job_type: str, number: int, title: str) -> str:
    """Say that a job run starts."""
    return f"Starting {type_words(job_type)} job run #{number} ({title})"


def connecting(url: str) -> str:
    """Say where a connection is made to; the URL bears neither password nor driver."""
    return f"Connecting to {url}..."


def connection_timeout(place: str, seconds: float) -> str:
    """Say that nothing answered at a place in time."""
    return f"Connection timeout. Unable to reach {place} after {seconds:g} seconds."


def finished(state: JobState, records: int | None) -> str:
    """Say that a job run ended well; only one that brings records tells how many."""
    counted = "" if records is None else f" {records:,} records ingested."
    return f"Job finished with state {state.upper()}.{counted}"


def aborted(state: JobState) -> str:
    """Say that a job run ended without its records."""
    return f"Job aborted with state {state.upper()}."


def closing(state: JobState, records: int | None) -> tuple[Level, str]:
    """Return level and sentence of the last line of a job run.

    Raises:
        ValueError: the state is not final.
    """
    if state not in FINAL:
        raise ValueError(f"A job run that is {state} has no closing line yet.")
    if state is JobState.COMPLETED:
        return Level.INFO, finished(state, records)
    if state is JobState.PARTIALLY_SUCCEEDED:
        return Level.WARNING, finished(state, records)
    fatal = state in (JobState.FAILED, JobState.ERROR)
    return Level.FATAL if fatal else Level.WARNING, aborted(state)


def _piece(text: str) -> str:
    safe = escape(text)
    encoded = safe.encode()
    if len(encoded) <= MAX_BYTES:
        return safe
    return encoded[: MAX_BYTES - len("…".encode())].decode(errors="ignore") + "…"
