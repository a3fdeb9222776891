"""`aiia test`: can the source be reached, and may its streams be read."""

import sys
from typing import TYPE_CHECKING

import click

from aiia_pipelines.cli.exits import Exit, exit_of, leave
from aiia_pipelines.cli.main import Command
from aiia_pipelines.cli.output import Output, to_json
from aiia_pipelines.cli.session import Session, load, output, started, store
from aiia_pipelines.jobs.log import escape

if TYPE_CHECKING:
    from aiia_pipelines.cli.probe import Staged, Tested
    from aiia_pipelines.config.connector import Connector
    from aiia_pipelines.config.faults import Problem
    from aiia_pipelines.config.settings import Settings


@click.command(cls=Command)
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="Every connector, one after the other.")
def test(name: str | None, *, every: bool) -> None:
    """Run a Connection Test, step by step."""
    if bool(name) == every:
        raise click.UsageError("Name a connector, or say --all.")
    out = output()
    chosen, broken = _chosen(load(), name)
    with started() as session:
        tests = [_tested(session, connector, out) for connector in chosen]
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


def _tested(session: Session, connector: "Connector", out: Output) -> "Tested":
    from aiia_pipelines.cli.probe import Tested, lines_of, run_recorded

    for_people = out.form() in {"table", "plain"}

    def tell(line: str) -> None:
        # Seen as it happens; programs get the whole at the end, people the rest on stderr.
        if for_people:
            click.echo(escape(line))
            sys.stdout.flush()
        else:
            out.say(line)

    def report(stage: "Staged") -> None:
        from aiia_pipelines.cli.probe import line_of

        tell(line_of(stage))

    tested = Tested(connector.name, connector.title)
    tell(f"Connection test ({connector.title})")
    with store(session) as opened_store:
        run_recorded(opened_store, connector, session.settings, tested, report)
    for line in lines_of(tested):
        tell(line)
    tell(f"  Recorded as job run #{tested.number}.")
    return tested


def _write(tests: list["Tested"], out: Output) -> None:
    from aiia_pipelines.cli.probe import facts_of

    form = out.form()
    if form == "json":
        out.lines([to_json([facts_of(tested) for tested in tests])])
    elif form in {"ndjson", "csv"}:
        out.rows(tests, facts_of)
