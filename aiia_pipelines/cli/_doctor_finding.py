"""What one check of `aiia doctor` found, and what the checks look at."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from aiia_pipelines.cli.exits import Exit, tell

if TYPE_CHECKING:
    from psycopg2.extensions import connection

    from aiia_pipelines.config.folder import Folder
    from aiia_pipelines.config.settings import Settings

Guide = Literal["installation", "not-starting", "failing", "slow"]
Verdict = Literal["ok", "warning", "problem"]
MARKS: dict[Verdict, str] = {"ok": "✓", "warning": "!", "problem": "✕"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; a warning has a remedy but leaves the installation usable."""

    check: str
    verdict: Verdict = "ok"
    note: str = ""
    remedy: str = ""
    exit_code: Exit = Exit.OK
    guide: Guide = "installation"

    @property
    def mark(self) -> str:
        """The sign it is shown with."""
        return MARKS[self.verdict]

    def facts(self) -> dict[str, Any]:
        """Give the record that programs read."""
        return {
            "guide": self.guide,
            "check": self.check,
            "verdict": self.verdict,
            "note": self.note,
            "remedy": self.remedy,
        }


def warning(check: str, note: str, remedy: str) -> Finding:
    """Find something that is not yet in the way."""
    return Finding(check, "warning", note, remedy)


def problem(check: str, note: str, remedy: str, code: Exit = Exit.UNREACHABLE) -> Finding:
    """Find something that is in the way."""
    return Finding(check, "problem", note, remedy, code)


def fault_of(check: str, fault: BaseException) -> Finding:
    """Find that a check itself could not be done."""
    told = tell(fault)
    return Finding(check, "problem", told.message, told.remedy, told.exit_code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What can be looked at without a database; `names` are the connectors asked for, None for all."""

    settings: "Settings"
    folder: "Folder"
    names: frozenset[str] | None = None

    def wants(self, connector: str) -> bool:
        """Tell whether a connector is asked for."""
        return self.names is None or connector in self.names


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene(Ground):
    """What the checks look at; `number` is the job run that is asked for."""

    db: "connection"
    number: int | None = None
    # The address of the web server that `aiia up` started for this home, if it answers.
    url: str | None = None


def some(names: list[str], most: int = 5) -> str:
    """List names for people, the first ones when there are many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def ago(seconds: float) -> str:
    """Say how long something is or was, in the coarsest unit that says enough."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: int) -> str:
    """Say how many bytes something has."""
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"
