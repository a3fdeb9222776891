"""`aiia schedules`: when connectors run next."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from aiia_pipelines.cli.main import Group
from aiia_pipelines.cli.output import Shown, instant
from aiia_pipelines.cli.session import load, output

if TYPE_CHECKING:
    from aiia_pipelines.config.connector import Connector


@click.group(cls=Group)
def schedules() -> None:
    """Show when connectors run next."""


@schedules.command("list")
@click.option("--next", "count", type=click.IntRange(1, 100), default=1, show_default=True)
def list_(count: int) -> None:
    """List the next ticks of each schedule, in its own zone and in UTC."""
    from aiia_pipelines.config.folder import read_folder

    folder = read_folder(load().connectors)
    ticking = [each for each in folder.connectors.values() if each.schedule]
    out = output()
    now = datetime.now(UTC)
    found = [tick for connector in ticking for tick in _ticks(connector, count, now)]
    out.rows(
        found,
        _facts,
        Shown("Connector", lambda tick: tick["connector"]),
        Shown("Schedule", lambda tick: tick["schedule"]),
        Shown("Timezone", lambda tick: tick["timezone"]),
        Shown("Next, there", lambda tick: f"{tick['at']:%a %Y-%m-%d %H:%M}"),
        Shown("Next, UTC", lambda tick: f"{tick['at'].astimezone(UTC):%a %Y-%m-%d %H:%M}"),
    )
    if not ticking:
        out.say("No connector has a schedule; each is started by hand with `aiia sync`.")


def _ticks(connector: "Connector", count: int, now: datetime) -> list[dict[str, Any]]:
    # Costs the import of Dagster: what it will do is only certain by its own iterator.
    from aiia_pipelines.schedules.ticks import next_ticks

    return [
        {
            "connector": connector.name,
            "schedule": connector.schedule,
            "timezone": connector.timezone,
            "at": at,
        }
        for at in next_ticks(str(connector.schedule), connector.timezone, count, now)
    ]


def _facts(tick: dict[str, Any]) -> dict[str, Any]:
    return {**tick, "at": instant(tick["at"]), "local": tick["at"].isoformat(timespec="seconds")}
