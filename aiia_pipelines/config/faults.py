"""Faults of what was asked for, each told in one sentence."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a "; did you mean 'x'?" for the known word most like this one, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in one file."""

    file: Path
    line: int | None
    message: str

    def __str__(self) -> str:
        """Render as `connectors/x.yaml:12: message`."""
        place = Path(*self.file.parts[-2:]).as_posix().lstrip("/")
        return f"{place}:{self.line}: {self.message}" if self.line else f"{place}: {self.message}"


class ConfigInvalid(Exception):
    """The configuration cannot be used; the text says what, where and what to do."""

    def __init__(self, message: str, problems: tuple[Problem, ...] = ()) -> None:
        """Keep the sentence and the mistakes behind it."""
        super().__init__(message)
        self.problems = problems

    @classmethod
    def of(cls, problems: tuple[Problem, ...]) -> Self:
        """Tell the first mistake and how many follow it."""
        more = len(problems) - 1
        rest = f" (and {more} more {'mistake' if more == 1 else 'mistakes'})" if more else ""
        return cls(f"{problems[0]}{rest}", problems)


class _Unknown(LookupError):
    """A name that nothing bears."""

    thing = ""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        """Name the nearest known one and all others."""
        self.name = name
        self.known = tuple(sorted(known))
        listed = ", ".join(self.known) or "none"
        hint = nearest(name, self.known)
        super().__init__(f"no {self.thing} '{name}'{hint or '.'} Known: {listed}")

    def __reduce__(self) -> tuple[type[Self], tuple[str, tuple[str, ...]]]:
        """Rebuild from the names, so that the fault crosses process borders."""
        return type(self), (self.name, self.known)


class UnknownConnector(_Unknown):
    """No connector file bears this name."""

    thing = "connector"


class UnknownStream(_Unknown):
    """The connector has no stream of this name."""

    thing = "stream"
