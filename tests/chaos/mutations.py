"""Deliberate mistakes in the commit protocol of PostgreSQL, each of which the harness must catch."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

MUTATIONS: dict[str, Callable[[], None]] = {}


def mutation(install: Callable[[], None]) -> Callable[[], None]:
    MUTATIONS[install.__name__] = install
    return install


def install(name: str) -> None:
    """Make one mistake in this process."""
    if name:
        MUTATIONS[name]()


@mutation
def position_in_a_transaction_of_its_own() -> None:
    """The position moves before the rows do, and stays moved when they do not come."""
    from aiia_pipelines.sync.destinations import postgres

    whole = postgres.PostgresLanding._commit

    def commit(self: Any, rows: int, changes: Any, position: Any, seal: Any) -> None:
        at = self._control.moment()
        self._control.move_state(position, self._load.run_key, at, self._generation)
        self._generation += 1
        whole(self, rows, changes, position, seal)

    postgres.PostgresLanding._commit = commit  # type: ignore[method-assign] # this is the mistake


@mutation
def every_statement_commits() -> None:
    """The statements of a commit become visible one by one."""
    from aiia_pipelines.sync.destinations import postgres

    whole = postgres.PostgresLanding._commit

    def commit(self: Any, rows: int, changes: Any, position: Any, seal: Any) -> None:
        self._db.transaction = lambda *_, **__: nullcontext()
        try:
            whole(self, rows, changes, position, seal)
        finally:
            del self._db.transaction

    postgres.PostgresLanding._commit = commit  # type: ignore[method-assign] # this is the mistake


@mutation
def the_ledger_is_not_asked() -> None:
    """An attempt after a commit does the work again."""
    from aiia_pipelines.sync.destinations import postgres

    postgres.PostgresLanding.committed_before = lambda _: None  # type: ignore[method-assign] # this is the mistake


@mutation
def nobody_is_fenced_off() -> None:
    """Neither epoch, nor generation, nor the ledger's key keeps an overtaken attempt out."""
    from aiia_pipelines.sync.destinations import _postgres_control as control
    from aiia_pipelines.sync.destinations import postgres

    whole = postgres.PostgresLanding._commit

    def commit(self: Any, rows: int, changes: Any, position: Any, seal: Any) -> None:
        self._control.hold_lease = lambda: self._epoch
        self._control.move_state = lambda *given: moved(self._control, *given)
        whole(self, rows, changes, position, seal)

    def moved(found: Any, position: Any, run_key: str, at: Any, _: int) -> bool:
        _, generation = found.state()
        return bool(control.Control.move_state(found, position, run_key, at, generation))

    control._WRITE_LEDGER += " on conflict do nothing"
    postgres.PostgresLanding._commit = commit  # type: ignore[method-assign] # this is the mistake


@mutation
def a_cancel_is_not_looked_at() -> None:
    """A commit happens though somebody asked the run to stop, and was told that it would."""
    from aiia_pipelines.jobs.recorder import Recorder
    from aiia_pipelines.sync import pump, task

    pump.stop_if_asked = task.stop_if_asked = lambda _: None  # type: ignore[assignment] # this is the mistake
    Recorder._cancel = lambda _: None  # type: ignore[method-assign] # this is the mistake
    Recorder.seal = lambda *_: True  # type: ignore[method-assign] # this is the mistake


@mutation
def a_lost_answer_counts_as_a_commit() -> None:
    """Whoever does not hear the answer to COMMIT believes that it was yes."""
    from aiia_pipelines.sync.destinations import postgres

    postgres.PostgresLanding._did_commit = lambda _: True  # type: ignore[method-assign] # this is the mistake
