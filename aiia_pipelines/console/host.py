"""The Dagster web server with our doors in front of its pages: `python -m aiia_pipelines.console.host`."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import click
import sqlalchemy as sa
import uvicorn
from dagster import AssetKey, DagsterError, DagsterInstance, DagsterRunStatus
from dagster._cli.utils import assert_no_remaining_opts
from dagster._cli.workspace.cli_target import workspace_opts_to_load_target
from dagster._core.definitions.selector import JobSubsetSelector
from dagster._core.remote_representation.code_location import CodeLocation
from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext
from dagster._utils.interrupts import setup_interrupt_handlers
from dagster._utils.log import configure_loggers
from dagster_graphql.implementation.execution.run_lifecycle import create_valid_pipeline_run
from dagster_graphql.implementation.utils import ExecutionMetadata, ExecutionParams
from dagster_shared.cli import WorkspaceOpts, workspace_options
from dagster_webserver.version import __version__
from dagster_webserver.webserver import DagsterWebserver
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route

from aiia_pipelines.console.hooks import Hooks, NotStarted, Started, Wanted
from aiia_pipelines.jobs.run import Trigger
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.jobs.webhooks import Calls, run_id_of
from aiia_pipelines.resources import cadence, tags
from aiia_pipelines.resources.job_board import settings
from aiia_pipelines.resources.requests import JOB_PREFIX

# As dagster-webserver has them by default.
_STATEMENT_TIMEOUT = 15_000  # milliseconds
_POOL_RECYCLE = 3600  # seconds
_POOL_MAX_OVERFLOW = 20
# Pages that listen for events never hang up by themselves.
_GRACE = 3  # seconds


class Launcher:
    """Starts connectors in the Dagster of this web server."""

    def __init__(self, process: WorkspaceProcessContext, store: JobStore) -> None:
        """Keeps both."""
        self._process = process
        self._store = store
        self._calls = Calls(store.engine)

    def __call__(self, wanted: Wanted) -> Started:
        """Start what a call asks for, or find what it has started before.

        Raises:
            NotStarted: It cannot be started now.
        """
        try:
            with self._calls.once(wanted.connector, wanted.call_id) as first:
                return self._started(wanted, first=first)
        except sa.exc.SQLAlchemyError as fault:
            raise NotStarted("The database of the job history does not answer.") from fault
        except DagsterError as fault:
            said = str(fault).strip() or type(fault).__name__
            raise NotStarted(said.splitlines()[0]) from fault

    def _started(self, wanted: Wanted, *, first: bool) -> Started:
        run_id = run_id_of(wanted.connector, wanted.call_id)
        number = self._store.numbers_of(run_id).get(wanted.connector)
        if first:
            with self._process.create_request_context() as context:
                if number is None:
                    _create(context, wanted, run_id)
                # Made and not submitted is what a web server leaves that dies in between.
                run = context.instance.get_run_by_id(run_id)
                if run is not None and run.status is DagsterRunStatus.NOT_STARTED:
                    context.instance.submit_run(run_id, context)
        fresh = number is None
        number = number or self._store.numbers_of(run_id).get(wanted.connector)
        if number is None:
            raise NotStarted("This call was carried out, but its job run is no longer kept.")
        return Started(number, fresh)


def _create(context: WorkspaceRequestContext, wanted: Wanted, run_id: str) -> None:
    """Create the run with an id of our own, which the mutation of Dagster's GraphQL does not take."""
    job_name = f"{JOB_PREFIX}{wanted.connector}"
    location, repository = _home_of(context, job_name)
    selector = JobSubsetSelector(
        location_name=location.name,
        repository_name=repository,
        job_name=job_name,
        op_selection=None,
        asset_selection=[AssetKey([wanted.connector, stream]) for stream in wanted.streams],
    )
    own = {tags.TRIGGER: Trigger.WEBHOOK.value, tags.TRIGGERED_BY: wanted.by}
    if wanted.full:
        own[tags.FULL] = tags.YES
    params = ExecutionParams(
        selector=selector,
        run_config={},
        mode=None,
        execution_metadata=ExecutionMetadata(run_id=run_id, tags=own),
        step_keys=None,
    )
    create_valid_pipeline_run(context, location.get_job(selector), params)


def _home_of(context: WorkspaceRequestContext, job_name: str) -> tuple[CodeLocation, str]:
    for location in context.code_locations:
        for name, repository in location.get_repositories().items():
            if repository.has_job(job_name):
                return location, name
    raise NotStarted(
        "The connector is not loaded; reload the code location, or look there for what is wrong."
    )


class ConsoleWebserver(DagsterWebserver[WorkspaceProcessContext, WorkspaceRequestContext]):
    """Dagster's web server, and what is ours before its catch-all."""

    def __init__(
        self, process: WorkspaceProcessContext, store: JobStore, prefix: str, poll_rate: int
    ) -> None:
        """Build the application's parts; nothing listens yet."""
        self._hooks = Hooks(settings(), Launcher(process, store), prefix)
        super().__init__(process, prefix, poll_rate)

    def build_routes(self) -> list[BaseRoute]:
        """List our routes, then Dagster's."""
        hooks = Route(
            f"{self._app_path_prefix}/hooks/{{connector}}", self._hooks.answer, methods=["POST"]
        )
        return [hooks, *super().build_routes()]  # type: ignore[no-untyped-call]  # Dagster's own


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    # uvicorn cancels this at the end, which is no fault.
    with suppress(asyncio.CancelledError):
        yield


@click.command(context_settings={"auto_envvar_prefix": "DAGSTER_WEBSERVER"})
@click.option("--host", "-h", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", "-p", type=int, default=3000, show_default=True, help="Port to listen on.")
@click.option("--path-prefix", "-l", default="", help="Path below which everything is served.")
@click.option("--db-statement-timeout", type=int, default=_STATEMENT_TIMEOUT, show_default=True)
@click.option("--db-pool-recycle", type=int, default=_POOL_RECYCLE, show_default=True)
@click.option("--db-pool-max-overflow", type=int, default=_POOL_MAX_OVERFLOW, show_default=True)
@click.option("--read-only", is_flag=True, help="Refuse whatever changes something.")
@click.option("--log-level", "--uvicorn-log-level", default="warning", show_default=True)
@click.option("--dagster-log-level", default="info", show_default=True)
@click.option("--code-server-log-level", default="info", show_default=True)
@click.option("--live-data-poll-rate", type=int, default=2000, show_default=True)
@workspace_options
def main(  # noqa: PLR0913 - the options of dagster-webserver
    *,
    host: str,
    port: int,
    path_prefix: str,
    db_statement_timeout: int,
    db_pool_recycle: int,
    db_pool_max_overflow: int,
    read_only: bool,
    log_level: str,
    dagster_log_level: str,
    code_server_log_level: str,
    live_data_poll_rate: int,
    **others: object,
) -> None:
    """Serve Dagster's pages and what is ours, as dagster-webserver would."""
    workspace = WorkspaceOpts.extract_from_cli_options(others)
    assert_no_remaining_opts(others)
    configure_loggers(log_level=dagster_log_level.upper())
    setup_interrupt_handlers()
    cadence.slow_down()
    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(db_statement_timeout, db_pool_recycle, db_pool_max_overflow)
        store = JobStore.open(str(settings().database_url))
        with WorkspaceProcessContext(
            instance,
            version=__version__,
            read_only=read_only,
            workspace_load_target=workspace_opts_to_load_target(workspace),
            code_server_log_level=code_server_log_level,
        ) as process:
            server = ConsoleWebserver(process, store, path_prefix, live_data_poll_rate)
            app = server.create_asgi_app(lifespan=_lifespan)
            address = f"http://{host}:{port}{path_prefix}"
            logging.getLogger("dagster-webserver").info(
                "Serving %s in process %s", address, os.getpid()
            )
            uvicorn.run(
                app,
                host=host,
                port=port,
                log_level=log_level.lower(),
                timeout_graceful_shutdown=_GRACE,
            )


if __name__ == "__main__":
    main()
