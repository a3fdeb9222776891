"""What failures say in words alone: logins that libpq refuses, TLS, files that another process holds."""

import re
from collections.abc import Iterable

_Rules = tuple[tuple[re.Pattern[str], str], ...]


def _rules(*pairs: tuple[str, str]) -> _Rules:
    return tuple((re.compile(pattern, re.IGNORECASE), signal) for pattern, signal in pairs)


_TLS = _rules(
    (r"certificate (?:has expired|is not yet valid)|certificate[ _]expired", "tls:expired"),
    (
        r"(?:host ?name|ip address)[ _]mismatch|does not match host ?name|is not valid for ['\"]",
        "tls:name",
    ),
    (r"wrong[ _]version[ _]number|un(?:supported|known)[ _]protocol", "tls:protocol"),
    (r"protocol[ _]version|no[ _]protocols[ _]available|\bhttp_request\b", "tls:protocol"),
    (r"no[ _](?:shared[ _]cipher|ciphers)|handshake[ _]failure", "tls:protocol"),
    (r"record[ _]layer[ _]failure|packet[ _]length[ _]too[ _]long", "tls:protocol"),
    (r"does not support (?:SSL|TLS|secure connections)", "tls:protocol"),
)

# What libpq says before a login has succeeded, when it gives neither SQLSTATE nor errno.
# The order matters: a lost connection may speak of SSL, a refused login of many things.
_LOGIN = _rules(
    (r"password authentication failed|authentication failed for user", "login:credentials"),
    (r"no password supplied|role \".*\" does not exist", "login:credentials"),
    (r"pg_hba\.conf|not permitted to log in", "login:not-allowed"),
    (r"database \".*\" does not exist", "login:no-database"),
    (r"permission denied for database", "sqlstate:42501"),
    (r"too many (?:connections|clients)|connection slots are reserved", "login:too-many"),
    (r"the database system is (?:starting up|shutting down)", "login:unavailable"),
    (r"the database system is (?:in recovery mode|not \w*)", "login:unavailable"),
    (r"out of memory", "memory:exhausted"),
    (r"invalid memory alloc request size", "limit:size"),
    (r"server closed the connection unexpectedly|consuming input failed", "login:lost"),
    (r"lost synchronization with server|terminating connection", "login:lost"),
    (r"connection (?:is |was |already |has been )?closed", "login:lost"),
    (r"could not (?:receive data from|send data to) server", "login:lost"),
    (r"peer closed connection|server disconnected without", "login:lost"),
    (r"timeout expired|connection timed out", "login:timeout"),
    (r"connection refused|on socket .* failed: no such file", "login:refused"),
    (r"temporary failure in name resolution", "login:name-server"),
    (r"failed to resolve host|could not translate host name|name or service not", "login:host"),
    (r"certificate|does not support SSL|\bSSL\b", "login:tls"),
)
_LOGINS = {"OperationalError", "InterfaceError", "DatabaseError", "RemoteProtocolError"}

# Arrow and DuckDB tell of the system in words: their exceptions bear no errno.
_SYSTEM = _rules(
    (r"no space left on device", "errno:ENOSPC"),
    (r"could not set lock on file", "file:locked"),
    (r"corrupt|couldn't deserialize|not a parquet file|parquet magic", "data:malformed"),
    (r"compressed file ended|end-of-stream marker|unexpected end of (?:file|stream)|invalid data stream",
     "data:malformed"),
)  # fmt: skip
_SYSTEMS = {"IOException", "TransactionException", "OSError", "EOFError"}


_SERVER = (
    r"connection to server (?:at \"(?P<host>[^\"]+)\"(?: \([^)]*\))?, port (?P<port>\d+)"
    r"|on socket \"(?P<socket>[^\"]+)\")"
)
TOLD_SERVER = re.compile(_SERVER)
# What drivers put in front of what they have to say, and libpq in front of the words of the server.
CHATTER = re.compile(
    rf"^(?:\([\w.]+\)\s*|connection (?:is bad|failed):\s*|{_SERVER} failed:\s*"
    r"|(?:FATAL|ERROR|PANIC):\s*|\[Errno -?\d+\]\s*|consuming input failed:\s*)+"
)


def login_signals(class_names: Iterable[str], text: str) -> list[str]:
    """Give the signals of an exception of one of these classes that says so much."""
    names = set(class_names)
    logins = _LOGIN if names & _LOGINS else ()
    systems = _SYSTEM if names & _SYSTEMS else ()
    return [signal for pattern, signal in (*logins, *systems) if pattern.search(text)]


def tls_detail(text: str) -> str:
    """Give the signal of what exactly was wrong with TLS; empty when the words do not tell."""
    return next((signal for pattern, signal in _TLS if pattern.search(text)), "")
