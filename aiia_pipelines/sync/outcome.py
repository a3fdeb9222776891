"""What became of one stream of a sync."""

from collections.abc import Mapping
from dataclasses import dataclass, field

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


@dataclass
class Violation:
    """A broken rule: how often, and what some of the values look like (masked).

    `family` tells where the rule stands: `rule` in the connector file, `value` in the type of the column,
    `schema` in a schema written in Python. A rule over whole rows has the column "".
    """

    column: str
    rule: str
    count: int = 0
    samples: list[str] = field(default_factory=list)
    family: str = "rule"

    def __str__(self) -> str:
        """Tell column, rule, count and samples in one line."""
        shown = f"; masked samples: {', '.join(self.samples)}" if self.samples else ""
        return f"{self.told}{shown}"

    @property
    def told(self) -> str:
        """Tell column, rule and count."""
        what = f"column '{self.column}' breaks" if self.column else "the rows break"
        return f"{what} {self.rule} in {self.count:,} rows"


@dataclass(frozen=True, slots=True)
class Synced:
    """A stream whose rows are committed; `adjusted` counts changed values as (column, way, count)."""

    stream: str
    rows: int
    changes: Changes
    columns: tuple[StoredColumn, ...]
    rejected: int = 0
    violations: tuple[Violation, ...] = ()
    adjusted: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Broken:
    """A stream whose rows are not committed; `rules` are the broken ones as (column, rule)."""

    stream: str
    failure: Failure
    rules: tuple[tuple[str, str], ...] = ()
    violations: tuple[Violation, ...] = ()


def rule_name(check: str, argument: object) -> str:
    """Name a rule as it is told in logs and reports: `ge(0)`."""
    if isinstance(argument, Mapping):
        return f"{check}({', '.join(f'{key}={value}' for key, value in argument.items())})"
    return f"{check}({argument})"
