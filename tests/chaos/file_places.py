"""Destinations whose files are under trial: a DuckDB file, and Parquet files in a folder or a bucket."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from places import Look
from proxy import Proxy, PutCut
from s3_server import S3Server
from world import NAME, STREAM, Content, Mode

from aiia_pipelines.sync.destinations.parquet import read


@dataclass
class _FilePlace:
    name: str
    folder: Path
    polls: bool = False  # one process at a time can open a DuckDB file
    wired: bool = False
    served: bool = False

    def empty(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    @contextmanager
    def onlooker(self, _: Mode) -> Iterator[Look]:
        raise AssertionError("nobody looks at it while a sync is running")

    def inside(self, _: Mode) -> str:
        return ""

    def seen(self, _: Path) -> Iterator[Content]:
        yield from ()

    def cut_at_commit(self, **_: object) -> None:
        raise AssertionError("no wire leads there")

    def mend(self) -> None:
        raise AssertionError("no wire leads there")

    def terminate(self) -> None:
        raise AssertionError("no server is there")

    def crash(self) -> None:
        raise AssertionError("no server is there")


@dataclass
class DuckDBPlace(_FilePlace):
    """One DuckDB file."""

    @property
    def _file(self) -> Path:
        return self.folder / "warehouse.duckdb"

    def url(self) -> str:
        return f"duckdb://{self._file}"

    def _all(self, query: str) -> list[tuple[Any, ...]]:
        if not self._file.exists():
            return []
        with duckdb.connect(str(self._file), read_only=True) as db:
            try:
                return db.execute(query).fetchall()
            except duckdb.CatalogException:
                return []  # killed before the first commit

    def content(self, mode: Mode) -> Content:
        return Counter(self._all(f"select id, generation, note, {mode.alive} from {NAME}.{STREAM}"))

    def inside(self, mode: Mode) -> str:
        return f"select id, generation, note, {mode.alive} from {NAME}.{STREAM}"

    def seen(self, file: Path) -> Iterator[Content]:
        for line in file.read_text().split("\n")[:-1] if file.exists() else ():
            yield Counter(tuple(row) for row in json.loads(line))

    def ledger(self) -> dict[str, dict[str, Any]]:
        names = ("epoch", "inserted", "updated", "unchanged", "deleted")
        rows = self._all(f"select run_key, {', '.join(names)} from _aiia.ledger")
        return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}

    def state(self) -> str | None:
        rows = self._all("select run_key from _aiia.sync_state")
        return str(rows[0][0]) if rows else None

    def staging(self) -> list[str]:
        return []  # staging is temporary by nature here


@dataclass
class ParquetPlace(_FilePlace):
    """One folder of Parquet files with its log."""

    polls: bool = True

    def url(self) -> str:
        return f"parquet://{self.folder}"

    def _log(self) -> list[dict[str, Any]]:
        files = sorted((self.folder / NAME / STREAM / "_log").glob("[0-9]*.json"))
        return [json.loads(file.read_bytes()) for file in files]

    def content(self, mode: Mode) -> Content:
        rows = read(self.url(), NAME, STREAM)
        if not rows.column_names:
            return Counter()
        with duckdb.connect() as db:
            db.register("found", rows)
            query = f"select id, generation, note, {mode.alive} from found"
            return Counter(db.execute(query).fetchall())

    @contextmanager
    def onlooker(self, mode: Mode) -> Iterator[Look]:
        yield lambda: self.content(mode)

    def ledger(self) -> dict[str, dict[str, Any]]:
        # A version is the epoch: each commit takes the next one.
        return {
            entry["run_key"]: entry["changes"] | {"epoch": entry["version"]}
            for entry in self._log()
        }

    def state(self) -> str | None:
        log = self._log()
        return str(log[-1]["run_key"]) if log else None

    def staging(self) -> list[str]:
        return [path.name for path in (self.folder / "_tmp").glob("*")]


@dataclass
class S3Place(ParquetPlace):
    """The same files in a bucket of a real S3 server; `folder` is not used."""

    server: S3Server | None = None
    wired: bool = True
    _bucket: str = ""
    _proxy: Proxy | None = field(default=None, init=False)

    @property
    def _s3(self) -> S3Server:
        assert self.server is not None
        # Attempts and the onlooker find the credentials where boto3 looks for them.
        os.environ["AWS_ACCESS_KEY_ID"] = self.server.access_key
        os.environ["AWS_SECRET_ACCESS_KEY"] = self.server.secret_key
        return self.server

    def empty(self) -> None:
        self._bucket = self._s3.make_bucket()

    @property
    def _wire(self) -> Proxy:
        if self._proxy is None:
            self._proxy = Proxy(int(self._s3.endpoint.rpartition(":")[2])).start()
        return self._proxy

    def cut_at_commit(self, *, answered: bool, **_: object) -> None:
        self._wire.cut = PutCut(answered=answered)

    def mend(self) -> None:
        self._wire.cut = None

    def close(self) -> None:
        if self._proxy is not None:
            self._proxy.close()

    def url(self) -> str:
        query = f"endpoint_url=http://127.0.0.1:{self._wire.port}&region={self._s3.region}"
        return f"s3://{self._bucket}/lake?{query}"

    def _log(self) -> list[dict[str, Any]]:
        client, prefix = self._s3.client(), f"lake/{NAME}/{STREAM}/_log/"
        listed = client.list_objects_v2(Bucket=self._bucket, Prefix=prefix).get("Contents", ())
        bodies = (
            client.get_object(Bucket=self._bucket, Key=entry["Key"])["Body"].read()
            for entry in listed
        )
        return [json.loads(body) for body in bodies]

    def staging(self) -> list[str]:
        return []  # what an attempt staged lies in a folder of its machine
