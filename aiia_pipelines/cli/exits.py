"""How a command ends: its exit code, and what is said about a fault."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import NoReturn

import click

from aiia_pipelines.jobs.log import escape
from aiia_pipelines.jobs.redaction import REDACTOR
from aiia_pipelines.jobs.state import JobState

_DOCS = "docs/reference/cli.md"


class Exit(IntEnum):
    """The exit codes, which scripts rely on."""

    OK = 0
    FAULT = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    CONFIG = 5
    ERROR = 10
    FAILED = 11
    CANCELLED = 12
    WAITING = 13
    PARTIAL = 14
    INTERRUPTED = 130


_OF_STATE = {
    JobState.COMPLETED: Exit.OK,
    JobState.FAILED: Exit.FAILED,
    JobState.ERROR: Exit.ERROR,
    JobState.PARTIALLY_SUCCEEDED: Exit.PARTIAL,
    JobState.CANCELLED: Exit.CANCELLED,
    JobState.REPLACED: Exit.CANCELLED,
}
_WORST_FIRST = (Exit.FAILED, Exit.ERROR, Exit.PARTIAL, Exit.CANCELLED, Exit.WAITING)


class Stop(Exception):
    """A command ends here, with a sentence and what to do."""

    def __init__(self, exit_code: Exit, message: str, *, code: str = "", remedy: str = "") -> None:
        """Keep the parts of what is told."""
        super().__init__(message)
        self.exit_code = exit_code
        self.code = code or _CODES[exit_code]
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Told:
    """What people and programs are told about a fault."""

    exit_code: Exit
    code: str
    message: str
    remedy: str = ""

    def as_json(self) -> dict[str, object]:
        """Return the one object that stands on stderr under `-o json`."""
        facts = asdict(self)
        number = facts.pop("exit_code")
        return facts | {
            "retryable": self.exit_code in {Exit.UNREACHABLE, Exit.INTERRUPTED},
            "docs": _page(self.code) or f"{_DOCS}#exit-{int(number)}",
        }


def _page(code: str) -> str:
    """Return the page of a failure class; blank when the code is none."""
    # Most commands end well, and do without the catalogue.
    from aiia_pipelines.jobs.catalogue import CATALOGUE

    return CATALOGUE[code].docs if code in CATALOGUE else ""


_CODES = {code: code.name.lower().replace("_", "-") for code in Exit}
_UP = "Start it with `aiia up`, or correct AIIA_DATABASE_URL."
_MIGRATE = "Run `aiia migrate`."

# Faults by their full name: naming a class would import the library it comes from.
_FAULTS: dict[str, tuple[Exit, str, str]] = {
    "aiia_pipelines.config.faults.ConfigInvalid": (
        Exit.CONFIG,
        "config-invalid",
        "Correct it, then run `aiia connectors validate`.",
    ),
    "aiia_pipelines.config.faults.UnknownConnector": (
        Exit.NOT_FOUND,
        "unknown-connector",
        "Run `aiia connectors list`.",
    ),
    "aiia_pipelines.config.faults.UnknownStream": (
        Exit.NOT_FOUND,
        "unknown-stream",
        "Run `aiia connectors show NAME`.",
    ),
    "aiia_pipelines.jobs.history.UnknownJob": (
        Exit.NOT_FOUND,
        "unknown-job",
        "Run `aiia jobs list --system`.",
    ),
    "aiia_pipelines.control.UnknownJobRun": (Exit.NOT_FOUND, "unknown-job", ""),
    "aiia_pipelines.control.NotLaunched": (Exit.UNREACHABLE, "not-launched", ""),
    "aiia_pipelines.control.Refused": (Exit.USAGE, "refused", ""),
    "aiia_pipelines.jobs.migrations.StoreOutdated": (Exit.UNREACHABLE, "store-outdated", ""),
    "aiia_pipelines.local.faults.EmbeddedMissing": (Exit.UNREACHABLE, "no-database", ""),
    "aiia_pipelines.local.faults.EmbeddedFault": (Exit.UNREACHABLE, "no-database", ""),
    "aiia_pipelines.local.faults.ServiceLost": (Exit.UNREACHABLE, "service-lost", ""),
    "aiia_pipelines.local.running.AlreadyUp": (Exit.UNREACHABLE, "already-up", ""),
    "psycopg2.errors.DiskFull": (
        Exit.UNREACHABLE,
        "database-full",
        "Free space on the disk of the database server; nothing that was committed is lost.",
    ),
    "psycopg2.errors.UndefinedTable": (Exit.UNREACHABLE, "no-store", _MIGRATE),
    "psycopg2.errors.UndefinedColumn": (Exit.UNREACHABLE, "store-outdated", _MIGRATE),
    "psycopg2.OperationalError": (Exit.UNREACHABLE, "database-unreachable", _UP),
    "psycopg2.InterfaceError": (Exit.UNREACHABLE, "database-unreachable", _UP),
    "sqlalchemy.exc.OperationalError": (Exit.UNREACHABLE, "database-unreachable", _UP),
    "sqlalchemy.exc.InterfaceError": (Exit.UNREACHABLE, "database-unreachable", _UP),
}
_SENTENCES = {
    "no-store": "The database holds no job-run store yet.",
    "database-full": "The database has no room left",
    "database-unreachable": "The database does not answer",
}


def exit_of(states: Iterable[JobState]) -> Exit:
    """Return the exit code of job runs: the worst of them counts."""
    found = {_OF_STATE.get(state, Exit.WAITING) for state in states}
    return next((code for code in _WORST_FIRST if code in found), Exit.OK)


def leave(code: Exit) -> NoReturn:
    """End the command with an exit code, with nothing more to say."""
    raise click.exceptions.Exit(code)


def tell(fault: BaseException) -> Told:
    """Say what a fault means to the person at the command line."""
    if isinstance(fault, Stop):
        return Told(fault.exit_code, fault.code, _clean(str(fault)), fault.remedy)
    if isinstance(fault, click.ClickException):
        return Told(Exit.USAGE, "usage", _clean(fault.format_message()), _help_of(fault))
    if isinstance(fault, KeyboardInterrupt | click.Abort):
        return Told(Exit.INTERRUPTED, "interrupted", "Interrupted.")
    # SQLAlchemy wraps what the driver says into words of its own.
    inner = getattr(fault, "orig", None)
    for told in [inner, fault] if isinstance(inner, BaseException) else [fault]:
        for name in _names(told):
            if name in _FAULTS:
                code, kind, remedy = _FAULTS[name]
                return Told(code, kind, _sentence(kind, told), remedy)
    return Told(
        Exit.FAULT,
        "fault",
        _clean(f"aiia itself failed: {type(fault).__name__}: {_first_line(fault)}"),
        "Run the same command with -v and open an issue with what it prints.",
    )


def _names(fault: BaseException) -> Iterable[str]:
    return (f"{kind.__module__}.{kind.__qualname__}" for kind in type(fault).__mro__)


def _sentence(kind: str, fault: BaseException) -> str:
    said = _clean(_first_line(fault))
    if kind not in _SENTENCES:
        return said
    sentence = _SENTENCES[kind]
    return sentence if sentence.endswith(".") else f"{sentence}: {said}"


def _first_line(fault: BaseException) -> str:
    return next((line.strip() for line in str(fault).splitlines() if line.strip()), "no message")


def _clean(text: str) -> str:
    return escape(REDACTOR.clean(text))


def _help_of(fault: click.ClickException) -> str:
    context = fault.ctx if isinstance(fault, click.UsageError) else None
    return f"See `{context.command_path} --help`." if context else ""
