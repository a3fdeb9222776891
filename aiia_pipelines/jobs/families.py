"""The family a server belongs to, by the configuration: it decides with what a person looks at it."""

from collections.abc import Mapping
from typing import Any

from aiia_pipelines.jobs.catalogue import FailureClass, Origin

_OF_KIND = {"s3": "s3", "rest": "rest", "files": "files"}
_OF_SCHEME = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "mssql": "mssql",
    "oracle": "oracle",
    "hana": "hana",
    "sqlite": "sqlite",
    "duckdb": "duckdb",
    "s3": "s3",
    "parquet": "files",
    "file": "files",
}
FAMILIES = {
    "postgresql": "PostgreSQL",
    "mysql": "MySQL and MariaDB",
    "mssql": "SQL Server",
    "oracle": "Oracle",
    "hana": "SAP HANA",
    "sqlite": "SQLite",
    "duckdb": "DuckDB",
    "s3": "S3",
    "rest": "Web APIs",
    "files": "Files",
}


def family_of(source: Mapping[str, Any]) -> str:
    """Return the family of a connector's source; blank when it is of none that is known."""
    kind, url = source.get("kind"), source.get("url")
    if isinstance(kind, str) and kind in _OF_KIND:
        return _OF_KIND[kind]
    return family_of_url(url) if isinstance(url, str) else ""


def family_of_url(url: str) -> str:
    """Return the family of a URL by its scheme, without the driver that may stand there."""
    scheme, found, _ = url.partition(":")
    return _OF_SCHEME.get(scheme.partition("+")[0].lower(), "") if found else ""


def concerned(
    origin: Origin, config: Mapping[str, Any] | None, destinations: Mapping[str, str]
) -> str:
    """Return the family of the server that a failure of this origin concerns.

    `config` is the public configuration of the job run, `destinations` the URLs by name.
    """
    known = config or {}
    if origin == "destination":
        return family_of_url(destinations.get(str(known.get("destination", "warehouse")), ""))
    source = known.get("source")
    return family_of(source) if isinstance(source, Mapping) else ""


def checks_by_family(row: FailureClass) -> dict[str, tuple[str, ...]]:
    """Return the commands of a row that differ from its first one, each with its families."""
    found: dict[str, tuple[str, ...]] = {}
    for family in FAMILIES:
        command = row.check(family)
        if command != row.verify:
            found[command] = (*found.get(command, ()), family)
    return found
