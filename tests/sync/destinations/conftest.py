"""Landings of the PostgreSQL destination, driven without engine and source."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pyarrow as pa
import pytest

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.jobs.run import Changes
from aiia_pipelines.sync.contract import Contract, ContractColumn
from aiia_pipelines.sync.destinations.base import Load
from aiia_pipelines.sync.destinations.postgres import (
    PostgresDestination,
    PostgresLanding,
    open_postgres,
)

_NUMBER = count(1)
Rows = Sequence[tuple[Any, ...]]


@dataclass
class Dock:
    """A warehouse, and the way to land streams in its table `erp.rows`."""

    warehouse: Any
    columns: dict[str, str] = field(default_factory=lambda: {"id": "int32", "name": "string"})
    key: tuple[str, ...] = ("id",)
    opened: list[PostgresDestination] = field(default_factory=list)

    def contract(self) -> Contract:
        columns = tuple(
            ContractColumn(
                name=name,
                source=name,
                type=ColumnType.parse(kind.removesuffix("!")),
                nullable=name not in self.key and not kind.endswith("!"),
                checks={},
            )
            for name, kind in self.columns.items()
        )
        return Contract(columns, self.key, (self.key,) if self.key else (), None, None)

    def batch(self, rows: Rows) -> pa.RecordBatch:
        return self.contract().parse(rows, 1)

    def keys(self, *keys: int) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([pa.array(keys, pa.int32())], names=["id"])

    def destination(self, url: str | None = None) -> PostgresDestination:
        found = open_postgres(url or self.warehouse.url())
        found.connect()
        self.opened.append(found)
        return found

    def land(self, destination: PostgresDestination | None = None, **facts: Any) -> PostgresLanding:
        given = {"mode": "replace", "run_key": f"run-{next(_NUMBER)}/rows"} | facts
        load = Load(connector="erp", stream="rows", contract=self.contract(), **given)
        found = (destination or self.destination()).land(load)
        assert isinstance(found, PostgresLanding)
        return found

    def sync(
        self, rows: Rows, *, complete: bool = False, keys: Sequence[int] | None = None, **facts: Any
    ) -> tuple[int, int, int, int]:
        """Land rows and tell how many were inserted, updated, left and deleted."""
        landing = self.land(**facts)
        if rows:
            landing.stage(self.batch(rows))
        if keys is not None:
            landing.stage_keys(self.keys(*keys))
        for columns in self.contract().unique:
            assert landing.duplicates(columns) == (0, [])
        changes = landing.match(complete=complete)
        landing.commit(len(rows), changes, None)
        landing.discard()
        assert self.staging() == []
        return numbers(changes)

    def rows(self, what: str = "*", order: str = "1") -> list[Any]:
        return self.query(f"select {what} from erp.rows order by {order}")

    def query(self, *statements: str) -> list[Any]:
        return list(self.warehouse.execute(*statements))

    def staging(self) -> list[str]:
        query = "select tablename from pg_tables where schemaname = '_aiia_stg' order by 1"
        return [name for (name,) in self.query(query)]

    def close(self) -> None:
        for destination in self.opened:
            destination.close()


def numbers(changes: Changes) -> tuple[int, int, int, int]:
    return changes.inserted, changes.updated, changes.unchanged, changes.deleted


@pytest.fixture
def dock(warehouse: Any) -> Iterator[Dock]:
    found = Dock(warehouse)
    yield found
    found.close()


@pytest.fixture
def counted() -> Callable[[Changes], tuple[int, int, int, int]]:
    return numbers
