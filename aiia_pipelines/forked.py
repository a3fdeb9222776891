"""What a process does that the warm worker forked: execute one Dagster run, or report how one was lost."""

import os
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar

import dagster as dg
import pandas as pd
import pandera.pandas as pa
import sqlalchemy as sa
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.events import EngineEventData, JobFailureData, RunFailureReason
from dagster._grpc.impl import core_execute_run
from dagster._utils.error import serializable_error_info_from_exc_info
from dagster._utils.interrupts import capture_interrupts
from dagster_postgres.utils import DagsterPostgresException

from aiia_pipelines.config.faults import ConfigInvalid, UnknownConnector
from aiia_pipelines.config.folder import Folder, read_connector, read_folder
from aiia_pipelines.definitions import definitions_of
from aiia_pipelines.resources.job_board import settings
from aiia_pipelines.resources.requests import JOB_PREFIX, SYSTEM_JOBS, TEST_JOB

UNFINISHED = 3
_PATIENCE = 120.0  # seconds that a report waits for a database that is away
_PAUSE = 1.0
# Any other run is somebody else's by now, or over. One that was cancelled before it began ends in its process.
_TO_BE_EXECUTED = (
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.CANCELING,
)
_FOLDER: ContextVar[Folder] = ContextVar("_FOLDER")


def rehearse() -> None:
    """Have pandera make ready what it makes ready at its first use, a second of work."""
    schema = pa.DataFrameSchema({"any": pa.Column(int, checks=[pa.Check.ge(0)])})
    schema.validate(pd.DataFrame({"any": [1]}), lazy=True)


def execute(run_id: str, ready: Callable[[], None]) -> int:
    """Execute a run; 0 when it has reached its end, whatever that is.

    `ready` is called when a signal ends the run and no longer the process.
    """
    with capture_interrupts():
        ready()
        with dg.DagsterInstance.get() as instance:
            run = instance.get_run_by_id(run_id)
            if run is None or run.status not in _TO_BE_EXECUTED or not _select(instance, run):
                return 0
            _execute(instance, run)
            run = instance.get_run_by_id(run_id)
            return 0 if run is None or run.is_finished else UNFINISHED


def _execute(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    pid = os.getpid()
    told = f"Started process for run (pid: {pid})."
    instance.report_engine_event(told, run, EngineEventData.in_process(pid))
    repository = ReconstructableRepository.for_module(__name__, selected.__name__)
    job = repository.get_reconstructable_job(run.job_name)
    for _ in core_execute_run(job, run, instance, inject_env_vars=False):
        pass


def _select(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Read the files of a run's connectors; a run whose files cannot be used ends here."""
    try:
        _FOLDER.set(_folder(run))
    except (ConfigInvalid, UnknownConnector) as fault:
        data = JobFailureData(
            error=serializable_error_info_from_exc_info(sys.exc_info()),
            failure_reason=RunFailureReason.JOB_INITIALIZATION_FAILURE,
        )
        instance.report_run_failed(run, str(fault), data)
        return False
    return True


def _folder(run: dg.DagsterRun) -> Folder:
    """Read as little as the run needs: a thousand other connectors cost it nothing."""
    folder = settings().connectors
    checked = (key.asset_key for key in run.asset_check_selection or ())
    names = {key.path[0] for key in (*(run.asset_selection or ()), *checked)}
    if not names and run.job_name.startswith(JOB_PREFIX):
        names = {run.job_name.removeprefix(JOB_PREFIX)}
    if not names and run.job_name not in {TEST_JOB, *SYSTEM_JOBS}:
        return read_folder(folder)
    return Folder(connectors={name: read_connector(folder, name) for name in sorted(names)})


def selected() -> dg.Definitions:
    """Build what the run of this process needs; Dagster finds this function by its name."""
    return definitions_of(_FOLDER.get())


def report(run_id: str, how: str, *, cancelled: bool) -> int:
    """Say how the process of a run ended that could not do so itself; 0 when it is written down."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            with dg.DagsterInstance.get() as instance:
                _report(instance, run_id, how, cancelled=cancelled)
        except (sa.exc.DBAPIError, DagsterPostgresException):
            if time.monotonic() > end:
                raise
            time.sleep(_PAUSE)
        else:
            return 0


def _report(instance: dg.DagsterInstance, run_id: str, how: str, *, cancelled: bool) -> None:
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return
    if cancelled or run.status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, f"{how} It had been asked to stop.")
        return
    # In two parts, as Dagster's code server does: the second one alone does not say how it ended.
    instance.report_engine_event(how, run)
    instance.report_run_failed(run)
