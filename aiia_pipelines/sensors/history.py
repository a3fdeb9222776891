"""The job history as sensors read it."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from aiia_pipelines.resources.job_board import settings


@contextmanager
def history() -> Iterator[sa.Engine]:
    """Connect for one look; its tables are there before any sensor looks, so they are not checked."""
    engine = sa.create_engine(
        str(settings().database_url),
        poolclass=sa.NullPool,
        hide_parameters=True,
        connect_args={"connect_timeout": 10},
    )
    try:
        yield engine
    finally:
        engine.dispose()
