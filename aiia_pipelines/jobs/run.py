"""What is known about a job run before and after it runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import uuid4

# The words of `priority`, as the numbers by which Dagster's queue orders runs.
PRIORITIES = {"low": -10, "normal": 0, "high": 10, "critical": 20}


class JobType(StrEnum):
    """The operations on a connector."""

    SYNC = "sync"
    DRY_RUN = "dry_run"
    CONNECTION_TEST = "connection_test"
    # Of the system itself: they concern no connector.
    HEALTH_CHECK = "health_check"
    MAINTENANCE = "maintenance"


# What brings rows over, or would: only these read streams, and only these are retried.
REFRESHES = (JobType.SYNC, JobType.DRY_RUN)
SYSTEM = (JobType.HEALTH_CHECK, JobType.MAINTENANCE)


class Trigger(StrEnum):
    """What made a job run."""

    MANUAL = "manual"
    SCHEDULE = "schedule"
    SENSOR = "sensor"
    WEBHOOK = "webhook"
    RETRY = "retry"
    BACKFILL = "backfill"
    AFTER_JOB = "after_job"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJobRun:
    """A request for one job of one connector."""

    connector: str
    title: str
    streams: tuple[str, ...]
    trigger: Trigger
    triggered_by: str
    type: JobType = JobType.SYNC
    # All rows are read again, as if there had been no sync before.
    full_read: bool = False
    retry_of: int | None = None
    priority: str = "normal"
    # As the file says it: secrets are references.
    config: Mapping[str, Any] | None = None
    # When it may begin, if not at once, and after which moment it is not tried any more.
    due_at: datetime | None = None
    expires_at: datetime | None = None
    # The tick of the connector's schedule that it is for; each has one job run.
    tick: datetime | None = None
    uid: str = field(default_factory=lambda: str(uuid4()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a commit did to the rows of one stream at the destination."""

    inserted: int
    updated: int
    unchanged: int
    deleted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One reconciled figure: the same fact computed on both sides; `column` is "" for the whole stream."""

    column: str
    figure: str
    source: str | None
    destination: str | None

    @property
    def agrees(self) -> bool:
        """Tell whether both sides say the same."""
        return self.source == self.destination
