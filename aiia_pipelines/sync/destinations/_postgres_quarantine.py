"""The rows that were set aside, made visible next to their stream."""

from psycopg import sql

from aiia_pipelines.sync.destinations._postgres_control import Db
from aiia_pipelines.sync.destinations._postgres_sql import MOMENT, short
from aiia_pipelines.sync.destinations.base import Load

_COLUMNS = (
    f'run_key text not null, at {MOMENT} not null, "row" bigint not null, place text not null,'
    " rules text not null, record json not null"
)


def publish(db: Db, load: Load, rejected: sql.Identifier, at: sql.Literal) -> None:
    """Add the rejected rows to the quarantine of their stream, inside the commit."""
    table = sql.Identifier(load.connector, short(f"{load.stream}__quarantine"))
    create = sql.SQL("create table if not exists {} ({})")
    db.execute(create.format(table, sql.SQL(_COLUMNS)))
    insert = sql.SQL(
        'insert into {table} (run_key, at, "row", place, rules, record)'
        ' select {run_key}, {at}, "row", place, rules, record from {rejected}'
    )
    parts = {"table": table, "at": at, "rejected": rejected}
    db.execute(insert.format(run_key=sql.Literal(load.run_key), **parts))
