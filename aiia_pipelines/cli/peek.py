"""What the commands that look into a source share, and `aiia connectors discover`."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aiia_pipelines.cli.exits import Stop, exit_of
from aiia_pipelines.cli.main import Command
from aiia_pipelines.cli.session import output, prepared
from aiia_pipelines.jobs.state import JobState

if TYPE_CHECKING:
    from aiia_pipelines.config.connector import Connector, Stream
    from aiia_pipelines.connectors.base import Source, SourceColumn

Answer = TypeVar("Answer")


@click.command(cls=Command)
@click.argument("name")
@click.option("--stream", help="Only this stream.")
def discover(name: str, stream: str | None) -> None:
    """Print the columns of each stream in the form its connector file takes."""
    import yaml

    from aiia_pipelines.config.folder import read_connector

    connector = read_connector(prepared().connectors, name)
    wanted = streams_of(connector, stream)
    found = asked(connector, lambda source: [(each, source.columns(each)) for each in wanted])
    streams = [{"name": each.name, "columns": _declared(columns)} for each, columns in found]
    text = yaml.safe_dump({"streams": streams}, sort_keys=False, allow_unicode=True)
    output().one({"connector": name, "streams": streams}, lambda: [text.rstrip()])


def _declared(columns: Iterable["SourceColumn"]) -> dict[str, dict[str, Any]]:
    return {
        column.name: ({"type": str(column.type)} if column.type else {})
        | ({} if column.nullable else {"nullable": False})
        for column in columns
    }


def streams_of(connector: "Connector", name: str | None) -> list["Stream"]:
    """Give the stream of this name, or all of them.

    Raises:
        UnknownStream: There is none of this name.
    """
    return [connector.stream(name)] if name else list(connector.streams)


def asked(connector: "Connector", question: Callable[["Source"], Answer]) -> Answer:
    """Connect to the source and ask it something; its fault ends the command as a sync would end.

    Raises:
        Stop: The source could not be asked, or its rows are not what the contract says.
    """
    from aiia_pipelines.connectors.base import SourceFault
    from aiia_pipelines.jobs.failures import classify
    from aiia_pipelines.sync.faults import ContractBroken
    from aiia_pipelines.sync.probe import opened_source

    try:
        with opened_source(connector, prepared().home) as source:
            source.connect()
            return question(source)
    except (SourceFault, ContractBroken) as fault:
        failure = classify(fault)
        raise Stop(
            exit_of([JobState(failure.badge.value)]),
            failure.headline,
            code=failure.code,
            remedy=failure.remedy(),
        ) from fault


def rows_of(rows: Any) -> Sequence[Sequence[Any]]:  # noqa: ANN401 - Python rows or Arrow columns
    """Give the rows of a batch as Python values."""
    if isinstance(rows, Sequence):
        return rows
    return list(zip(*(column.to_pylist() for column in rows.columns), strict=True))
