import base64
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
from urllib.parse import quote, quote_plus

import pytest

from aiia_pipelines.config.settings import Settings
from aiia_pipelines.local.ports import free_port, port_taken
from aiia_pipelines.local.postgres import APPLICATION_ROLE, STORE, WAREHOUSE, EmbeddedPostgres

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent

CONNECTOR = """\
name: {name}
title: {name} DB
retry: {{ policy: never }}
{more}source:
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
# Passwords that nothing else looks like, and that every kind of quoting changes.
SECRETS = {
    "shop_read": 'Kan@rie "vö/gel"+7%&?',
    "nobody": "wróng/kanarie&+ 8%?",
    "SHOP_PASSWORD": 'Kan@rie "vö/gel"+7%&?',
    "elsewhere": "verdwaald+kanarie/9 %é",
}
PASSWORDS = {
    "locked": "file:secrets/nobody",
    "mixed": "env:SHOP_PASSWORD",
}
MORE = {
    "ticker": 'schedule: "* * * * *"\n',
    "astray": "destination: elsewhere\n",
}
CONNECTORS = {
    "shop": GOOD + "  - { name: customers, table: public.customers, key: [id] }\n",
    "typo": WRONG,
    "mixed": GOOD + WRONG,
    "slow": SLOW,
    "locked": GOOD,
    "astray": GOOD,
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
    """Wait until it holds and give what it gave; the last answer when time is up.

    `seconds` are for a machine with nothing else to do, and a busy one has thrice as long.
    """
    end = time.monotonic() + 3 * seconds
    while not (found := holds()) and time.monotonic() < end:
        time.sleep(step)
    return found


def _forms(secret: str) -> set[str]:
    """Give a secret as text, in URLs, in JSON, in base64 and in the hex of a bytea."""
    raw = secret.encode()
    encoded = {base64.b64encode(raw).decode().rstrip("="), raw.hex()}
    return encoded | {
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
    }


@dataclass
class Installation:
    """A home with a server, a source and connector files; everything runs as processes of their own."""

    server: EmbeddedPostgres
    environment: dict[str, str]
    url: str
    up: "subprocess.Popen[bytes] | None" = None
    said: list[str] = field(default_factory=list)
    started: "list[subprocess.Popen[str]]" = field(default_factory=list)

    root = ROOT
    programs = PROGRAMS

    @property
    def home(self) -> Path:
        return self.server.home

    # -- processes --------------------------------------------------------------------------

    def start(self, *words: str) -> "subprocess.Popen[str]":
        program, *rest = words
        process = subprocess.Popen(
            [str(PROGRAMS / program), *rest], cwd=ROOT, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        return process

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
        if self.query("select to_regclass('aiia.attempts') is null") == [(True,)]:
            return {}
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

    def leaks(self) -> list[str]:
        """List the places outside of `secrets` that hold a password in any form."""
        forms = {form for secret in SECRETS.values() for form in _forms(secret)}
        found = [f"output: {text[:200]}" for text in self.said if any(f in text for f in forms)]
        tables = self.query(
            "select format('%I.%I', table_schema, table_name) from information_schema.tables"
            " where table_schema in ('public', 'aiia')"
        )
        assert len(tables) > 20
        for (table,) in tables:
            rows = self.query(f"select t::text from {table} t")
            found += [f"{table}: {row}"[:300] for (row,) in rows if any(f in row for f in forms)]
        for path in self.home.rglob("*"):
            apart = path.relative_to(self.home).parts[0] in {"secrets", "pgpass", "postgres"}
            if path.is_file() and not apart:
                text = path.read_text(errors="replace")
                found += [str(path)] if any(form in text for form in forms) else []
        return found

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


def build(*more: str) -> Installation:
    """Make an installation whose server runs; `more` are connectors besides those that all have."""
    home = Path(tempfile.mkdtemp(prefix="aiia-", dir="/tmp"))
    home.chmod(0o755)
    server = EmbeddedPostgres(home, preferred_port=free_port())
    server.bootstrap()
    for name in ("shop_read", "nobody"):
        (home / "secrets" / name).write_text(f"{SECRETS[name]}\n")
    for role in ("shop_owner", "shop_read"):
        server.ensure_role(role)
    server.ensure_database("shop", "shop_owner")
    with closing(server.connect("shop", "shop_owner")) as db, db, db.cursor() as cursor:
        cursor.execute(SOURCE)
    (home / "connectors").mkdir()
    for name, streams in (CONNECTORS | dict.fromkeys(more, GOOD)).items():
        password = PASSWORDS.get(name, "file:secrets/shop_read")
        text = CONNECTOR.format(
            name=name, streams=streams, password=password, more=MORE.get(name, "")
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
    elsewhere = f"postgresql://aiia_app:{quote(SECRETS['elsewhere'], safe='')}@127.0.0.1"
    secrets = {
        "SHOP_PASSWORD": SECRETS["SHOP_PASSWORD"],
        "AIIA_DESTINATION_ELSEWHERE": f"{elsewhere}:{server.port}/{WAREHOUSE}",
    }
    environment = {**kept, **found, **settings, **secrets, "DAGSTER_HOME": str(ROOT)}
    return environment, f"http://127.0.0.1:{port}"


def tear_down(found: Installation) -> None:
    for process in found.started:
        with process:
            process.kill()
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
def installations() -> Iterator[Callable[..., Installation]]:
    """Make installations and take them away."""
    made: list[Installation] = []

    def make(*more: str) -> Installation:
        made.append(build(*more))
        return made[-1]

    yield make
    for found in made:
        tear_down(found)


@pytest.fixture(scope="module")
def down(installations: Callable[..., Installation]) -> Installation:
    """An installation whose services are not up."""
    return installations()


@pytest.fixture(scope="session", name="eventually")
def eventually_() -> Callable[..., Any]:
    """Hand the waiting over: test modules cannot import from here."""
    return eventually


@pytest.fixture(scope="session")
def exit_codes() -> Callable[..., None]:
    """Sync connectors that end in every way there is, and compare the exit codes."""

    def check(found: Installation, *names: str) -> None:
        found.pace(0.5)
        cancelled = found.start("aiia", "sync", "slow")
        assert eventually(lambda: found.latest("slow").get("state") == "Running", 120)
        asked = found.run("aiia", "jobs", "cancel", str(found.latest("slow")["number"]))
        assert asked.returncode == 0, asked.stderr
        codes = {"cancelled": _code(found, cancelled)}
        # Two at a time: every sync imports Dagster and pandas, and there may be two cores only.
        for pair in (names[place : place + 2] for place in range(0, len(names), 2)):
            others = {name: found.start("aiia", "sync", name) for name in pair}
            codes |= {name: _code(found, process) for name, process in others.items()}
        impatient = found.run("aiia", "sync", "slow", "--timeout", "1s")
        codes["impatient"] = impatient.returncode
        found.run("aiia", "jobs", "cancel", str(found.latest("slow")["number"]))
        assert eventually(lambda: found.latest("slow")["ended_at"], 30)
        found.pace(0)
        expected = {"shop": 0, "typo": 10, "locked": 11, "mixed": 14, "astray": 11}
        assert codes == {
            **{name: expected[name] for name in names},
            "cancelled": 12,
            "impatient": 13,
        }

    return check


def _code(found: Installation, process: "subprocess.Popen[str]") -> int:
    out, err = process.communicate(timeout=120)
    found.said += [out, err]
    return process.returncode
