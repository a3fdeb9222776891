"""The tables of the job-run store: schema `aiia` in the database that also holds Dagster's storage."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

SCHEMA = "aiia"
METADATA = sa.MetaData(schema=SCHEMA)

NUMBER = sa.Sequence("job_number", schema=SCHEMA, metadata=METADATA)

_at = sa.DateTime(timezone=True)

JOB_RUNS = sa.Table(
    "job_runs",
    METADATA,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    # The number is unique in this installation, the uid everywhere: the destination's ledger keeps it.
    sa.Column("uid", pg.UUID(as_uuid=False), nullable=False, unique=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("connector", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("streams", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("trigger", sa.Text, nullable=False),
    sa.Column("triggered_by", sa.Text, nullable=False),
    sa.Column("full_read", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("retry_of", sa.BigInteger),
    sa.Column("priority", sa.Text, nullable=False),
    sa.Column("config", pg.JSONB),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("activity", sa.Text, nullable=False, server_default=""),
    sa.Column("message", sa.Text, nullable=False, server_default=""),
    sa.Column("failure_code", sa.Text),
    sa.Column("failure_place", sa.Text, nullable=False, server_default=""),
    sa.Column("records", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("records_total", sa.BigInteger),
    # Read from the source, and written to the destination.
    sa.Column("bytes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("bytes_written", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("cpu_seconds", sa.Float, nullable=False, server_default="0"),
    sa.Column("peak_memory", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("cancel_by", sa.Text),
    sa.Column("cancel_reason", sa.Text),
    # Who asked for a pause; while it stands, the run is paused at its next checkpoint and does not go on.
    sa.Column("held_by", sa.Text),
    sa.Column("held_reason", sa.Text),
    # When a Scheduled or Paused run goes on by itself, and after which moment it does not any more.
    sa.Column("due_at", _at),
    sa.Column("expires_at", _at),
    sa.Column("replaced_by", sa.BigInteger),
    # The moment of the schedule that it is for: however many daemons look at it, one job run.
    sa.Column("tick", _at),
    # From here on the last commit of the run is certain, and a cancel comes too late.
    sa.Column("sealed_at", _at),
    sa.Column("created_at", _at, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("started_at", _at),
    sa.Column("ended_at", _at),
    sa.Index("job_runs_by_connector", "connector", sa.text("number desc")),
    sa.Index("job_runs_by_state", "state", sa.text("number desc")),
    sa.Index(
        "job_runs_by_tick",
        "connector",
        "tick",
        unique=True,
        postgresql_where=sa.text("tick is not null"),
    ),
    sa.Index("job_runs_by_due", "due_at", postgresql_where=sa.text("due_at is not null")),
)

ATTEMPTS = sa.Table(
    "attempts",
    METADATA,
    sa.Column("number", sa.BigInteger, sa.ForeignKey(JOB_RUNS.c.number), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.Text),
    sa.Column("host", sa.Text),
    sa.Column("pid", sa.BigInteger),
    sa.Column("heartbeat_at", _at),
    sa.Column("started_at", _at),
    sa.Column("ended_at", _at),
    sa.Column("outcome", sa.Text),
    sa.Column("failure_code", sa.Text),
    sa.Column("message", sa.Text, nullable=False, server_default=""),
    # Whether it committed rows that no attempt before it had.
    sa.Column("progressed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("created_at", _at, nullable=False, server_default=sa.func.clock_timestamp()),
    # Taken once: a run that two launch at the same time is started by one of them.
    sa.Column("launched_at", _at),
    sa.Column("cpu_seconds", sa.Float, nullable=False, server_default="0"),
    sa.Column("peak_memory", sa.BigInteger, nullable=False, server_default="0"),
    # How the process is recognised, and how many of its control group the kernel had ended at the last heartbeat.
    sa.Column("traces", pg.JSONB),
    sa.Column("oom_kills", sa.BigInteger),
    sa.Index("attempts_by_run", "run_id"),
)

TASKS = sa.Table(
    "tasks",
    METADATA,
    sa.Column("number", sa.BigInteger, sa.ForeignKey(JOB_RUNS.c.number), primary_key=True),
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("step", sa.Text, nullable=False, server_default=""),
    sa.Column("records", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("inserted", sa.BigInteger),
    sa.Column("updated", sa.BigInteger),
    sa.Column("unchanged", sa.BigInteger),
    sa.Column("deleted", sa.BigInteger),
    # Rows that were set aside as invalid, and values that `on_lossy` changed.
    sa.Column("rejected", sa.BigInteger),
    sa.Column("adjusted", sa.BigInteger),
    sa.Column("cpu_seconds", sa.Float, nullable=False, server_default="0"),
    sa.Column("bytes_read", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("bytes_written", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("failure_code", sa.Text),
    sa.Column("message", sa.Text, nullable=False, server_default=""),
    sa.Column("started_at", _at),
    sa.Column("ended_at", _at),
)

STEPS = sa.Table(
    "steps",
    METADATA,
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("step", sa.Text, primary_key=True),
    sa.Column("position", sa.SmallInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("records", sa.BigInteger, nullable=False, server_default="0"),
    # Steps of one stream overlap in time: `busy_seconds` is the work, started to completed the span.
    sa.Column("busy_seconds", sa.Float, nullable=False, server_default="0"),
    sa.Column("cpu_seconds", sa.Float, nullable=False, server_default="0"),
    # Of the process while the step was at work: steps share its memory.
    sa.Column("peak_memory", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("bytes_read", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("bytes_written", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("started_at", _at),
    sa.Column("skipped_at", _at),
    sa.Column("completed_at", _at),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.ForeignKeyConstraint(["number", "stream"], [TASKS.c.number, TASKS.c.stream]),
)

LOG_LINES = sa.Table(
    "log_lines",
    METADATA,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("number", sa.BigInteger, sa.ForeignKey(JOB_RUNS.c.number), nullable=False),
    sa.Column("at", _at, nullable=False),
    sa.Column("level", sa.SmallInteger, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("detail", pg.ARRAY(sa.Text), nullable=False),
    sa.Index("log_lines_by_run", "number", "id"),
)

RECONCILIATIONS = sa.Table(
    "reconciliations",
    METADATA,
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("column", sa.Text, primary_key=True),
    sa.Column("figure", sa.Text, primary_key=True),
    sa.Column("source", sa.Text),
    sa.Column("destination", sa.Text),
    sa.Column("agrees", sa.Boolean, nullable=False),
    sa.ForeignKeyConstraint(["number", "stream"], [TASKS.c.number, TASKS.c.stream]),
)

CONTRACTS = sa.Table(
    "contracts",
    METADATA,
    sa.Column("connector", sa.Text, primary_key=True),
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("columns", pg.JSONB, nullable=False),
    # By column: what its values looked like, without any of them.
    sa.Column("profile", pg.JSONB),
    sa.Column("learned_by", sa.BigInteger),
    sa.Column("learned_at", _at, nullable=False, server_default=sa.func.clock_timestamp()),
)

SCHEMA_HISTORY = sa.Table(
    "schema_history",
    METADATA,
    sa.Column("connector", sa.Text, primary_key=True),
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("columns", pg.JSONB, nullable=False),
    sa.Column("profile", pg.JSONB),
    sa.Column("change", sa.Text, nullable=False, server_default=""),
    # A sync that learned it, or a person who accepted it.
    sa.Column("learned_by", sa.BigInteger),
    sa.Column("accepted_by", sa.Text),
    sa.Column("at", _at, nullable=False, server_default=sa.func.clock_timestamp()),
)

# Calls of webhooks that were answered, so that none is answered twice.
WEBHOOK_CALLS = sa.Table(
    "webhook_calls",
    METADATA,
    sa.Column("connector", sa.Text, primary_key=True),
    sa.Column("call_id", sa.Text, primary_key=True),
    sa.Column("at", _at, nullable=False, server_default=sa.func.clock_timestamp()),
)
