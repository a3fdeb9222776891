"""Rows of people, and the way to bring them to a destination as a sync does."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Protocol
from uuid import uuid4

import pyarrow as pa

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.jobs.run import Changes
from aiia_pipelines.sync.contract import Contract, ContractColumn
from aiia_pipelines.sync.destinations.base import Destination, Landing, Load
from aiia_pipelines.sync.faults import DestinationFault
from aiia_pipelines.sync.reconcile import compare
from aiia_pipelines.sync.totals import Totals

CONNECTOR, STREAM = "conformance", "people"
Row = tuple[int, str | None]


class Ground(Protocol):
    """An empty place for one destination; made by its author."""

    def open(self) -> Destination:
        """Open the destination anew, not yet connected; several may be open at the same time."""
        ...

    def rows(self, connector: str, stream: str) -> list[Mapping[str, Any]]:
        """Read what a reader sees now, by column names; nothing when there is no such stream."""
        ...


PEOPLE = [("id", "int64"), ("name", "string")]


def contract_of(columns: Sequence[tuple[str, str]], key: Sequence[str] = ("id",)) -> Contract:
    """Make a contract of columns without rules; those of the key take no NULL."""
    made = tuple(
        ContractColumn(
            name=name, source=name, type=ColumnType.parse(kind), nullable=name not in key, checks={}
        )
        for name, kind in columns
    )
    return Contract(made, tuple(key), (), None, None)


def arrow(contract: Contract, columns: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    """Make a batch of a contract from columns of Python values."""
    arrays = [
        pa.array(values, field.type) for values, field in zip(columns, contract.schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=contract.schema)


def batch(rows: Sequence[Row]) -> pa.RecordBatch:
    """Make a batch of people."""
    return arrow(contract_of(PEOPLE), [[row[0] for row in rows], [row[1] for row in rows]])


@contextmanager
def landed(  # noqa: PLR0913 - each of them is one part of a load
    ground: Ground,
    *,
    mode: str = "replace",
    delete: str = "none",
    key: Sequence[str] = ("id",),
    contract: Contract | None = None,
    run_key: str = "",
    plan: str = "",
) -> Iterator[Landing]:
    """Connect, land, and close whatever happens."""
    load = Load(
        connector=CONNECTOR,
        stream=STREAM,
        mode=mode,
        run_key=run_key or uuid4().hex,
        contract=contract or contract_of(PEOPLE, key),
        delete=delete,
        plan=plan,
    )
    with closing(ground.open()) as destination:
        destination.connect()
        yield destination.land(load)


def held(ground: Ground, contract: Contract, rows: pa.RecordBatch) -> str:
    """Commit rows whose figures agree; what the destination says when it refuses the contract."""
    try:
        with landed(ground, contract=contract) as landing:
            landing.stage(rows)
            totals = Totals(contract, "full")
            totals.add(rows)
            wanted = totals.figures()
            figures = compare(wanted, landing.figures(list(wanted)))
            assert [figure for figure in figures if not figure.agrees] == []
            landing.commit(rows.num_rows, landing.match(complete=True), None)
    except DestinationFault as fault:
        return str(fault)
    return ""


@contextmanager
def rivals(ground: Ground) -> Iterator[tuple[Landing, Landing | None]]:
    """Land twice; None where a destination lets in one at a time."""
    with landed(ground) as first:
        try:
            with landed(ground) as second:
                yield first, second
        except DestinationFault:
            yield first, None


def committed(landing: Landing, rows: Sequence[Row]) -> bool:
    """Try to commit rows; False when the destination refuses."""
    try:
        landing.stage(batch(rows))
        landing.commit(len(rows), landing.match(complete=True), None)
    except DestinationFault:
        return False
    return True


def put(  # noqa: PLR0913 - each of them is one part of a sync
    ground: Ground,
    rows: Sequence[Row],
    *,
    mode: str = "replace",
    delete: str = "none",
    key: Sequence[str] = ("id",),
    keys: Sequence[int] | None = None,
    complete: bool = True,
    run_key: str = "",
    position: Mapping[str, Any] | None = None,
) -> Changes:
    """Stage, match and commit rows as a sync does."""
    with landed(ground, mode=mode, delete=delete, key=key, run_key=run_key) as landing:
        if rows:
            landing.stage(batch(rows))
        if keys is not None:
            only = contract_of(PEOPLE[:1])
            landing.stage_keys(arrow(only, [list(keys)]))
        changes = landing.match(complete=complete and keys is None)
        landing.commit(len(rows), changes, position)
        landing.discard()
        return changes


def seen(ground: Ground) -> list[Row]:
    """Read the people, sorted."""
    rows = [(row["id"], row["name"]) for row in ground.rows(CONNECTOR, STREAM)]
    return sorted(rows, key=lambda row: (row[0], row[1] or ""))


def plain(value: Any, kind: str) -> Any:  # noqa: ANN401 - a value of any type
    """Bring what readers give for one and the same value to one class."""
    if kind == "uuid":
        return str(value)
    if kind == "binary":
        return bytes(value)
    if kind == "timestamptz":
        return value.astimezone(dt.UTC)
    return value
