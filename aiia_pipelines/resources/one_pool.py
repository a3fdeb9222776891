"""Dagster's storages on connections that they share, where each query had one of its own."""

import sqlalchemy as sa
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.schedule_storage import PostgresScheduleStorage

from aiia_pipelines.jobs import engines
from aiia_pipelines.jobs.store import JobStore

# One of each storage; a database that has them all needs no look at each.
_TABLES = ("runs", "instance_info", "event_logs", "jobs", "job_ticks", "instigators")


class KnownSchedules(PostgresScheduleStorage):
    """Dagster's schedule storage in a database that has all tables: its own looks before each query."""

    def _has_instigators_table(self, conn: object) -> bool:  # noqa: ARG002 - Dagster's signature
        return True


def is_complete(store: JobStore) -> bool:
    """Tell whether Dagster's tables have been made."""
    found = [sa.func.to_regclass(table).is_not(None) for table in _TABLES]
    with store.engine.connect() as db:
        return bool(db.execute(sa.select(sa.and_(*found))).scalar())


def share(storage: DagsterPostgresStorage, *, complete: bool) -> sa.Engine:
    """Let all parts of Dagster's storage use the same connections, and give where they come from."""
    url = storage.postgres_url
    if complete:
        storage._schedule_storage = KnownSchedules(url, should_autocreate_tables=False)  # noqa: SLF001
    engine = engines.take(url, _nothing, autocommit=True)
    for part in (storage._run_storage, storage._event_log_storage, storage._schedule_storage):  # noqa: SLF001
        # As their own `optimize_for_webserver` does.
        part._engine = engine  # noqa: SLF001
    return engine


def _nothing(_: sa.Engine) -> None:
    pass
