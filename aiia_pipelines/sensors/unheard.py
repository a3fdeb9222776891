"""Runs whose process died before it gave a sign of life: nobody else would end them for minutes."""

from datetime import UTC

import dagster as dg
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.dagster_run import RunRecord
from dagster._time import get_current_datetime

from aiia_pipelines.jobs.lost import SILENCE, seconds_up, unheard
from aiia_pipelines.jobs.store import JobStore

_BEGINNING = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
_ALIVE = {WorkerStatus.RUNNING, WorkerStatus.SUCCESS}
_DIED = "Run execution process for {} died before it gave a sign of life."


def give_up(instance: dg.DagsterInstance, store: JobStore, silence: float = SILENCE) -> list[str]:
    """Report the runs whose process is gone as failed, and give their ids."""
    records = instance.get_run_records(dg.RunsFilter(statuses=_BEGINNING))
    # While the database was away nobody could write: silence counts from its start at the earliest.
    longest = seconds_up(store) if records else 0.0
    silent = [each for each in records if min(_age(each), longest) > silence]
    waiting = unheard(store, [each.dagster_run.run_id for each in silent])
    gone = [
        each.dagster_run
        for each in silent
        if each.dagster_run.run_id in waiting and _is_gone(instance, each.dagster_run)
    ]
    for run in gone:
        instance.report_run_failed(run, _DIED.format(run.run_id))
    return [run.run_id for run in gone]


def _age(record: RunRecord) -> float:
    """Give the seconds since anything was written about a run."""
    return (get_current_datetime() - record.update_timestamp.astimezone(UTC)).total_seconds()


def _is_gone(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    # From Dagster's start of a run to the sign of life of its first connector is not half a minute's way.
    if run.status is dg.DagsterRunStatus.STARTED:
        return True
    launcher = instance.run_launcher
    if not launcher.supports_check_run_worker_health:
        return False
    return launcher.check_run_worker_health(run).status not in _ALIVE
