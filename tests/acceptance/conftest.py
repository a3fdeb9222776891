import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.config.settings import Settings
from aiia_pipelines.local.ports import free_port, port_taken
from aiia_pipelines.local.postgres import APPLICATION_ROLE, STORE, WAREHOUSE, EmbeddedPostgres

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent

CONNECTOR = """\
name: {name}
title: {name} DB
{extra}source:
  kind: sql
  url: postgresql://shop_read@127.0.0.1:${{env:AIIA_POSTGRES_PORT}}/shop
  password: ${{{password}}}
streams:
{streams}"""
GOOD = "  - { name: orders, table: public.orders, key: [id] }\n"
WRONG = "  - { name: sums, table: public.orders, key: [id], columns: { note: { type: int32 } } }\n"
# Each row takes as long as the one row of `pace` says; a batch is one row, so that counts move.
SLOW = """\
  - name: orders
    query: >-
      select o.id, pg_sleep((select seconds from public.pace))::text as waited from public.orders o
    key: [id]
    batch_rows: 10
"""
CONNECTORS = {
    "shop": GOOD + "  - { name: customers, table: public.customers, key: [id] }\n",
    "typo": WRONG,
    "mixed": GOOD + WRONG,
    "slow": SLOW,
    "locked": GOOD,
}
SOURCE = """
create table public.orders (id int primary key, amount numeric(9,2), note text);
create table public.customers (id int primary key, name text not null);
create table public.pace (seconds double precision not null);
insert into public.orders select n, n * 1.25, 'note ' || n from generate_series(1, 300) n;
insert into public.customers select n, 'customer ' || n from generate_series(1, 200) n;
insert into public.pace values (0);
grant select on all tables in schema public to shop_read;
"""
_SUBMIT = """
mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""


def eventually(holds: Callable[[], Any], seconds: float, step: float = 0.2) -> Any:
    """Wait until it holds and give what it gave; the last answer when time is up."""
    end = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < end:
        time.sleep(step)
    return found


@dataclass
class Installation:
    """A home with a server, a source and connector files; everything runs as processes of their own."""

    server: EmbeddedPostgres
    environment: dict[str, str]
    url: str
    up: "subprocess.Popen[bytes] | None" = None
    said: list[str] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.server.home

    # -- processes --------------------------------------------------------------------------

    def start(self, *words: str) -> "subprocess.Popen[str]":
        program, *rest = words
        return subprocess.Popen(
            [str(PROGRAMS / program), *rest], cwd=ROOT, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *words: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
        process = self.start(*words)
        out, err = process.communicate(timeout=timeout)
        self.said += [out, err]
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def bring_up(self) -> float:
        """Start everything and give the seconds until it answered."""
        began = time.monotonic()
        log = (self.home / "up.log").open("wb")
        self.up = subprocess.Popen(
            [str(PROGRAMS / "aiia"), "up"], cwd=ROOT, env=self.environment,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        log.close()
        ready = eventually(lambda: "Ready: Dagster UI at " in self.told(), 60)
        assert ready, self.told()
        return time.monotonic() - began

    def told(self) -> str:
        return (self.home / "up.log").read_text()

    # -- asking -----------------------------------------------------------------------------

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.url}/graphql", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        assert "errors" not in told, told
        return next(iter(told["data"].values()))

    def launch(self, job: str, *assets: str) -> str:
        """Launch a run as Dagster's pages do and give its id."""
        selector: dict[str, Any] = {
            "repositoryLocationName": "aiia_pipelines",
            "repositoryName": "__repository__",
            "pipelineName": job,
        }
        if assets:
            selector["assetSelection"] = [{"path": asset.split("/")} for asset in assets]
            selector["assetCheckSelection"] = []
        params = {
            "mode": "default",
            "executionMetadata": {"tags": []},
            "runConfigData": "{}",
            "selector": selector,
        }
        answer = self.ask(_SUBMIT, params=params)
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def query(
        self, statement: str, database: str = STORE, user: str = APPLICATION_ROLE
    ) -> list[tuple]:
        with closing(self.server.connect(database, user)) as db, db, db.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def job(self, run_id: str) -> dict[str, Any]:
        """Read the job run of a Dagster run."""
        found = self.query(
            "select to_jsonb(j) from aiia.job_runs j join aiia.attempts a using (number)"
            f" where a.run_id = '{run_id}'"
        )
        return found[0][0] if found else {}

    def latest(self, connector: str) -> dict[str, Any]:
        found = self.query(
            "select to_jsonb(j) || jsonb_build_object('run_id', a.run_id, 'pid', a.pid)"
            " from aiia.job_runs j join aiia.attempts a using (number)"
            f" where connector = '{connector}' order by number desc limit 1"
        )
        return found[0][0] if found else {}

    def ended(self, run_id: str, seconds: float = 60) -> dict[str, Any]:
        """Wait until a job run has its end and give it."""
        eventually(lambda: self.job(run_id).get("ended_at"), seconds)
        return self.job(run_id)

    def log(self, number: int) -> list[str]:
        lines = self.query(
            "select level || ' ' || message from aiia.log_lines"
            f" where number = {number} order by id"
        )
        return [line for (line,) in lines]

    def tags(self, run_id: str) -> dict[str, str]:
        found = self.query(f"select key, value from run_tags where run_id = '{run_id}'")
        return dict(found)

    # -- the source -------------------------------------------------------------------------

    def pace(self, seconds: float) -> None:
        """Let each row of the connector `slow` take so long."""
        self.query(f"update public.pace set seconds = {seconds}", "shop", "shop_owner")

    def readers(self) -> int:
        """Count the sessions at the source."""
        query = "select count(*) from pg_stat_activity where usename = 'shop_read'"
        return int(self.query(query, "postgres", "aiia")[0][0])

    def warehouse(self, table: str) -> list[tuple]:
        return self.query(f"select id, xmin::text from {table} order by id", WAREHOUSE)


def build(connectors: dict[str, str] = CONNECTORS, **extra: str) -> Installation:
    """Make an installation whose server runs; `extra` is what a connector file says besides."""
    home = Path(tempfile.mkdtemp(prefix="aiia-", dir="/tmp"))
    home.chmod(0o755)
    server = EmbeddedPostgres(home, preferred_port=free_port())
    server.bootstrap()
    for role in ("shop_owner", "shop_read"):
        server.ensure_role(role)
    server.ensure_database("shop", "shop_owner")
    with closing(server.connect("shop", "shop_owner")) as db, db, db.cursor() as cursor:
        cursor.execute(SOURCE)
    (home / "connectors").mkdir()
    (home / "secrets" / "nobody").write_text("not the password\n")
    for name, streams in connectors.items():
        password = "file:secrets/nobody" if name == "locked" else "file:secrets/shop_read"
        text = CONNECTOR.format(
            name=name, streams=streams, password=password, extra=extra.get(name, "")
        )
        (home / "connectors" / f"{name}.yaml").write_text(text)
    (home / "connectors" / "torn.yaml").write_text("name: torn\nkron: never\n")
    return Installation(server, *_environment(server))


def _environment(server: EmbeddedPostgres) -> tuple[dict[str, str], str]:
    port = next(p for p in iter(free_port, None) if not port_taken("127.0.0.1", p + 1))
    named = {
        "AIIA_HOME": str(server.home),
        "AIIA_CONNECTORS": str(server.home / "connectors"),
        "AIIA_PORT": str(port),
    }
    found = server.environment()
    settings = Settings.load({**named, **found}, ROOT).environment()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIIA_", "PG", "DAGSTER_"))
    }
    environment = {**kept, **found, **settings, "DAGSTER_HOME": str(ROOT)}
    return environment, f"http://127.0.0.1:{port}"


def tear_down(found: Installation) -> None:
    if found.up is not None and found.up.poll() is None:
        found.up.terminate()
        try:
            found.up.wait(30)
        except subprocess.TimeoutExpired:
            found.up.kill()
    found.server.stop()
    shutil.rmtree(found.server.log.parent, ignore_errors=True)
    shutil.rmtree(found.home, ignore_errors=True)


@pytest.fixture(scope="module")
def down() -> Iterator[Installation]:
    """An installation whose services are not up."""
    found = build()
    yield found
    tear_down(found)
