"""`aiia doctor`: what is wrong with this installation, and the first thing to mend."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiia_pipelines.cli.exits import Exit, Stop, leave, tell
from aiia_pipelines.cli.main import Command
from aiia_pipelines.cli.session import load, opened, output, prepared, reading
from aiia_pipelines.config.faults import ConfigInvalid
from aiia_pipelines.jobs.log import escape

if TYPE_CHECKING:
    from psycopg2.extensions import connection

    from aiia_pipelines.config.settings import Settings

_LEAST_FREE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; a warning has a remedy but leaves the installation usable."""

    check: str
    verdict: str = "ok"
    note: str = ""
    remedy: str = ""
    exit_code: Exit = Exit.OK

    @property
    def mark(self) -> str:
        """The sign it is shown with."""
        return {"ok": "✓", "warning": "!", "problem": "✕"}[self.verdict]


@click.command(cls=Command)
def doctor() -> None:
    """Check everything in order, and say what to mend first."""
    out = output()
    findings = list(_examine())
    if out.form() in {"table", "plain"}:
        out.lines(line for found in findings for line in _lines(found))
    else:
        out.rows(findings, _facts)
    first = next((found for found in findings if found.verdict == "problem"), None)
    if first is None:
        out.say("Nothing is in the way.")
        leave(Exit.OK)
    out.say(f"Mend first: {first.check}. {first.remedy}")
    leave(first.exit_code)


def _lines(found: Finding) -> Iterator[str]:
    yield escape(f"{found.mark} {found.check:<20} {found.note}")
    if found.remedy:
        yield escape(f"{'':<22} → {found.remedy}")


def _facts(found: Finding) -> dict[str, Any]:
    return {
        "check": found.check,
        "verdict": found.verdict,
        "note": found.note,
        "remedy": found.remedy,
    }


def _examine() -> Iterator[Finding]:
    """Go through the checks; what a broken one leaves unknown is not asked again."""
    try:
        settings = load()
    except ConfigInvalid as fault:
        yield _problem("settings", fault)
        return
    yield Finding("settings", note=f"home {settings.home}")
    yield from _of_database()
    yield from _of_files(prepared())
    yield _disk(settings)


def _of_database() -> Iterator[Finding]:
    from psycopg2 import DatabaseError, OperationalError

    try:
        with reading(opened()) as db:
            yield Finding("database", note=f"PostgreSQL {db.server_version // 10000} answers")
            for name, check in _DATABASE_CHECKS:
                try:
                    yield check(name, db)
                except DatabaseError as fault:
                    yield _problem(name, fault)
                    return
    except (Stop, OperationalError) as fault:
        yield _problem("database", fault)


def _store_version(name: str, db: "connection") -> Finding:
    from aiia_pipelines.jobs.history import rows

    files = sorted(_migrations().glob("[0-9]*.py"))
    newest = files[-1].stem.partition("_")[0]
    found = next(rows(db, "select version_num from aiia.alembic_version"), {"version_num": "none"})
    version = str(found["version_num"])
    if version.partition("_")[0] == newest:
        return Finding(name, note=f"version {version}")
    return Finding(
        name,
        "problem",
        f"version {version}, this program needs {newest}",
        "Run `aiia migrate`.",
        Exit.UNREACHABLE,
    )


def _migrations() -> Path:
    import aiia_pipelines

    # Alembic itself would cost a second of CPU to tell the same.
    return Path(aiia_pipelines.__file__).parent / "jobs" / "migrations" / "versions"


def _daemon(name: str, db: "connection") -> Finding:
    from aiia_pipelines.jobs.history import HEARTBEAT_SECONDS, daemon_seconds

    seconds = daemon_seconds(db)
    if seconds is not None and seconds <= HEARTBEAT_SECONDS:
        return Finding(name, note=f"seen {seconds:.0f} s ago")
    note = "never seen" if seconds is None else f"not seen for {seconds:.0f} s"
    remedy = "Start it with `aiia up`: schedules and queued job runs wait for it."
    return Finding(name, "problem", note, remedy, Exit.UNREACHABLE)


def _stuck(name: str, db: "connection") -> Finding:
    from aiia_pipelines.jobs.history import HEARTBEAT_SECONDS, STATUSES, Filter, list_runs

    wanted = Filter(states=STATUSES["running"] | STATUSES["preparing"], system=True, limit=1000)
    silent = [
        run
        for run in list_runs(db, wanted)
        if run.heartbeat_seconds is not None and run.heartbeat_seconds > HEARTBEAT_SECONDS
    ]
    if not silent:
        return Finding(name, note="none")
    numbers = ", ".join(f"#{run.number}" for run in silent[:5])
    return Finding(
        name,
        "problem",
        f"{numbers} gave no sign of life for over {HEARTBEAT_SECONDS:.0f} s",
        f"Cancel it with `aiia jobs cancel {silent[0].number}`, then retry it.",
        Exit.UNREACHABLE,
    )


def _attention(name: str, db: "connection") -> Finding:
    from aiia_pipelines.jobs.history import Filter, list_runs

    found = list_runs(db, Filter(needs_attention=True, limit=1000))
    if not found:
        return Finding(name, note="none")
    numbers = ", ".join(f"#{run.number} {run.connector}" for run in found[:5])
    return Finding(name, "warning", numbers, f"Run `aiia jobs show {found[0].number}`.")


_DATABASE_CHECKS: tuple[tuple[str, Callable[[str, Any], Finding]], ...] = (
    ("store version", _store_version),
    ("daemon", _daemon),
    ("stuck job runs", _stuck),
    ("failures to look at", _attention),
)


def _of_files(settings: "Settings") -> Iterator[Finding]:
    from aiia_pipelines.config.folder import read_folder
    from aiia_pipelines.config.secrets import resolve_tree

    folder = read_folder(settings.connectors)
    if folder.problems:
        remedy = "Run `aiia connectors validate` and correct the lines it names."
        yield Finding("connector files", "problem", str(folder.problems[0]), remedy, Exit.CONFIG)
    elif not folder.connectors:
        remedy = "Make one: `aiia connectors new sql`."
        yield Finding("connector files", "warning", f"none in {settings.connectors}", remedy)
    else:
        yield Finding("connector files", note=f"{len(folder.connectors)} can be used")
    missing = []
    for connector in folder.connectors.values():
        try:
            resolve_tree(connector.source, os.environ, settings.home)
        except ConfigInvalid as fault:
            missing.append(f"{connector.name}: {fault}")
    if missing:
        remedy = "Set the variable or file where the worker runs."
        yield Finding("secrets", "problem", missing[0], remedy, Exit.CONFIG)
    else:
        yield Finding("secrets", note="all references lead to a value")


def _disk(settings: "Settings") -> Finding:
    folder = next(each for each in (settings.home, *settings.home.parents) if each.is_dir())
    usage = shutil.disk_usage(folder)
    note = f"{usage.free / (1 << 30):.1f} GiB free at {folder}"
    if usage.free >= _LEAST_FREE_BYTES:
        return Finding("disk space", note=note)
    return Finding("disk space", "problem", note, "Free some space there.", Exit.UNREACHABLE)


def _problem(check: str, fault: BaseException) -> Finding:
    told = tell(fault)
    return Finding(check, "problem", told.message, told.remedy, told.exit_code)
