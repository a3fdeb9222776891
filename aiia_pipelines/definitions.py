"""Connector files in, Dagster definitions out."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from aiia_pipelines import schedules, sensors
from aiia_pipelines.assets.connection_test import connection_test
from aiia_pipelines.assets.connector import build as build_assets
from aiia_pipelines.assets.system_jobs import health_check, maintenance
from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.folder import Broken, Folder, read_folder
from aiia_pipelines.jobs.run import PRIORITIES
from aiia_pipelines.resources.job_board import JobBoard, settings
from aiia_pipelines.resources.requests import JOB_PREFIX
from aiia_pipelines.schedules import upkeep
from aiia_pipelines.sensors import triggers


@dg.definitions
def defs() -> dg.Definitions:
    """Build everything from the folder of connector files; a broken file takes only itself down."""
    return definitions_of(read_folder(settings().connectors))


def definitions_of(folder: Folder) -> dg.Definitions:
    """Build assets, jobs and schedules of connectors."""
    jobs = {name: _job(connector) for name, connector in folder.connectors.items()}
    ticking = [schedules.build(folder.connectors[name], job) for name, job in jobs.items()]
    return dg.Definitions(
        assets=[
            *(build_assets(connector) for connector in folder.connectors.values()),
            *(_broken(broken) for broken in folder.broken),
        ],
        jobs=[*jobs.values(), connection_test, health_check, maintenance],
        schedules=[*filter(None, ticking), *upkeep.build()],
        sensors=[
            sensors.job_history,
            sensors.due_runs.build(jobs, _streams(folder)),
            *triggers.build(folder, jobs),
        ],
        resources={"job_board": JobBoard()},
        # A step of its own would import everything once more: several CPU seconds for each stream.
        executor=dg.in_process_executor,
    )


def _job(connector: Connector) -> UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        f"{JOB_PREFIX}{connector.name}",
        selection=dg.AssetSelection.groups(connector.name),
        description=f"Refreshes all streams of {connector.title}.",
        tags={"dagster/priority": str(PRIORITIES[connector.priority])},
    )


def _streams(folder: Folder) -> dict[str, frozenset[str]]:
    return {
        name: frozenset(stream.name for stream in connector.streams)
        for name, connector in folder.connectors.items()
    }


def _broken(broken: Broken) -> dg.AssetSpec:
    """Show a connector that cannot be used, with its mistakes, where people look for it."""
    mistakes = "\n".join(f"- {problem}" for problem in broken.problems)
    return dg.AssetSpec(
        key=dg.AssetKey(["broken", broken.name]),
        group_name="broken_connectors",
        description=f"This connector cannot be used until its file is corrected:\n\n{mistakes}",
    )
