"""What PostgreSQL and its two drivers say, as signals of the failure catalogue."""

import re

import sqlalchemy as sa

from aiia_pipelines.connectors._sql_postgresql_tls import Encryption
from aiia_pipelines.connectors._sql_wanted import Told
from aiia_pipelines.connectors._tls import Peer
from aiia_pipelines.connectors.base import SourceFault

_PORT = 5432
_PATIENCE = 5.0  # seconds

# libpq gives no SQLSTATE before login: the words of the server's English messages, and its own, decide.
# The order matters: a connection that is lost may speak of SSL, too.
_AT_LOGIN = tuple(
    (re.compile(words), signal)
    for words, signal in (
        (r"timeout expired", "errno:ETIMEDOUT"),
        (r"password (?:has |is )?expired", "login:expired"),
        (r"password authentication failed|no password supplied", "sqlstate:28P01"),
        (r"role \".*\" does not exist", "sqlstate:28P01"),
        (r"is not permitted to log in|pg_hba\.conf", "login:not-allowed"),
        (r"permission denied for database", "sqlstate:42501"),
        (r"database \".*\" does not exist", "sqlstate:3D000"),
        (r"too many (?:connections|clients)|slots are reserved", "login:too-many"),
        (r"the database system is ", "source:unavailable"),
        (r"unexpected eof|server closed the connection|Connection reset", "connection:lost"),
        (r"invalid response to SSL negotiation|expected authentication request", "protocol:error"),
        (r"received invalid|unexpected message|invalid message", "protocol:error"),
        (r"certificate|SSL|TLS", "tls:failure"),
    )
)
_LOST = re.compile(r"server closed the connection|connection (?:not open|to server)|SSL error")
_SOMEBODY = re.compile(r"due to user request")
# What both drivers put before the words of libpq, and libpq before those of the server.
_CHATTER = re.compile(
    r"^(?:[A-Z_]+: \[libpq\] (?:PQ\w+\(\) failed: )?|connection (?:is bad|failed): "
    r"|connection to server at \"[^\"]*\"(?: \([^)]*\))?, port \d+ failed: |consuming input failed: )+"
)
# What a query that writes ends with: it stands where only a SELECT may, or the snapshot is read-only.
_WRITES = {"0A000", "25006"}


def at_login(driver: BaseException, url: sa.URL) -> Told:
    """Tell what an exception means that came before anything could be asked."""
    words = str(driver)
    found = [signal for hint, signal in _AT_LOGIN if hint.search(words)]
    if type(driver).__name__ == "ConnectionTimeout":
        found = ["errno:ETIMEDOUT"]
    if found and found[0] == "tls:failure":
        fault = _looked_at(url)
        if fault is not None:
            return Told(str(fault), fault.signals)
        return Told(f"TLS failure. {_said(words)}", ("tls:failure",))
    state = getattr(driver, "sqlstate", None)
    if state == "28000" and not found:
        # In another language: the user is known, and may not come in, or not from here.
        found = ["login:not-allowed"]
    states = (f"sqlstate:{state}",) if state else ()
    return Told(_said(words), (*found[:1], *states))


def in_use(driver: BaseException) -> Told:
    """Tell what an exception means that a statement ended with."""
    words = str(driver)
    state = getattr(driver, "sqlstate", None)
    signals = (f"sqlstate:{state}",) if state else ()
    diagnosis = getattr(getattr(driver, "diag", None), "message_primary", None) or _said(words)
    if state in _WRITES:
        signals = ("query:invalid",)
    elif state == "57014" and _SOMEBODY.search(words):
        signals = ("query:cancelled",)
    elif type(driver).__name__ == "Silent":
        signals = ("read:timeout",)
    elif type(driver).__name__ == "Garbled":
        signals = ("protocol:error",)
    elif not state and _LOST.search(words):
        signals = ("connection:lost",)
    return Told(diagnosis, signals)


def _said(words: str) -> str:
    first = (words.strip().splitlines() or ["no message"])[0]
    return _CHATTER.sub("", first)


def _looked_at(url: sa.URL) -> SourceFault | None:
    """Agree on encryption once more: libpq does not say what is wrong with a certificate."""
    host, port = str(url.host), url.port or _PORT
    try:
        Encryption(url).look(Peer(host=host, address=host, port=port, seconds=_PATIENCE))
    except SourceFault as fault:
        return fault
    return None
