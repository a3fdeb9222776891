"""Failures that the catalogue has no row for: they are counted, and people are asked to report them."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiia_pipelines.jobs.catalogue import CATALOGUE
from aiia_pipelines.jobs.history import rows

if TYPE_CHECKING:
    from psycopg2.extensions import connection

CODE = "unclassified"
# `classify` writes the class right behind the title.
_CLASS = re.compile(rf"{CATALOGUE[CODE].title}: ([^:\s(]+)")
_QUERY = """
with broken as (
    select number, failure_code, message from aiia.job_runs
    where state in ('Failed', 'Error', 'Partially Succeeded')
    and ended_at >= clock_timestamp() - make_interval(days => %s)
)
select b.number, coalesce(
    (select t.message from aiia.tasks t where t.number = b.number and t.failure_code = %s
        order by t.ended_at, t.stream limit 1),
    case when b.failure_code = %s then b.message end) as message
from broken b order by b.number
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclassified:
    """How many of the job runs that went wrong nobody could explain, and by which exception classes."""

    runs: int
    of: int  # job runs that went wrong for any reason
    classes: tuple[tuple[str, int], ...]  # the most frequent first
    latest: int | None  # the number of the last such job run

    @property
    def share(self) -> float:
        """The part that nobody could explain, from 0 to 1; the goal is less than 0.01."""
        return self.runs / self.of if self.of else 0.0


def unclassified_count(db: "connection", days: int) -> Unclassified:
    """Count what ended unclassified in the last days."""
    found = list(rows(db, _QUERY, [days, CODE, CODE]))
    unknown = [row for row in found if row["message"] is not None]
    named = Counter(_class_of(row["message"]) or "of no named class" for row in unknown)
    return Unclassified(
        runs=len(unknown),
        of=len(found),
        classes=tuple(sorted(named.items(), key=lambda pair: (-pair[1], pair[0]))),
        latest=unknown[-1]["number"] if unknown else None,
    )


def please_report(headline: str, number: int) -> str:
    """Ask for a report of a failure that nobody has met before."""
    return (
        f"No row of the failure catalogue knows {_class_of(headline) or 'it'}. Please report it to the"
        f" project's issue tracker with this log (`aiia jobs logs {number}`), so that it gets one."
    )


def _class_of(headline: str) -> str:
    found = _CLASS.match(headline)
    return found[1] if found else ""
