"""The run tags of this product: two that people see and filter by, the others hidden from Dagster's pages."""

from collections.abc import Mapping

JOB = "aiia/job"
BADGE = "aiia/badge"
# Dagster's pages do not show tags under this prefix.
TRIGGER = ".dagster/aiia_trigger"
TRIGGERED_BY = ".dagster/aiia_by"
RETRY_OF = ".dagster/aiia_retry_of"

_OURS = {JOB, BADGE, TRIGGER, TRIGGERED_BY, RETRY_OF}


def without_copies(tags: Mapping[str, str], *, re_execution: bool) -> dict[str, str]:
    """Drop what a new run must not inherit: Dagster copies all tags of the run that is executed again."""
    inherited = _OURS if re_execution else {JOB, BADGE}
    return {key: value for key, value in tags.items() if key not in inherited}
