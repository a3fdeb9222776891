"""Which ticks of a schedule are run at a look at it, and why the others are not."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.ticks import ticks_between

# A tick that is run so late is still on time: daemons are restarted, machines are busy.
GRACE = timedelta(minutes=5)
# How far `missed: all` looks back.
LONGEST_OUTAGE = timedelta(days=31)
MOST = 100


@dataclass(frozen=True, slots=True)
class Due:
    """The ticks to run, eldest first; without any, why."""

    ticks: tuple[datetime, ...]
    reason: str = ""


def due(connector: Connector, since: datetime, moment: datetime, now: datetime) -> Due:
    """Choose among the ticks after one moment up to another."""
    cron, zone = str(connector.schedule), connector.timezone
    passed = list(ticks_between(cron, zone, max(since, moment - LONGEST_OUTAGE), moment))
    if not passed:
        return Due((), f"{_shown(moment, connector)} is no time of '{cron}' ({zone}).")
    opening = connector.opening
    wanted = [tick for tick in passed if opening.is_open(tick)]
    if not wanted or not opening.is_open(now):
        return Due((), _closed(connector, now))
    match connector.missed:
        case "all":
            return Due(tuple(wanted[-MOST:]))
        case "skip" if now - wanted[-1] > GRACE:
            late = _shown(wanted[-1], connector)
            return Due((), f"The tick of {late} passed while nothing ran, and missed is skip.")
        case _:
            return Due((wanted[-1],))


def _closed(connector: Connector, now: datetime) -> str:
    """Say when the window opens."""
    opens = connector.opening.next_opening(now)
    if opens is None:
        return "The window has ended and does not open again."
    if opens == now:
        return "The window was closed at the time of the tick."
    return f"The window is closed; it opens at {_shown(opens, connector)}."


def _shown(at: datetime, connector: Connector) -> str:
    local = at.astimezone(UTC).astimezone(ZoneInfo(connector.timezone))
    return f"{local:%a %Y-%m-%d %H:%M} {connector.timezone}"
