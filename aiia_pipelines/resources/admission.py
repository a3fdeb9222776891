"""The last look before a run is launched: whether it may be, and whether somebody else does it."""

from typing import cast

import dagster as dg
from dagster._core.op_concurrency_limits_counter import GlobalOpConcurrencyLimitsCounter
from dagster._core.storage.dagster_run import ACTIVE_RUN_STATUSES, RunRecord
from dagster._utils.tags import TagConcurrencyLimitsCounter

from aiia_pipelines.jobs import launches
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.resources.run_storage import HookedRunStorage

Instance = dg.DagsterInstance


def store_of(instance: Instance) -> JobStore:
    """Give the job-run store that the instance's run storage keeps in step."""
    return cast("HookedRunStorage", instance.run_storage).jobs


def admitted(instance: Instance, run: dg.DagsterRun) -> bool:
    """Take the launch of a run; False when another process has it, or its slot, before us.

    The daemon's queue and a run's submission decide apart from each other. Of two runs of one connector
    that they chose at the same moment, the later one goes back to the queue here.
    """
    store = store_of(instance)
    with launches.deciding(store):
        # One that was never queued has no way back.
        if run.remote_job_origin is not None and _is_blocked(instance, store, run):
            instance.report_dagster_event(dg.DagsterEvent.job_enqueue(run), run_id=run.run_id)
            return False
        return launches.claim(store, run.run_id)


def _is_blocked(instance: Instance, store: JobStore, run: dg.DagsterRun) -> bool:
    active = _holders(instance, store, run)
    config = instance.get_concurrency_config()
    limits = config.run_queue_config.tag_concurrency_limits if config.run_queue_config else []
    if not active:
        return False
    if TagConcurrencyLimitsCounter(limits, [each.dagster_run for each in active]).is_blocked(run):
        return True
    events = instance.event_log_storage
    counter = GlobalOpConcurrencyLimitsCounter(
        instance,
        [run],
        active,
        concurrency_keys=events.get_concurrency_keys(),
        pool_limits=events.get_pool_limits(),
        pool_granularity=config.pool_config.pool_granularity,
    )
    return counter.is_blocked(run)


def _holders(instance: Instance, store: JobStore, run: dg.DagsterRun) -> list[RunRecord]:
    """List the other runs that have been launched."""
    records = [
        record
        for record in instance.get_run_records(dg.RunsFilter(statuses=ACTIVE_RUN_STATUSES))
        if record.dagster_run.run_id != run.run_id
    ]
    # A run that is Starting is either launched already, or has this look still before it.
    going = launches.launched(store, [record.dagster_run.run_id for record in records])
    return [
        record
        for record in records
        if record.dagster_run.status is not dg.DagsterRunStatus.STARTING
        or record.dagster_run.run_id in going
    ]
