"""`aiia doctor`: what is wrong with this installation, and the first thing to mend."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aiia_pipelines.cli import _doctor_failing as failing
from aiia_pipelines.cli import _doctor_slow as slow
from aiia_pipelines.cli import _doctor_starting as starting
from aiia_pipelines.cli._doctor_dagster import web
from aiia_pipelines.cli._doctor_finding import Finding, Ground, Guide, Scene, fault_of, problem
from aiia_pipelines.cli.exits import Exit, Stop, leave
from aiia_pipelines.cli.main import Command
from aiia_pipelines.cli.session import load, opened, output, prepared, reading
from aiia_pipelines.config.faults import ConfigInvalid, UnknownConnector
from aiia_pipelines.jobs.log import escape

if TYPE_CHECKING:
    from psycopg2.extensions import connection

_GUIDES: dict[Guide, Callable[[Scene], Iterator[Finding]]] = {
    "not-starting": starting.examine,
    "failing": failing.examine,
    "slow": slow.examine,
}
_WIDTH = 30  # characters of the longest check
_TITLES: dict[Guide, str] = {
    "installation": "Installation",
    "not-starting": "Not starting",
    "failing": "Failing",
    "slow": "Slow",
}


@click.command(cls=Command)
@click.argument("about", required=False)
@click.option("--guide", type=click.Choice(list(_GUIDES)), help="Only this one of the guides.")
def doctor(about: str | None, guide: Guide | None) -> None:
    """Check everything in order, and say what to mend first.

    ABOUT is a connector or the number of a job run to look at; without it all are looked at.
    """
    out = output()
    findings = list(_examine(about, [guide] if guide else list(_GUIDES)))
    if out.form() in {"table", "plain"}:
        out.lines(_lines(findings))
    else:
        out.rows(findings, Finding.facts)
    first = next((found for found in findings if found.verdict == "problem"), None)
    if first is None:
        out.say("Nothing is in the way.")
        leave(Exit.OK)
    out.say(f"Mend first: {first.check}. {first.remedy or first.note}")
    leave(first.exit_code)


def _lines(findings: list[Finding]) -> Iterator[str]:
    guide = None
    for found in findings:
        if found.guide != guide:
            guide = found.guide
            yield f"{_TITLES[guide]}:"
        yield escape(f"  {found.mark} {found.check:<{_WIDTH}} {found.note}")
        if found.remedy:
            yield escape(f"  {'':<{_WIDTH + 2}} → {found.remedy}")


def _examine(about: str | None, guides: list[Guide]) -> Iterator[Finding]:
    """Go through the checks; what a broken one leaves unknown is not asked again."""
    from psycopg2 import OperationalError

    try:
        settings = load()
    except ConfigInvalid as fault:
        yield fault_of("settings", fault)
        return
    yield Finding("settings", note=f"home {settings.home}")
    try:
        with reading(opened()) as db:
            yield Finding("database", note=f"PostgreSQL {db.server_version // 10000} answers")
            version = _store_version(db)
            yield version
            if version.verdict == "ok":
                yield from _with_database(_scene(db, about), guides)
                return
    except (Stop, OperationalError) as fault:
        yield fault_of("database", fault)
    yield from _without_database(guides)


def _with_database(scene: Scene, guides: list[Guide]) -> Iterator[Finding]:
    from psycopg2 import DatabaseError

    for guide in guides:
        try:
            for found in _GUIDES[guide](scene):
                yield replace(found, guide=guide)
        except DatabaseError as fault:
            yield replace(fault_of("database", fault), guide=guide)


def _without_database(guides: list[Guide]) -> Iterator[Finding]:
    ground = _ground()
    if "not-starting" in guides:
        yield replace(starting.files(ground), guide="not-starting")
    if "failing" in guides:
        for found in (failing.secrets(ground), *failing.disks(ground)):
            yield replace(found, guide="failing")


def _ground() -> Ground:
    from aiia_pipelines.config.folder import read_folder

    settings = prepared()
    return Ground(settings=settings, folder=read_folder(settings.connectors))


def _scene(db: "connection", about: str | None) -> Scene:
    ground = _ground()
    settings, folder = ground.settings, ground.folder
    scene = Scene(settings=settings, folder=folder, db=db, url=web(settings))
    if about is None:
        return scene
    digits = about.removeprefix("#")
    number = int(digits) if digits.isdecimal() else None
    name = about if number is None else _connector_of(db, number)
    if number is None and name not in folder.names and not _has_run(db, name):
        raise UnknownConnector(name, folder.names)
    return replace(scene, names=frozenset({name}), number=number)


def _connector_of(db: "connection", number: int) -> str:
    from aiia_pipelines.jobs.history import run

    return run(db, number).connector


def _has_run(db: "connection", name: str) -> bool:
    from aiia_pipelines.jobs.history import Filter, list_runs

    return bool(list_runs(db, Filter(connectors=(name,), limit=1)))


def _store_version(db: "connection") -> Finding:
    from psycopg2 import DatabaseError

    from aiia_pipelines.jobs.history import rows

    check = "store version"
    newest = max(_migrations().glob("[0-9]*.py")).stem.partition("_")[0]
    try:
        found = next(
            rows(db, "select version_num from aiia.alembic_version"), {"version_num": "none"}
        )
    except DatabaseError as fault:
        return fault_of(check, fault)
    version = str(found["version_num"])
    if version.partition("_")[0] == newest:
        return Finding(check, note=f"version {version}")
    note = f"version {version}, this program needs {newest}"
    return problem(check, note, "Run `aiia migrate`.")


def _migrations() -> Path:
    import aiia_pipelines

    # Alembic itself would cost a second of CPU to tell the same.
    return Path(aiia_pipelines.__file__).parent / "jobs" / "migrations" / "versions"
