"""A request, its answer, and how long a busy server wants to be left alone."""

import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request: what is asked of which URL; `repeatable` says that asking twice changes nothing."""

    url: str
    method: str = "GET"
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    repeatable: bool = True

    @property
    def shown(self) -> str:
        """The URL for people: a query may hold secrets."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    headers: httpx.Headers
    body: bytes
    url: str  # that was asked in the end


def retry_after(headers: httpx.Headers) -> float | None:
    """Read how many seconds the server wants to be left alone: a number, or a time by its own clock."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    then = _seconds(text)
    now = _seconds(headers.get("date", "")) or time.time()
    return None if then is None else max(0.0, then - now)


def _seconds(date: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
