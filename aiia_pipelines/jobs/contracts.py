"""The columns a stream had when it was first synced, frozen until a person accepts others."""

from collections.abc import Sequence
from typing import TypedDict

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.jobs.tables import CONTRACTS


class LearnedColumn(TypedDict):
    """A column as the source described it; `type` is the canonical text of a column type."""

    name: str
    type: str
    nullable: bool


def learned(store: JobStore, connector: str, stream: str) -> list[LearnedColumn] | None:
    """Read the frozen columns of a stream; None before its first sync."""
    query = sa.select(CONTRACTS.c.columns).where(
        CONTRACTS.c.connector == connector, CONTRACTS.c.stream == stream
    )
    with store.engine.connect() as db:
        found: list[LearnedColumn] | None = db.execute(query).scalar_one_or_none()
        return found


def learn(
    store: JobStore,
    connector: str,
    stream: str,
    columns: Sequence[LearnedColumn],
    *,
    number: int | None,
) -> None:
    """Freeze the columns of a stream, in place of what was learned before."""
    values = {
        "columns": list(columns),
        "learned_by": number,
        "learned_at": sa.func.clock_timestamp(),
    }
    statement = insert(CONTRACTS).values(connector=connector, stream=stream, **values)
    with store.engine.begin() as db:
        db.execute(
            statement.on_conflict_do_update(index_elements=["connector", "stream"], set_=values)
        )
