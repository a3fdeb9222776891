"""One failure as it happened, with its place filled into the words of its row."""

import re
import shlex
from dataclasses import dataclass

from aiia_pipelines.jobs.badge import Badge
from aiia_pipelines.jobs.catalogue import FailureClass, Language, Origin, Texts, texts_of

_ADDRESS = re.compile(r"(?P<host>\[[^\]]+\]|[^:]+):(?P<port>[0-9]+)")
_HOLDER = re.compile(r"\{(host|port|place)\}")

_SERVER: dict[Language, str] = {"en": "the server", "ar": "الخادم"}


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

    def retries(self, attempts_so_far: int) -> bool:
        """Tell whether to try again after so many attempts that ended like this one."""
        return attempts_so_far <= self.kind.most_retries

    def texts(self, language: Language = "en", place: str = "") -> Texts:
        """Return title, cause and remedy in a language, for the place given or the one known."""
        told, at = texts_of(self.kind, language), place or self.place
        unknown = _SERVER[language]
        return Texts(told.title, _fill(told.cause, at, unknown), _fill(told.remedy, at, unknown))

    def remedy(self, place: str = "") -> str:
        """Return what to do, for the place given or the one known."""
        return self.texts(place=place).remedy

    def verify(self, place: str = "", family: str = "") -> str:
        """Return the command that shows whether the remedy worked, at a server of this family."""
        return _command(self.kind.check(family), place or self.place)


def _address(place: str) -> tuple[str, str]:
    found = _ADDRESS.fullmatch(place)
    return (found["host"].strip("[]"), found["port"]) if found else (place, "PORT")


def _fill(template: str, place: str, unknown: str) -> str:
    host, port = _address(place)
    words = {"host": host or unknown, "port": port, "place": place or unknown}
    return _HOLDER.sub(lambda holder: words[holder[1]], template)


def _command(template: str, place: str) -> str:
    host, port = _address(place)
    # The filled command is meant to be pasted into a shell.
    words = {
        "host": shlex.quote(host) if host else "HOST",
        "port": port,
        "place": shlex.quote(place) if place else "FILE",
    }
    return _HOLDER.sub(lambda holder: words[holder[1]], template)
