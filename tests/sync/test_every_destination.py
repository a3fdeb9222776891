"""Every destination held to the conformance suite."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from psycopg.rows import dict_row

from aiia_pipelines.sync.destinations import open_destination
from aiia_pipelines.sync.destinations.base import Destination
from aiia_pipelines.sync.destinations.parquet import read
from aiia_pipelines.testing import DestinationSuite, Ground

pytestmark = pytest.mark.integration


@dataclass
class InPostgreSQL:
    url: str

    def open(self) -> Destination:
        return open_destination(self.url)

    def rows(self, connector: str, stream: str) -> list[Mapping[str, Any]]:
        with psycopg.connect(self.url, row_factory=dict_row) as db:
            if db.execute("select to_regclass(%s) as t", (f"{connector}.{stream}",)).fetchone() == {"t": None}:  # fmt: skip
                return []
            found = db.execute(f"select * from {connector}.{stream} t").fetchall()
            # psycopg reads JSON; what is stored is its text.
            if "value" in (found or [{}])[0]:
                texts = db.execute(
                    f"select id, case when pg_typeof(value) in ('json', 'uuid') then value::text end as value from {connector}.{stream}"
                ).fetchall()
                known = {row["id"]: row["value"] for row in texts if row["value"] is not None}
                found = [row | ({"value": known[row["id"]]} if row["id"] in known else {}) for row in found]  # fmt: skip
        return list(found)


@dataclass
class InDuckDB:
    file: Path

    def open(self) -> Destination:
        return open_destination(f"duckdb://{self.file}")

    def rows(self, connector: str, stream: str) -> list[Mapping[str, Any]]:
        if not self.file.exists():
            return []
        with duckdb.connect(str(self.file)) as db:
            try:
                result = db.execute(f"select * from {connector}.{stream}")
            except duckdb.CatalogException:
                return []
            names = [column[0] for column in result.description or ()]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


@dataclass
class InParquet:
    url: str

    def open(self) -> Destination:
        return open_destination(self.url)

    def rows(self, connector: str, stream: str) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = read(self.url, connector, stream).to_pylist()
        return found


class TestPostgreSQL(DestinationSuite):
    @pytest.fixture
    def ground(self, warehouse: Any) -> Ground:
        return InPostgreSQL(warehouse.url())


class TestDuckDB(DestinationSuite):
    @pytest.fixture
    def ground(self, tmp_path: Path) -> Ground:
        return InDuckDB(tmp_path / "warehouse.duckdb")


class TestParquet(DestinationSuite):
    @pytest.fixture
    def ground(self, tmp_path: Path) -> Ground:
        return InParquet(f"parquet://{tmp_path / 'lake'}")


class TestParquetInS3(DestinationSuite):
    @pytest.fixture
    def ground(self, s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> Ground:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
        bucket = s3_server.make_bucket()
        return InParquet(
            f"s3://{bucket}/lake?endpoint_url={s3_server.endpoint}&region={s3_server.region}"
        )
