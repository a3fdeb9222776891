"""What exceptions say, in the signals of the failure catalogue: their chain, and the readers of each."""

import contextlib
import errno
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from aiia_pipelines.jobs.catalogue import CATALOGUE
from aiia_pipelines.jobs.driver_classes import ADBC, BROAD, OF_DAGSTER, SURE
from aiia_pipelines.jobs.redaction import REDACTOR
from aiia_pipelines.jobs.signal_words import login_signals, tls_detail

_T = TypeVar("_T")

LONGEST_TEXT = 8192
_MOST_EXCEPTIONS = 64
# Where libraries keep what they caught.
_CAUGHT = ("orig", "last_exception", "reason", "user_exception", "__cause__")
_RESOLVER = {
    getattr(socket, name): f"errno:{name}" for name in dir(socket) if name.startswith("EAI_")
}
# What OpenSSL found wrong with a certificate or a list of revoked ones, by its X509_V_ERR number.
VERIFIED = dict.fromkeys((9, 10, 11, 12), "tls:expired") | dict.fromkeys((62, 63, 64), "tls:name")
_ANY_TLS = frozenset({"tls:failure", "login:tls", "class:ssl.SSLError"})
_NO_ERRNO = frozenset({"ssl.SSLError", "socket.herror"})
_SERVER_FAILED = 500
_STOPPED_THERE = "sqlstate:57014"


@dataclass(frozen=True, slots=True)
class Clue:
    """A signal, and the exception that gave it."""

    signal: str
    exc: BaseException


def ask(question: Callable[[], _T], default: _T) -> _T:
    """Return the answer of foreign code; a broken exception must not hide the failure."""
    with contextlib.suppress(Exception):
        return question()
    return default


def attribute(thing: object, name: str, kind: type[_T]) -> _T | None:
    """Return an attribute of a foreign object; None when it has none of that kind, or breaks."""
    return _of_kind(ask(lambda: getattr(thing, name, None), None), kind)


def text_of(exc: BaseException) -> str:
    """Return what an exception says, without secrets."""
    return REDACTOR.clean(ask(lambda: str(exc)[:LONGEST_TEXT], ""))


def class_name(exc: BaseException) -> str:
    """Return the full name of an exception's class; Python's own go without their module."""
    name = ask(lambda: f"{type(exc).__module__}.{type(exc).__qualname__}", "exception")
    return REDACTOR.clean(name.removeprefix("builtins."))


def is_translated(exc: BaseException) -> bool:
    """Tell whether an exception is a fault of ours, with signals and a clean sentence."""
    return attribute(exc, "signals", tuple) is not None


def chain_of(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all it came from, the outer ones first."""
    waiting, seen = [exc], {id(exc)}
    while waiting and len(seen) <= _MOST_EXCEPTIONS:
        current = waiting.pop(0)
        yield current
        for inner in _read(_inner, current):
            if id(inner) not in seen:
                seen.add(id(inner))
                waiting.append(inner)


def clues_of(chain: list[BaseException]) -> Iterator[Clue]:
    """Yield the clues of a chain, the surest kind first."""
    for reader in _READERS:
        for exc in chain:
            for signal in _read(reader, exc):
                yield from _detailed(signal, chain)
                yield Clue(signal, exc)


def _read(reader: Callable[[BaseException], list[_T]], exc: BaseException) -> list[_T]:
    none: list[_T] = []
    return ask(lambda: reader(exc), none)


def _of_kind(thing: object, kind: type[_T]) -> _T | None:
    # isinstance() asks the object for its class as well, and a broken one would answer.
    return thing if issubclass(type(thing), kind) else None  # type: ignore[return-value] # narrowed


def _only(things: Iterable[object], kind: type[_T]) -> list[_T]:
    return [found for thing in things if (found := _of_kind(thing, kind)) is not None]


def _inner(exc: BaseException) -> list[BaseException]:
    found: list[object] = [attribute(exc, name, object) for name in _CAUGHT]
    for name in ("exceptions", "schema_errors", "args"):
        several = attribute(exc, name, tuple) or attribute(exc, name, list) or ()
        found += several[:_MOST_EXCEPTIONS]
    if not attribute(exc, "__suppress_context__", bool):
        found.append(attribute(exc, "__context__", object))
    return _only(found, BaseException)


def _detailed(signal: str, chain: list[BaseException]) -> Iterator[Clue]:
    """Tell what exactly was wrong with TLS, when something in the chain does."""
    if signal not in _ANY_TLS:
        return
    for exc in chain:
        known = VERIFIED.get(attribute(exc, "verify_code", int) or 0)
        words = f"{text_of(exc)} {attribute(exc, 'reason', str) or ''}"
        if detail := known or tls_detail(words):
            yield Clue(detail, exc)


# -- readers -----------------------------------------------------------------------------------


def _cancellations(exc: BaseException) -> list[str]:
    """Tell our own cancel from the time limit of a server: both end with the same SQLSTATE."""
    return [signal for signal in _told(exc) if signal in CATALOGUE["cancelled"].signals]


def _told(exc: BaseException) -> list[str]:
    told = attribute(exc, "signals", tuple) or ()
    found = _only(told, str)
    names = [signal.removeprefix("class:") for signal in found]
    found += [OF_DAGSTER[name] for name in names if name in OF_DAGSTER]
    reason = attribute(attribute(exc, "reason_code", object), "name", str)
    return _by_whom(exc, [*found, f"pandera:{reason}"])


def _sql_states(exc: BaseException) -> list[str]:
    states = (attribute(exc, "sqlstate", str), attribute(exc, "pgcode", str))
    return _by_whom(exc, [f"sqlstate:{state}" for state in states if state and len(state) == 5])


def _by_whom(exc: BaseException, signals: list[str]) -> list[str]:
    """Tell a person who stopped a query at the server from its time limit: one SQLSTATE is both."""
    if _STOPPED_THERE in signals and "user request" in text_of(exc).lower():
        return ["query:cancelled"]
    return signals


def _system(exc: BaseException) -> list[str]:
    if _of_kind(exc, MemoryError) is not None:
        return ["memory:exhausted"]
    number = attribute(exc, "errno", int)
    # OpenSSL and the old resolver count their errors by themselves: these numbers are no errno.
    if number is None or not _NO_ERRNO.isdisjoint(_class_names(exc)):
        return []
    if _of_kind(exc, socket.gaierror) is not None:
        return [_RESOLVER.get(number, "")]
    if _of_kind(exc, OSError) is None:
        return []
    return [f"errno:{errno.errorcode.get(number, '')}"]


def _answers(exc: BaseException) -> list[str]:
    """Read the code and status of a refused request, as botocore, httpx and requests keep them."""
    refused = attribute(exc, "response", dict)
    if refused is not None:
        code = ask(lambda: refused["Error"]["Code"], "")
        status = ask(lambda: refused["ResponseMetadata"]["HTTPStatusCode"], 0)
        # Below 500 the code says what is wrong; what it does not say, no status makes clearer.
        failed = isinstance(status, int) and status >= _SERVER_FAILED
        return [f"aws:{code}", *([f"http:{status}"] if failed else [])]
    answered = attribute(attribute(exc, "response", object), "status_code", int)
    return [f"http:{answered}"]


def _classes(exc: BaseException) -> list[str]:
    signals = []
    for name in _class_names(exc):
        if name in BROAD:
            break
        signals.append(SURE.get(name, f"class:{name}"))
    return signals


def _words(exc: BaseException) -> list[str]:
    return login_signals(_class_names(exc), text_of(exc))


def _broad(exc: BaseException) -> list[str]:
    status = attribute(attribute(exc, "status_code", object), "name", str) or ""
    found = [BROAD[name] for name in _class_names(exc) if name in BROAD]
    return [ADBC[status], *found] if status in ADBC else found


def _class_names(exc: BaseException) -> list[str]:
    kinds = type(exc).__mro__
    return [
        name for kind in kinds for name in (f"{kind.__module__}.{kind.__name__}", kind.__name__)
    ]


_READERS = (_cancellations, _told, _sql_states, _system, _answers, _classes, _words, _broad)
