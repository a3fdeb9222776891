"""What became of one stream of a sync."""

from collections.abc import Mapping
from dataclasses import dataclass

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.jobs.failures import Failure
from aiia_pipelines.jobs.run import Changes


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A column as it is stored at the destination."""

    name: str
    type: ColumnType
    nullable: bool
    description: str


@dataclass(frozen=True, slots=True)
class Synced:
    """A stream whose rows are committed."""

    stream: str
    rows: int
    changes: Changes
    columns: tuple[StoredColumn, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """A stream whose rows are not committed; `rules` are the broken ones as (column, rule)."""

    stream: str
    failure: Failure
    rules: tuple[tuple[str, str], ...] = ()


def rule_name(check: str, argument: object) -> str:
    """Name a rule as it is told in logs and reports: `ge(0)`."""
    if isinstance(argument, Mapping):
        return f"{check}({', '.join(f'{key}={value}' for key, value in argument.items())})"
    return f"{check}({argument})"
