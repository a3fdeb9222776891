"""DuckDB as the engine that compares and merges Parquet files, in bounded memory."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import duckdb
import pyarrow as pa

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync.destinations import _duckdb_session as session
from aiia_pipelines.sync.destinations._duckdb_sql import (
    TIME,
    Comparison,
    literal,
    quoted,
    type_of,
)
from aiia_pipelines.sync.destinations.base import DELETED_AT, VALID_FROM, VALID_TO

_BATCH = 65_536
_FILE = '"aiia:file"'  # no column of a contract has a name like this


def types_of(columns: Mapping[str, str]) -> dict[str, str]:
    """Give DuckDB's types of stored columns whose types are written as in connector files."""
    found = {name: type_of(ColumnType.parse(kind)) or "VARCHAR" for name, kind in columns.items()}
    return {
        name: kind.replace("JSON", "VARCHAR").replace("UUID", "VARCHAR")
        for name, kind in found.items()
    }


class Merge:
    """One attempt's engine; it holds no rows of its own."""

    def __init__(self, scratch: Path) -> None:
        """Start DuckDB without a file."""
        self.db = duckdb.connect()
        session.settle(self.db, scratch / "spill")

    def interrupt(self) -> None:
        """Make a query in progress stop; may be called from another thread."""
        with suppress(duckdb.Error):
            self.db.interrupt()

    def close(self) -> None:
        """Stop it."""
        self.db.close()

    def relation(self, paths: Sequence[Path], layout: Mapping[str, str]) -> str:
        """Give files as one relation of wanted columns; what a file lacks is NULL."""
        if not paths:
            nothing = [f"NULL::{kind} as {quoted(name)}" for name, kind in layout.items()]
            return f"(select {', '.join(nothing)}, NULL::VARCHAR as {_FILE} where false)"
        names = ", ".join(literal(str(path)) for path in paths)
        files = f"read_parquet([{names}], union_by_name = true, filename = {literal(_FILE[1:-1])})"
        found = {row[0] for row in self.db.execute(f"describe select * from {files}").fetchall()}
        parts = [
            quoted(name) if name in found else f"NULL::{kind} as {quoted(name)}"
            for name, kind in layout.items()
        ]
        return f"(select {', '.join(parts)}, {_FILE} from {files})"

    def counts(self, comparison: Comparison) -> tuple[int, int, int, int]:
        """Count inserted, updated, unchanged and deleted rows."""
        ((inserted, updated, unchanged, deleted),) = self.db.execute(comparison.counts()).fetchall()
        return inserted, updated, unchanged, deleted

    def touched(self, comparison: Comparison) -> set[Path]:
        """Name the stored files that hold a row which the commit changes."""
        k = quoted(comparison.load.contract.key[0])
        query = (
            f"select distinct t.{_FILE} from {comparison.stored} t left join {comparison.staged} s"
            f" on {comparison.pairs} where (s.{k} is not null and {comparison.superseded}) or {comparison.gone}"
        )
        return {Path(row[0]) for row in self.db.execute(query).fetchall()}

    def merged(self, comparison: Comparison, touched: str, at: str) -> Iterator[pa.RecordBatch]:
        """Give the rows that take the place of those in touched files, the new ones among them.

        `touched` is the relation of those files, `at` the time of the commit.
        """
        load = comparison.load
        when = f"{literal(at)}::{TIME}"
        k = quoted(load.contract.key[0])
        superseded = f"(s.{k} is not null and {comparison.superseded})"
        # Rows that stay in a touched file, with the marks that this commit sets.
        stays = {name: f"t.{quoted(name)}" for name in comparison.columns}
        comes = {name: f"NULL::{kind}" for name, kind in comparison.columns.items()}
        comes |= {column.name: f"s.{quoted(column.name)}" for column in load.contract.columns}
        leaves = superseded
        if load.mode == "history":
            ends = f"{superseded} or {comparison.gone}"
            stays[VALID_TO] = f"case when {ends} then {when} else t.{VALID_TO} end"
            comes[VALID_FROM], leaves = when, "false"
        elif load.delete == "soft":
            stays[DELETED_AT] = f"case when {comparison.gone} then {when} else t.{DELETED_AT} end"
        else:
            leaves = f"({superseded} or {comparison.gone})"
        return self._batches(
            f"select {_named(stays)} from {touched} t left join {comparison.staged} s"
            f" on {comparison.pairs} where not {leaves}"
            f" union all select {_named(comes)} {comparison.arriving()}"
        )

    def _batches(self, query: str) -> Iterator[pa.RecordBatch]:
        yield from self.db.sql(query).to_arrow_reader(_BATCH)


def _named(expressions: Mapping[str, str]) -> str:
    return ", ".join(f"{value} as {quoted(name)}" for name, value in expressions.items())
