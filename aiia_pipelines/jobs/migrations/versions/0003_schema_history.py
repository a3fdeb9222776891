"""Every schema that a stream had, what its values look like, and what else a sync can tell."""

from alembic import op

revision = "0003"
down_revision = "0002"

_DDL = """
alter table aiia.contracts add column profile jsonb;

create table aiia.schema_history (
  connector text, stream text, version integer, columns jsonb not null, profile jsonb,
  change text not null default '', learned_by bigint, accepted_by text,
  at timestamptz not null default clock_timestamp(),
  primary key (connector, stream, version)
);

insert into aiia.schema_history (connector, stream, version, columns, change, learned_by, at)
  select connector, stream, 1, columns, 'learned', learned_by, learned_at from aiia.contracts;

alter table aiia.job_runs add column full_read boolean not null default false, add column sealed_at timestamptz;

alter table aiia.tasks add column rejected bigint, add column adjusted bigint;
"""


def upgrade() -> None:
    """Create the history with what is known now as its first version."""
    for statement in _DDL.split(";\n"):
        if statement.strip():
            op.execute(statement)
