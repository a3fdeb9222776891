"""The sensors that start connectors; an installation whose connectors need none has none."""

from collections.abc import Mapping

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from aiia_pipelines.config.folder import Folder
from aiia_pipelines.sensors import after_job, file_arrival


def build(
    folder: Folder, jobs: Mapping[str, UnresolvedAssetJobDefinition]
) -> list[dg.SensorDefinition]:
    """Make the sensors that the connectors of a folder need; `jobs` are theirs."""
    return [*file_arrival.build(folder, jobs), *after_job.build(folder, jobs)]
