"""Executes runs that the Celery launcher hands over: `celery -A aiia_pipelines.celery_worker worker -Q dagster`.

The parent imports everything before it forks, so that the process of a run begins with its work.
"""

import gc
import os
import re
import signal
import socket
import time
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa
from celery import Celery, signals  # type: ignore[import-untyped] # Celery has no types
from celery.worker.control import control_command  # type: ignore[import-untyped] # as above
from dagster._core.instance import InstanceRef
from dagster._utils import send_interrupt

from aiia_pipelines.config.faults import ConfigInvalid
from aiia_pipelines.jobs.launches import is_sealed
from aiia_pipelines.resources.admission import store_of
from aiia_pipelines.resources.celery_launcher import CANCEL_GRACE, KILL, TASK, CeleryLauncher
from aiia_pipelines.resources.job_board import settings
from aiia_pipelines.resources.run_signs import PULSE, Pulse, RunSigns
from aiia_pipelines.worker import warm_up

_BEGINS = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING)
_STOPS = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)
_SIGNAL = re.compile(r"signal (\d+)")


class Unfinished(Exception):
    """A process has executed a run, and the run has no end."""


def __getattr__(name: str) -> Celery:
    # Celery looks for `app`; making it at import would read dagster.yaml wherever this module is looked at.
    if name == "app":
        return _app()
    raise AttributeError(name)


@cache
def _app() -> Celery:
    launcher = _launcher()
    app = launcher.celery

    @app.task(name=TASK)  # type: ignore[untyped-decorator] # Celery has no types
    def run(run_id: str) -> None:
        execute(launcher.signs, run_id)

    @control_command(name=KILL, args=[("taker", str)])  # type: ignore[untyped-decorator] # as above
    def kill(state: Any, taker: str) -> None:  # noqa: ANN401 - as above
        kill_child(state.consumer.pool.info["processes"], taker)

    signals.worker_init.connect(_warm_up, weak=False)
    signals.task_failure.connect(_end, weak=False)
    return app


def _launcher() -> CeleryLauncher:
    home = os.environ.get("DAGSTER_HOME", "")
    if not (Path(home) / "dagster.yaml").is_file():
        raise ConfigInvalid(f"DAGSTER_HOME={home} has no dagster.yaml; name the folder that has it")
    found = InstanceRef.from_dir(home).run_launcher
    if not isinstance(found, CeleryLauncher):
        raise ConfigInvalid(
            f"{home}/dagster.yaml: run_launcher is no CeleryLauncher; its runs would not come to this worker"
        )
    return found


def _warm_up(**_: object) -> None:
    warm_up(settings())
    # Switched off for a parent that does nothing; this one goes on to serve Celery.
    gc.enable()


def kill_child(children: Collection[int], taker: str) -> None:
    """Kill the process of a run, if it is one of this worker's."""
    pid, _, host = taker.partition("@")
    if host == socket.gethostname() and int(pid) in children:
        os.kill(int(pid), signal.SIGKILL)


def execute(signs: RunSigns, run_id: str) -> None:
    """Execute a run in this process, unless somebody else does or it is not wanted any more.

    Raises:
        Unfinished: The run has no end.
    """
    from aiia_pipelines import forked  # noqa: PLC0415 - imports pandas, which the warm-up has to prepare

    who = f"{os.getpid()}@{socket.gethostname()}"
    if not signs.take(run_id, who):
        return
    with dg.DagsterInstance.get() as instance:
        # Read after taking: a launcher that saw nobody take it has marked the run before it looked.
        run = instance.get_run_by_id(run_id)
        if run is not None and run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, "Cancelled before it began.")
        if run is None or run.status not in _BEGINS:
            return
        with Pulse(signs, run_id, who, _Orders(instance, run_id).look):
            code = forked.execute(run_id, _nothing)
    if code:
        raise Unfinished("its process ended before it")


class _Orders:
    """Looks whether the run of this process is to stop: what the broker sends gets lost when it restarts."""

    def __init__(self, instance: dg.DagsterInstance, run_id: str) -> None:
        self._instance, self._run_id = instance, run_id
        self._seen: float | None = None
        self._asked = False

    def look(self) -> None:
        """Leave it to the job run to stop; then interrupt it; then end this process."""
        try:
            run = self._instance.get_run_by_id(self._run_id)
            if run is None or run.status not in _STOPS:
                return
            self._seen = self._seen or time.monotonic()
            waited = time.monotonic() - self._seen
            if waited > CANCEL_GRACE and not is_sealed(store_of(self._instance), self._run_id):
                os.kill(os.getpid(), signal.SIGKILL)
        except sa.exc.SQLAlchemyError:
            return  # the database is away, and with it whoever gives orders
        if waited > PULSE / 2 and not self._asked:
            self._asked = True
            send_interrupt()


def _end(task_id: str, exception: BaseException, **_: object) -> None:
    """End a run whose process is gone or could not begin; called where that is seen, often in the parent."""
    with dg.DagsterInstance.get() as instance:
        run = instance.get_run_by_id(task_id)
        if run is None or run.is_finished:
            return
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, "Its process has ended.")
            return
        killed = _SIGNAL.search(str(exception))
        how = f"was terminated by signal {killed[1]}" if killed else f"died: {exception}"
        instance.report_run_failed(run, f"The process of the run {how}.")


def _nothing() -> None:
    pass
