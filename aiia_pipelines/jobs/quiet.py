"""Whether anything is there that somebody has to look after; asked often, so it is one small query."""

import time

import sqlalchemy as sa

from aiia_pipelines.jobs import moves
from aiia_pipelines.jobs.attempts import ASIDE, AT_WORK
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.jobs.tables import JOB_RUNS

# So long after the last job run, others may still wait for its end: connectors that come after it, for example.
AFTERMATH = 60.0  # seconds
FRESH = 1.0  # seconds that an answer is good for

_DAGSTER_RUNS = sa.table("runs", sa.column("status"), sa.column("id"))
_OPEN = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")
_RIPE = sa.and_(
    JOB_RUNS.c.state.in_(ASIDE),
    sa.or_(
        sa.and_(JOB_RUNS.c.held_by.is_(None), JOB_RUNS.c.due_at <= moves.NOW),
        JOB_RUNS.c.expires_at < moves.NOW,
    ),
)
_LOOK = sa.select(
    sa.exists().where(JOB_RUNS.c.state.in_(AT_WORK)),
    sa.exists().where(_RIPE),
    sa.exists().where(_DAGSTER_RUNS.c.status.in_(_OPEN)),
    sa.select(sa.func.max(JOB_RUNS.c.number)).scalar_subquery(),
)


class Quiet:
    """What one process has seen of an installation lately."""

    def __init__(
        self, store: JobStore, *, aftermath: float = AFTERMATH, fresh: float = FRESH
    ) -> None:
        """Begin as if something had just happened: what went before, this process has not seen."""
        self._store, self._aftermath, self._fresh = store, aftermath, fresh
        self._looked_at = 0.0
        self._last: int | None = None
        self._until = time.monotonic() + aftermath

    def __call__(self) -> bool:
        """Tell whether nothing is to be done, and nothing was for a while."""
        now = time.monotonic()
        if now - self._looked_at >= self._fresh:
            self._look(now)
        return now >= self._until

    def _look(self, now: float) -> None:
        with self._store.engine.connect() as db:
            *signs, last = db.execute(_LOOK).one()
        # A short sync begins and ends between two looks: its number tells of it.
        if any(signs) or last != self._last:
            self._until = now + self._aftermath
        self._looked_at, self._last = now, last
