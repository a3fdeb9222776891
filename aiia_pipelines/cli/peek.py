"""`aiia connectors schema|preview|discover`: what the source holds now."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aiia_pipelines.cli.exits import Exit, Stop, exit_of, leave
from aiia_pipelines.cli.main import Command
from aiia_pipelines.cli.output import Output, Shown, to_json
from aiia_pipelines.cli.session import opened, output, prepared, store
from aiia_pipelines.jobs.state import JobState

if TYPE_CHECKING:
    from aiia_pipelines.config.connector import Connector, Stream
    from aiia_pipelines.connectors.base import Source, SourceColumn
    from aiia_pipelines.jobs.store import JobStore

Found = list[tuple["Stream", list["SourceColumn"]]]
Answer = TypeVar("Answer")


@click.command(cls=Command)
@click.argument("name")
@click.option("--stream", help="Only this stream.")
@click.option("--diff", is_flag=True, help="Only what differs from the contract; exit code 10.")
@click.option("--accept", is_flag=True, help="Take what the source has now for the contract.")
def schema(name: str, stream: str | None, *, diff: bool, accept: bool) -> None:
    """Show the columns at the source, and what changed since they were learned."""
    from aiia_pipelines.config.folder import read_connector
    from aiia_pipelines.jobs import contracts
    from aiia_pipelines.sync.contract import as_learned

    session, out = opened(), output()
    connector = read_connector(session.settings.connectors, name)
    found = _described(connector, _streams(connector, stream))
    with store(session) as opened_store:
        if accept:
            for each, columns in found:
                contracts.learn(opened_store, name, each.name, as_learned(columns), number=None)
        differences = {
            each.name: _differences(opened_store, name, each, columns) for each, columns in found
        }
    if accept:
        out.say(f"The columns of {', '.join(differences)} are now the contract of {name}.")
    if diff or accept:
        _write_differences(out, name, differences)
        leave(Exit.ERROR if any(differences.values()) else Exit.OK)
    out.rows(list(_columns(found)), dict, *_COLUMNS)


_COLUMNS = (
    Shown("Stream", lambda row: row["stream"]),
    Shown("Column", lambda row: row["column"]),
    Shown("Type", lambda row: row["type"] or "unknown"),
    Shown("Null", lambda row: "" if row["nullable"] else "not null"),
    Shown("Declared", lambda row: row["declared"]),
)


def _columns(found: Found) -> Iterator[dict[str, Any]]:
    for stream, columns in found:
        for column in columns:
            yield {
                "stream": stream.name,
                "column": column.name,
                "type": str(column.type) if column.type else None,
                "nullable": column.nullable,
                "declared": column.declared,
            }


def _differences(
    opened_store: "JobStore", name: str, stream: "Stream", columns: Sequence["SourceColumn"]
) -> list[str]:
    from aiia_pipelines.jobs import contracts
    from aiia_pipelines.sync.contract import agree
    from aiia_pipelines.sync.faults import ContractBroken

    try:
        agree(stream, columns, contracts.learned(opened_store, name, stream.name))
    except ContractBroken as fault:
        return list(getattr(fault, "report", ())) or [str(fault)]
    return []


def _write_differences(out: Output, name: str, differences: dict[str, list[str]]) -> None:
    def text() -> Iterable[str]:
        for stream, lines in differences.items():
            yield f"{stream}: {'no difference' if not lines else ''}".rstrip()
            yield from (f"  ✕ {line}" for line in lines)

    out.one({"connector": name, "differences": differences}, text)


@click.command(cls=Command)
@click.argument("name")
@click.option("--stream", help="The first stream by default.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=10, show_default=True)
def preview(name: str, stream: str | None, limit: int) -> None:
    """Show the first rows of a stream, as the source gives them."""
    from aiia_pipelines.config.folder import read_connector

    settings, out = prepared(), output()
    connector = read_connector(settings.connectors, name)
    chosen = _streams(connector, stream)[0].model_copy(update={"batch_rows": limit})

    def rows(source: "Source") -> tuple[list[str], Sequence[Any]]:
        names = [column.name for column in source.columns(chosen)]
        return names, next(source.batches(chosen, names), ())

    names, found = _asked(connector, rows)
    out.rows(
        found[:limit],
        lambda row: dict(zip(names, row, strict=True)),
        *(_shown(column, place) for place, column in enumerate(names)),
    )


def _shown(column: str, place: int) -> Shown:
    return Shown(column, lambda row: _text(row[place]))


@click.command(cls=Command)
@click.argument("name")
@click.option("--stream", help="Only this stream.")
def discover(name: str, stream: str | None) -> None:
    """Print the columns of each stream in the form its connector file takes."""
    import yaml

    from aiia_pipelines.config.folder import read_connector

    connector = read_connector(prepared().connectors, name)
    found = _described(connector, _streams(connector, stream))
    streams = [{"name": each.name, "columns": _declared(columns)} for each, columns in found]
    text = yaml.safe_dump({"streams": streams}, sort_keys=False, allow_unicode=True)
    output().one({"connector": name, "streams": streams}, lambda: [text.rstrip()])


def _declared(columns: Iterable["SourceColumn"]) -> dict[str, dict[str, Any]]:
    return {
        column.name: ({"type": str(column.type)} if column.type else {})
        | ({} if column.nullable else {"nullable": False})
        for column in columns
    }


def _streams(connector: "Connector", name: str | None) -> list["Stream"]:
    return [connector.stream(name)] if name else list(connector.streams)


def _described(connector: "Connector", streams: Sequence["Stream"]) -> Found:
    return _asked(connector, lambda source: [(s, source.columns(s)) for s in streams])


def _asked(connector: "Connector", question: Callable[["Source"], Answer]) -> Answer:
    """Connect to the source and ask it something; its fault ends the command as a sync would end."""
    from aiia_pipelines.cli.probe import opened_source
    from aiia_pipelines.connectors.base import SourceFault
    from aiia_pipelines.jobs.failures import classify

    try:
        with opened_source(connector, prepared()) as source:
            source.connect()
            return question(source)
    except SourceFault as fault:
        failure = classify(fault)
        raise Stop(
            exit_of([JobState(failure.badge.value)]),
            failure.headline,
            code=failure.code,
            remedy=failure.remedy(),
        ) from fault


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else to_json(value, indent=None).strip('"')
