"""`aiia jobs`: what ran, what runs, what went wrong."""

import os
import time
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from aiia_pipelines.cli import times
from aiia_pipelines.cli.exits import Exit, Stop, exit_of, leave
from aiia_pipelines.cli.main import Group
from aiia_pipelines.cli.output import Output, to_json
from aiia_pipelines.cli.runs import columns, facts_of
from aiia_pipelines.cli.session import opened, output, person, reading, store
from aiia_pipelines.jobs import history
from aiia_pipelines.jobs.history import STATUSES, RunRow
from aiia_pipelines.jobs.log import Level, LogLine, render, type_words
from aiia_pipelines.jobs.run import REFRESHES, Trigger
from aiia_pipelines.jobs.state import FINAL, JobState

if TYPE_CHECKING:
    from psycopg2.extensions import connection

_LOOK_SECONDS = 0.5
_AT_WORK = (JobState.PREPARING, JobState.RUNNING)
_LEVELS = [level.name.lower() for level in Level]
_NUMBER = click.IntRange(1, 2**63 - 1)


@click.group(cls=Group)
def jobs() -> None:
    """List, show, follow, retry, pause and cancel job runs."""


@jobs.command("list")
@click.option("--status", type=click.Choice(list(STATUSES)), multiple=True, help="Repeatable.")
@click.option("--connector", multiple=True, help="Name of a connector; repeatable.")
@click.option(
    "--type", "types", multiple=True, help="For example sync, dry_run or connection_test."
)
@click.option("--trigger", type=click.Choice([str(t) for t in Trigger]), multiple=True)
@click.option("--since", type=times.Since(), help="24h, 7d, or a date.")
@click.option("--text", default="", help="Found in number, connector, title or message.")
@click.option("-n", "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--before", type=_NUMBER, help="Go on before this number.")
@click.option("--needs-attention", is_flag=True, help="Failures not made good since.")
@click.option("--system", is_flag=True, help="Include the system's own job runs.")
def list_(**options: Any) -> None:  # noqa: ANN401 - click hands over the options by name
    """List job runs, newest first."""
    session, out = opened(), output()
    zone = session.settings.timezone
    wanted = _wanted(zone, **options)
    with reading(session) as db:
        found = history.list_runs(db, wanted, limits_file=session.limits_file, zone=zone)
    out.rows(found, facts_of, *columns(zone))
    if len(found) == wanted.limit and out.form() == "table":
        out.say(f"Older ones: --before {found[-1].number}")
    if not found:
        out.say("No job run matches." if wanted != history.Filter() else "No job has run yet.")


def _wanted(
    zone: str,
    *,
    status: tuple[str, ...],
    since: datetime | timedelta | None,
    **options: Any,  # noqa: ANN401
) -> history.Filter:
    return history.Filter(
        states=frozenset(state for word in status for state in STATUSES[word]),
        connectors=options["connector"],
        types=options["types"],
        triggers=options["trigger"],
        since=times.moment(since, zone) if since is not None else None,
        text=options["text"],
        needs_attention=options["needs_attention"],
        system=options["system"],
        before=options["before"],
        limit=options["limit"],
    )


@jobs.command()
@click.argument("number", type=_NUMBER)
def show(number: int) -> None:
    """Show one job run: what it means, what to do, its steps and figures."""
    from aiia_pipelines.cli.describe import describe
    from aiia_pipelines.config.settings import destination_urls
    from aiia_pipelines.jobs import details

    session = opened()
    with reading(session) as db:
        found = details.show(
            db, number, destination_urls(os.environ),
            limits_file=session.limits_file, zone=session.settings.timezone,
        )  # fmt: skip
    parts = {key: value for key, value in asdict(found).items() if key != "run"}
    output().one(facts_of(found.run) | parts, lambda: describe(found, session.settings.timezone))


@jobs.command()
@click.argument("number", type=_NUMBER)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job run ends.")
@click.option("--tail", type=click.IntRange(0), help="Only the last lines.")
@click.option("--level", type=click.Choice(_LEVELS), default="debug", show_default=True)
@click.option("--grep", default="", help="A regular expression, as PostgreSQL reads it.")
def logs(number: int, *, follow: bool, tail: int | None, level: str, grep: str) -> None:
    """Print the log of a job run."""
    from psycopg2.errors import InvalidRegularExpression

    session, out = opened(), output()
    log = _Log(number, Level[level.upper()], grep, ZoneInfo(session.settings.timezone))
    with reading(session) as db:
        state = history.run(db, number).state
        try:
            log.write(db, out, tail)
        except InvalidRegularExpression as fault:
            raise click.BadParameter("not a regular expression", param_hint="--grep") from fault
        while follow and state not in FINAL:
            time.sleep(_LOOK_SECONDS)
            # The state first: the last line is written before the state is final.
            state = history.run(db, number).state
            log.write(db, out)
    log.end(out)


@jobs.command()
@click.argument("number", type=_NUMBER)
@click.option("--all-tasks", is_flag=True, help="Also the streams that succeeded.")
def retry(number: int, *, all_tasks: bool) -> None:
    """Run what failed of a job run again, as a new job run."""
    from aiia_pipelines import control

    session, out = opened(), output()
    with reading(session) as db:
        _refuse(history.run(db, number))
    with store(session) as opened_store:
        launched = control.retry(
            session.settings, opened_store, number, all_tasks=all_tasks, by=person()
        )
    new = launched.number
    out.one(
        {"number": new, "retry_of": number},
        lambda: [f"#{number} runs again as #{new}. Follow it with `aiia jobs logs -f {new}`."],
    )


def _refuse(found: RunRow) -> None:
    if found.state not in FINAL:
        raise Stop(
            Exit.USAGE,
            f"Job run #{found.number} is {found.state}; only one that has ended can be retried.",
            code="not-ended",
            remedy=f"Wait with `aiia jobs wait {found.number}`.",
        )
    if found.type not in REFRESHES:
        raise Stop(
            Exit.USAGE,
            f"Job run #{found.number} is a {type_words(found.type)}, which is not retried.",
            code="not-a-sync",
            remedy=f"Run `aiia test {found.connector}` again."
            if found.connector
            else "Launch its job on Dagster's pages.",
        )


@jobs.command()
@click.argument("number", type=_NUMBER)
@click.option("--reason", default="", help="Kept with the job run.")
def cancel(number: int, *, reason: str) -> None:
    """Ask a job run to stop; nothing of it is committed."""
    from aiia_pipelines import control

    session, out = opened(), output()
    with reading(session) as db, store(session) as opened_store:
        history.run(db, number)
        accepted = control.cancel(
            session.settings, opened_store, number, reason=reason, by=person()
        )
        state = history.run(db, number).state
    said = "will stop" if accepted else f"has already ended: {state}"
    out.one(
        {"number": number, "accepted": accepted, "state": state},
        lambda: [f"Job run #{number} {said}."],
    )


@jobs.command()
@click.argument("number", type=_NUMBER)
@click.option("--reason", default="", help="Shown where people ask why it waits.")
def pause(number: int, *, reason: str) -> None:
    """Ask a sync to pause; what it has staged is kept where the stream allows it."""
    from aiia_pipelines import control

    session, out = opened(), output()
    with reading(session) as db, store(session) as opened_store:
        history.run(db, number)
        try:
            state = control.pause(
                session.settings, opened_store, number, reason=reason, by=person()
            )
        except control.Refused as fault:
            raise _refused(fault, "cannot-pause", number) from fault
    when = "stops at its next checkpoint" if state in _AT_WORK else "waits"
    out.one(
        {"number": number, "state": state},
        lambda: [f"Job run #{number} {when}. It goes on with `aiia jobs resume {number}`."],
    )


@jobs.command()
@click.argument("number", type=_NUMBER)
def resume(number: int) -> None:
    """Let a paused sync go on."""
    from aiia_pipelines import control

    session, out = opened(), output()
    with reading(session) as db, store(session) as opened_store:
        history.run(db, number)
        try:
            control.resume(opened_store, number)
        except control.Refused as fault:
            raise _refused(fault, "not-paused", number) from fault
        daemon = history.daemon_seconds(db)
    out.one(
        {"number": number},
        lambda: [f"Job run #{number} goes on. Follow it with `aiia jobs logs -f {number}`."],
    )
    if daemon is None or daemon > history.HEARTBEAT_SECONDS:
        out.say("No daemon is running; it goes on once `aiia up` is started.")


def _refused(fault: Exception, code: str, number: int) -> Stop:
    remedy = f"Look at it with `aiia jobs show {number}`."
    return Stop(Exit.USAGE, str(fault), code=code, remedy=remedy)


@jobs.command()
@click.argument("numbers", nargs=-1, required=True, type=_NUMBER, metavar="NUMBER...")
@click.option("--timeout", type=times.Duration(), help="For example 30m; exit code 13 then.")
def wait(numbers: tuple[int, ...], timeout: timedelta | None) -> None:
    """Wait until job runs have ended; the exit code tells how."""
    session, out = opened(), output()
    end = time.monotonic() + timeout.total_seconds() if timeout is not None else None
    with reading(session) as db:
        found = [history.run(db, number) for number in numbers]
        while not all(each.state in FINAL for each in found):
            if end is not None and time.monotonic() >= end:
                break
            time.sleep(_LOOK_SECONDS)
            found = [history.run(db, number) for number in numbers]
    out.rows(found, facts_of, *columns(session.settings.timezone))
    leave(exit_of(each.state for each in found))


class _Log:
    """The log of one job run, written piece by piece."""

    def __init__(self, number: int, level: Level, grep: str, zone: ZoneInfo) -> None:
        self._number = number
        self._level = level
        self._grep = grep
        self._zone = zone
        self._last = 0
        self._kept: list[dict[str, object]] = []

    def write(self, db: "connection", out: Output, tail: int | None = None) -> None:
        """Write what is new; `tail` keeps only the last lines of it."""
        found = history.log_lines(
            db, self._number, after_id=self._last,
            min_level=self._level, grep=self._grep, tail=tail,
        )  # fmt: skip
        for place, line in found:
            self._last = place
            self._line(out, place, line)

    def end(self, out: Output) -> None:
        """Write what could only be written as a whole."""
        match out.form("plain"):
            case "json":
                out.lines([to_json(self._kept)])
            case "csv":
                out.rows(self._kept, dict)

    def _line(self, out: Output, place: int, line: LogLine) -> None:
        form = out.form("plain")
        facts = {
            "id": place,
            "at": line.at,
            "level": line.level.name,
            "message": line.message,
            "detail": list(line.detail),
        }
        if form in {"json", "csv"}:
            self._kept.append(facts)
        elif form == "ndjson":
            out.lines([to_json(facts, indent=None)])
        else:
            out.lines([render(line, self._zone)])
