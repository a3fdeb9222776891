"""Brings the schema `aiia` of a database to the version that this code needs."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from aiia_pipelines.jobs.tables import SCHEMA

# One key for every process of every installation: two that start at once must not both create the tables.
_LOCK = 0x61696961


class StoreOutdated(Exception):
    """The database has tables of another version of this product."""


def upgrade(engine: sa.Engine, revision: str = "head") -> None:
    """Create or upgrade the tables up to `revision`; does nothing when they are there."""
    with engine.begin() as connection:
        connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        connection.execute(sa.text(f"create schema if not exists {SCHEMA}"))
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def current(engine: sa.Engine) -> str | None:
    """Tell the version of the tables in the database; None when there are none."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
        if not sa.inspect(connection).has_table("alembic_version", schema=SCHEMA):
            return None
        return context.get_current_revision()


def head() -> str:
    """Tell the version of the tables that this code needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise AssertionError("the package has no migrations")
    return revision


def ensure(engine: sa.Engine) -> None:
    """Create the tables in an empty database and refuse a database of another version.

    Raises:
        StoreOutdated: The tables are older or newer than this code.
    """
    found = current(engine)
    if found is None:
        upgrade(engine)
    elif found != head():
        known = {
            script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()
        }
        remedy = (
            "run `aiia migrate`"
            if found in known
            else "install the version of aiia-pipelines that wrote it, or a newer one"
        )
        raise StoreOutdated(
            f"The job-run store is at version {found}, this program needs {head()}: {remedy}."
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config
