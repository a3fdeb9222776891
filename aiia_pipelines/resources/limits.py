"""The tags by which Dagster's queue limits how many runs are at one source and one destination at once.

Dagster counts a run by the one value that a tag has, and a run of several connectors has several sources: such
runs share a value of their own, of which one is let through at a time (docs/how-to/limit-what-runs-at-once.md).
"""

import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiia_pipelines.config.faults import ConfigInvalid
from aiia_pipelines.config.secrets import resolve
from aiia_pipelines.jobs.redaction import REDACTOR
from aiia_pipelines.jobs.run import PRIORITIES, JobType, NewJobRun
from aiia_pipelines.jobs.waiting import (
    CONNECTOR_TAG,
    DESTINATION_TAG,
    SEVERAL_DESTINATIONS,
    SEVERAL_SOURCES,
    SOURCE_TAG,
)

PRIORITY_TAG = "dagster/priority"
_PORTS = {
    "postgresql": "5432", "mysql": "3306", "mariadb": "3306", "oracle": "1521", "mssql": "1433",
    "hana": "30015",
}  # fmt: skip
_USUAL_PORTS = {"http": ":80", "https": ":443"}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9.-]*)(?:\+[A-Za-z0-9_.-]+)?://(.*)", re.DOTALL)
_DEFAULT_DESTINATION = "warehouse"


def limit_tags(requests: Sequence[NewJobRun], home: Path) -> dict[str, str]:
    """Give the tags of a Dagster run that stands for these job runs; a Connection Test takes no slot."""
    counted = [each for each in requests if each.type != JobType.CONNECTION_TEST and each.config]
    sources = {place for each in counted if (place := _place(each, home))}
    destinations = {
        str((each.config or {}).get("destination") or _DEFAULT_DESTINATION) for each in counted
    }
    found = {
        SOURCE_TAG: _one(sources, SEVERAL_SOURCES),
        DESTINATION_TAG: _one(destinations, SEVERAL_DESTINATIONS),
        # Dagster's queue counts a run for its tags before it looks at the pool that keeps it waiting. Without
        # this tag, two waiting runs of one connector would take two slots of its source from the others.
        CONNECTOR_TAG: counted[0].connector if len(counted) == 1 else "",
    }
    return {key: value for key, value in found.items() if value}


def priority_tag(requests: Sequence[NewJobRun]) -> dict[str, str]:
    """Give the tag by which Dagster's queue orders runs: the most urgent of these job runs decides.

    Doors that launch assets rather than a connector's job do not take it over from the job.
    """
    most = max((PRIORITIES.get(each.priority, 0) for each in requests), default=0)
    return {PRIORITY_TAG: str(most)} if most else {}


def _one(values: set[str], several: str) -> str:
    return several if len(values) > 1 else next(iter(values), "")


def _place(request: NewJobRun, home: Path) -> str:
    source = (request.config or {}).get("source")
    return source_place(source, home, os.environ) if isinstance(source, dict) else ""


def source_place(source: Mapping[str, Any], home: Path, environ: Mapping[str, str]) -> str:
    """Name the place that a source is at, as people know it, without user or secret; empty when unknown.

    That is `host:port/database`, the host of an endpoint, a bucket, or a folder.
    """
    said = {key: _said(source.get(key), home, environ) for key in _PLACES}
    if said["bucket"]:
        where = f" at {_host(said['endpoint_url'])}" if said["endpoint_url"] else ""
        return REDACTOR.clean(f"s3://{said['bucket']}{where}")
    if said["url"]:
        return REDACTOR.clean(_of_url(said["url"]))
    if said["root"]:
        return REDACTOR.clean(posixpath.normpath(said["root"]))
    host, port = said["host"].lower(), said["port"]
    return REDACTOR.clean(f"{host}:{port}" if host and port else host)


_PLACES = ("url", "bucket", "endpoint_url", "root", "host", "port")


def _said(value: object, home: Path, environ: Mapping[str, str]) -> str:
    """Resolve the references of a text; one that leads nowhere here stands for itself."""
    if not isinstance(value, str | int):
        return ""
    try:
        return resolve(str(value), environ, home).strip()
    except ConfigInvalid:
        return str(value).strip()


def _of_url(url: str) -> str:
    match = _URL.fullmatch(url)
    if match is None:
        return ""
    scheme, rest = match[1].lower(), _without_user(match[2])
    host, slash, path = rest.partition("/")
    if scheme in _USUAL_PORTS:
        return host.lower().removesuffix(_USUAL_PORTS[scheme])
    if not host:
        # A file, or a server that is reached by a socket of this machine.
        return path
    port = _PORTS.get(scheme, "")
    if port and not re.search(r":[^:\]/]+$", host):
        host = f"{host}:{port}"
    host = host if "${" in host else host.lower()
    return f"{host}{slash if path else ''}{path}"


def _host(url: str) -> str:
    return _without_user(url.partition("://")[2] or url).partition("/")[0].lower()


def _without_user(rest: str) -> str:
    """Drop everything up to the last @, and the query: a password may hold any of the signs of a URL."""
    return re.split(r"[?#]", rest.rpartition("@")[2])[0]
