"""What one process of `scale.py` does: `python scale_parts.py PART ARGUMENTS`; its last line is what it measured, as JSON."""

# ruff: noqa: PLC0415 - each part imports what it needs: what a process has imported is part of its figures

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiia_pipelines.config.folder import Folder, read_connector, read_folder
from aiia_pipelines.config.settings import Settings
from aiia_pipelines.local.ports import free_port

if TYPE_CHECKING:
    import dagster as dg
    from dagster._core.workspace.context import WorkspaceProcessContext

REAL = "zz_real"  # the one connector whose source exists
_LOCATION = "aiia_pipelines"
_PATIENCE = 300.0  # seconds for a code server to answer

Figures = dict[str, float]


def cpu(pid: int | None = None) -> float:
    """Give the CPU seconds of this process, or of another with its children that have ended."""
    if pid is None:
        return time.process_time()
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, stat[11:15])) / os.sysconf("SC_CLK_TCK")


def peak(pid: int | str = "self") -> float:
    """Give the most MiB that a process ever held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def timed(work: Callable[[], Any], rounds: int = 1) -> float:
    """Give the CPU seconds of one round."""
    before = cpu()
    for _ in range(rounds):
        work()
    return (cpu() - before) / rounds


def sure(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - like assert
    if not holds:
        raise SystemExit(otherwise)


def folder() -> Path:
    return Settings.load(os.environ, Path.cwd()).connectors


def part_folder() -> Figures:
    # What is imported once, at the first file of a kind, is no part of the growth.
    read_connector(folder(), REAL)
    base = peak()
    found: list[Folder] = []
    spent = timed(lambda: found.append(read_folder(folder())))
    sure(not found[0].problems, f"the files are wrong: {found[0].problems[:3]}")
    return {"folder_cpu": spent, "folder_mib": peak() - base, "connectors": len(found[0].names)}


def part_definitions() -> Figures:
    from dagster._core.remote_representation.external_data import RepositorySnap
    from dagster_shared.serdes import serialize_value

    from aiia_pipelines import definitions

    read_connector(folder(), REAL)
    before, base = cpu(), peak()
    built = definitions.defs()
    loaded = cpu()
    repository = built.get_repository_def()
    resolved = cpu()
    sent = serialize_value(RepositorySnap.from_def(repository, defer_snapshots=True))
    return {
        "definitions_cpu": loaded - before,
        "repository_cpu": resolved - loaded,
        "snapshot_cpu": cpu() - resolved,
        "snapshot_mb": len(sent) / 1e6,
        "definitions_mib": peak() - base,
    }


def part_start() -> Figures:
    """Do what each new run does before its first byte, for one connector among all of them."""
    from aiia_pipelines.definitions import definitions_of

    def build() -> None:
        connector = read_connector(folder(), REAL)
        found = definitions_of(Folder(connectors={connector.name: connector}))
        built = [job.name for job in found.jobs if job.name.startswith("sync__")]
        sure(built == [f"sync__{REAL}"], f"a run builds other connectors as well: {built}")
        found.resolve_job_def(f"sync__{REAL}")

    build()
    read = timed(lambda: read_connector(folder(), REAL), 5)
    return {"start_cpu": timed(build, 5), "start_read_cpu": read, "start_mib": peak()}


@contextmanager
def code_server(how: str) -> Iterator[tuple[int, int]]:
    """Start a code server; give its port and process."""
    port = free_port()
    command = [sys.executable, "-m", "aiia_pipelines.code_server", "--port", str(port)]
    if how == "dagster":
        command = [
            str(Path(sys.executable).with_name("dagster")), "code-server", "start", "-m", "aiia_pipelines.definitions",
            "--host", "127.0.0.1", "--port", str(port), "--location-name", _LOCATION,
        ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def family(pid: int) -> list[int]:
    """Give a process and what it has started."""
    import psutil

    top = psutil.Process(pid)
    return [pid, *(child.pid for child in top.children(recursive=True))]


def spent_by(pid: int) -> float:
    return sum(cpu(each) for each in family(pid))


def part_server(how: str = "aiia") -> Figures:
    """Start a code server and ask it for everything, as the daemon and the web server do."""
    import dagster as dg

    with dg.DagsterInstance.get() as instance, code_server(how) as (port, pid):
        began = cpu()
        with _workspace(instance, port) as context:
            sure(
                bool(context.create_request_context().code_locations),
                "the code server loaded nothing",
            )
            figures = {
                "server_cpu": spent_by(pid),
                "server_mib": sum(peak(each) for each in family(pid)),
                "client_cpu": cpu() - began,
                "client_mib": peak(),
            }
            if how == "aiia":
                figures |= _sensors(instance, context, pid) | _ticks(instance, context, pid)
    return figures


@contextmanager
def _workspace(instance: "dg.DagsterInstance", port: int) -> Iterator["WorkspaceProcessContext"]:
    from dagster._core.errors import DagsterUserCodeUnreachableError
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import GrpcServerTarget
    from dagster._grpc.client import DagsterGrpcClient

    client, end = DagsterGrpcClient(host="127.0.0.1", port=port), time.monotonic() + _PATIENCE
    while True:
        try:
            client.ping("")
            break
        except DagsterUserCodeUnreachableError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
    target = GrpcServerTarget(host="127.0.0.1", port=port, socket=None, location_name=_LOCATION)
    with WorkspaceProcessContext(instance, target) as context:
        yield context


def _sensors(
    instance: "dg.DagsterInstance", context: "WorkspaceProcessContext", pid: int, rounds: int = 20
) -> Figures:
    """Let each sensor look `rounds` times; its CPU is that of the asking process and of the code server."""
    (location,) = context.create_request_context().code_locations
    (repository,) = location.get_repositories().values()
    figures = {}
    for sensor in repository.get_sensors():

        def look(name: str = sensor.name) -> None:
            location.get_sensor_execution_data(
                instance, repository.handle, name, None, None, None, None, None
            )

        look()
        before = spent_by(pid)
        figures[f"sensor_{sensor.name}"] = timed(look, rounds) + (spent_by(pid) - before) / rounds
    return figures


def _ticks(instance: "dg.DagsterInstance", context: "WorkspaceProcessContext", pid: int) -> Figures:
    """Let Dagster's scheduler look at all schedules: for the first time, when none is due, and when some are."""
    from dagster._scheduler.scheduler import launch_scheduled_runs

    logger, times = logging.getLogger("scale"), {}

    def look(at: datetime) -> float:
        before = spent_by(pid)
        spent = timed(lambda: [*launch_scheduled_runs(context, logger, at, times)])
        return spent + spent_by(pid) - before

    due = due_minute()
    first = look(due - timedelta(minutes=6))
    look(due - timedelta(minutes=4))
    idle = look(due - timedelta(minutes=3))
    held = instance.get_runs_count()
    busy = look(due + timedelta(seconds=1))
    made = instance.get_runs_count() - held
    sure(made > 0, "no schedule was due")
    return {"first_look": first, "idle_look": idle, "ticks": made, "tick_cpu": busy / made}


def due_minute() -> datetime:
    return datetime.fromisoformat(os.environ["SCALE_DUE"]).astimezone(UTC)


def part_runs(count: str) -> Figures:
    """Sync the connector that exists, again and again, as real Dagster runs in one process."""
    import dagster as dg

    from aiia_pipelines.definitions import definitions_of

    connector = read_connector(folder(), REAL)
    job = definitions_of(Folder(connectors={REAL: connector})).resolve_job_def(f"sync__{REAL}")
    with dg.DagsterInstance.get() as instance:

        def sync() -> None:
            sure(job.execute_in_process(instance=instance).success, "the sync failed")

        sync()
        return {"run_cpu": timed(sync, int(count)), "run_mib": peak()}


def part_sweep() -> Figures:
    """Let the sensors that read the job history look at one, without a code server between."""
    import dagster as dg

    from aiia_pipelines.jobs.store import JobStore
    from aiia_pipelines.sensors.due_runs import launches
    from aiia_pipelines.sensors.job_history import sweep

    with dg.DagsterInstance.get() as instance:
        store = JobStore.open(os.environ["AIIA_DATABASE_URL"])
        now = datetime.now(UTC)
        for look in (lambda: sweep(instance, store), lambda: [*launches(store, set(), now)]):
            look()
        found = {
            "sweep_cpu": timed(lambda: sweep(instance, store), 20),
            "due_cpu": timed(lambda: [*launches(store, set(), now)], 20),
        }
        store.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part")
    parser.add_argument("rest", nargs="*")
    given = parser.parse_args()
    logging.disable(logging.INFO)
    figures = globals()[f"part_{given.part}"](*given.rest)
    sys.stdout.write(f"\n{json.dumps(figures)}\n")


if __name__ == "__main__":
    main()
