"""Exceptions that fight back: `classify` never raises, and tells no secret."""

from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiia_pipelines.jobs.catalogue import CATALOGUE
from aiia_pipelines.jobs.driver_classes import BROAD, SURE
from aiia_pipelines.jobs.failures import Failure, classify
from aiia_pipelines.jobs.redaction import REDACTOR
from aiia_pipelines.jobs.signals import LONGEST_TEXT

SECRET = "canary-N4sty-0f9e"
_READ = (
    "signals", "place", "sqlstate", "pgcode", "errno", "reason_code", "response", "status_code",
    "orig", "last_exception", "reason", "user_exception", "schema_errors", "verify_code", "args",
    "exceptions", "__cause__", "__context__", "__suppress_context__",
)  # fmt: skip


def _raising(error: type[Exception]) -> property:
    def answer(self: object) -> NoReturn:
        raise error(f"no {SECRET}")

    return property(answer)


def _answering(value: object) -> property:
    return property(lambda _: value)


class _Unreadable(type):
    """A class that hides its own name."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise ZeroDivisionError

    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise ZeroDivisionError


class Nameless(Exception, metaclass=_Unreadable):
    """An exception whose class cannot be named."""


class Liar(Exception):
    """An exception that claims to be of another class."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError(SECRET)

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        raise RuntimeError(SECRET)


class Mute(Exception):
    """An exception without words."""

    def __str__(self) -> str:
        raise RecursionError(SECRET)

    __repr__ = __str__


class Nothing(Exception):
    """An exception that counts as false, or as no answer at all."""

    def __len__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        raise RuntimeError(SECRET)

    def __hash__(self) -> int:
        raise RuntimeError(SECRET)


class Undecided(Exception):
    """An exception that is neither true nor false."""

    def __bool__(self) -> bool:
        raise RuntimeError(SECRET)


class Strange(Exception):
    """An exception whose words are none."""

    def __str__(self) -> Any:
        return 7  # noqa: PLE0307 - that is the mischief


ERRORS = st.sampled_from([RuntimeError, RecursionError, MemoryError, AttributeError, OSError])
TEXTS = st.one_of(
    st.text(max_size=300),
    st.just(SECRET),
    st.just(f"password={SECRET}\n\x1b[31m"),
    st.just("x" * (LONGEST_TEXT + 1)),
    st.just(f"postgresql://u:{SECRET}@h/d " * 400),
)
VALUES = st.one_of(
    TEXTS,
    st.binary(max_size=50),
    st.just(SECRET.encode()),
    st.integers(),
    st.floats(),
    st.none(),
    st.builds(ValueError, TEXTS),
    st.builds(Mute),
    st.builds(Liar),
    st.lists(st.one_of(TEXTS, st.builds(KeyError, TEXTS)), max_size=3),
    st.tuples(TEXTS, st.sampled_from(["sqlstate:57014", "tls:failure", "class:KeyError"])),
    st.dictionaries(st.sampled_from(["Error", "ResponseMetadata"]), TEXTS, max_size=2),
)


@st.composite
def nasty(draw: st.DrawFn) -> BaseException:
    """Make an exception of a class of its own, some of whose attributes break or lie."""
    base: Any = draw(st.sampled_from([Exception, OSError, ValueError, UnicodeError, LookupError]))
    broken = draw(st.dictionaries(st.sampled_from(_READ), ERRORS, max_size=4))
    lying = draw(st.dictionaries(st.sampled_from(_READ), VALUES, max_size=4))
    members: dict[str, Any] = {name: _raising(error) for name, error in broken.items()}
    members |= {name: _answering(value) for name, value in lying.items()}
    known = draw(st.sampled_from([*SURE, *BROAD, "odd.OperationalError", f"m.{SECRET}"]))
    module, _, name = known.rpartition(".")
    kind: Any = type(name, (base,), members | {"__module__": module})
    exc: BaseException = kind(*draw(st.lists(VALUES, max_size=3)))
    return exc


EXCEPTIONS = st.one_of(
    nasty(),
    st.builds(Mute),
    st.builds(Strange),
    st.builds(Nothing, TEXTS),
    st.builds(Undecided, TEXTS),
    st.builds(Liar),
    st.builds(Nameless, TEXTS),
    st.builds(OSError, st.integers(-5, 200), TEXTS),
)


def check(failure: Failure) -> None:
    assert CATALOGUE[failure.code] is failure.kind
    assert 0 < len(failure.headline) <= 200
    for text in (failure.headline, failure.place):
        assert len(text.splitlines()) <= 1
        assert SECRET not in text
        assert text.isprintable() or not any(ord(letter) < 32 for letter in text)


@settings(max_examples=300)
@given(
    st.lists(EXCEPTIONS, min_size=1, max_size=6),
    st.booleans(),
    st.sampled_from(["source", "destination", SECRET]),
)
def test_classify_never_raises_and_tells_no_secret(
    excs: list[BaseException], grouped: bool, side: str
) -> None:
    REDACTOR.add(SECRET)
    for outer, inner in zip(excs, [*excs[1:], excs[0]], strict=True):
        try:
            outer.__context__ = inner
        except (AttributeError, TypeError):
            continue  # this one has a context of its own
    told = ExceptionGroup("several", list(excs)) if grouped else excs[0]  # type: ignore[type-var]
    check(classify(told, side=side, stage="connect"))


def test_an_exception_that_counts_as_false_is_read_all_the_same() -> None:
    outer = ValueError("outer")
    outer.__cause__ = inner = Nothing("inner")
    inner.sqlstate = "53100"  # type: ignore[attr-defined]
    assert classify(outer).code == "source-disk-full"


def test_a_chain_without_end_is_read_to_a_limit() -> None:
    first = exc = ValueError("0")
    for number in range(5000):
        exc.__cause__ = exc = ValueError(str(number))
    check(classify(first))


def test_a_group_of_many_is_read_to_a_limit() -> None:
    many = [ValueError(SECRET) for _ in range(5000)]
    check(classify(ExceptionGroup("several", many)))


@pytest.mark.parametrize("size", [LONGEST_TEXT, 5_000_000])
def test_a_huge_text_is_cut(size: int) -> None:
    failure = classify(ValueError("x" * size))
    assert failure.headline.endswith("…")
    check(failure)


def test_the_name_of_a_class_is_redacted_and_cut() -> None:
    REDACTOR.add(SECRET)
    kind = type(SECRET, (Exception,), {"__module__": "m" * 500})
    check(classify(kind("x")))
    check(classify(type(SECRET, (Exception,), {})("x")))
    assert classify(Nameless("x")).code == "unclassified"
