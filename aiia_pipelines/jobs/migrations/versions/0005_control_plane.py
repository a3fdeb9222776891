"""Attempts that follow each other, job runs that wait, and what each piece of work used."""

from alembic import op

revision = "0005"
down_revision = "0004"

_DDL = """
alter table aiia.job_runs add column bytes_written bigint not null default 0,
  add column held_by text, add column held_reason text, add column due_at timestamptz,
  add column expires_at timestamptz, add column replaced_by bigint;

create index job_runs_by_due on aiia.job_runs (due_at) where due_at is not null;

alter table aiia.attempts add column failure_code text, add column message text not null default '',
  add column progressed boolean not null default false,
  add column created_at timestamptz not null default clock_timestamp(), add column launched_at timestamptz,
  add column cpu_seconds double precision not null default 0, add column peak_memory bigint not null default 0;

alter table aiia.tasks add column cpu_seconds double precision not null default 0,
  add column bytes_read bigint not null default 0, add column bytes_written bigint not null default 0;

alter table aiia.steps add column cpu_seconds double precision not null default 0,
  add column peak_memory bigint not null default 0, add column bytes_read bigint not null default 0,
  add column bytes_written bigint not null default 0;

create table aiia.webhook_calls (
  connector text, call_id text, at timestamptz not null default clock_timestamp(),
  primary key (connector, call_id)
);
"""


def upgrade() -> None:
    """Add the columns and the table of the control plane."""
    for statement in _DDL.split(";\n"):
        if statement.strip():
            op.execute(statement)
