"""What goes wrong between here and a web server, in sentences and signals."""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from aiia_pipelines.connectors import _tls_faults as tls
from aiia_pipelines.connectors._reach import timed_out
from aiia_pipelines.connectors._rest_json import Unreadable, read
from aiia_pipelines.connectors.base import SourceFault
from aiia_pipelines.jobs.redaction import REDACTOR

# Of each status the signal of the catalogue that says the same in other words.
_MEANING = {
    401: "login:credentials",
    404: "source:not-found",
    408: "read:timeout",
    410: "source:not-found",
}
_WORDS = {
    400: "The server does not understand the request",
    401: "Invalid credentials",
    403: "Permission denied",
    404: "Not found",
    405: "The server does not take this method",
    407: "Proxy failure: a proxy on the way wants a login of its own",
    410: "Gone for good",
    422: "The server does not accept the parameters",
    429: "Rate limited",
    503: "The server is unavailable",
    507: "The disk of the server is full",
}
# What is meant when a refusal, or its challenge, speaks of these; the status alone says less.
_SAID = tuple(
    (statuses, re.compile(words, re.IGNORECASE), signal, sentence)
    for statuses, words, signal, sentence in (
        (
            {400, 401, 403},
            r"insufficient_user_authentication|multi-?factor|two-factor|second factor|\bmfa(?:_|\b)",
            "login:second-factor",
            "Second factor required",
        ),
        ({401}, r"\bexpired\b|token_expired|expired_token", "login:expired", "Credentials expired"),
        ({403}, r"\bquota|(?:daily|monthly) limit", "source:quota", "Quota exceeded"),
        ({429}, r"\b(?:daily|monthly|per[ -](?:day|month))\b", "source:quota", "Quota exceeded"),
    )
)
# What these say may repeat the credentials that were refused.
_SILENT = {401, 403, 407}
_EXPLAINING = ("error_description", "detail", "message", "error", "title", "errors")
_LONGEST_EXPLANATION = 16_384
_LONGEST_WORDS = 120
BUSY = {429, 503}
BROKEN = {502, 503, 504}


class RateLimited(SourceFault):
    """The server wants fewer requests; `retry_after` is in seconds, None when it does not say."""

    def __init__(self, message: str, *signals: str, place: str, retry_after: float | None) -> None:
        """Keep how long the server wants to be left alone."""
        super().__init__(message, *signals, place=place)
        self.retry_after = retry_after


class Passing(SourceFault):
    """A fault of the network that may be gone at the next attempt; `sent` tells whether it was too late."""

    def __init__(self, message: str, *signals: str, place: str, sent: bool) -> None:
        """Keep whether the request may have arrived."""
        super().__init__(message, *signals, place=place)
        self.sent = sent


def too_late(place: str, seconds: float) -> SourceFault:
    """Say that a whole answer took too long, in seconds."""
    return SourceFault(
        f"Read timeout. {place} had not sent the whole answer after {seconds:g} seconds.",
        "read:timeout",
        place=place,
    )


def cancelled(place: str) -> SourceFault:
    """Say that the read was stopped from here."""
    return SourceFault(f"The read of {place} was stopped.", "cancelled", place=place)


def refused(
    status: int,
    shown: str,
    place: str,
    *,
    words: str = "",
    challenge: str = "",
    retry_after: float | None = None,
) -> SourceFault:
    """Say what the status of an answer means; `shown` is the URL without its query."""
    for statuses, pattern, signal, sentence in _SAID:
        if status in statuses and pattern.search(f"{challenge} {words}"):
            told = f"{sentence}. {shown} answered {status}."
            return SourceFault(told, signal, f"http:{status}", place=place)
    meaning = _WORDS.get(status) or (
        "The server failed" if status >= 500 else "The server refuses the request"
    )
    said = f" It says: {words.rstrip('.!?')}." if words and status not in _SILENT else ""
    sentence = f"{meaning}. {shown} answered {status}.{said}"
    signals = (f"http:{status}", f"http:{status // 100}xx", *_known(status))
    if status in BUSY and (status == 429 or retry_after is not None):
        wait = f" It asks to wait {retry_after:,.0f} seconds." if retry_after is not None else ""
        return RateLimited(sentence + wait, *signals, place=place, retry_after=retry_after)
    return SourceFault(sentence, *signals, place=place)


def _known(status: int) -> tuple[str, ...]:
    if status in _MEANING:
        return (_MEANING[status],)
    if status >= 500:
        return ("source:unavailable",)
    return () if status >= 400 else ("protocol:error",)


def unusable(sentence: str, place: str) -> SourceFault:
    """Say that what answered does not speak the expected protocol."""
    return SourceFault(sentence, "protocol:error", place=place)


def too_much(sentence: str, place: str) -> SourceFault:
    """Say that a limit of this connector was passed."""
    return SourceFault(sentence, "limit:size", "data:malformed", place=place)


def words_of(body: bytes) -> str:
    """Find the sentence with which an API explains a refusal; data and secrets stay out of it."""
    try:
        told = read(body[:_LONGEST_EXPLANATION])
    except (Unreadable, UnicodeDecodeError):
        return ""
    for _ in range(2):
        found = (
            next((told[key] for key in _EXPLAINING if key in told), "")
            if isinstance(told, dict)
            else ""
        )
        if isinstance(found, str):
            return REDACTOR.clean(" ".join(found.split()))[:_LONGEST_WORDS]
        told = found
    return ""


@contextmanager
def translated(place: str, connect_timeout: float, read_timeout: float) -> Iterator[None]:
    """Turn what httpx raises into a SourceFault; its own words may hold parts of a request."""
    try:
        yield
    except httpx.ConnectTimeout as fault:
        told = timed_out(place, connect_timeout)
        raise Passing(str(told), *told.signals, place=place, sent=False) from fault
    except httpx.TimeoutException as fault:
        raise Passing(
            f"Read timeout. {place} sent nothing for {read_timeout:g} seconds.",
            "read:timeout",
            place=place,
            sent=True,
        ) from fault
    except httpx.ConnectError as fault:
        raise _unconnected(fault, place) from fault
    except httpx.RemoteProtocolError as fault:
        raise _misunderstood(fault, place) from fault
    except httpx.NetworkError as fault:
        raise _lost(place) from fault
    except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeError):
        raise SourceFault(
            f"The request to {place} cannot be written: a header or parameter has characters that do"
            " not belong there.",
            "config:invalid",
            place=place,
        ) from None


def _unconnected(fault: httpx.ConnectError, place: str) -> SourceFault:
    inner: BaseException | None = fault
    while inner is not None:
        if isinstance(inner, ssl.SSLEOFError):
            break
        if isinstance(inner, ssl.SSLError) and (told := tls.told(inner, place)) is not None:
            return SourceFault(told[0], told[1], "tls:failure", place=place)
        if isinstance(inner, ConnectionRefusedError):
            sentence = f"Connection refused. Nothing listens on {place}, or a firewall rejects it."
            return Passing(sentence, "errno:ECONNREFUSED", place=place, sent=False)
        inner = inner.__cause__ or inner.__context__
    return Passing(
        f"Connection lost. {place} ended it before the request.",
        "connection:lost",
        place=place,
        sent=False,
    )


def _misunderstood(fault: httpx.RemoteProtocolError, place: str) -> SourceFault:
    words = str(fault)
    if "peer closed" in words or "disconnected" in words:
        return _lost(place)
    return unusable(
        f"Protocol error. What answers at {place} is no web server, or breaks off.", place
    )


def _lost(place: str) -> Passing:
    return Passing(
        f"Connection lost. {place} closed it before the answer was complete.",
        "connection:lost",
        place=place,
        sent=True,
    )
