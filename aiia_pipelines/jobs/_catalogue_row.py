"""The form of a row of the failure catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from aiia_pipelines.jobs.badge import Badge

Origin = Literal["source", "destination", "data", "configuration", "platform", "user"]
Category = Literal[
    "network",
    "authentication",
    "source",
    "protocol",
    "data",
    "configuration",
    "resources",
    "destination",
    "platform",
    "user",
]

FAILED, ERROR, CANCELLED = Badge.FAILED, Badge.ERROR, Badge.CANCELLED
# How often a job run tries again by itself.
AGAIN, ONCE, NEVER = 5, 1, 0

ANY = ""
"""The key of the command for every family that has none of its own."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The words of a row in one language; placeholders are those of the row."""

    title: str
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True)
class FailureClass:
    """One row of the catalogue; a failure fills `{place}`, `{host}` and `{port}`.

    `checks` holds commands that show whether the remedy worked, by family of server.
    """

    code: str
    title: str
    category: Category
    badge: Badge
    origin: Origin
    most_retries: int
    cause: str
    remedy: str
    checks: Mapping[str, str]
    signals: frozenset[str]

    @property
    def transient(self) -> bool:
        """Whether a retry may help."""
        return self.most_retries > 0

    @property
    def docs(self) -> str:
        """The page of documentation about it."""
        return f"docs/reference/failures/{self.code}.md"

    @property
    def verify(self) -> str:
        """The command that shows whether the remedy worked, at a server of any family."""
        return self.checks[ANY]

    def check(self, family: str) -> str:
        """Return the command that shows whether the remedy worked at a server of this family."""
        return self.checks.get(family, self.verify)


def found_by(signals: str) -> frozenset[str]:
    """Read signals that are set apart by blanks."""
    return frozenset(signals.split())
