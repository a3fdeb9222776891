"""Which syncs went well, for those who wait for them."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from aiia_pipelines.jobs.run import JobType
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.tables import JOB_RUNS

# One that ends after so many later job runs of its connector is not looked for.
_RECENT = 100


@dataclass(frozen=True, slots=True, order=True)
class Completion:
    """The end of a sync that went well; later ones are greater."""

    at: float  # seconds since 1970, by the clock of the database
    number: int


def last_completions(engine: sa.Engine, connectors: Sequence[str]) -> dict[str, Completion]:
    """Find the last Completed sync of each connector; nothing for those that have none."""
    wanted = sa.func.unnest(sa.bindparam("names", list(connectors), sa.ARRAY(sa.Text)))
    names = wanted.table_valued("name").render_derived()
    jobs = JOB_RUNS.c
    recent = (
        sa.select(jobs.number, jobs.ended_at, jobs.type, jobs.state)
        .where(jobs.connector == names.c.name)
        .order_by(jobs.number.desc())
        .limit(_RECENT)
        .lateral("recent")
    )
    query = (
        sa.select(names.c.name, sa.func.extract("epoch", recent.c.ended_at), recent.c.number)
        .select_from(names.join(recent, sa.true()))
        .where(recent.c.type == JobType.SYNC, recent.c.state == JobState.COMPLETED)
    )
    found: dict[str, Completion] = {}
    with engine.connect() as db:
        for name, at, number in db.execute(query):
            one = Completion(float(at), int(number))
            found[name] = max(found.get(name, one), one)
    return found


def was_ever_synced(engine: sa.Engine, connector: str) -> bool:
    """Tell whether there has been a sync of a connector, however it ended."""
    jobs = JOB_RUNS.c
    query = sa.select(sa.exists().where(jobs.connector == connector, jobs.type == JobType.SYNC))
    with engine.connect() as db:
        return bool(db.execute(query).scalar())
