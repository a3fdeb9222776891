"""Switches a connector's schedule without services: `python -m aiia_pipelines.schedules.switch NAME on|off`."""

import argparse
import sys
from collections.abc import Sequence

import dagster as dg
import sqlalchemy as sa
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
)
from dagster._time import get_current_timestamp

from aiia_pipelines.local.web import LOCATION, REPOSITORY
from aiia_pipelines.schedules import PREFIX


def main(arguments: Sequence[str] | None = None) -> int:
    """Switch; 0 when it is done, 4 without a database."""
    parser = argparse.ArgumentParser(prog="python -m aiia_pipelines.schedules.switch")
    parser.add_argument("connector")
    parser.add_argument("cron")
    parser.add_argument("to", choices=["on", "off"])
    given = parser.parse_args(arguments)
    try:
        with dg.DagsterInstance.get() as instance:
            switch(instance, given.connector, given.cron, on=given.to == "on")
    except sa.exc.DBAPIError as fault:
        sys.stderr.write(f"the database refused: {str(fault.orig).strip().splitlines()[0]}\n")
        return 4
    return 0


def switch(instance: dg.DagsterInstance, connector: str, cron: str, *, on: bool) -> None:
    """Store what the daemon goes by; ticks before a schedule is switched on count as none."""
    origin = RemoteInstigatorOrigin(
        RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(LOCATION), REPOSITORY),
        f"{PREFIX}{connector}",
    )
    status = InstigatorStatus.RUNNING if on else InstigatorStatus.STOPPED
    data = ScheduleInstigatorData(cron, get_current_timestamp() if on else None)
    wanted = InstigatorState(origin, InstigatorType.SCHEDULE, status, data)
    stored = instance.get_instigator_state(origin.get_id(), wanted.selector_id)
    if stored is None:
        instance.add_instigator_state(wanted)
    elif stored.is_running is not on:
        instance.update_instigator_state(stored.with_status(status).with_data(data))


if __name__ == "__main__":
    sys.exit(main())
