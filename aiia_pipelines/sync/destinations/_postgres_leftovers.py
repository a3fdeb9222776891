"""What attempts that are over left in the staging schema, removed without taking a stream over."""

import re
from collections.abc import Iterator

import psycopg
from psycopg import sql

from aiia_pipelines.sync.destinations._postgres_control import CONTROL, STAGING, Control, Db
from aiia_pipelines.sync.destinations._postgres_sql import staging_prefix

_THERE = f"select to_regclass('{CONTROL}.checkpoint') is not null and to_regnamespace('{STAGING}') is not null"
_TABLES = f"select tablename from pg_tables where schemaname = '{STAGING}' order by 1"
_LEASES = f"select connector, stream, epoch from {CONTROL}.lease"
_NAME = re.compile(r"(?P<prefix>.+)__(?P<epoch>[0-9]+)(?P<role>[kqmh]?)")
# Less than a commit has patience for: it waits while the lease is held here.
_PATIENCE = "set local lock_timeout = '500ms'"


def drop_leftovers(db: Db, most: int) -> int:
    """Drop tables of attempts that a newer one took the place of, at most so many, and count them."""
    if not (db.execute(_THERE).fetchone() or (False,))[0]:
        return 0
    count = 0
    for who, epoch, name in _overtaken(db):
        if count >= most:
            break
        count += _drop(db, who, epoch, name)
    return count


def _overtaken(db: Db) -> Iterator[tuple[tuple[str, str], int, str]]:
    """List the tables of old epochs; those of the newest may be those of an attempt at work."""
    names = [name for (name,) in db.execute(_TABLES).fetchall()]
    leases = {
        staging_prefix(connector, stream): ((connector, stream), newest)
        for connector, stream, newest in db.execute(_LEASES).fetchall()
    }
    for name in names:
        found = _NAME.fullmatch(name)
        who, newest = leases.get(found["prefix"], (None, 0)) if found else (None, 0)
        if found and who is not None and int(found["epoch"]) < newest:
            yield who, int(found["epoch"]), name


def _drop(db: Db, who: tuple[str, str], epoch: int, name: str) -> bool:
    """Drop one table, unless a newer attempt may still go on from it; False when somebody uses it."""
    control = Control(db, *who)
    try:
        with db.transaction():
            db.execute(_PATIENCE)
            # No other attempt begins or commits until this transaction ends.
            control.hold_lease()
            kept = control.checkpoint()
            if kept is not None and kept[1] == epoch:
                return False
            db.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(STAGING, name)))
    except psycopg.errors.LockNotAvailable:
        return False
    return True
