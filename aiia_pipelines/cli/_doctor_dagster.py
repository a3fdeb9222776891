"""What Dagster knows about the connectors, asked of its web server and read from its tables."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiia_pipelines.jobs.history import rows
from aiia_pipelines.local.web import LOCATION, REPOSITORY, address, ask

if TYPE_CHECKING:
    from psycopg2.extensions import connection

    from aiia_pipelines.config.settings import Settings

_SECONDS = 10
# Dagster stores what it calls an instigator today under the name that it had before.
_INSTIGATOR = re.compile(r'"(?:job|instigator)_name": "(?:schedule__)?(\w+)"')

_LOADED = """
{ workspaceOrError { __typename
  ... on PythonError { message }
  ... on Workspace { locationEntries { name updatedTimestamp locationOrLoadError { __typename
    ... on PythonError { message }
    ... on RepositoryLocation { repositories { jobs { name } } } } } } } }
"""


@dataclass(frozen=True, slots=True)
class Location:
    """The connectors as the running services have loaded them, or why they could not."""

    error: str
    connectors: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Tick:
    """The last time that the daemon looked at a schedule because it was due."""

    connector: str
    at: float  # seconds since 1970
    status: str
    error: str


def web(settings: "Settings") -> str | None:
    """Give the address of the web server that `aiia up` started here, if it answers."""
    return address(settings.home, timeout=_SECONDS)


def location(url: str) -> Location:
    """Ask how loading the connectors went.

    Raises:
        NoAnswer: The web server gave no usable answer.
    """
    told = ask(url, _LOADED, timeout=_SECONDS)["workspaceOrError"]
    if told["__typename"] != "Workspace":
        return Location(_sentence(told.get("message", "")))
    entries = [each["locationOrLoadError"] or {} for each in told["locationEntries"]]
    for entry in entries:
        if entry.get("__typename") == "PythonError":
            return Location(_sentence(entry["message"]))
    jobs = [
        job["name"]
        for entry in entries
        for repository in entry.get("repositories", ())
        for job in repository["jobs"]
    ]
    if not entries:
        return Location("it serves no code location")
    found = (name.removeprefix("sync__") for name in jobs if name.startswith("sync__"))
    return Location("", frozenset(found))


def due_after(url: str, moments: Mapping[str, float]) -> dict[str, float]:
    """Ask when schedules were or are due first after a moment of each, in seconds since 1970.

    Raises:
        NoAnswer: The web server gave no usable answer.
    """
    parts = (
        f"{name}: scheduleOrError(scheduleSelector: {{scheduleName: {json.dumps(f'schedule__{name}')},"
        f" repositoryName: {json.dumps(REPOSITORY)}, repositoryLocationName: {json.dumps(LOCATION)}}})"
        f" {{ ... on Schedule {{ futureTicks(cursor: {at}, limit: 1) {{ results {{ timestamp }} }} }} }}"
        for name, at in moments.items()
    )
    told = ask(url, f"{{ {' '.join(parts)} }}", timeout=_SECONDS) if moments else {}
    found = {name: each.get("futureTicks", {}).get("results") for name, each in told.items()}
    return {name: results[0]["timestamp"] for name, results in found.items() if results}


def stopped(db: "connection") -> list[str]:
    """List the schedules and sensors that somebody has switched off."""
    if not there(db, "instigators"):
        return []
    query = "select instigator_body as body from public.instigators where status = 'STOPPED'"
    return sorted(filter(None, (_name(row["body"]) for row in rows(db, query))))


def last_ticks(db: "connection") -> Iterator[Tick]:
    """Read the last tick of each schedule."""
    if not there(db, "job_ticks"):
        return
    query = (
        "select distinct on (selector_id) tick_body as body, status"
        " from public.job_ticks where type = 'SCHEDULE' order by selector_id, timestamp desc, id desc"
    )
    for row in rows(db, query):
        facts = json.loads(row["body"])
        name = _name(row["body"])
        error = (facts.get("error") or {}).get("message") or ""
        if name:
            yield Tick(name, float(facts["timestamp"]), row["status"], _sentence(error))


def there(db: "connection", table: str) -> bool:
    """Tell whether Dagster has made a table already."""
    query = "select to_regclass(%s) is not null as there"
    return bool(next(rows(db, query, [f"public.{table}"]))["there"])


def _name(body: str) -> str:
    found = _INSTIGATOR.search(body)
    return found[1] if found else ""


def _sentence(message: str) -> str:
    """Give the line of a traceback's text that says what was wrong."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[0] if lines else ""
