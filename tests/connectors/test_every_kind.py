"""Every connector kind held to the conformance suite, ours and one of a third party."""

import csv
import shutil
import sqlite3
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aiia_pipelines.connectors.base import kind_names
from aiia_pipelines.testing import SAMPLE, KindSuite, Offer

pytestmark = pytest.mark.integration

CANARY = "canary-Passw0rd-51c7"
EXAMPLE = Path(__file__).parent / "example_kind"
HEADER = ("id", "name", "amount", "active")
_DDL = "(id bigint, name {text}, amount decimal(12,2), active {bool})"


@dataclass
class Offered:
    """An offer put together by a fixture."""

    kind: str
    good: dict[str, Any]
    bad: dict[str, Any]
    streams: dict[str, dict[str, Any]]
    secret: str = ""

    def options(self) -> dict[str, Any]:
        return self.good

    def refused(self) -> dict[str, Any]:
        return self.bad

    def stream(self, name: str = "sample") -> dict[str, Any]:
        return self.streams[name]


TABLES = {name: {"table": name} for name in ("sample", "empty", "missing")}


class TestPostgreSQL(KindSuite):
    @pytest.fixture
    def offer(self, source_db: Any) -> Offer:
        for name in ("sample", "empty"):
            source_db.execute(f"create table {name} {_DDL.format(text='text', bool='boolean')}")
        db = source_db.connect()
        with db, db.cursor() as cursor:
            cursor.executemany("insert into sample values (%s, %s, %s, %s)", SAMPLE)
        db.close()
        good = source_db.options()
        return Offered("sql", good, good | {"password": CANARY}, TABLES, good["password"])


class TestSQLite(KindSuite):
    @pytest.fixture
    def offer(self, tmp_path: Path) -> Offer:
        file = tmp_path / "source.db"
        with sqlite3.connect(file) as db:
            for name in ("sample", "empty"):
                db.execute(
                    f"create table {name} (id integer, name text, amount decimal(12,2), active boolean)"
                )
            db.executemany("insert into sample values (?, ?, ?, ?)", SAMPLE)
        db.close()
        good = {"kind": "sql", "url": f"sqlite:///{file}"}
        return Offered("sql", good, {"kind": "sql", "url": f"sqlite:///{tmp_path}/nope.db"}, TABLES)


class TestMariaDB(KindSuite):
    @pytest.fixture
    def offer(self, maria: Any) -> Offer:
        for name in ("sample", "empty"):
            maria.execute(
                f"create table {name} {_DDL.format(text='text', bool='boolean')} charset utf8mb4"
            )
        db = maria.server.connect(database=maria.name)
        with db.cursor() as cursor:
            cursor.executemany("insert into sample values (%s, %s, %s, %s)", SAMPLE)
        db.commit()
        db.close()
        good = maria.options()
        return Offered("sql", good, good | {"password": CANARY}, TABLES, good["password"])


class _Files(KindSuite):
    ending = ""

    @pytest.fixture
    def offer(self, tmp_path: Path) -> Offer:
        for name, rows in (("sample", SAMPLE), ("empty", ())):
            self.write(tmp_path / f"{name}.{self.ending}", rows)
        good = {"kind": "files", "root": str(tmp_path)}
        streams = {name: {"path": f"{name}.{self.ending}"} for name in TABLES}
        return Offered("files", good, good | {"root": str(tmp_path / "nope")}, streams)

    @staticmethod
    def write(file: Path, rows: Any) -> None:
        raise NotImplementedError


class TestCsv(_Files):
    ending = "csv"

    @staticmethod
    def write(file: Path, rows: Any) -> None:
        with file.open("w", newline="", encoding="utf-8") as out:
            # Empty texts are quoted, so that they are no NULL.
            writer = csv.writer(out, quoting=csv.QUOTE_MINIMAL)
            writer.writerow(HEADER)
            flags = {True: "true", False: "false", None: None}
            writer.writerows((*row[:3], flags[row[3]]) for row in rows)


class TestParquetFiles(_Files):
    ending = "parquet"

    @staticmethod
    def write(file: Path, rows: Any) -> None:
        kinds = [pa.int64(), pa.string(), pa.decimal128(12, 2), pa.bool_()]
        columns = zip(*rows, strict=True) if rows else ([], [], [], [])
        arrays = []
        for kind, values in zip(kinds, columns, strict=True):
            exact = [Decimal(value) for value in values] if kind == kinds[2] else list(values)
            arrays.append(pa.array(exact, kind))
        pq.write_table(pa.Table.from_arrays(arrays, names=list(HEADER)), file)


class TestExample(KindSuite):
    """The package in `example_kind` is installed as pip does it: its files, and its metadata beside them."""

    @pytest.fixture
    def offer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Offer:
        install_example(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        rows = [[*row[:2], Decimal(row[2]), row[3]] for row in SAMPLE]
        good = {
            "kind": "example",
            "columns": {
                "id": "int64",
                "name": "string",
                "amount": "decimal(12,2)",
                "active": "bool",
            },
            "tables": {"sample": rows, "empty": []},
        }
        return Offered("example", good, good | {"open": False}, TABLES)


def install_example(site: Path) -> None:
    shutil.copytree(EXAMPLE / "aiia_example", site / "aiia_example")
    facts = site / "aiia_example_kind-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: aiia-example-kind\nVersion: 1.0\n"
    )
    (facts / "entry_points.txt").write_text(
        "[aiia_pipelines.connectors]\nexample = aiia_example.kind\n"
    )


def test_every_kind_of_ours_is_held_to_the_suite() -> None:
    held = {
        "sql": "here",
        "files": "here",
        "rest": "test_rest_suite.py",
        "s3": "test_rest_suite.py",
    }
    assert set(kind_names()) == set(held)
