"""`aiia schedules`: when connectors run next, and switching that off and on."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from aiia_pipelines.cli.exits import Exit, Stop
from aiia_pipelines.cli.main import Group
from aiia_pipelines.cli.output import Shown, instant
from aiia_pipelines.cli.session import load, output, person, prepared, require_project, started

if TYPE_CHECKING:
    from aiia_pipelines.config.connector import Connector
    from aiia_pipelines.config.settings import Settings

_SECONDS = 10


@click.group(cls=Group)
def schedules() -> None:
    """Show when connectors run next, and switch schedules off and on."""


@schedules.command("list")
@click.option("--next", "count", type=click.IntRange(1, 100), default=1, show_default=True)
def list_(count: int) -> None:
    """List the next ticks of each schedule at which its window is open, in its own zone and in UTC."""
    from aiia_pipelines.config.folder import read_folder

    folder = read_folder(load().connectors)
    ticking = [each for each in folder.connectors.values() if each.schedule]
    paused = _paused() if ticking else {}
    out = output()
    now = datetime.now(UTC)
    found = [tick for each in ticking for tick in _ticks(each, count, now, paused.get(each.name))]
    out.rows(
        found,
        _facts,
        Shown("Connector", lambda tick: tick["connector"]),
        Shown("Schedule", lambda tick: tick["schedule"]),
        Shown("Timezone", lambda tick: tick["timezone"]),
        Shown("Next, there", lambda tick: _clock(tick["at"])),
        Shown("Next, UTC", lambda tick: _clock(tick["at"] and tick["at"].astimezone(UTC))),
        Shown("Note", lambda tick: tick["note"], yields=True),
    )
    if not ticking:
        out.say("No connector has a schedule; each is started by hand with `aiia sync`.")


@schedules.command("pause")
@click.argument("connector")
@click.option("--reason", default="", help="Why, for whoever looks at it next.")
def pause(connector: str, reason: str) -> None:
    """Switch the schedule of a connector off; runs that have begun go on."""
    _switch(connector, on=False, reason=reason)


@schedules.command("resume")
@click.argument("connector")
def resume(connector: str) -> None:
    """Switch the schedule of a connector on; ticks that passed meanwhile are not made up for."""
    _switch(connector, on=True, reason="")


def _switch(name: str, *, on: bool, reason: str) -> None:
    from aiia_pipelines.config.folder import read_connector
    from aiia_pipelines.jobs import pauses

    connector = read_connector(load().connectors, name)
    if connector.schedule is None:
        raise Stop(
            Exit.CONFIG,
            f"{name} has no schedule: its file has no key schedule, so it is started by hand.",
            code="no-schedule",
        )
    with started() as session:
        _switch_dagster(session.settings, connector, on=on)
        with closing(_connected(session.url)) as db:
            if on:
                pauses.erase(db, name)
            else:
                pauses.write(db, name, by=person(), reason=reason)
    done = "switched on" if on else "switched off"
    output().one(
        {"connector": name, "paused": not on, "reason": reason},
        lambda: [f"✓ The schedule of {name} is {done}."],
    )


def _switch_dagster(settings: "Settings", connector: "Connector", *, on: bool) -> None:
    """Ask the running services; without any, change what the daemon will find when it is started."""
    from aiia_pipelines.local import switches
    from aiia_pipelines.local.web import address

    url = address(settings.home, timeout=_SECONDS)
    if url is None:
        _switch_here(settings, connector, on=on)
        return
    try:
        switches.switch(url, connector.name, on=on)
    except switches.NoAnswer as fault:
        raise Stop(
            Exit.UNREACHABLE,
            f"The services at {url} did not switch the schedule of {connector.name}: {fault}",
            code="not-switched",
            remedy="Look at `aiia doctor`; a connector that is new there needs its code location reloaded.",
        ) from fault


def _switch_here(settings: "Settings", connector: "Connector", *, on: bool) -> None:
    require_project(settings)
    to = "on" if on else "off"
    command = [sys.executable, "-m", "aiia_pipelines.schedules.switch", connector.name]
    environment = {
        **os.environ,
        **settings.environment(),
        "DAGSTER_HOME": str(settings.project),
    }
    done = subprocess.run(  # noqa: S603 - this very package
        [*command, str(connector.schedule), to],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Stop(
            Exit.UNREACHABLE,
            f"The schedule of {connector.name} could not be switched {to}: {said}",
            code="not-switched",
            remedy="Start the services with `aiia up`, and try again.",
        )


def _paused() -> dict[str, str]:
    """Give the connectors whose schedule is off, with what is known about it; none without a database."""
    from psycopg2 import Error

    from aiia_pipelines.cli import _doctor_dagster as dagster
    from aiia_pipelines.jobs import pauses

    url = prepared().database_url
    if url is None:
        return {}
    try:
        with closing(_connected(url)) as db:
            notes = pauses.read(db) if dagster.there(db, "kvs") else {}
            return {name: _off(notes.get(name)) for name in dagster.stopped(db)}
    except Error:
        # What the files say is told all the same.
        return {}


def _connected(url: str) -> Any:  # noqa: ANN401 - a connection of psycopg2, which is imported late
    from aiia_pipelines.jobs.history import connect

    return connect(url)


def _off(note: Any) -> str:  # noqa: ANN401 - a note, whose module is imported late
    if note is None:
        return "paused"
    return f"paused by {note.by}" + (f": {note.reason}" if note.reason else "")


def _ticks(
    connector: "Connector", count: int, now: datetime, paused: str | None
) -> Iterator[dict[str, Any]]:
    from aiia_pipelines.config.ticks import open_ticks

    facts = {
        "connector": connector.name,
        "schedule": connector.schedule,
        "timezone": connector.timezone,
        "paused": paused is not None,
    }
    if paused is not None:
        yield {**facts, "at": None, "note": paused}
        return
    ticks = open_ticks(str(connector.schedule), connector.opening, now)
    found = list(islice(ticks, count))
    for at in found:
        yield {**facts, "at": at.astimezone(ZoneInfo(connector.timezone)), "note": ""}
    if not found:
        yield {**facts, "at": None, "note": "the window is closed at each tick to come"}


def _clock(at: datetime | None) -> str:
    return f"{at:%a %Y-%m-%d %H:%M}" if at else ""


def _facts(tick: Mapping[str, Any]) -> dict[str, Any]:
    at = tick["at"]
    return {
        **tick,
        "at": instant(at),
        "local": at.isoformat(timespec="seconds") if at else None,
    }
