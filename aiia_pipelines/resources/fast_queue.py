"""Dagster's run queue, except that a run that need not wait does not wait for the daemon's next look."""

import sys

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._core.launcher import LaunchRunContext
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import (
    QueuedRunCoordinatorDaemon,
)
from dagster._utils.error import serializable_error_info_from_exc_info

from aiia_pipelines.jobs import launches
from aiia_pipelines.resources.admission import store_of
from aiia_pipelines.resources.warm_launcher import WarmRunLauncher

# With a longer queue the look takes longer than the wait that it saves.
_SHORT = 200


class FastQueueCoordinator(QueuedRunCoordinator[dg.DagsterInstance]):
    """The run coordinator that dagster.yaml names."""

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        """Enqueue a run, and launch it at once when the daemon would."""
        run = super().submit_run(context)
        launcher = self._instance.run_launcher
        cold = isinstance(launcher, WarmRunLauncher) and not launcher.is_warm
        if run.status is not dg.DagsterRunStatus.QUEUED or cold or not self._begun(run.run_id):
            return run
        return self._launched(run.run_id, context)

    def _begun(self, run_id: str) -> bool:
        """Take a run from the queue if it is its turn."""
        with launches.deciding(store_of(self._instance)):
            if not self._is_next(run_id):
                return False
            run = self._run(run_id)
            starting = dg.DagsterEvent(
                event_type_value=dg.DagsterEventType.PIPELINE_STARTING.value, job_name=run.job_name
            )
            self._instance.report_dagster_event(starting, run_id=run_id)
            return True

    def _is_next(self, run_id: str) -> bool:
        """Decide as the daemon does, by its own rules: limits, tags, pools and priorities."""
        queued = [dg.DagsterRunStatus.QUEUED]
        if self._instance.get_runs_count(dg.RunsFilter(statuses=queued)) > _SHORT:
            return False
        daemon = QueuedRunCoordinatorDaemon(interval_seconds=self.dequeue_interval_seconds)
        config = self._instance.get_concurrency_config()
        chosen = daemon._get_runs_to_dequeue(self._instance, config, fixed_iteration_time=None)  # noqa: SLF001 - the decision itself, not a copy of it
        return any(run.run_id == run_id for run in chosen)

    def _launched(self, run_id: str, context: SubmitRunContext) -> dg.DagsterRun:
        run = self._run(run_id)
        try:
            self._instance.run_launcher.launch_run(LaunchRunContext(run, context.workspace))
        except BaseException as fault:
            error = serializable_error_info_from_exc_info(sys.exc_info())
            self._instance.report_engine_event(str(fault), run, EngineEventData.engine_error(error))
            self._instance.report_run_failed(run)
            raise
        return self._run(run_id)

    def _run(self, run_id: str) -> dg.DagsterRun:
        run = self._instance.get_run_by_id(run_id)
        if run is None:
            raise LookupError(f"Run {run_id} was deleted.")
        return run
