"""Sync Now, Cancel and Retry: through the running services when there are any, otherwise on this machine.

Nothing here imports Dagster: it is asked over HTTP, or by starting `aiia_pipelines.launch`.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiia_pipelines.config.faults import ConfigInvalid, UnknownConnector
from aiia_pipelines.config.folder import read_connector
from aiia_pipelines.config.settings import Settings
from aiia_pipelines.jobs import attempts, traces
from aiia_pipelines.jobs.run import PRIORITIES, REFRESHES, JobType, Trigger
from aiia_pipelines.jobs.state import FINAL, JobState, TaskState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.jobs.traces import Traces
from aiia_pipelines.local import web

_HTTP_TIMEOUT = 30  # seconds
_APPEARS_WITHIN = 60  # seconds until a launched run must be a job run
_FAILED_TASKS = {TaskState.FAILED, TaskState.ERROR, TaskState.CANCELLED}

_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on PipelineNotFoundError { message }
    ... on UnauthorizedError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""
_TERMINATE = """
mutation Terminate($run: String!) {
  terminateRun(runId: $run, terminatePolicy: SAFE_TERMINATE) {
    __typename
    ... on TerminateRunFailure { message }
    ... on PythonError { message }
  }
}
"""


class NotLaunched(Exception):
    """A sync could not be started; the text says what to do."""


class Refused(Exception):
    """The job run is in no state for what was asked."""


class UnknownJobRun(LookupError):
    """There is no such job run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRequest:
    """One sync of one connector; no stream stands for all of them.

    A `full` one reads all rows again, a `dry_run` commits nothing.
    """

    connector: str
    streams: Sequence[str] = ()
    by: str
    priority: str = ""
    full: bool = False
    dry_run: bool = False
    retry_of: int | None = None


@dataclass(slots=True)
class Launched:
    """A job run that was just made; `process` is set when it runs as a child of this process."""

    number: int
    process: "subprocess.Popen[bytes] | None" = None
    log: Path | None = None
    # It was there before: under `overlap: skip` a second request joins the first.
    joined: bool = False


def sync(settings: Settings, store: JobStore, request: SyncRequest) -> Launched:
    """Start a sync.

    Raises:
        NotLaunched: It could not be started.
    """
    busy = _joined(settings, store, request)
    if busy is not None:
        return Launched(busy, joined=True)
    url = web_url(settings)
    if url is not None:
        run_id = _launch_by_web(url, request)
        return Launched(_await_number(store, run_id, request.connector, None, None))
    return _launch_here(settings, store, request)


def _joined(settings: Settings, store: JobStore, request: SyncRequest) -> int | None:
    """Find the job run that a request joins instead of making another."""
    try:
        connector = read_connector(settings.connectors, request.connector)
    except (ConfigInvalid, UnknownConnector):
        return None  # whoever launches it tells what is wrong
    if connector.overlap != "skip" or request.dry_run:
        return None
    return store.busy_with(request.connector)


def retry(
    settings: Settings, store: JobStore, number: int, *, all_tasks: bool, by: str
) -> Launched:
    """Run what failed of an ended job run again, as a new job run that points to it.

    Raises:
        UnknownJobRun: There is no such job run.
        Refused: It has not ended, or is no sync.
        NotLaunched: It could not be started.
    """
    row = _row(store, number)
    if JobState(row.state) not in FINAL:
        raise Refused(f"Job run #{number} is {row.state}; only one that has ended can be retried.")
    if row.type not in REFRESHES:
        again = f"run `aiia test {row.connector}`" if row.connector else "launch its job"
        raise Refused(f"Job run #{number} is no sync; {again} again.")
    failed = [stream for stream, state in store.tasks_of(number) if state in _FAILED_TASKS]
    streams = () if all_tasks or not failed else tuple(failed)
    request = SyncRequest(
        connector=row.connector,
        streams=streams,
        by=by,
        full=row.full_read,
        dry_run=row.type == JobType.DRY_RUN,
        retry_of=number,
    )
    return sync(settings, store, request)


def cancel(settings: Settings, store: JobStore, number: int, *, reason: str, by: str) -> bool:
    """Ask a job run to stop; False when it has already ended.

    Raises:
        UnknownJobRun: There is no such job run.
    """
    row = _row(store, number)
    if not store.request_cancel(number, by=by, reason=reason):
        return False
    attempt = store.attempt_of(number)
    if attempt is None or attempt.ended_at is not None:
        return True  # nobody was at work on it: it has ended
    if not _is_alone(store, attempt, number):
        # Its process works on other connectors as well, and reads the request itself.
        if attempt.pid is None:
            store.finish(number, JobState.CANCELLED)
        return True
    url = web_url(settings)
    if url is not None and attempt.run_id and _terminated(url, attempt.run_id):
        return True
    if attempt.pid is not None and attempt.host == socket.gethostname():
        known = Traces.load(attempt.traces).started_at
        if known is not None and known != traces.started_at(attempt.pid):
            return True  # the number belongs to another process now
        with suppress(ProcessLookupError, PermissionError):
            os.kill(attempt.pid, signal.SIGINT)
    elif JobState(row.state) in {JobState.PENDING, JobState.SCHEDULED, JobState.PAUSED}:
        # Nobody has begun it: it ends here and now, and whoever takes it up later finds it ended.
        store.finish(number, JobState.CANCELLED)
    return True


def _is_alone(store: JobStore, attempt: Any, number: int) -> bool:  # noqa: ANN401 - a row of the store
    """Tell whether the Dagster run of an attempt does nothing else."""
    if attempt.run_id is None:
        return True
    return set(store.numbers_of(attempt.run_id, at_work=True).values()) <= {number}


def pause(settings: Settings, store: JobStore, number: int, *, reason: str, by: str) -> JobState:
    """Ask a job run to pause, and give its state: one that runs stops at its next checkpoint.

    Raises:
        UnknownJobRun: There is no such job run.
        Refused: It has ended, is about to commit, or is no sync.
    """
    row = _row(store, number)
    if row.type not in REFRESHES:
        raise Refused(f"Job run #{number} is no sync; only a sync can be paused.")
    attempt = store.attempt_of(number)
    state = attempts.hold(store, number, by=by, reason=reason)
    if state is None:
        ended = JobState(_row(store, number).state)
        why = f"is {ended}" if ended in FINAL else "is just committing its last records"
        raise Refused(f"Job run #{number} {why}; it cannot be paused any more.")
    url = web_url(settings)
    alone = attempt is not None and _is_alone(store, attempt, number)
    if state is JobState.SCHEDULED and url and alone and attempt and attempt.run_id:
        # Its place in Dagster's queue is given up; it gets a new one when it goes on.
        _terminated(url, attempt.run_id)
    return state


def resume(store: JobStore, number: int) -> None:
    """Let a paused job run go on; the daemon starts it within seconds.

    Raises:
        UnknownJobRun: There is no such job run.
        Refused: Nobody paused it.
    """
    row = _row(store, number)
    if not attempts.release(store, number):
        raise Refused(f"Job run #{number} is {row.state}, and nobody paused it.")


def web_url(settings: Settings) -> str | None:
    """Give the address of the web server that `aiia up` started here, if it answers."""
    return web.address(settings.home, timeout=5)


def _row(store: JobStore, number: int) -> Any:  # noqa: ANN401 - a row of the store
    row = store.row(number)
    if row is None:
        raise UnknownJobRun(
            f"There is no job run #{number}; `aiia jobs list` shows those there are."
        )
    return row


# -- through the services -------------------------------------------------------------------


def _launch_by_web(url: str, request: SyncRequest) -> str:
    selection = [{"path": [request.connector, stream]} for stream in request.streams]
    selector: dict[str, Any] = {
        "repositoryLocationName": web.LOCATION,
        "repositoryName": web.REPOSITORY,
        "jobName": f"sync__{request.connector}",
    }
    if selection:
        selector["assetSelection"] = selection
    tags = [{"key": key, "value": value} for key, value in _tags(request).items()]
    params = {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": tags}}
    answer = _ask(url, _LAUNCH, {"params": params})["launchRun"]
    if answer["__typename"] == "LaunchRunSuccess":
        return str(answer["run"]["runId"])
    told = answer.get("message") or "; ".join(e["message"] for e in answer.get("errors", []))
    raise NotLaunched(
        f"The services at {url} did not start the sync: {told.strip().splitlines()[0]}"
        f" Check `aiia connectors validate`; after adding a connector file reload the code location."
    )


def _terminated(url: str, run_id: str) -> bool:
    try:
        answer = _ask(url, _TERMINATE, {"run": run_id})["terminateRun"]
    except NotLaunched:
        return False
    return str(answer["__typename"]) == "TerminateRunSuccess"


def _ask(url: str, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return web.ask(url, query, variables, timeout=_HTTP_TIMEOUT)
    except web.Refused as fault:
        raise NotLaunched(f"The services at {url} refused: {fault}") from fault
    except web.NoAnswer as fault:
        raise NotLaunched(f"The services at {url} do not answer: {fault}") from fault


# -- on this machine ------------------------------------------------------------------------


def _launch_here(settings: Settings, store: JobStore, request: SyncRequest) -> Launched:
    run_id = str(uuid4())
    folder = settings.home / "logs" / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{run_id}.log"
    command = [sys.executable, "-m", "aiia_pipelines.launch", request.connector, "--run-id", run_id]
    command += [f"--stream={stream}" for stream in request.streams]
    command += [f"--tag={key}={value}" for key, value in _tags(request).items()]
    environment = {**os.environ, **settings.environment(), "DAGSTER_HOME": str(settings.project)}
    with log.open("wb") as output:
        # A session of its own: the first Ctrl-C leaves the run alone.
        process = subprocess.Popen(  # noqa: S603 - this very package
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment,
            start_new_session=True,
        )  # fmt: skip
    number = _await_number(store, run_id, request.connector, process, log)
    return Launched(number, process, log)


def _tags(request: SyncRequest) -> dict[str, str]:
    trigger = Trigger.RETRY if request.retry_of else Trigger.MANUAL
    found = {".dagster/aiia_trigger": trigger.value, ".dagster/aiia_by": request.by}
    if request.retry_of:
        found[".dagster/aiia_retry_of"] = str(request.retry_of)
    if request.full:
        found["aiia/full"] = "true"
    if request.dry_run:
        found["aiia/dry_run"] = "true"
    if request.priority:
        found["dagster/priority"] = str(PRIORITIES[request.priority])
    return found


def _await_number(
    store: JobStore,
    run_id: str,
    connector: str,
    process: "subprocess.Popen[bytes] | None",
    log: Path | None,
) -> int:
    end = time.monotonic() + _APPEARS_WITHIN
    while time.monotonic() < end:
        number = store.numbers_of(run_id).get(connector)
        if number is not None:
            return number
        if process is not None and process.poll() is not None:
            raise NotLaunched(f"The run of {connector} could not start: {_last_words(log)}")
        time.sleep(0.1)
    raise NotLaunched(f"The run of {connector} did not appear within {_APPEARS_WITHIN} seconds.")


def _last_words(log: Path | None) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log else []
    return f"{lines[-1]} (see {log})" if lines else f"it said nothing (see {log})"
