"""dagster-postgres storage in which creating a run creates its job runs, and a run's events move them.

Every door to Dagster (its UI, schedules, sensors, backfills, the command line, other processes of the
deployment) creates runs through `add_run` and reports their end through `handle_run_event`; hooking both
in the storage needs no cooperation of the door, also for runs that are ended from outside.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import sqlalchemy as sa
from dagster import DagsterEvent, DagsterEventType, DagsterRun
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.run_storage import PostgresRunStorage
from dagster_postgres.utils import pg_url_from_config

from aiia_pipelines.jobs import attempts, engines
from aiia_pipelines.jobs.log import LogLine, render
from aiia_pipelines.jobs.run import NewJobRun
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.resources import one_pool, tags
from aiia_pipelines.resources.endings import failure_of, overdue
from aiia_pipelines.resources.job_board import badge_tags, settings
from aiia_pipelines.resources.limits import limit_tags, priority_tag
from aiia_pipelines.resources.requests import requests_of

if TYPE_CHECKING:
    from dagster._core.storage.config import PostgresStorageConfig

_MOVES = {
    DagsterEventType.PIPELINE_ENQUEUED: JobState.PENDING,
    DagsterEventType.PIPELINE_STARTING: JobState.PREPARING,
    DagsterEventType.PIPELINE_START: JobState.RUNNING,
}
_ENDS = {
    DagsterEventType.PIPELINE_SUCCESS,
    DagsterEventType.PIPELINE_FAILURE,
    DagsterEventType.PIPELINE_CANCELED,
}


class JobRunStorage(DagsterPostgresStorage):
    """The storage that dagster.yaml names."""

    def __init__(self, postgres_url: str, **kwargs: Any) -> None:  # noqa: ANN401 - Dagster's own arguments
        """Open Dagster's storage and replace its run storage by the hooked one."""
        jobs = JobStore.open(postgres_url)
        complete = one_pool.is_complete(jobs)
        if complete:
            kwargs["should_autocreate_tables"] = False
        super().__init__(postgres_url, **kwargs)
        hooked = HookedRunStorage(postgres_url, self.should_autocreate_tables, jobs)
        self._run_storage = hooked
        hooked.connections = one_pool.share(self, complete=complete)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "JobRunStorage":
        """Build from dagster.yaml; Dagster's own method would build its own class."""
        return cls(
            pg_url_from_config(cast("PostgresStorageConfig", config_value)),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            inst_data=inst_data,
        )


class HookedRunStorage(PostgresRunStorage):
    """Dagster's run storage that keeps the job runs in step."""

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,  # noqa: FBT001, FBT002 - Dagster's signature
        jobs: JobStore | None = None,
    ) -> None:
        """Open both stores in the same database."""
        super().__init__(postgres_url, should_autocreate_tables)
        self._jobs = jobs or JobStore.open(postgres_url)
        self.connections: sa.Engine | None = None

    @property
    def jobs(self) -> JobStore:
        """The job-run store that is kept in step."""
        return self._jobs

    def dispose(self) -> None:
        """Close the connections of both stores."""
        self._jobs.close()
        if self.connections is not None:
            engines.give_back(self.connections)
        super().dispose()

    def add_run(self, dagster_run: DagsterRun) -> DagsterRun:
        """Create a run together with its job runs, whose numbers it bears as a tag."""
        own_tags = tags.without_copies(
            dagster_run.tags, re_execution=dagster_run.parent_run_id is not None
        )
        asked = requests_of(dagster_run, self._parents(dagster_run))
        with self._one_for_its_tick(asked) as first:
            return first or self._added(dagster_run, own_tags, asked)

    @contextmanager
    def _one_for_its_tick(self, asked: Sequence[NewJobRun]) -> Iterator[DagsterRun | None]:
        """Give the run that another daemon has made for the same tick; whoever makes one keeps others waiting."""
        ticking = next((each for each in asked if each.tick is not None), None)
        if ticking is None or ticking.tick is None:
            yield None
            return
        with self._alone_with(f"{ticking.connector}@{ticking.tick.isoformat()}"):
            run_id = self._jobs.run_of_tick(ticking.connector, ticking.tick)
            yield self._get_run_by_id(run_id) if run_id else None

    def _added(
        self, dagster_run: DagsterRun, own_tags: dict[str, str], asked: Sequence[NewJobRun]
    ) -> DagsterRun:
        goes_on = tags.attempt_of(own_tags)
        own_tags = priority_tag(asked) | own_tags | limit_tags(asked, settings().home)
        new = [] if goes_on else asked
        numbers = {self._jobs.reserve(): request for request in new}
        if numbers or goes_on:
            told = ",".join(map(str, numbers or [goes_on]))
            own_tags |= {tags.JOB: told, **badge_tags([JobState.PENDING])}
            self._make_pools_known(dagster_run)
        stored = super().add_run(dagster_run.with_tags(own_tags))
        if goes_on:
            attempts.add(self._jobs, goes_on, stored.run_id)
        self._record(numbers, stored.run_id)
        return stored

    def _make_pools_known(self, run: DagsterRun) -> None:
        # A pool that Dagster's queue sees for the first time does not limit it at that look yet.
        pools = run.run_op_concurrency.all_pools if run.run_op_concurrency else None
        if not pools or not self.has_instance:
            return
        events = self._instance.event_log_storage
        with self._alone_with("pools"):
            for pool in sorted(set(pools) - events.get_concurrency_keys()):
                events.initialize_concurrency_limit_to_default(pool)

    def _parents(self, run: DagsterRun) -> Mapping[str, int]:
        return self._jobs.numbers_of(run.parent_run_id) if run.parent_run_id else {}

    def _record(self, numbers: Mapping[int, NewJobRun], run_id: str) -> None:
        aside = set()
        for number, request in numbers.items():
            self._jobs.create(request, number=number, run_id=run_id)
            if request.due_at is not None:
                aside.add(run_id)
            overlap = (request.config or {}).get("overlap", "queue")
            aside.update(attempts.settle(self._jobs, number, overlap))
        for each in aside:
            self._call_off(each)

    def _call_off(self, run_id: str) -> None:
        """Cancel a Dagster run whose job runs do not need it any more, or not yet."""
        run = self._get_run_by_id(run_id)
        if run is None or not self.has_instance or self._jobs.numbers_of(run_id, at_work=True):
            return
        rows = [self._jobs.row(number) for number in self._jobs.numbers_of(run_id).values()]
        told = " ".join(
            f"#{row.number}: {row.message or 'It is not due yet.'}" for row in rows if row
        )
        self._instance.report_run_canceled(run, told)

    def handle_run_event(
        self, run_id: str, event: DagsterEvent, update_timestamp: datetime | None = None
    ) -> None:
        """Move the job runs first, so that whoever sees Dagster's status sees the badge as well."""
        # What a run had to do may be over before the run is: then its events come too late.
        numbers = self._jobs.numbers_of(run_id, at_work=True).values()
        changed = [self._apply(number, run_id, event) for number in numbers]
        # The run itself may have ended its job run before: its badge is published at the latest here.
        if any(changed) or event.event_type in _ENDS:
            badge = badge_tags(self._jobs.states_of(run_id))
            if badge:
                self.add_run_tags(run_id, badge)
        with self._alone_with(run_id):
            super().handle_run_event(run_id, event, update_timestamp)

    def _apply(self, number: int, run_id: str, event: DagsterEvent) -> bool:
        kind = event.event_type
        if kind is DagsterEventType.PIPELINE_ENQUEUED:
            # One that could not be launched after all is sent back to the queue.
            self._jobs.put_back(number)
        if kind in _MOVES:
            return self._jobs.move(number, _MOVES[kind], run_id) is not None
        if kind is DagsterEventType.PIPELINE_CANCELING:
            late = overdue(event)
            if late is not None:
                return self._jobs.finish(number, JobState.FAILED, failure=late) is not None
            self._jobs.request_cancel(number, by="Dagster")
            return False
        if kind not in _ENDS:
            return False
        if kind is DagsterEventType.PIPELINE_CANCELED:
            line = self._jobs.finish(number, JobState.CANCELLED)
        else:
            said = self._said_before(run_id) if event.is_run_failure else ""
            failure = failure_of(event, self._jobs, number, said)
            line = self._jobs.finish(number, JobState.FAILED, failure=failure)
        if line is not None:
            self._tell_dagster(run_id, line)
        return line is not None

    def _said_before(self, run_id: str) -> str:
        """Read what Dagster noted last about a run: how its process ended, if anybody saw it."""
        if not self.has_instance:
            return ""
        found = self._instance.get_records_for_run(
            run_id, of_type=DagsterEventType.ENGINE_EVENT, limit=1, ascending=False
        )
        return "".join(each.event_log_entry.message for each in found.records)

    def _tell_dagster(self, run_id: str, line: LogLine) -> None:
        """Write the closing line of a run that could not do so itself to Dagster's event log."""
        run = self._get_run_by_id(run_id)
        if run is not None and self.has_instance:
            self._instance.report_engine_event(render(line), run)

    def add_run_tags(self, run_id: str, new_tags: Mapping[str, str]) -> None:
        """Add tags without losing those that another process adds at the same time."""
        with self._alone_with(run_id):
            super().add_run_tags(run_id, new_tags)

    @contextmanager
    def _alone_with(self, run_id: str) -> Iterator[None]:
        # Dagster reads a run, changes it and writes it back: of two writers at once the later one wins.
        with self._jobs.engine.begin() as lock:
            lock.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(run_id))))
            yield
