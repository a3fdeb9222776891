"""The daemon of `aiia up`: `python -m aiia_pipelines.daemon -w workspace.yaml`. It rests while nothing is to be done.

Dagster's own daemon evaluates each sensor every few seconds, with the code server, whether or not there is anything
to look after: most of what an idle installation costs.
"""

import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import dagster as dg
from dagster._core.remote_representation.external import RemoteSensor
from dagster._core.scheduler.instigation import InstigatorState
from dagster._core.workspace.context import IWorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._daemon import sensor
from dagster._daemon.controller import create_daemon_of_type, daemon_controller_from_instance
from dagster._daemon.daemon import DaemonIterator, DagsterDaemon, SchedulerDaemon
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._utils.interrupts import capture_interrupts, setup_interrupt_handlers

from aiia_pipelines.jobs.quiet import Quiet
from aiia_pipelines.resources import cadence
from aiia_pipelines.resources.admission import store_of

# The sensors that look at nothing but the job history.
RESTING = frozenset({"job_history", "due_runs", "after_job"})
LONGEST_REST = 60.0  # seconds: what a rest overlooks is found then

_GLANCE = 1.0  # seconds

_Early = Callable[..., bool]


class RunQueue(QueuedRunCoordinatorDaemon):
    """Dagster's queue, which does not work out limits and pools for an empty queue."""

    def run_iteration(
        self,
        workspace_process_context: IWorkspaceProcessContext[Any],
        *given: object,
        **more: object,
    ) -> DaemonIterator:
        """Look at the limits only if runs wait."""
        instance = workspace_process_context.instance
        if instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])):
            yield from super().run_iteration(workspace_process_context, *given, **more)  # type: ignore[arg-type]  # passed on


class ByTheClock(threading.Event):
    """A wait that ends when the clock says so: on a machine that was suspended, other waits go on after it woke."""

    def __init__(self, over: threading.Event) -> None:
        """Ends with the event that stands behind it."""
        super().__init__()
        self._over = over

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for seconds of the clock; True once it is all over."""
        end = time.time() + (timeout or 0.0)
        while (left := end - time.time()) > 0:
            if self._over.wait(min(left, _GLANCE)):
                return True
        return self._over.is_set()


class Scheduler(SchedulerDaemon):
    """Dagster's scheduler, which sleeps until the next full minute."""

    def core_loop(
        self,
        workspace_process_context: IWorkspaceProcessContext[Any],
        shutdown_event: threading.Event,
    ) -> DaemonIterator:
        """Let Dagster's loop look at the clock while it waits."""
        yield from super().core_loop(workspace_process_context, ByTheClock(shutdown_event))


def daemons(instance: dg.DagsterInstance) -> list[DagsterDaemon[Any]]:
    """List the daemons that the instance needs."""
    ours: dict[str, Callable[[], DagsterDaemon[Any]]] = {
        RunQueue.daemon_type(): partial(_queue, instance),
        Scheduler.daemon_type(): Scheduler,
    }
    return [
        ours[kind]() if kind in ours else create_daemon_of_type(kind, instance)
        for kind in instance.get_required_daemon_types()
    ]


def _queue(instance: dg.DagsterInstance) -> RunQueue:
    coordinator = instance.run_coordinator
    return RunQueue(interval_seconds=coordinator.dequeue_interval_seconds)  # type: ignore[attr-defined]  # whose queue it is


def resting(early: _Early, quiet: Callable[[], bool]) -> _Early:
    """Extend Dagster's decision that it is too early to look at a sensor again."""

    def decide(state: InstigatorState, remote: RemoteSensor, *more: object) -> bool:
        if early(state, remote, *more):
            return True
        since = sensor.get_elapsed(state)
        rested = since is None or since >= LONGEST_REST
        return remote.name in RESTING and not rested and quiet()

    return decide


@click.command()
@click.option("-w", "--workspace", type=click.Path(path_type=Path), required=True)
def main(workspace: Path) -> None:
    """Run the daemons of the instance until a signal comes."""
    setup_interrupt_handlers()
    cadence.slow_down()
    try:
        with capture_interrupts(), dg.DagsterInstance.get() as instance:
            quiet = Quiet(store_of(instance))
            sensor.is_under_min_interval = resting(sensor.is_under_min_interval, quiet)
            target = WorkspaceFileTarget([str(workspace)])
            with daemon_controller_from_instance(instance, target, gen_daemons=daemons) as all_:
                all_.check_daemon_loop()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
