"""Pooled connections: replaced when the server closed them, and not asked for nothing."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from aiia_pipelines.jobs import engines

pytestmark = pytest.mark.integration


@pytest.fixture
def engine(new_database: Callable[[str], Any]) -> Iterator[sa.Engine]:
    made = engines.take(
        new_database("pooled").url(driver="postgresql+psycopg2"), lambda _: None, autocommit=True
    )
    yield made
    engines.give_back(made)


def backend(engine: sa.Engine) -> int:
    with engine.connect() as db:
        return int(db.execute(sa.text("select pg_backend_pid()")).scalar_one())


def test_a_connection_that_the_server_closed_is_replaced_at_once(engine: sa.Engine) -> None:
    before = backend(engine)
    with engine.connect() as one, engine.connect() as other:
        pids = {
            int(db.execute(sa.text("select pg_backend_pid()")).scalar_one()) for db in (one, other)
        }
    assert before in pids
    with engine.connect() as db:
        kept = int(db.execute(sa.text("select pg_backend_pid()")).scalar_one())
        (other_pid,) = pids - {kept}
        db.execute(sa.text("select pg_terminate_backend(:pid, 5000)"), {"pid": other_pid})
        # The one that was closed is taken from the pool next.
        assert backend(engine) not in pids


def test_one_that_was_used_a_moment_ago_is_only_looked_at(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pings = []
    ping = engine.dialect.do_ping
    monkeypatch.setattr(engine.dialect, "do_ping", lambda given: pings.append(1) or ping(given))
    assert len({backend(engine) for _ in range(5)}) == 1
    assert pings == []
    monkeypatch.setattr(engines, "_FRESH", 0.0)
    backend(engine)
    assert pings == [1]
