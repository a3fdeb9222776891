"""How `--full` and `--dry-run` travel from the command line to the job run, by every way."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import aiia_pipelines
from aiia_pipelines.cli import sync as command
from aiia_pipelines.cli.output import Output
from aiia_pipelines.config.settings import Settings
from aiia_pipelines.control import SyncRequest, retry, sync
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import Changes, JobType
from aiia_pipelines.jobs.state import JobState, TaskState
from aiia_pipelines.jobs.store import JobStore

pytestmark = pytest.mark.integration


class Services:
    """A web server that takes runs in Dagster's way and starts none; it keeps what it was asked."""

    def __init__(self, store: JobStore, request_of: Any) -> None:
        self.tags: list[dict[str, str]] = []
        self.selections: list[Any] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                params = body["variables"]["params"]
                tags = params["executionMetadata"]["tags"]
                outer.tags.append({tag["key"]: tag["value"] for tag in tags})
                outer.selections.append(params["selector"].get("assetSelection"))
                run_id = f"run-{len(outer.tags)}"
                store.create(request_of(), run_id=run_id)
                run = {"__typename": "LaunchRunSuccess", "run": {"runId": run_id}}
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"data": {"launchRun": run}}).encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def services(
    here: Any, store: JobStore, request_of: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Services]:
    found = Services(store, request_of)
    port = found.server.server_port
    monkeypatch.setattr("aiia_pipelines.control.web_url", lambda _: f"http://127.0.0.1:{port}")
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def settings(here: Any) -> Settings:
    return Settings.load(os.environ, Path.cwd())


def wishes(tags: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if key.startswith("aiia/")}


def test_services_are_told_by_tags(services: Services, settings: Settings, store: JobStore) -> None:
    sync(settings, store, SyncRequest(connector="sample", by="sara", full=True))
    sync(settings, store, SyncRequest(connector="sample", by="sara", dry_run=True))
    sync(settings, store, SyncRequest(connector="sample", by="sara", full=True, dry_run=True))
    sync(settings, store, SyncRequest(connector="sample", by="sara"))
    assert [wishes(tags) for tags in services.tags] == [
        {"aiia/full": "true"},
        {"aiia/dry_run": "true"},
        {"aiia/full": "true", "aiia/dry_run": "true"},
        {},
    ]


def test_a_retry_is_done_in_the_same_way(
    services: Services, settings: Settings, store: JobStore, request_of: Any
) -> None:
    for facts in ({"type": JobType.DRY_RUN}, {"full_read": True}, {}):
        number = store.create(request_of(**facts))
        store.finish(number, JobState.FAILED)
        retry(settings, store, number, all_tasks=True, by="sara")
    assert [wishes(tags) for tags in services.tags] == [
        {"aiia/dry_run": "true"},
        {"aiia/full": "true"},
        {},
    ]


def test_the_history_never_shows_a_dry_run_as_a_refresh(
    store: JobStore, aiia: Any, request_of: Any
) -> None:
    number = store.create(request_of(type=JobType.DRY_RUN, full_read=True))
    (run,) = json.loads(aiia("jobs", "list").stdout)
    assert (run["type"], run["full_read"]) == ("dry_run", True)
    assert "Dry run" in aiia("jobs", "list", "-o", "plain").stdout
    page = aiia("jobs", "show", number, "-o", "plain").stdout
    assert "Sample DB · Dry run" in page
    assert "all rows again (--full)" in page
    assert json.loads(aiia("jobs", "list", "--type", "sync").stdout) == []


def dry_run(store: JobStore, request_of: Any) -> int:
    new = request_of(type=JobType.DRY_RUN)
    number = store.create(new)
    store.take(number, new)
    store.move(number, JobState.RUNNING)
    with Recorder(store, number) as recorder:
        recorder.start_task("rows")
        recorder.count("rows", "validate", 9)
        changes = Changes(inserted=4, updated=2, unchanged=3, deleted=1)
        recorder.end_task("rows", TaskState.SUCCEEDED, changes=changes, rejected=2, adjusted=1)
    store.finish(number)
    return number


def test_a_dry_run_tells_what_would_change_stream_by_stream(
    store: JobStore, aiia: Any, request_of: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    number = dry_run(store, request_of)
    for form in ("plain", "json"):
        command.report(Output(asked=form), store, [store.row(number)])  # type: ignore[arg-type]
    plain, _, told = capsys.readouterr().out.partition("\n")
    counts = "4 inserted, 2 updated, 3 unchanged, 1 deleted, 2 rows set aside, 1 values changed"
    assert plain.split("\t") == [f"#{number}", "sample.rows", "Succeeded", "9", counts, ""]
    (run,) = json.loads(told)
    assert (run["type"], run["full_read"], run["state"]) == ("dry_run", False, "Completed")
    (changes,) = run["changes"]
    assert [changes[count] for count in ("inserted", "updated", "unchanged", "deleted")] == [
        4,
        2,
        3,
        1,
    ]
    assert (changes["rejected"], changes["adjusted"], changes["records"]) == (2, 1, 9)
    assert counts in aiia("jobs", "show", number, "-o", "plain").stdout
    last = [line for _, line in store.log_after(number, 0)][-1]
    assert last.message == "Job finished with state COMPLETED."


def test_a_completed_dry_run_settles_no_failed_refresh(
    store: JobStore, aiia: Any, request_of: Any
) -> None:
    failed = store.create(request_of())
    store.finish(failed, JobState.FAILED)
    dry_run(store, request_of)
    waiting = json.loads(aiia("jobs", "list", "--needs-attention").stdout)
    assert [run["number"] for run in waiting] == [failed]


def warehouse(here: Any, query: str) -> list[tuple[Any, ...]]:
    db = here.server.connect("warehouse", "aiia")
    with db, db.cursor() as cursor:
        cursor.execute(query)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    db.close()
    return found


def test_a_dry_run_on_this_machine_commits_nothing_and_learns_nothing(
    here: Any, store: JobStore
) -> None:
    here.write("trial")
    package = Path(aiia_pipelines.__file__).parent.parent
    shutil.copy(package / "dagster.yaml", here.connectors.parent)
    done = subprocess.run(
        [sys.executable, "-m", "aiia_pipelines", "sync", "trial", "--dry-run", "-o", "json"],
        env={**os.environ, **here.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(done.stdout)
    assert (run["type"], run["state"]) == ("dry_run", "Completed")
    assert run["changes"][0]["inserted"] == 20
    assert f"Starting dry run job run #{run['number']} (Trial DB)" in done.stderr
    assert "nothing is committed" in done.stderr
    assert warehouse(here, "select to_regclass('trial.rows')") == [(None,)]
    with store.engine.connect() as db:
        learned = db.exec_driver_sql("select count(*) from aiia.contracts").scalar()
    assert learned == 0
