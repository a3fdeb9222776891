"""Job runs with their attempts, tasks, steps, log and reconciliation figures."""

from alembic import op

revision = "0001"
down_revision = None

_DDL = """
create sequence aiia.job_number;

create table aiia.job_runs (
  number bigint primary key, uid uuid not null unique, type text not null, connector text not null,
  title text not null, streams text[] not null, trigger text not null, triggered_by text not null,
  retry_of bigint, priority text not null, config jsonb, state text not null,
  activity text not null default '', message text not null default '', failure_code text,
  failure_place text not null default '', records bigint not null default 0, records_total bigint,
  bytes bigint not null default 0, cpu_seconds double precision not null default 0,
  peak_memory bigint not null default 0, cancel_by text, cancel_reason text,
  created_at timestamptz not null default clock_timestamp(), started_at timestamptz, ended_at timestamptz
);
create index job_runs_by_connector on aiia.job_runs (connector, number desc);
create index job_runs_by_state on aiia.job_runs (state, number desc);

create table aiia.attempts (
  number bigint references aiia.job_runs, attempt integer, run_id text, host text, pid bigint,
  heartbeat_at timestamptz, started_at timestamptz, ended_at timestamptz, outcome text,
  primary key (number, attempt)
);
create index attempts_by_run on aiia.attempts (run_id);

create table aiia.tasks (
  number bigint references aiia.job_runs, stream text, state text not null,
  step text not null default '', records bigint not null default 0, inserted bigint, updated bigint,
  unchanged bigint, deleted bigint, failure_code text, message text not null default '',
  started_at timestamptz, ended_at timestamptz,
  primary key (number, stream)
);

create table aiia.steps (
  number bigint, stream text, step text, position smallint not null, state text not null,
  records bigint not null default 0, busy_seconds double precision not null default 0,
  started_at timestamptz, skipped_at timestamptz, completed_at timestamptz, note text not null default '',
  primary key (number, stream, step),
  foreign key (number, stream) references aiia.tasks (number, stream)
);

create table aiia.log_lines (
  id bigint generated always as identity primary key, number bigint not null references aiia.job_runs,
  at timestamptz not null, level smallint not null, message text not null, detail text[] not null
);
create index log_lines_by_run on aiia.log_lines (number, id);

create table aiia.reconciliations (
  number bigint, stream text, "column" text, figure text, source text, destination text,
  agrees boolean not null,
  primary key (number, stream, "column", figure),
  foreign key (number, stream) references aiia.tasks (number, stream)
);
"""


def upgrade() -> None:
    """Create the tables of the job history."""
    for statement in _DDL.split(";\n"):
        if statement.strip():
            op.execute(statement)
