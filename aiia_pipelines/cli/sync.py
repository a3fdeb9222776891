"""`aiia sync`: refresh connectors now, and watch until they have."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from aiia_pipelines.cli.describe import changes_text
from aiia_pipelines.cli.exits import Exit, exit_of, leave
from aiia_pipelines.cli.main import Command
from aiia_pipelines.cli.output import Output, Shown, instant
from aiia_pipelines.cli.session import (
    Session,
    load,
    output,
    person,
    require_project,
    started,
    store,
)
from aiia_pipelines.cli.times import Duration
from aiia_pipelines.jobs.run import JobType

if TYPE_CHECKING:
    from aiia_pipelines.jobs.store import JobStore

_SECOND_THOUGHT = 3.0  # seconds after the first Ctrl-C in which a second one cancels


@click.command("sync", cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--stream", "streams", multiple=True, help="Only this stream; may be repeated.")
@click.option("--wait/--no-wait", default=True, help="Wait until the sync has ended (default).")
@click.option(
    "--timeout", type=Duration(), help="Stop waiting after this long, as in 30m; the sync goes on."
)
@click.option("--full", is_flag=True, help="Read all rows again, also of incremental streams.")
@click.option("--dry-run", is_flag=True, help="Tell what would change, and commit nothing.")
@click.option(
    "--priority",
    type=click.Choice(["low", "normal", "high", "critical"]),
    callback=lambda _context, _option, given: given or "",
)
def sync(
    names: tuple[str, ...],
    streams: tuple[str, ...],
    wait: bool,  # noqa: FBT001 - click passes options by name
    timeout: timedelta | None,
    **how: Any,  # noqa: ANN401 - full, dry_run and priority, as the request knows them
) -> None:
    """Refresh the data of one or more connectors."""
    from aiia_pipelines.cli.watch import Watch
    from aiia_pipelines.control import SyncRequest
    from aiia_pipelines.control import sync as launch

    seconds = timeout.total_seconds() if timeout else None
    by = f"{person()}@cli"
    require_project(load())
    with started() as session:
        check(session, names, streams)
        with store(session) as jobs:
            launched = [
                launch(
                    session.settings,
                    jobs,
                    SyncRequest(connector=name, streams=streams, by=by, **how),
                )
                for name in names
            ]
            numbers = [run.number for run in launched]
            shown = output()
            for run, name in zip(launched, names, strict=True):
                if run.joined:
                    shown.say(f"{name} is being refreshed already; this is #{run.number}.")
            if wait:
                # What a dry run is made for is its log.
                told = replace(shown, verbose=True) if how["dry_run"] and not shown.quiet else shown
                watch = Watch(
                    jobs, told, session.settings.timezone, launched,
                    limits_file=session.limits_file,
                )  # fmt: skip
                _watched(watch, session, numbers, seconds)
            report(shown, jobs, [jobs.row(number) for number in numbers])
            states = [jobs.state_of(number) for number in numbers]
    leave(exit_of(states) if wait else Exit.OK)


def check(session: Session, names: Sequence[str], streams: Sequence[str]) -> None:
    """Refuse what cannot run before there is a job run.

    Raises:
        UnknownConnector, UnknownStream, ConfigInvalid: The files do not have it, or not usable.
    """
    from aiia_pipelines.config.folder import read_connector
    from aiia_pipelines.config.secrets import resolve_tree
    from aiia_pipelines.control import web_url

    # The services have an environment of their own; only a run of this process must find its secrets here.
    here = web_url(session.settings) is None
    for name in names:
        connector = read_connector(session.settings.connectors, name)
        for stream in streams:
            connector.stream(stream)
        if here:
            resolve_tree(connector.source, os.environ, session.settings.home)


def _watched(watch: Any, session: Session, numbers: Sequence[int], seconds: float | None) -> None:  # noqa: ANN401
    try:
        watch.until_ended(seconds)
    except KeyboardInterrupt:
        followed = ", ".join(f"`aiia jobs logs {number} -f`" for number in numbers)
        output().say(
            f"\nDetached; the sync goes on. Follow it: {followed}. Ctrl-C again cancels it."
        )
        try:
            time.sleep(_SECOND_THOUGHT)
        except KeyboardInterrupt:
            _cancel(watch, session, numbers)
            return
        raise


def _cancel(watch: Any, session: Session, numbers: Sequence[int]) -> None:  # noqa: ANN401
    from aiia_pipelines.control import cancel

    for number in numbers:
        cancel(session.settings, watch.store, number, reason="Ctrl-C", by=person())
    output().say("Cancelling…")
    watch.until_ended(30.0)


def report(shown: Output, jobs: "JobStore", rows: Sequence[Any]) -> None:
    """Write how each job run ended, and what to do about those that did not go well."""
    found = [(row, jobs.changes_of(row.number)) for row in rows]
    if shown.form() in {"table", "plain"} and any(row.type == JobType.DRY_RUN for row in rows):
        streams = [(row, changes) for row, every in found for changes in every]
        shown.rows(streams, lambda pair: pair[1], *_STREAM_COLUMNS)
    else:
        shown.rows(found, lambda pair: facts(pair[0]) | {"changes": pair[1]}, *_COLUMNS)
    for row in rows:
        _explain(shown, jobs, row)


_COLUMNS = (
    Shown("Job", lambda found: f"#{found[0].number}"),
    Shown("Connector", lambda found: found[0].connector),
    Shown("Status", lambda found: found[0].state),
    Shown("Records", lambda found: f"{found[0].records:,}", right=True),
    Shown("Duration", lambda found: f"{_seconds(found[0]):.1f} s", right=True),
    Shown("Message", lambda found: found[0].message, yields=True),
)
_STREAM_COLUMNS = (
    Shown("Job", lambda found: f"#{found[0].number}"),
    Shown("Stream", lambda found: f"{found[0].connector}.{found[1]['stream']}"),
    Shown("Status", lambda found: found[1]["state"]),
    Shown("Records", lambda found: f"{found[1]['records']:,}", right=True),
    Shown("It would be", lambda found: changes_text(found[1])),
    Shown("Message", lambda found: found[1]["message"], yields=True),
)


def _explain(shown: Output, jobs: "JobStore", row: Any) -> None:  # noqa: ANN401
    """Tell every cause of a job run that did not go well once, with the streams that it hit."""
    from aiia_pipelines.config.settings import destination_urls
    from aiia_pipelines.jobs.failures import CATALOGUE, Failure
    from aiia_pipelines.jobs.families import concerned

    causes: dict[tuple[str, str], list[str]] = {}
    for stream, _, code, message in jobs.failures_of(row.number):
        causes.setdefault((code, message), []).append(stream)
    if not causes and row.failure_code:
        causes[row.failure_code, row.message] = []
    for (code, message), streams in causes.items():
        kind = CATALOGUE.get(code)
        if kind is None:
            continue
        failure = Failure(kind, message, row.failure_place)
        hit = f" {', '.join(streams)}" if streams else ""
        shown.say(f"#{row.number}{hit}: {kind.badge} ({code}): {message}")
        shown.say(f"    Cause: {kind.cause}")
        shown.say(f"    What to do: {failure.remedy()}")
        family = concerned(kind.origin, row.config, destination_urls(os.environ))
        shown.say(f"    How to verify: {failure.verify(family=family)}")
    if causes:
        shown.say(f"    More: `aiia jobs show {row.number}`, `aiia jobs logs {row.number}`")


def facts(row: Any) -> dict[str, Any]:  # noqa: ANN401 - a row of the store
    """Give what programs read of a job run that was just synced."""
    return {
        "number": row.number,
        "connector": row.connector,
        "state": row.state,
        "streams": list(row.streams),
        "records": row.records,
        "duration_seconds": round(_seconds(row), 3),
        "message": row.message,
        "failure_code": row.failure_code,
        "started_at": instant(row.started_at),
        "ended_at": instant(row.ended_at),
        "type": row.type,
        "full_read": row.full_read,
    }


def _seconds(row: Any) -> float:  # noqa: ANN401
    if row.started_at is None or row.ended_at is None:
        return 0.0
    return float((row.ended_at - row.started_at).total_seconds())
