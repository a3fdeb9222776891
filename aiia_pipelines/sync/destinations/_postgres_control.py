"""The control tables of the PostgreSQL destination, which share the transaction of the rows.

`lease` fences off an older attempt that still runs, `ledger` tells for ever which task committed what,
`sync_state` how far the source was read, `checkpoint` what a broken attempt staged. The last is unlogged as
staging tables are: a crash of the server empties them together.
"""

import json
from collections.abc import Mapping
from typing import Any

import psycopg

from aiia_pipelines.connectors.base import Position
from aiia_pipelines.jobs.run import Changes

Db = psycopg.Connection[tuple[Any, ...]]

CONTROL = "_aiia"
STAGING = "_aiia_stg"
_SETUP_LOCK = 0x6169696C

_TABLES = (
    f"create schema if not exists {CONTROL}",
    f"create schema if not exists {STAGING}",
    f"""create table if not exists {CONTROL}.lease (
      connector text, stream text, epoch bigint not null, taken_at timestamptz not null default clock_timestamp(),
      primary key (connector, stream))""",
    f"""create table if not exists {CONTROL}.ledger (
      run_key text primary key, connector text not null, stream text not null, mode text not null,
      epoch bigint not null, rows bigint not null, inserted bigint not null, updated bigint not null,
      unchanged bigint not null, deleted bigint not null,
      committed_at timestamptz not null default clock_timestamp())""",
    f"alter table {CONTROL}.ledger add column if not exists position_from json",
    f"alter table {CONTROL}.ledger add column if not exists position_to json",
    f"""create table if not exists {CONTROL}.sync_state (
      connector text, stream text, position json, generation bigint not null default 0, run_key text,
      committed_at timestamptz, primary key (connector, stream))""",
    f"""create unlogged table if not exists {CONTROL}.checkpoint (
      connector text, stream text, plan text not null, epoch bigint not null, part bigint not null,
      state json not null, primary key (connector, stream))""",
)
# Alterations lock a table that other syncs commit to, so they run only when one is needed.
_IS_CURRENT = f"""select count(*) = 3 and to_regnamespace('{STAGING}') is not null from pg_attribute
  where not attisdropped and (attrelid = to_regclass('{CONTROL}.ledger') and attname = 'position_to'
    or attrelid = to_regclass('{CONTROL}.sync_state') and attname = 'committed_at'
    or attrelid = to_regclass('{CONTROL}.checkpoint') and attname = 'state')"""

_TAKE_LEASE = f"""insert into {CONTROL}.lease (connector, stream, epoch) values (%s, %s, 1)
  on conflict (connector, stream) do update set epoch = lease.epoch + 1, taken_at = clock_timestamp()
  returning epoch"""
_HOLD_LEASE = f"select epoch from {CONTROL}.lease where connector = %s and stream = %s for update"
_NEWEST = f"select epoch from {CONTROL}.lease where connector = %s and stream = %s"
_LEDGER_ROW = (
    f"select rows, inserted, updated, unchanged, deleted from {CONTROL}.ledger where run_key = %s"
)
_WRITE_LEDGER = f"""insert into {CONTROL}.ledger (run_key, connector, stream, mode, epoch, rows,
  inserted, updated, unchanged, deleted, position_from, position_to, committed_at)
  values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
# What is only added by the statement, the statement does not find.
_STATE = f"""with added as (
    insert into {CONTROL}.sync_state (connector, stream) values (%s, %s) on conflict do nothing)
  select position, generation from {CONTROL}.sync_state where connector = %s and stream = %s"""
# Never earlier than the commit before, whatever happened to the server's clock.
_MOMENT = f"""select greatest(clock_timestamp(), committed_at + interval '1 microsecond')
  from {CONTROL}.sync_state where connector = %s and stream = %s"""
_MOVE_STATE = f"""update {CONTROL}.sync_state
  set position = %s, generation = generation + 1, run_key = %s, committed_at = %s
  where connector = %s and stream = %s and generation = %s"""
SAVE_CHECKPOINT = f"""insert into {CONTROL}.checkpoint (connector, stream, plan, epoch, part, state)
  values ($1, $2, $3, $4, $5, $6::text::json)
  on conflict (connector, stream) do update
  set plan = excluded.plan, epoch = excluded.epoch, part = excluded.part, state = excluded.state
  where checkpoint.epoch <= excluded.epoch"""
_CHECKPOINT = f"""select plan, epoch, part, state from {CONTROL}.checkpoint
  where connector = %s and stream = %s"""
_ADOPT_CHECKPOINT = f"""update {CONTROL}.checkpoint set epoch = %s
  where connector = %s and stream = %s and epoch = %s"""
_DROP_CHECKPOINT = f"""delete from {CONTROL}.checkpoint
  where connector = %s and stream = %s and epoch <= %s"""

# While another attempt is inside its commit, its outcome is what this one waits for.
_LEASE_PATIENCE = "set local lock_timeout = '10min'"
# A worker that stops inside its commit must not keep the next one waiting, whatever the options of its URL say.
_COMMIT_SETTINGS = (
    "set local lock_timeout = '5s'; set local statement_timeout = '1h';"
    " set local idle_in_transaction_session_timeout = '20s'"
)


def set_up(db: Db) -> None:
    """Make the control tables, or bring those of an older version up to date."""
    with db.transaction():
        if _value(db, _IS_CURRENT, ()):
            return
        db.execute("select pg_advisory_xact_lock(%s)", (_SETUP_LOCK,))
        for statement in _TABLES:
            db.execute(statement)


def as_json(position: Position | None) -> str | None:
    """Write a position down."""
    return None if position is None else json.dumps(position, allow_nan=False)


def _value(db: Db, query: str, values: tuple[Any, ...]) -> Any:  # noqa: ANN401 - a value of any type
    row = db.execute(query, values).fetchone()
    return row[0] if row else None


class Control:
    """What the control tables hold of one stream."""

    def __init__(self, db: Db, connector: str, stream: str) -> None:
        """Take no lease yet."""
        self._db = db
        self._who = (connector, stream)

    def take_lease(self) -> int:
        """Become the newest attempt, waiting for one that is inside its commit."""
        with self._db.transaction():
            self._db.execute(_LEASE_PATIENCE)
            return int(_value(self._db, _TAKE_LEASE, self._who))

    def hold_lease(self) -> int:
        """Keep newer attempts waiting until the transaction ends, and tell the newest epoch."""
        return int(_value(self._db, _HOLD_LEASE, self._who) or 0)

    def newest(self) -> int:
        """Tell the newest epoch as it is now."""
        return int(_value(self._db, _NEWEST, self._who) or 0)

    def prepare_commit(self) -> None:
        """Bound how long the transaction may wait and rest."""
        self._db.execute(_COMMIT_SETTINGS)

    def committed(self, run_key: str) -> tuple[int, Changes] | None:
        """Tell what the ledger has of a task."""
        row = self._db.execute(_LEDGER_ROW, (run_key,)).fetchone()
        if row is None:
            return None
        rows, inserted, updated, unchanged, deleted = row
        return rows, Changes(
            inserted=inserted, updated=updated, unchanged=unchanged, deleted=deleted
        )

    def state(self) -> tuple[Position | None, int]:
        """Tell the position and the number of commits of the stream."""
        row = self._db.execute(_STATE, self._who * 2).fetchone() or (None, 0)
        return row[0], row[1]

    def moment(self) -> Any:  # noqa: ANN401 - psycopg's datetime
        """Tell the time of a commit, later than that of every commit before."""
        return _value(self._db, _MOMENT, self._who)

    def move_state(self, position: Position | None, run_key: str, at: object, known: int) -> bool:
        """Write a new position; False when there was a commit since generation `known`."""
        values = (as_json(position), run_key, at, *self._who, known)
        return self._db.execute(_MOVE_STATE, values).rowcount == 1

    def write_ledger(self, facts: Mapping[str, Any], changes: Changes) -> None:
        """Note for ever that a task committed."""
        values = (
            facts["run_key"], *self._who, facts["mode"], facts["epoch"], facts["rows"],
            changes.inserted, changes.updated, changes.unchanged, changes.deleted,
            as_json(facts["since"]), as_json(facts["position"]), facts["at"],
        )  # fmt: skip
        self._db.execute(_WRITE_LEDGER, values)

    def checkpoint(self) -> tuple[str, int, int, Position] | None:
        """Tell plan, epoch, number and state of the last checkpoint."""
        return self._db.execute(_CHECKPOINT, self._who).fetchone()

    def adopt_checkpoint(self, old: int, new: int) -> bool:
        """Make a checkpoint that of another epoch."""
        return self._db.execute(_ADOPT_CHECKPOINT, (new, *self._who, old)).rowcount == 1

    def drop_checkpoint(self, epoch: int) -> None:
        """Forget the checkpoint of this epoch or an older one."""
        self._db.execute(_DROP_CHECKPOINT, (*self._who, epoch))
