"""One job run for each tick of a connector's schedule."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the moment of the schedule; job runs of former versions have none."""
    op.execute("alter table aiia.job_runs add column tick timestamptz")
    op.execute(
        "create unique index job_runs_by_tick on aiia.job_runs (connector, tick) where tick is not null"
    )
