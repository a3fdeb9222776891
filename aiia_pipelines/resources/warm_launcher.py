"""Launches runs in the warm worker of this machine, and where none listens in Dagster's code server."""

import dagster as dg
from dagster import DefaultRunLauncher
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.types import CanCancelExecutionRequest

from aiia_pipelines.jobs import launches
from aiia_pipelines.local import warm
from aiia_pipelines.resources.admission import admitted, store_of
from aiia_pipelines.resources.job_board import settings

_PATIENCE = 5  # seconds


class WarmRunLauncher(DefaultRunLauncher):
    """The run launcher that dagster.yaml names."""

    @property
    def is_warm(self) -> bool:
        """Whether a warm worker listens, so that a launch costs next to nothing."""
        return warm.is_ready(settings().home)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch a run once, however many processes try to."""
        run = context.dagster_run
        if admitted(self._instance, run) and not _forked(run.run_id):
            super().launch_run(context)

    def terminate(self, run_id: str) -> bool:
        """Ask the process of a run to stop; False when it cannot be asked any more."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        if GRPC_INFO_TAG in run.tags:
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call] # Dagster's
        self._instance.report_run_canceling(run)
        # Once the last commit is certain nothing may end the process by force.
        late = launches.is_sealed(store_of(self._instance), run_id)
        state = _state({"do": "terminate", "run_id": run_id, "kill": not late})
        if state == "unknown" and not late:
            self._cancel_without_process(run_id)
        return state in {"running", "unknown"}

    def _cancel_without_process(self, run_id: str) -> None:
        run = self._instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            self._instance.report_run_canceled(run, "No process of the worker runs it.")

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Whether the processes of runs can be asked about: they can."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Tell whether the process of a run is there, as far as those know that started it."""
        begins = run.status is dg.DagsterRunStatus.STARTING
        if GRPC_INFO_TAG in run.tags:
            gone = begins and not self._has_child(run)
        else:
            state = _state({"do": "state", "run_id": run.run_id})
            # A process that has begun gives signs of life of its own, which sensors/job_history looks at.
            gone = state == "lost" or (begins and state == "unknown")
        if gone:
            told = f"Run execution process for {run.run_id} died."
            return CheckRunHealthResult(WorkerStatus.FAILED, told)
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def _has_child(self, run: dg.DagsterRun) -> bool:
        """Ask the code server that started a run whether its process is there; one that is gone took it along."""
        try:
            client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call] # Dagster's
            answer = client and client.can_cancel_execution(
                CanCancelExecutionRequest(run_id=run.run_id), timeout=_PATIENCE
            )
        except DagsterUserCodeUnreachableError:
            return False
        return bool(answer and answer.can_cancel)


def _forked(run_id: str) -> bool:
    """Have the worker fork a process for a run; False when there is no worker."""
    request = {"do": "launch", "run_id": run_id}
    home = settings().home
    try:
        warm.ask(home, request)
    except warm.NoWorker:
        return False
    except warm.WorkerLeft:
        # It may have forked before it left: its successor knows, and starts no run twice.
        try:
            warm.ask(home, request)
        except (warm.NoWorker, warm.WorkerLeft):
            return False
    return True


def _state(request: dict[str, object]) -> str:
    try:
        return str(warm.ask(settings().home, request)["state"])
    except (warm.NoWorker, warm.WorkerLeft):
        return "unreachable"
