"""`aiia test`: can the source be reached, and may its streams be read."""

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from aiia_pipelines.cli.exits import Exit, exit_of, leave
from aiia_pipelines.cli.main import Command
from aiia_pipelines.cli.output import Output, to_json
from aiia_pipelines.cli.session import Session, load, output, person, started, store
from aiia_pipelines.cli.times import Duration
from aiia_pipelines.jobs.log import escape

if TYPE_CHECKING:
    from aiia_pipelines.config.connector import Connector
    from aiia_pipelines.config.faults import Problem
    from aiia_pipelines.config.settings import Settings
    from aiia_pipelines.sync.probe import Probed, Staged


@click.command(cls=Command)
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="Every connector, one after the other.")
@click.option(
    "--timeout",
    type=Duration(),
    default="20s",
    show_default=True,
    help="How long the test of a connector may take in all.",
)
def test(name: str | None, *, every: bool, timeout: timedelta) -> None:
    """Run a Connection Test: name, port, encryption, login, permissions, a row of each stream."""
    if bool(name) == every:
        raise click.UsageError("Name a connector, or say --all.")
    out = output()
    seconds = timeout.total_seconds()
    chosen, broken = _chosen(load(), name)
    with started() as session:
        tests = [_tested(session, connector, out, seconds) for connector in chosen]
    _write(tests, out)
    for problem in broken:
        out.say(f"✕ {problem}")
    code = exit_of(tested.state for tested in tests)
    leave(Exit.CONFIG if broken and code is Exit.OK else code)


def _chosen(
    settings: "Settings", name: str | None
) -> tuple[list["Connector"], tuple["Problem", ...]]:
    from aiia_pipelines.config.folder import read_connector, read_folder

    if name is not None:
        return [read_connector(settings.connectors, name)], ()
    folder = read_folder(settings.connectors)
    return list(folder.connectors.values()), folder.problems


def _tested(session: Session, connector: "Connector", out: Output, seconds: float) -> "Probed":
    from aiia_pipelines.sync.probe import Probed
    from aiia_pipelines.sync.probe_wording import line_of, lines_of
    from aiia_pipelines.sync.recorded_probe import run_as_job

    for_people = out.form() in {"table", "plain"}

    def tell(line: str) -> None:
        # Seen as it happens; programs get the whole at the end, people the rest on stderr.
        if for_people:
            click.echo(escape(line))
            sys.stdout.flush()
        else:
            out.say(line)

    def report(stage: "Staged") -> None:
        tell(line_of(stage))

    tested = Probed(connector.name, connector.title, seconds)
    tell(f"Connection test ({connector.title})")
    with store(session) as opened_store:
        home = session.settings.home
        run_as_job(opened_store, connector, home, tested, report, by=person())
    for line in lines_of(tested):
        tell(line)
    tell(f"  Recorded as job run #{tested.number}.")
    return tested


def _write(tests: list["Probed"], out: Output) -> None:
    from aiia_pipelines.sync.probe_wording import facts_of

    form = out.form()
    if form == "json":
        out.lines([to_json([facts_of(tested) for tested in tests])])
    elif form in {"ndjson", "csv"}:
        out.rows(tests, facts_of)
