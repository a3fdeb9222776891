"""What psycopg and the Arrow driver raise, as faults of the destination."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import adbc_driver_manager as adbc
import psycopg

from aiia_pipelines.jobs.signal_words import CHATTER
from aiia_pipelines.sync.convert import masked
from aiia_pipelines.sync.faults import DestinationFault

_SERVER_WORDS = re.compile(r"(?:ERROR|FATAL|PANIC):\s+(.*)")
_UNREACHED = re.compile(
    r"refused|timeout|timed out|closed the connection|resolve|translate host|shutting down"
    r"|starting up|recovery|[Uu]nreachable|No route|reset by peer"
)
_QUOTED = re.compile(r'"(.*)"', re.DOTALL)
_UNDEFINED_TABLE = "42P01"


@contextmanager
def translated(place: str, *, login: bool = False) -> Iterator[None]:
    """Turn what the drivers raise into a DestinationFault."""
    try:
        yield
    except psycopg.Error as fault:
        told = CHATTER.sub("", str(fault.diag.message_primary or fault).strip()).splitlines()
        words = told[0] if told else "no message"
        if login and _UNREACHED.search(words):
            sentence = f"The destination {place} cannot be reached: {_begun(words)}."
            signals = (f"sqlstate:{fault.sqlstate}",) if fault.sqlstate else ()
            raise DestinationFault(sentence, *signals, place=place) from fault
        raise _refused(place, words, fault.sqlstate, lost=not login and lost(fault)) from fault
    except adbc.Error as fault:
        state = (fault.sqlstate or "").strip("\0") or None
        found = _SERVER_WORDS.search(str(fault))
        said = found[1] if found else str(fault).strip().splitlines()[0]
        # The driver's own faults have no SQLSTATE: what it cannot send is converted before.
        raise _refused(place, said, state, lost=state is None) from fault


def _begun(words: str) -> str:
    """Go on with a sentence in words that were one of their own."""
    words = words.strip().rstrip(".")
    return f"{words[:1].lower()}{words[1:]}"


def lost(fault: psycopg.Error) -> bool:
    """Tell whether a fault is the end of its connection."""
    gone = isinstance(fault, psycopg.OperationalError | psycopg.InterfaceError)
    return gone and (fault.sqlstate or "08")[:2] in {"08", "57", "25"}


def _refused(place: str, said: str, state: str | None, *, lost: bool) -> DestinationFault:
    signals = [f"sqlstate:{state}"] if state else []
    if lost and state is None:
        signals.append("connection:lost")
    if (state or "").startswith("22"):
        # These sentences quote the value.
        said = _QUOTED.sub(lambda found: f'"{masked(found[1])}"', said)
    return DestinationFault(
        f"The destination {place} refused: {said.strip().rstrip('.')}.", *signals, place=place
    )


def overtaken(name: str, place: str) -> DestinationFault:
    """Say that a newer attempt works on the stream."""
    return DestinationFault(
        f"Another run took over {name} while this one was reading.",
        "destination:fenced",
        place=place,
    )


@contextmanager
def needed_by_others(name: str, place: str) -> Iterator[None]:
    """Say so when something that people made, such as a view, needs a column of the table as it is."""
    try:
        yield
    except (psycopg.errors.DependentObjectsStillExist, psycopg.errors.FeatureNotSupported) as fault:
        if not fault.diag.message_detail:
            raise
        what = "; ".join(fault.diag.message_detail.splitlines()[:3]).rstrip(".")
        raise DestinationFault(
            f"A column of {name} is to go or to change its type, and is needed as it is: {what}."
            " Drop what needs it, sync, and make it again.",
            "destination:rejected",
            place=place,
        ) from fault


@contextmanager
def fenced_when_gone(name: str, place: str) -> Iterator[None]:
    """Take a staging table that is no longer there for the sign of a newer attempt."""
    try:
        yield
    except psycopg.errors.UndefinedTable as fault:
        raise overtaken(name, place) from fault
    except adbc.Error as fault:
        # The Arrow driver looks a table up before it writes, and then has no SQLSTATE.
        missing = fault.status_code == adbc.AdbcStatusCode.NOT_FOUND
        if missing or (fault.sqlstate or "").strip("\0") == _UNDEFINED_TABLE:
            raise overtaken(name, place) from fault
        raise
