"""What a commit does to a table of a DuckDB file, as statements whose row counts are known beforehand."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import duckdb

from aiia_pipelines.jobs.run import Changes
from aiia_pipelines.sync.destinations._duckdb_sql import (
    Comparison,
    extras_of,
    listed,
    quoted,
    refuse_other_columns,
    shaped,
)
from aiia_pipelines.sync.destinations.base import DELETED_AT, VALID_FROM, VALID_TO, Load

_COLUMNS = """select column_name, data_type from duckdb_columns()
  where database_name = current_database() and schema_name = ? and table_name = ? order by column_index"""


def columns(db: duckdb.DuckDBPyConnection, schema: str, table: str) -> dict[str, str]:
    """Give the types of a table's columns; none when there is no table."""
    return dict(db.execute(_COLUMNS, (schema, table)).fetchall())


def definition(parts: Mapping[str, str]) -> str:
    """Write columns as a statement that makes a table needs them."""
    return ", ".join(f"{quoted(name)} {kind}" for name, kind in parts.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the staged rows get into a table that has the columns `have` and shall have those of `layout`."""

    load: Load
    table: str
    staged: str
    have: Mapping[str, str]
    layout: Mapping[str, str]
    rows: int
    keys: str | None = None
    follows: bool = False

    @property
    def same(self) -> bool:
        """Whether the table is what it shall be."""
        return dict(self.have) == dict(self.layout)

    @property
    def rebuilds(self) -> bool:
        """Whether the table is made anew; who reads it then goes on with the old one."""
        return self.load.mode == "replace" or not self.rows

    def accept(self, place: str) -> None:
        """Refuse a table whose rows stay and cannot get the columns of the contract."""
        if not self.rebuilds:
            refuse_other_columns(self.load, self.have, self.layout, place)

    @property
    def comparison(self) -> Comparison:
        """Staged rows against those of the table."""
        columns = {**self.have, **self.layout}
        empty = "(select 1 where false)"
        return Comparison(
            load=self.load,
            staged=self.staged,
            stored=shaped(self.table if self.have else empty, self.have, columns),
            columns=columns,
            keys=self.keys,
            follows=self.follows,
        )

    def counts(self) -> str:
        """Give the query of inserted, updated, unchanged and deleted rows."""
        if self.rebuilds and not self.same:
            return f"select (select count(*) from {self.staged}), 0, 0, {self.rows}"
        return self.comparison.counts()

    def statements(self, at: str, changes: Changes) -> Iterator[tuple[str, str]]:
        """Give the statements of a commit at a time, each with what its row count means."""
        if self.rebuilds:
            if not self.same or changes.inserted or changes.updated or changes.deleted:
                yield from self._rebuild(at)
            return
        for name, kind in self.layout.items():
            if name not in self.have:
                yield "altered", f"alter table {self.table} add column {quoted(name)} {kind}"
        if not self.load.contract.key:
            yield "written", self._insert(at, f"from {self.staged} s")
            return
        compared = self.comparison
        source = f"from {self.staged} s where {compared.pairs} and {compared.superseded}"
        if self.load.mode == "history":
            yield "superseded", f"update {self.table} t set {VALID_TO} = {at} {source}"
            action = f"update {self.table} t set {VALID_TO} = {at}"
        else:
            using = source.replace("from", "using", 1)
            yield "superseded", f"delete from {self.table} t {using}"
            action = f"delete from {self.table} t"
            if self.load.delete == "soft":
                action = f"update {self.table} t set {DELETED_AT} = {at}"
        if self.follows:
            yield "deleted", f"{action} where {compared.gone}"
        yield "written", self._insert(at, compared.arriving())

    def _rebuild(self, at: str) -> Iterator[tuple[str, str]]:
        if self.have:
            yield "altered", f"drop table {self.table}"
        yield "altered", f"create table {self.table} ({definition(self.layout)})"
        yield "rebuilt", self._insert(at, f"from {self.staged} s")

    def _insert(self, at: str, source: str) -> str:
        names = [column.name for column in self.load.contract.columns]
        values = listed(names, "s")
        if VALID_FROM in extras_of(self.load):
            names, values = [*names, VALID_FROM], f"{values}, {at}"
        return f"insert into {self.table} ({listed(names)}) select {values} {source}"
