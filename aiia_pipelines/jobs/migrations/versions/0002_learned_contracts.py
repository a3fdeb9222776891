"""The columns that a stream had at its first sync, kept so that drift is seen."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table of the learned contracts."""
    op.execute(
        """
        create table aiia.contracts (
          connector text, stream text, columns jsonb not null, learned_by bigint,
          learned_at timestamptz not null default clock_timestamp(),
          primary key (connector, stream)
        )
        """
    )
