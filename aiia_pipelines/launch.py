"""Runs one connector in this process as a real Dagster run: `python -m aiia_pipelines.launch NAME`."""

import argparse
import sys
import traceback
from collections.abc import Sequence

import dagster as dg
import sqlalchemy as sa

from aiia_pipelines.config.faults import ConfigInvalid, UnknownConnector
from aiia_pipelines.config.folder import Folder, read_connector
from aiia_pipelines.definitions import definitions_of
from aiia_pipelines.resources.job_board import settings
from aiia_pipelines.resources.requests import JOB_PREFIX


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 when Dagster's run succeeded, 1 when not, 4 without a database, 5 without a connector."""
    parser = argparse.ArgumentParser(prog="python -m aiia_pipelines.launch")
    parser.add_argument("connector")
    parser.add_argument("--run-id", required=True)
    parser.add_argument("--stream", action="append", default=[])
    parser.add_argument("--tag", action="append", default=[])
    given = parser.parse_args(arguments)
    try:
        connector = read_connector(settings().connectors, given.connector)
    except (ConfigInvalid, UnknownConnector) as fault:
        sys.stderr.write(f"{fault}\n")
        return 5
    # Only this connector: a thousand others need not be built for its run.
    definitions = definitions_of(Folder(connectors={connector.name: connector}))
    job = definitions.resolve_job_def(f"{JOB_PREFIX}{connector.name}")
    keys = [dg.AssetKey([connector.name, stream]) for stream in given.stream]
    try:
        with dg.DagsterInstance.get() as instance:
            result = job.execute_in_process(
                instance=instance,
                run_id=given.run_id,
                asset_selection=keys or None,
                tags=dict(tag.split("=", 1) for tag in given.tag),
                raise_on_error=False,
            )
    except sa.exc.DBAPIError as fault:
        # The caller shows the last line: without the traceback it says what is wrong.
        traceback.print_exc()
        sys.stderr.write(f"the database refused: {str(fault.orig).strip().splitlines()[0]}\n")
        return 4
    return 0 if result.success else 1


if __name__ == "__main__":
    sys.exit(main())
