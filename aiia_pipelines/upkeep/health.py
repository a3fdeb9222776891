"""The health check: whether an installation can do its work, stage by stage."""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import sqlalchemy as sa

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.faults import ConfigInvalid
from aiia_pipelines.config.folder import Folder, read_folder
from aiia_pipelines.config.secrets import SecretMissing, resolve, resolve_tree
from aiia_pipelines.config.settings import Settings, destination_url, destination_urls
from aiia_pipelines.jobs import migrations
from aiia_pipelines.jobs.history import Filter, RunRow, connect, list_runs
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.local.postgres import EmbeddedPostgres
from aiia_pipelines.sync.destinations import UNSET, reach
from aiia_pipelines.upkeep.course import Stage
from aiia_pipelines.upkeep.disks import is_folder, room, size

REACHED_WITHIN = 10.0  # seconds for each destination
_SILENT = 300.0  # seconds without a sign of life; each daemon gives one every half minute
_LONG = timedelta(hours=1)
_HERE = {"", "localhost", "127.0.0.1", "::1"}
_IN_FILES = {"duckdb", "parquet", "file"}
_SHOWN = 5


class DaemonDown(Exception):
    """A daemon gives no sign of life."""

    signals = ("platform:daemon",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What is looked at; `daemons` tells how many seconds ago each needed daemon gave a sign of life, if ever."""

    settings: Settings
    store: JobStore
    environ: Mapping[str, str]
    daemons: Callable[[], Mapping[str, float | None]]


def stages_of(ground: Ground) -> list[Stage]:
    """List the stages, the most fundamental first: the first that fails names the cause of the job run."""
    settings, store = ground.settings, ground.store
    folder = read_folder(settings.connectors)
    url = str(settings.database_url)
    found = [
        Stage(name="history", work=partial(_history, store), late=("platform:history",)),
        Stage(name="daemon", work=lambda: _daemons(ground.daemons()), late=("platform:history",)),
        Stage(name="home", work=partial(room, settings.home)),
        Stage(name="temporary folder", work=lambda: room(Path(tempfile.gettempdir()))),
    ]
    if _is_here(url):
        found.append(Stage(name="history's disk", work=lambda: _history_disk(store, settings.home)))
    found += [
        Stage(name="connector files", work=partial(_files, folder)),
        Stage(name="secrets", work=lambda: _secrets(folder, ground.environ, settings.home)),
        *_destinations(folder, ground.environ),
        Stage(name="waiting job runs", work=partial(_waiting, settings, url)),
    ]
    return found


# -- the history ----------------------------------------------------------------------------


def _history(store: JobStore) -> str:
    query = "select pg_database_size(current_database()), current_setting('server_version')"
    with store.engine.connect() as db:
        bytes_, version = db.execute(sa.text(query)).one()
    try:
        migrations.ensure(store.engine)
    except migrations.StoreOutdated as fault:
        raise ConfigInvalid(str(fault)) from fault
    return f"PostgreSQL {version}, {size(bytes_)}, tables at version {migrations.head()}"


def _is_here(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or dict(parse_qsl(parts.query)).get("host", "")
    return host in _HERE or host.startswith("/")


def _history_disk(store: JobStore, home: Path) -> str:
    folder = _told_folder(store) or EmbeddedPostgres(home).data
    if folder is None or not is_folder(folder.parent):
        return "where its data are is not known here"
    return room(folder)


def _told_folder(store: JobStore) -> Path | None:
    """Ask the server for its data folder, which it tells to some users only."""
    query = sa.text("select setting from pg_settings where name = 'data_directory'")
    with store.engine.connect() as db:
        told = db.execute(query).scalar()
    return Path(told) if told else None


# -- the daemons ----------------------------------------------------------------------------


def _daemons(ages: Mapping[str, float | None]) -> str:
    silent = {name: age for name, age in sorted(ages.items()) if age is None or age > _SILENT}
    if silent:
        same = len(silent) == len(ages)
        raise DaemonDown(f"Daemon down: {_latest(silent) if same else _each(silent)}.")
    oldest = max((age for age in ages.values() if age is not None), default=0.0)
    return f"{len(ages)} seen within {max(oldest, 0.0):.0f} s"


def _latest(silent: Mapping[str, float | None]) -> str:
    ages = [age for age in silent.values() if age is not None]
    return f"not seen for {min(ages):.0f} s" if ages else "never seen"


def _each(silent: Mapping[str, float | None]) -> str:
    """Name the parts of a daemon that stand still while others go on."""
    told = (
        f"{name.lower().replace('_', ' ')} {_latest({name: age})}" for name, age in silent.items()
    )
    return _some(list(told))


# -- the connectors -------------------------------------------------------------------------


def _files(folder: Folder) -> str:
    broken = [each.name for each in folder.broken]
    if broken:
        raise ConfigInvalid(
            f"{len(broken)} of {len(folder.names)} connectors cannot be used: {_some(broken)}."
            f" {folder.problems[0]}",
            folder.problems,
        )
    if folder.unlinked:
        return f"Warning: {folder.unlinked[0]}"
    return f"{len(folder.connectors)} can be used"


def _secrets(folder: Folder, environ: Mapping[str, str], home: Path) -> str:
    missing = [
        f"{connector.name}: {told}"
        for connector in folder.connectors.values()
        if (told := _missing(connector, environ, home))
    ]
    if missing:
        rest = len(missing) - 1
        more = f" (and {rest} more {'connector' if rest == 1 else 'connectors'})" if rest else ""
        raise SecretMissing(f"{missing[0]}{more}")
    return "all references lead to a value"


def _missing(connector: Connector, environ: Mapping[str, str], home: Path) -> str:
    try:
        resolve_tree(connector.source, environ, home)
        if (webhook := connector.triggers.webhook) is not None:
            resolve(webhook.secret, environ, home, secret=True)
    except SecretMissing as fault:
        return str(fault)
    return ""


# -- the destinations -----------------------------------------------------------------------


def _destinations(folder: Folder, environ: Mapping[str, str]) -> list[Stage]:
    named = {connector.destination for connector in folder.connectors.values()}
    return [
        Stage(
            name=f"destination {name}",
            work=partial(_reached, destination_url(name, environ) or f"{UNSET}:{name}"),
            within=REACHED_WITHIN,
            late=("errno:ETIMEDOUT",),
            side="destination",
        )
        for name in sorted(named | destination_urls(environ).keys())
    ]


def _reached(url: str) -> str:
    told = reach(url)
    parts = urlsplit(url)
    if parts.scheme not in _IN_FILES:
        return told
    left = room(Path(unquote(parts.path)))
    return left if left.startswith("Warning: ") else f"{told}, {left}"


# -- job runs that wait ---------------------------------------------------------------------


def _waiting(settings: Settings, url: str) -> str:
    """Look for job runs that could have begun an hour ago and did not."""
    now = datetime.now(UTC)
    states = frozenset({JobState.PENDING, JobState.SCHEDULED, JobState.PAUSED})
    wanted = Filter(states=states, system=True, limit=1000)
    with closing(connect(url)) as db:
        limits = settings.project / "dagster.yaml"
        found = list_runs(db, wanted, limits_file=limits, zone=settings.timezone)
    late = [each for each in found if _since(each, now) > _LONG]
    if not late:
        return "none waits for more than an hour"
    eldest = max(late, key=lambda each: _since(each, now))
    numbers = _some([f"#{each.number} {each.connector or each.type}" for each in late])
    why = f"; #{eldest.number}: {eldest.waits}" if eldest.waits else ""
    return f"Warning: {len(late)} wait for more than an hour: {numbers}{why}"


def _since(run: RunRow, now: datetime) -> timedelta:
    """Tell for how long a job run has been able to begin; one that is held, or not due yet, is not."""
    if run.state is JobState.PENDING:
        return now - (run.due_at or run.created_at)
    return now - run.due_at if run.due_at is not None and run.held_by is None else timedelta()


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
