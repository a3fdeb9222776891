"""The tables by which a DuckDB file knows who may commit, what was committed, and up to where."""

from aiia_pipelines.sync.destinations._duckdb_sql import TIME

# No keys where rows are updated: DuckDB 2.0 lets two transactions update the same row of a table with a key.
TABLES = (
    "create schema if not exists _aiia",
    "create sequence if not exists _aiia.epochs",
    f"""create table if not exists _aiia.lease (
      connector VARCHAR not null, stream VARCHAR not null, epoch BIGINT not null, taken_at {TIME} not null)""",
    f"""create table if not exists _aiia.sync_state (
      connector VARCHAR not null, stream VARCHAR not null, reached VARCHAR, run_key VARCHAR not null,
      committed_at {TIME} not null)""",
    f"""create table if not exists _aiia.ledger (
      run_key VARCHAR primary key, connector VARCHAR not null, stream VARCHAR not null, mode VARCHAR not null,
      epoch BIGINT not null, rows BIGINT not null, inserted BIGINT not null, updated BIGINT not null,
      unchanged BIGINT not null, deleted BIGINT not null, committed_at {TIME} not null)""",
)
END_LEASE = "delete from _aiia.lease where connector = ? and stream = ?"
TAKE_LEASE = "insert into _aiia.lease values (?, ?, nextval('_aiia.epochs'), now()) returning epoch"
# An update, so that of two commits at the same time DuckDB refuses one.
HOLD_LEASE = "update _aiia.lease set taken_at = now() where connector = ? and stream = ?"
LEASE = "select max(epoch) from _aiia.lease where connector = ? and stream = ?"
LEDGER_ROW = (
    "select rows, inserted, updated, unchanged, deleted from _aiia.ledger where run_key = ?"
)
WRITE_LEDGER = """insert into _aiia.ledger
  (run_key, connector, stream, mode, epoch, rows, inserted, updated, unchanged, deleted, committed_at)
  values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
POSITION = "select reached from _aiia.sync_state where connector = ? and stream = ?"
# Commits of a stream never go back in time, whatever the clock of this machine does.
NEXT_TIME = """select epoch_us(greatest(now(), max(committed_at) + interval 1 microsecond))
  from _aiia.sync_state where connector = ? and stream = ?"""
FORGET = "delete from _aiia.sync_state where connector = ? and stream = ?"
MOVE = "insert into _aiia.sync_state values (?, ?, ?, ?, ?)"

REJECTED = {"row": "BIGINT", "place": "VARCHAR", "rules": "VARCHAR", "record": "VARCHAR"}
QUARANTINE = {**REJECTED, "run_key": "VARCHAR", "at": TIME}
