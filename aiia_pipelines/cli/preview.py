"""`aiia connectors preview`: the first rows of a stream, as they come, as they would arrive, or why they would not."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from aiia_pipelines.cli.exits import Stop
from aiia_pipelines.cli.main import Command
from aiia_pipelines.cli.output import Output, Shown, to_json
from aiia_pipelines.cli.peek import asked, rows_of, streams_of
from aiia_pipelines.cli.session import opened, output, prepared, store

if TYPE_CHECKING:
    from aiia_pipelines.config.connector import Connector, Stream
    from aiia_pipelines.connectors.base import Batch, Source
    from aiia_pipelines.jobs.contracts import LearnedColumn
    from aiia_pipelines.sync.contract import Contract
    from aiia_pipelines.sync.sieve import Sieve

_LOOKED_AT = 10_000  # rows in which invalid ones are looked for
Row = Sequence[Any]


@click.command(cls=Command)
@click.argument("name")
@click.option("--stream", help="The first stream by default.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=10, show_default=True)
@click.option(
    "--stage",
    type=click.Choice(["input", "converted", "rejected"]),
    help="As the source gives them, as they would be stored, or those that break a rule; values masked.",
)
@click.option("--show-values", is_flag=True, help="With --stage: show values as they are.")
def preview(
    name: str, stream: str | None, limit: int, stage: str | None, *, show_values: bool
) -> None:
    """Show the first rows of a stream, as the source gives them; nothing is stored.

    Rules over the whole stream, such as unique, are not checked.
    """
    from aiia_pipelines.config.folder import read_connector

    out = output()
    connector = read_connector(prepared().connectors, name)
    chosen = streams_of(connector, stream)[0]
    masks = stage is not None and not show_values
    if stage == "rejected":
        _rejected(out, connector, chosen, limit, masks=masks)
    elif stage == "converted":
        learned = _learned(connector, chosen)
        found = asked(
            connector, lambda source: _converted(connector, chosen, learned, source, limit)
        )
        _write(out, *found, masks=masks)
    else:
        _write(out, *asked(connector, lambda source: _input(chosen, source, limit)), masks=masks)


def _input(stream: "Stream", source: "Source", limit: int) -> tuple[list[str], Sequence[Row]]:
    names = [column.name for column in source.columns(stream)]
    batch = next(_batches(stream, source, names, limit), None)
    return names, rows_of(batch.rows)[:limit] if batch else ()


def _converted(
    connector: "Connector",
    stream: "Stream",
    learned: "list[LearnedColumn] | None",
    source: "Source",
    limit: int,
) -> tuple[list[str], Sequence[Row]]:
    contract, sieve = _checked(connector, stream, learned, source)
    names = [column.source for column in contract.read_columns]
    batch = next(_batches(stream, source, names, limit), None)
    rows = rows_of(sieve.parse(batch).rows)[:limit] if batch else ()
    return [column.name for column in contract.columns], rows


def _rejected(
    out: Output, connector: "Connector", stream: "Stream", limit: int, *, masks: bool
) -> None:
    learned = _learned(connector, stream)

    def question(source: "Source") -> tuple[int, list[dict[str, Any]]]:
        contract, sieve = _checked(connector, stream, learned, source)
        found: list[dict[str, Any]] = []
        names = [column.source for column in contract.read_columns]
        for batch in _batches(stream, source, names, _LOOKED_AT):
            rejected = sieve.sift(sieve.parse(batch)).rejected
            found += rejected.to_pylist() if rejected is not None else []
            if len(found) >= limit or sieve.rows >= _LOOKED_AT:
                break
        return sieve.rows, found[:limit]

    looked_at, rows = asked(connector, question)
    for row in rows:
        row["record"] = _record(json.loads(row["record"]), masks=masks)
    out.rows(
        rows,
        dict,
        Shown("Row", lambda row: f"{row['row']:,}", right=True),
        Shown("Place", lambda row: row["place"]),
        Shown("Breaks", lambda row: row["rules"]),
        Shown("Record", lambda row: to_json(row["record"], indent=None), yields=True),
    )
    out.say(f"{looked_at:,} rows looked at; {len(rows):,} of those that break a rule are shown.")


def _checked(
    connector: "Connector",
    stream: "Stream",
    learned: "list[LearnedColumn] | None",
    source: "Source",
) -> "tuple[Contract, Sieve]":
    from aiia_pipelines.sync.contract import agree
    from aiia_pipelines.sync.sieve import Sieve

    contract = agree(stream, source.columns(stream), learned, drift=connector.drift)
    return contract, Sieve(contract, quarantine=True, schema=stream.schema_)


def _batches(stream: "Stream", source: "Source", names: list[str], rows: int) -> "Iterator[Batch]":
    from aiia_pipelines.connectors.base import Reading

    few = stream.model_copy(update={"batch_rows": min(stream.batch_rows, rows)})
    yield from islice(source.batches(few, Reading(names=names)), rows)


def _learned(connector: "Connector", stream: "Stream") -> "list[LearnedColumn] | None":
    from aiia_pipelines.jobs import contracts

    try:
        session = opened()
    except Stop:
        return None  # a connector is tried before there is a database
    with store(session) as opened_store:
        return contracts.learned(opened_store, connector.name, stream.name)


def _record(record: dict[str, Any], *, masks: bool) -> dict[str, Any]:
    return {name: _shown(value, masks=masks) for name, value in record.items()}


def _shown(value: object, *, masks: bool) -> object:
    from aiia_pipelines.sync.convert import masked

    return masked(value) if masks and value is not None else value


def _write(out: Output, names: list[str], rows: Sequence[Row], *, masks: bool) -> None:
    shown = [[_shown(value, masks=masks) for value in row] for row in rows]
    columns = (_column(name, place) for place, name in enumerate(names))
    out.rows(shown, lambda row: dict(zip(names, row, strict=True)), *columns)


def _column(name: str, place: int) -> Shown:
    return Shown(name, lambda row: _text(row[place]))


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else to_json(value, indent=None).strip('"')
