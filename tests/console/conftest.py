import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from aiia_pipelines.config.settings import Settings
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.jobs.webhooks import keys_of, sign
from aiia_pipelines.local.ports import free_port
from aiia_pipelines.local.postgres import APPLICATION_ROLE, EmbeddedPostgres
from aiia_pipelines.local.web import answers

ROOT = Path(__file__).parents[2]
SECRET = "whsec_Y2FuYXJ5IG9mIHRoZSBob29rcywgdGhpcnR5LXR3byBieXRlcw=="
CONNECTOR = """\
name: {name}
title: {name} files
source: {{ kind: files, root: {root} }}
{more}streams:
  - {{ name: orders, path: orders.csv }}
  - {{ name: customers, path: customers.csv }}
"""
HOOK = "triggers: {{ webhook: {{ secret: '${{{}}}' }} }}\n"
# As at home, but nobody takes runs from the queue.
DAGSTER = """\
storage:
  custom:
    module: aiia_pipelines.resources.run_storage
    class: JobRunStorage
    config: { postgres_url: { env: AIIA_DATABASE_URL } }
run_coordinator:
  module: dagster._core.run_coordinator.queued_run_coordinator
  class: QueuedRunCoordinator
telemetry: { enabled: false }
"""
WORKSPACE = "load_from: [python_module: { module_name: aiia_pipelines.definitions }]\n"


@dataclass
class Console:
    """The web server as a process, and what it writes to."""

    url: str
    home: Path
    store: JobStore
    process: "subprocess.Popen[bytes]"
    secret: str = SECRET

    def call(
        self,
        name: str = "drop",
        call_id: str = "",
        body: object = b"",
        *,
        late: int = 0,
        secret: str = SECRET,
        **headers: str,
    ) -> httpx.Response:
        """Make a call that is signed, and perhaps changed afterwards by `headers`."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        call_id = call_id or f"msg_{time.monotonic_ns()}"
        at = int(time.time()) - late
        signed = {
            "webhook-id": call_id,
            "webhook-timestamp": str(at),
            "webhook-signature": sign(keys_of(secret)[0], call_id, at, data),
        }
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.post(name, data, signed | given)

    def post(self, name: str, data: Any, headers: dict[str, str]) -> httpx.Response:
        return httpx.post(f"{self.url}/hooks/{name}", content=data, headers=headers, timeout=60)

    def row(self, number: int) -> Any:
        return self.store.row(number)

    def run_tags(self, number: int) -> dict[str, str]:
        query = (
            "select key, value from run_tags join aiia.attempts using (run_id)"
            f" where number = {number}"
        )
        with self.store.engine.connect() as db:
            return dict(map(tuple, db.exec_driver_sql(query).all()))

    def count(self, table: str = "aiia.job_runs") -> int:
        with self.store.engine.connect() as db:
            return int(db.exec_driver_sql(f"select count(*) from {table}").scalar_one())

    def write(self, name: str, more: str = "") -> Path:
        file = self.home / "connectors" / f"{name}.yaml"
        file.write_text(CONNECTOR.format(name=name, root=self.home, more=more))
        return file

    def said(self) -> str:
        return (self.home / "web.log").read_text()


@pytest.fixture(scope="module")
def console(
    server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Console]:
    home = tmp_path_factory.mktemp("console")
    for folder in ("connectors", "secrets", "dagster"):
        (home / folder).mkdir()
    (home / "secrets" / "hook").write_text(f"{SECRET}\n")
    (home / "dagster" / "dagster.yaml").write_text(DAGSTER)
    (home / "workspace.yaml").write_text(WORKSPACE)
    server.ensure_database("console", APPLICATION_ROLE)
    port = free_port()
    named = {
        "AIIA_HOME": str(home),
        "AIIA_CONNECTORS": str(home / "connectors"),
        "AIIA_DATABASE_URL": server.url("console", APPLICATION_ROLE, "postgresql+psycopg2"),
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIIA_", "PG", "DAGSTER_"))}
    environment = {
        **kept,
        **Settings.load(named, ROOT).environment(),
        "PGPASSFILE": str(server.passwords.pgpass),
        "DAGSTER_HOME": str(home / "dagster"),
        "HOOK": SECRET,
        "PLAIN_HOOK": "0123456789abcdef" * 4,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSFILE", environment["PGPASSFILE"])
        store = JobStore.open(named["AIIA_DATABASE_URL"])
    command = [sys.executable, "-m", "aiia_pipelines.console.host", "-w", home / "workspace.yaml"]
    found = Console(f"http://127.0.0.1:{port}", home, store, None)  # type: ignore[arg-type]
    found.write("drop", HOOK.format("env:HOOK"))
    found.write("turning", HOOK.format("file:secrets/hook"))
    found.write("unset", HOOK.format("env:NOBODY_SETS_THIS"))
    found.write("plain", HOOK.format("env:PLAIN_HOOK"))
    found.write("paced", HOOK.format("env:HOOK").replace("' }", "', per_minute: 2 }"))
    found.write("quiet")
    with (home / "web.log").open("wb") as log:
        found.process = subprocess.Popen(
            [*command, "-h", "127.0.0.1", "-p", str(port)],
            env=environment, cwd=ROOT, stdout=log, stderr=log,
        )  # fmt: skip
    with closing(store), found.process as process:
        try:
            wait(lambda: answers(found.url, timeout=2) or process.poll() is not None, 90)
            assert process.poll() is None, found.said()
            yield found
        finally:
            process.kill()


def wait(holds: Callable[[], Any], seconds: float) -> Any:
    """Wait until it holds and give what it gave; the last answer when time is up."""
    end = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


@pytest.fixture(scope="session", name="wait")
def wait_() -> Callable[..., Any]:
    return wait
