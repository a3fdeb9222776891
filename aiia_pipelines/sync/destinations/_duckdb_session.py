"""A DuckDB connection in bounded memory, and what goes in and out of it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync.contract import Contract
from aiia_pipelines.sync.convert import masked
from aiia_pipelines.sync.destinations import _duckdb_sql as text
from aiia_pipelines.sync.faults import DestinationFault

MEMORY = "128MiB"
_INCOMING = "aiia_incoming"
_MAX_FIGURES = 500  # of one query, so that its plan stays small
# What DuckDB says, and what that means; it has no codes.
_MEANINGS = (
    ("Could not set lock on file", ("file:locked", "destination:locked")),
    ("different configuration than existing connections", ("destination:locked",)),
    ("No space left on device", ("sqlstate:53100",)),
    ("max_temp_directory_size", ("sqlstate:53100",)),
    ("Permission denied", ("sqlstate:42501",)),
    ("Read-only file system", ("errno:EROFS",)),
    ("not a valid DuckDB database file", ("data:malformed",)),
    ("Conflict on ", ("destination:changed",)),
    ("write-write conflict", ("destination:changed",)),
)


def settle(db: duckdb.DuckDBPyConnection, spill: Path) -> None:
    """Bound the memory of a connection's database; what needs more goes to files in `spill`."""
    for setting in (
        f"memory_limit = '{MEMORY}'",
        f"temp_directory = {text.literal(str(spill))}",
        "preserve_insertion_order = false",
        "TimeZone = 'UTC'",
    ):
        db.execute(f"set {setting}")


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Turn what DuckDB raises into a DestinationFault."""
    try:
        yield
    except duckdb.Error as fault:
        said = str(fault)
        signals = next((found for words, found in _MEANINGS if words in said), ())
        if isinstance(fault, duckdb.OutOfMemoryException) and not signals:
            signals = ("memory:exhausted",)
        # Other texts repeat the statement and values of the data.
        told = _plain(said) if signals else type(fault).__name__
        raise DestinationFault(
            f"The destination {place} refused: {told}.", *signals, place=place
        ) from fault


def _plain(said: str) -> str:
    """Take the first sentence, without the sort of the error and the path that is told anyway."""
    first = said.partition("\n")[0].partition(". ")[0].rstrip(".!")
    return re.sub(r' "/[^"]*"', "", re.sub(r"^[A-Z][\w ]* Error: ", "", first))


def insert(db: duckdb.DuckDBPyConnection, table: str, batch: pa.RecordBatch) -> None:
    """Add a batch to a table, column by column of the same name."""
    names = text.listed(batch.schema.names)
    db.register(_INCOMING, batch)
    try:
        db.execute(f"insert into {table} ({names}) select {names} from {_INCOMING}")
    finally:
        db.unregister(_INCOMING)


def arrange(batch: pa.RecordBatch, contract: Contract) -> pa.RecordBatch:
    """Give a batch the Arrow types in which its columns are stored."""
    kinds = {column.name: column.type for column in contract.columns}
    arrays = []
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        # As text, JSON would be read again, and refused where DuckDB is stricter than others.
        is_json = _innermost(kinds[name]).name == "json"
        arrays.append(pc.cast(values, _json(values.type)) if is_json else values)
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _innermost(kind: ColumnType) -> ColumnType:
    return kind if kind.item is None else _innermost(kind.item)


def _json(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_json(kind.value_type))
    return pa.json_()


def one_row(db: duckdb.DuckDBPyConnection, query: str) -> dict[str, Any]:
    """Ask for one row; by way of Arrow, so that values have the types they had at the source."""
    found: dict[str, Any] = db.sql(query).to_arrow_table().to_pylist()[0]
    return found


def figures(
    db: duckdb.DuckDBPyConnection,
    relation: str,
    contract: Contract,
    wanted: Sequence[tuple[str, str]],
) -> Mapping[tuple[str, str], Any]:
    """Compute figures over a relation: (column, figure) → value."""
    kinds = {column.name: column.type for column in contract.columns} | {"": ColumnType("string")}
    found: dict[tuple[str, str], Any] = {}
    for start in range(0, len(wanted), _MAX_FIGURES):
        some = wanted[start : start + _MAX_FIGURES]
        parts = [
            f"{text.figure(name, column, kinds[column])} as f{place}"
            for place, (column, name) in enumerate(some)
        ]
        row = one_row(db, f"select {', '.join(parts)} from {relation}")
        for place, (column, name) in enumerate(some):
            found[column, name] = text.total(row[f"f{place}"], kinds[column])
    return found


def duplicates(
    db: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[str]
) -> tuple[int, list[str]]:
    """Count the rows that share their values in these columns with another row, and show some."""
    count, samples = text.duplicates(relation, columns)
    total = one_row(db, f"select ({count}) as n")["n"]
    shown = [
        f"({', '.join(masked(value) for value in list(row.values())[1:])}) {row['n']} times"
        for row in db.sql(samples).to_arrow_table().to_pylist()
    ]
    return int(total), shown


def refuse_missing_keys(
    db: duckdb.DuckDBPyConnection, relation: str, contract: Contract, stream: str
) -> None:
    """Refuse staged rows that no later sync could find again."""
    found = one_row(db, f"select ({text.without_key(contract, relation)}) as n")["n"]
    if found:
        raise DestinationFault(
            f"{found:,} rows of {stream} have no value in the key ({', '.join(contract.key)}).",
            "destination:rejected",
        )
