"""Pooled connections: replaced when the server closed them, and not asked for nothing."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from aiia_pipelines.jobs import engines, moves
from aiia_pipelines.jobs.run import NewJobRun, Trigger
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore

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


def test_a_session_that_sleeps_in_a_transaction_gives_its_locks_back(
    new_database: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_LONGEST_PAUSE", 200)
    store = JobStore.open(new_database("asleep").url(driver="postgresql+psycopg2"))
    new = NewJobRun(
        connector="shop", title="Shop", streams=(), trigger=Trigger.MANUAL, triggered_by="sara"
    )
    number = store.create(new)
    asleep = store.engine.connect()
    moves.lock(asleep, number)
    # As a process that was stopped; who wants to end its job run does not wait for it.
    assert store.finish(number, JobState.CANCELLED) is not None
    with pytest.raises(sa.exc.OperationalError):
        asleep.execute(sa.text("select 1"))
    asleep.close()
    store.close()
