"""Why a job run waits, and its place among those that wait for the same: told from facts alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from aiia_pipelines.jobs.state import JobState

# The tags by which Dagster's queue counts runs; its pages do not show tags under this prefix.
SOURCE_TAG = ".dagster/aiia_source"
DESTINATION_TAG = ".dagster/aiia_destination"
CONNECTOR_TAG = ".dagster/aiia_connector"
# A tag has one value: a run of more than one source or destination is counted as one of these.
SEVERAL_SOURCES = "several sources"
SEVERAL_DESTINATIONS = "several destinations"

DAEMON_SECONDS = 60.0  # without a sign of life, after which the daemon counts as gone
STARTS_WITHIN = 5.0  # seconds that a normal start takes, and needs no reason
NO_DAEMON = "no daemon is running; start it with `aiia up`"
# What Dagster takes when dagster.yaml does not say.
_MOST_RUNS = 10
_WEEK = timedelta(days=6)
WAITING = frozenset({JobState.SCHEDULED, JobState.PENDING, JobState.PAUSED})


@dataclass(frozen=True, slots=True)
class Limits:
    """How many runs may be under way at once; what is None or missing is not limited.

    `each` holds for every value of a tag, `one` for a single value.
    """

    runs: int | None = None
    each: Mapping[str, int] = field(default_factory=dict)
    one: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def of(self, tag: str, value: str) -> int | None:
        """Return the limit for runs whose tag has this value: the lowest, as Dagster's queue asks for all."""
        found = (self.each.get(tag), self.one.get((tag, value)))
        return min((limit for limit in found if limit is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Runs that share something scarce: how many are under way, and the place of one in the queue for it."""

    value: str
    active: int
    place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a queued run stands in Dagster's queue; `held` when its connector gets no slot at all."""

    all: Line
    source: Line | None = None
    destination: Line | None = None
    held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What is known about a job run that waits; `age` and `daemon` are seconds.

    `busy` is the number of a run of the same connector that is under way, `attempt` how many attempts there were,
    and `daemon` the time since the daemon's last sign of life.
    """

    state: JobState
    connector: str
    test: bool = False
    age: float = 0.0
    busy: int | None = None
    daemon: float | None = None
    standing: Standing | None = None
    due_at: datetime | None = None
    held_by: str | None = None
    held_reason: str | None = None
    has_window: bool = False
    timezone: str = "UTC"
    attempt: int = 0
    attempts_most: int | None = None
    failure_code: str | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a job run waits, empty when it need not be told, and its place in the queue, from 1."""

    sentence: str = ""
    place: int | None = None


def reason_of(waiting: Waiting, limits: Limits, now: datetime, zone: str = "UTC") -> Reason:
    """Say why a job run waits; times of retries are told in `zone`, windows in the connector's own."""
    if waiting.state is JobState.PENDING:
        return _pending(waiting, limits)
    if waiting.state in WAITING:
        return Reason(_later(waiting, now, zone))
    return Reason()


def _pending(waiting: Waiting, limits: Limits) -> Reason:
    standing = waiting.standing
    place = standing.all.place if standing else None
    # A Connection Test takes no slot of its connector.
    if waiting.busy is not None and not waiting.test:
        return Reason(f"{waiting.connector} is already running (#{waiting.busy})", place)
    if not waiting.test and _is_gone(waiting.daemon):
        return Reason(NO_DAEMON, place)
    if standing is not None and (full := _full(waiting, standing, limits)):
        return full
    return Reason("waits for a free worker" if waiting.age > STARTS_WITHIN else "", place)


def _full(waiting: Waiting, standing: Standing, limits: Limits) -> Reason | None:
    """Find the first limit that is reached; the place is that among the runs which it keeps waiting."""
    if standing.held:
        said = f"the runs of {waiting.connector} are held: its pool has no slot"
        return Reason(said, standing.all.place)
    lines = (
        (standing.source, SOURCE_TAG, "at"),
        (standing.destination, DESTINATION_TAG, "into"),
    )
    for line, tag, word in lines:
        most = limits.of(tag, line.value) if line else None
        if line is not None and most is not None and line.active >= most:
            return _reached(line, most, f" {_word(line, word)}")
    # A negative number is Dagster's word for no limit.
    if limits.runs is not None and 0 <= limits.runs <= standing.all.active:
        return _reached(standing.all, limits.runs, "")
    return None


def _word(line: Line, word: str) -> str:
    several = line.value in {SEVERAL_SOURCES, SEVERAL_DESTINATIONS}
    return f"of {line.value}" if several else f"{word} {line.value}"


def _reached(line: Line, most: int, where: str) -> Reason:
    if most == 0:
        return Reason(f"no run{where} may start: the limit is 0; place {line.place}", line.place)
    runs, are = ("run", "is") if most == 1 else ("runs", "are")
    said = f"{line.active} of {most} {runs}{where} {are} running; place {line.place}"
    return Reason(said, line.place)


def _later(waiting: Waiting, now: datetime, zone: str) -> str:
    """Say what a Scheduled or Paused run waits for."""
    if waiting.held_by:
        reason = f": {waiting.held_reason}" if waiting.held_reason else ""
        return f"paused by {waiting.held_by}{reason}"
    if waiting.due_at is None:
        return "paused" if waiting.state is JobState.PAUSED else "waits until it is due"
    if waiting.due_at <= now:
        if _is_gone(waiting.daemon):
            return NO_DAEMON
        return f"due since {_clock(waiting.due_at, now, zone)}; starts when the daemon next looks"
    if waiting.state is JobState.SCHEDULED and waiting.failure_code:
        return _next_attempt(waiting, waiting.due_at, now, zone)
    word = "window opens" if waiting.has_window or waiting.state is JobState.PAUSED else "starts on"
    return f"{word} {_day(waiting.due_at, now, waiting.timezone)} ({waiting.timezone})"


def _next_attempt(waiting: Waiting, due_at: datetime, now: datetime, zone: str) -> str:
    number = waiting.attempt + 1
    most = waiting.attempts_most
    # Attempts that committed something are bounded by another number than those that did not.
    of = f" of {most}" if most is not None and number <= most else ""
    at = _clock(due_at, now, zone)
    return f"next attempt at {at} (attempt {number}{of}), after {waiting.failure_code}"


def _is_gone(daemon: float | None) -> bool:
    return daemon is None or daemon > DAEMON_SECONDS


def _clock(at: datetime, now: datetime, zone: str) -> str:
    """Render a time of today by the clock, another one with its date."""
    local = _local(at, zone)
    form = "%H:%M:%S" if local.date() == _local(now, zone).date() else "%Y-%m-%d %H:%M:%S"
    return local.strftime(form)


def _day(at: datetime, now: datetime, zone: str) -> str:
    """Render a time of the next days by its weekday, a later one with its date."""
    local = _local(at, zone)
    near = local.date() - _local(now, zone).date() <= _WEEK
    return f"{local:%a %H:%M}" if near else f"{local:%Y-%m-%d %H:%M}"


def _local(at: datetime, zone: str) -> datetime:
    try:
        return at.astimezone(ZoneInfo(zone))
    except (KeyError, ValueError, OSError, OverflowError):
        # A zone that this machine does not know, or the last day that there is: told as it is.
        return at


# -- what dagster.yaml says -----------------------------------------------------------------


def limits_of(file: Path, environ: Mapping[str, str]) -> Limits:
    """Read the limits of Dagster's queue; a file that cannot be read gives none."""
    # Only a run that waits needs them: reading commands do without the import.
    import yaml  # noqa: PLC0415

    # The loader in C takes a tenth of the time.
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        said = yaml.load(file.read_bytes(), loader)  # noqa: S506 - a safe loader, whichever it is
    except (OSError, ValueError, yaml.YAMLError):
        return Limits()
    if not isinstance(said, dict):
        return Limits()
    runs = _part(_part(said, "concurrency"), "runs")
    older = _part(_part(said, "run_coordinator"), "config")
    whole = _number(runs.get("max_concurrent_runs", older.get("max_concurrent_runs")), environ)
    entries = runs.get("tag_concurrency_limits", older.get("tag_concurrency_limits"))
    each: dict[str, int] = {}
    one: dict[tuple[str, str], int] = {}
    for entry in entries if isinstance(entries, list) else ():
        _take(entry, each, one)
    return Limits(_MOST_RUNS if whole is None else whole, each, one)


def _take(entry: object, each: dict[str, int], one: dict[tuple[str, str], int]) -> None:
    """Take in one entry of `tag_concurrency_limits`."""
    if not isinstance(entry, dict) or not isinstance(entry.get("limit"), int):
        return
    key, value, limit = str(entry.get("key")), entry.get("value"), int(entry["limit"])
    if isinstance(value, str):
        one[key, value] = limit
    elif isinstance(value, dict) and value.get("applyLimitPerUniqueValue"):
        each[key] = limit


def _part(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = tree.get(key)
    return found if isinstance(found, dict) else {}


def _number(value: object, environ: Mapping[str, str]) -> int | None:
    if isinstance(value, dict):
        value = environ.get(str(value.get("env")), "")
    if isinstance(value, int):
        return value
    text = str(value).strip()
    return int(text) if text.lstrip("-").isdecimal() and text.count("-") <= 1 else None


def limits_once(file: Path | None, environ: Mapping[str, str]) -> Callable[[], Limits]:
    """Give what reads the limits when they are first asked for."""
    known: list[Limits] = []

    def ask() -> Limits:
        if not known:
            known.append(limits_of(file, environ) if file is not None else Limits())
        return known[0]

    return ask
