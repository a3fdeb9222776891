"""What the kernel knows of the process of an attempt, so that its death can be explained."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add what a process leaves behind."""
    op.execute("alter table aiia.attempts add column traces jsonb, add column oom_kills bigint")
