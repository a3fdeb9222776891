"""The commands of the catalogue are run where there are servers to run them at."""

import os
import re
import subprocess
from contextlib import closing
from typing import Any

import duckdb
import pytest

from aiia_pipelines.jobs.catalogue import CATALOGUE
from aiia_pipelines.jobs.failures import Failure
from aiia_pipelines.local.binaries import Account, find_binaries

pytestmark = pytest.mark.integration


def commands(family: str, place: str) -> set[str]:
    return {Failure(row, "", place).verify(family=family) for row in CATALOGUE.values()}


def filled(command: str, **words: str) -> str:
    for word, text in words.items():
        command = re.sub(rf"\b{word}\b", text, command)
    return command


def test_the_commands_for_postgresql_run(source_db: Any) -> None:
    source_db.execute("create table rows (id int primary key)")
    found = commands("postgresql", f"127.0.0.1:{source_db.port}")
    asked = sorted(command for command in found if command.startswith(("psql", "pg_isready")))
    assert len(asked) >= 10
    programs = find_binaries(Account.choose())
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    for command in asked:
        written = filled(command, USER="aiia_app", DATABASE=source_db.name, TABLE="rows", KEY="id")
        done = subprocess.run(
            ["bash", "-c", written], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), written


def test_the_queries_for_mariadb_run(maria: Any) -> None:
    maria.execute("create table shop (id int primary key)")
    found = commands("mysql", "127.0.0.1:1")
    queries = {match[1] for command in found if (match := re.search("-e '(.*)'$", command))}
    assert len(queries) >= 9
    for query in sorted(queries):
        maria.execute(filled(query, TABLE="shop", KEY="id"))


def test_the_queries_for_duckdb_run() -> None:
    found = commands("duckdb", "/data/x.duckdb")
    queries = {match[1] for command in found if (match := re.search("-c '(.*)'$", command))}
    assert len(queries) >= 3
    with closing(duckdb.connect()) as db:
        db.execute("create table shop (id int)")
        for query in sorted(queries):
            db.execute(filled(query, TABLE="shop", KEY="id"))
