"""Find the row of the catalogue that an exception belongs to."""

import contextlib
import errno
import re
import shlex
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from aiia_pipelines.jobs.badge import Badge
from aiia_pipelines.jobs.catalogue import CATALOGUE, FailureClass, Origin
from aiia_pipelines.jobs.log import headline
from aiia_pipelines.jobs.redaction import REDACTOR

_T = TypeVar("_T")

_LONGEST = 200
_LONGEST_PLACE = 100
_LONGEST_TEXT = 8192
_MOST_EXCEPTIONS = 64

_BY_SIGNAL = {signal: row for row in CATALOGUE.values() for signal in row.signals}
_UNCLASSIFIED = CATALOGUE["unclassified"]

_RESOLVER = {
    getattr(socket, name): f"errno:{name}" for name in dir(socket) if name.startswith("EAI_")
}

# What libpq says before a login has succeeded, when it gives neither SQLSTATE nor errno.
# The order matters: a lost connection may speak of SSL, a refused login of many things.
_HINTS = tuple(
    (re.compile(pattern, re.IGNORECASE), signal)
    for pattern, signal in (
        (r"password authentication failed|authentication failed for user", "login:credentials"),
        (r"no password supplied|no pg_hba\.conf entry|pg_hba\.conf rejects", "login:credentials"),
        (r"role \".*\" does not exist|not permitted to log in", "login:credentials"),
        (r"database \".*\" does not exist", "login:no-database"),
        (r"too many (?:connections|clients)|connection slots are reserved", "login:too-many"),
        (r"the database system is (?:starting up|shutting down)", "login:unavailable"),
        (r"the database system is (?:in recovery mode|not \w*)", "login:unavailable"),
        (r"server closed the connection unexpectedly|consuming input failed", "login:lost"),
        (r"lost synchronization with server|terminating connection", "login:lost"),
        (r"connection (?:is |was |already |has been )?closed", "login:lost"),
        (r"could not (?:receive data from|send data to) server", "login:lost"),
        (r"timeout expired|connection timed out", "login:timeout"),
        (r"connection refused|on socket .* failed: no such file", "login:refused"),
        (r"temporary failure in name resolution", "login:name-server"),
        (
            r"failed to resolve host|could not translate host name|name or service not known",
            "login:host",
        ),
        (r"certificate|does not support SSL|\bSSL\b", "login:tls"),
    )
)
_DRIVER_CLASSES = frozenset({"OperationalError", "InterfaceError", "DatabaseError"})

_SERVER = (
    r"connection to server (?:at \"(?P<host>[^\"]+)\"(?: \([^)]*\))?, port (?P<port>\d+)"
    r"|on socket \"(?P<socket>[^\"]+)\")"
)
_TOLD_SERVER = re.compile(_SERVER)
_CHATTER = re.compile(
    rf"^(?:\([\w.]+\)\s*|connection (?:is bad|failed):\s*|{_SERVER} failed:\s*"
    r"|(?:FATAL|ERROR|PANIC):\s*|\[Errno -?\d+\]\s*|consuming input failed:\s*)+"
)
_ADDRESS = re.compile(r"(?P<host>\[[^\]]+\]|[^:]+):(?P<port>[0-9]+)")
_HOLDER = re.compile(r"\{(host|port|place)\}")


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure as it happened: its row, one line about it, and where."""

    kind: FailureClass
    headline: str
    place: str = ""

    @property
    def code(self) -> str:
        """The stable name of the failure class."""
        return self.kind.code

    @property
    def badge(self) -> Badge:
        """The badge of a job run that ends so."""
        return self.kind.badge

    @property
    def origin(self) -> Origin:
        """Where the fault lies."""
        return self.kind.origin

    @property
    def transient(self) -> bool:
        """Whether a retry may help."""
        return self.kind.transient

    def remedy(self, place: str = "") -> str:
        """Return what to do, for the place given or the one known."""
        return _fill(self.kind.remedy, place or self.place)

    def verify(self, place: str = "") -> str:
        """Return the command that shows whether the remedy worked."""
        return _fill(self.kind.verify, place or self.place, command=True)


@dataclass(frozen=True, slots=True)
class _Clue:
    """A signal, and the exception that gave it."""

    signal: str
    exc: BaseException


def badge_of(code: str) -> Badge:
    """Return the badge of a code; one this version does not know counts as unclassified."""
    return CATALOGUE.get(code, _UNCLASSIFIED).badge


def classify(exc: BaseException, *, side: str = "source", stage: str = "") -> Failure:
    """Return the failure an exception stands for; never raises."""
    chain = list(_chain(exc))
    kind, told_by = _UNCLASSIFIED, exc
    for clue in _clues(chain):
        row = _row(clue.signal, side, stage)
        if row is not None:
            kind, told_by = row, clue.exc
            break
    place = next(filter(None, map(_place, (told_by, *chain))), "")
    # A fault that was already translated has the better sentence, whatever gave the signal.
    speaker = next(filter(_is_translated, chain), told_by)
    return Failure(kind, _headline(kind, speaker, place), place)


def _ask(question: Callable[[], _T], default: _T) -> _T:
    # Foreign exceptions run their own code when read; a broken one must not hide the failure.
    with contextlib.suppress(Exception):
        return question()
    return default


def _attribute(exc: BaseException, name: str) -> object:
    return _ask(lambda: getattr(exc, name, None), None)


def _is_translated(exc: BaseException) -> bool:
    return isinstance(_attribute(exc, "signals"), tuple)


def _text(exc: BaseException) -> str:
    return REDACTOR.clean(_ask(lambda: str(exc)[:_LONGEST_TEXT], ""))


def _class_names(exc: BaseException) -> list[str]:
    kinds = type(exc).__mro__
    return [
        name for kind in kinds for name in (f"{kind.__module__}.{kind.__name__}", kind.__name__)
    ]


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all it came from, the outer ones first."""
    waiting, seen = [exc], {id(exc)}
    while waiting and len(seen) <= _MOST_EXCEPTIONS:
        current = waiting.pop(0)
        yield current
        for inner in _inner(current):
            if id(inner) not in seen:
                seen.add(id(inner))
                waiting.append(inner)


def _inner(exc: BaseException) -> list[BaseException]:
    context = None if exc.__suppress_context__ else exc.__context__
    group = exc.exceptions if isinstance(exc, BaseExceptionGroup) else ()
    found = (_attribute(exc, "orig"), exc.__cause__, *group, *exc.args, context)
    return [inner for inner in found if isinstance(inner, BaseException)]


def _clues(chain: list[BaseException]) -> Iterator[_Clue]:
    """Yield the clues of a chain, the surest kind first."""
    for reader in _READERS:
        for exc in chain:
            yield from (_Clue(signal, exc) for signal in reader(exc))


def _cancellations(exc: BaseException) -> list[str]:
    """Tell our own cancel from the time limit of a server: both end with the same SQLSTATE."""
    return [signal for signal in _told_signals(exc) if signal in CATALOGUE["cancelled"].signals]


def _told_signals(exc: BaseException) -> list[str]:
    told = _attribute(exc, "signals")
    signals = [item for item in told if isinstance(item, str)] if isinstance(told, tuple) else []
    reason = _ask(lambda: exc.reason_code.name, None)  # type: ignore[attr-defined]
    return [*signals, f"pandera:{reason}"] if isinstance(reason, str) else signals


def _sql_states(exc: BaseException) -> list[str]:
    states = (_attribute(exc, "sqlstate"), _attribute(exc, "pgcode"))
    return [f"sqlstate:{state}" for state in states if isinstance(state, str) and len(state) == 5]


def _system_signals(exc: BaseException) -> list[str]:
    if isinstance(exc, MemoryError):
        return ["memory:exhausted"]
    number = _attribute(exc, "errno")
    # OpenSSL counts its errors by itself: the number of an SSLError is no errno.
    if not isinstance(number, int) or "ssl.SSLError" in _class_names(exc):
        return []
    if isinstance(exc, socket.gaierror):
        return [_RESOLVER.get(number, "")]
    return [f"errno:{errno.errorcode.get(number, '')}"] if isinstance(exc, OSError) else []


def _class_signals(exc: BaseException) -> list[str]:
    return [f"class:{name}" for name in _class_names(exc)]


def _hints(exc: BaseException) -> list[str]:
    if _DRIVER_CLASSES.isdisjoint(_class_names(exc)):
        return []
    text = _text(exc)
    return [signal for pattern, signal in _HINTS if pattern.search(text)]


_READERS = (_cancellations, _told_signals, _sql_states, _system_signals, _class_signals, _hints)


def _row(signal: str, side: str, stage: str) -> FailureClass | None:
    """Return the row that claims a signal: its side first, then its stage, then the signal."""
    forms = [signal]
    if signal.startswith("sqlstate:"):
        forms.append(signal[: len("sqlstate:XX")])
    prefixes = ["destination:"] if side == "destination" else []
    prefixes += [f"{stage}:", ""] if stage else [""]
    rows = (_BY_SIGNAL.get(prefix + form) for prefix in prefixes for form in forms)
    return next(filter(None, rows), None)


def _place(exc: BaseException) -> str:
    place = _attribute(exc, "place")
    if isinstance(place, str) and place:
        return headline(REDACTOR.clean(place), _LONGEST_PLACE)
    found = _TOLD_SERVER.search(_text(exc))
    if found is None:
        return ""
    place = found["socket"] or f"{found['host']}:{found['port']}"
    return headline(place, _LONGEST_PLACE)


def _headline(kind: FailureClass, exc: BaseException, place: str) -> str:
    text = headline(_CHATTER.sub("", headline(_text(exc), _LONGEST_TEXT)), _LONGEST)
    if not text or text.lower() == kind.title.lower():
        text = kind.title if text or kind is not _UNCLASSIFIED else _named(kind, exc)
    elif not _is_translated(exc):
        title = _named(kind, exc) if kind is _UNCLASSIFIED else kind.title
        text = f"{title}: {text}"
    ending = f" ({place})" if place and place not in text else ""
    return headline(text, _LONGEST - len(ending)) + ending


def _named(kind: FailureClass, exc: BaseException) -> str:
    return f"{kind.title}: {headline(type(exc).__name__, _LONGEST_PLACE)}"


def _fill(template: str, place: str, *, command: bool = False) -> str:
    found = _ADDRESS.fullmatch(place)
    host, port = (found["host"].strip("[]"), found["port"]) if found else (place, "PORT")
    # The filled command is meant to be pasted into a shell.
    safe_host = shlex.quote(host) if command and host else host
    words = {"host": safe_host or "HOST", "port": port, "place": place or "the server"}
    return _HOLDER.sub(lambda holder: words[holder[1]], template)
