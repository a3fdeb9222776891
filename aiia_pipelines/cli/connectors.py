"""`aiia connectors`: the connector files, and what their sources hold."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiia_pipelines.cli.exits import Exit, leave
from aiia_pipelines.cli.main import Group
from aiia_pipelines.cli.output import Shown
from aiia_pipelines.cli.session import load, output

if TYPE_CHECKING:
    from aiia_pipelines.config.connector import Connector, Stream
    from aiia_pipelines.config.faults import Problem
    from aiia_pipelines.config.folder import Folder

_HERE = "aiia_pipelines.cli"


@click.group(
    cls=Group,
    lazy={
        "new": (f"{_HERE}.new:new", "Write a connector file, checked and tested."),
        "schema": (
            f"{_HERE}.schema:schema",
            "Show the columns that are expected, and what changed.",
        ),
        "preview": (f"{_HERE}.preview:preview", "Show the first rows at the source."),
        "discover": (f"{_HERE}.peek:discover", "Print the columns of a source for its file."),
    },
)
def connectors() -> None:
    """List, check and make connectors."""


@connectors.command("list")
def list_() -> None:
    """List all connectors, also those whose file is broken."""
    from aiia_pipelines.config.folder import read_folder

    settings, out = load(), output()
    folder = read_folder(settings.connectors)
    out.rows(
        _listed(folder),
        dict,
        Shown("Name", lambda row: row["name"]),
        Shown("Title", lambda row: row["title"] or "", yields=True),
        Shown("Kind", lambda row: row["kind"] or ""),
        Shown("Streams", lambda row: str(len(row["streams"])), right=True),
        Shown("Schedule", lambda row: row["schedule"] or "by hand"),
        Shown("Timezone", lambda row: row["timezone"] or ""),
        Shown("File", lambda row: "✓ ok" if row["usable"] else f"✕ {row['problems'][0]}"),
    )
    if not folder.names:
        out.say(
            f"There is no connector file in {settings.connectors}. Make one: `aiia connectors new sql`."
        )


def _listed(folder: "Folder") -> list[dict[str, Any]]:
    broken = {each.name: [str(problem) for problem in each.problems] for each in folder.broken}
    return [
        _facts(folder.connectors.get(name)) | {"name": name, "problems": broken.get(name, [])}
        for name in folder.names
    ]


def _facts(connector: "Connector | None") -> dict[str, Any]:
    return {
        "name": "",
        "title": connector.title if connector else None,
        "kind": connector.source["kind"] if connector else None,
        "streams": [stream.name for stream in connector.streams] if connector else [],
        "schedule": connector.schedule if connector else None,
        "timezone": connector.timezone if connector else None,
        "destination": connector.destination if connector else None,
        "tier": connector.tier if connector else None,
        "usable": connector is not None,
        "problems": [],
    }


@connectors.command()
@click.argument("name")
def show(name: str) -> None:
    """Show one connector as its file says it; secrets are references."""
    from aiia_pipelines.config.folder import read_connector

    connector = read_connector(load().connectors, name)
    output().one(connector.public(), lambda: _page(connector))


def _page(connector: "Connector") -> Iterable[str]:
    yield f"{connector.name} · {connector.title}"
    if connector.description:
        yield connector.description
    yield ""
    for key, value in connector.source.items():
        yield f"{key + ':':<20} {value}"
    yield f"{'destination:':<20} {connector.destination}"
    yield f"{'schedule:':<20} {connector.schedule or 'by hand'} ({connector.timezone})"
    yield f"{'drift:':<20} {connector.drift}"
    budget = f", at most {connector.max_invalid}" if connector.max_invalid else ""
    yield f"{'invalid rows:':<20} {connector.on_invalid}{budget}"
    for stream in connector.streams:
        yield ""
        yield from _stream(stream)


def _stream(stream: "Stream") -> Iterable[str]:
    place = stream.table or stream.path or stream.endpoint or "a query"
    yield f"{stream.name}  {stream.mode} from {place}  key: {', '.join(stream.key) or 'none'}"
    if stream.cursor:
        back = f", looks back {stream.lookback}" if stream.lookback else ""
        yield f"  cursor: {stream.cursor}{back}"
    if stream.delete != "none":
        yield f"  rows that are gone: {stream.delete} delete"
    for name, column in stream.columns.items():
        checks = ", ".join(f"{rule} {argument}" for rule, argument in column.checks.items())
        null = "not null" if column.nullable is False else ""
        yield f"  {name:<24} {column.type or 'learned'!s:<16} {null:<8}  {checks}".rstrip()


@connectors.command()
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
def validate(path: Path | None) -> None:
    """Check connector files; every mistake is told at once, with its line."""
    from aiia_pipelines.config.folder import read_folder

    out = output()
    path = (path or load().connectors).absolute()
    folder = read_folder(path.parent if path.is_file() else path)
    # A file alone is checked among its neighbours: two must not bear the same name.
    found = [problem for problem in folder.problems if not path.is_file() or problem.file == path]
    out.one(
        {
            "valid": not found,
            "connectors": [name for name, file in folder.files.items() if _below(file, path)],
            "problems": [_problem(problem) for problem in found],
        },
        lambda: map(str, found) if found else [f"✓ {_good(folder)}"],
    )
    leave(Exit.CONFIG if found else Exit.OK)


def _below(file: Path, path: Path) -> bool:
    return file == path or not path.is_file()


def _good(folder: "Folder") -> str:
    count = len(folder.connectors)
    return f"{count} connector {'file' if count == 1 else 'files'} can be used."


def _problem(problem: "Problem") -> dict[str, Any]:
    return {"file": str(problem.file), "line": problem.line, "message": problem.message}
