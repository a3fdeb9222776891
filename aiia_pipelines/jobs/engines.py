"""Connections to the database of the job runs that all parts of a process share, while any of them needs them."""

import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

_FRESH = 5.0  # seconds
_LONGEST_PAUSE = (
    25_000  # milliseconds; a stopped process has been silent for a while when it is ended
)
_USED_AT = "aiia: used at"
_LOCK = threading.Lock()


@dataclass(slots=True)
class _Shared:
    engine: sa.Engine
    users: int = 0


# By process: connections that were there at a fork belong to the other one.
_SHARED: dict[tuple[int, str, bool], _Shared] = {}


def take(url: str, prepare: Callable[[sa.Engine], None], *, autocommit: bool = False) -> sa.Engine:
    """Give the engine of a database; whoever is the first has it prepared."""
    key = (os.getpid(), url, autocommit)
    with _LOCK:
        shared = _SHARED.get(key)
        if shared is None:
            shared = _SHARED[key] = _Shared(_prepared(_made(url, autocommit=autocommit), prepare))
        shared.users += 1
        return shared.engine


def give_back(engine: sa.Engine) -> None:
    """Say that one user needs the engine no more; after the last one its connections are closed."""
    with _LOCK:
        key = next((key for key, shared in _SHARED.items() if shared.engine is engine), None)
        if key is not None:
            _SHARED[key].users -= 1
            if _SHARED[key].users > 0:
                return
            del _SHARED[key]
    engine.dispose()


def _prepared(engine: sa.Engine, prepare: Callable[[sa.Engine], None]) -> sa.Engine:
    try:
        prepare(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _made(url: str, *, autocommit: bool) -> sa.Engine:
    more: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"} if autocommit else {}
    engine = sa.create_engine(
        url,
        hide_parameters=True,
        pool_size=2,
        max_overflow=20,
        # The counts of many steps go to the server in one message.
        executemany_mode="values_plus_batch",
        connect_args={"connect_timeout": 10},
        **more,
    )
    _check_connections(engine)
    sa.event.listen(engine, "connect", _let_nobody_wait)
    return engine


def _let_nobody_wait(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    """Have the server end a session that goes to sleep in a transaction.

    A process that is stopped there, as by SIGSTOP, keeps its locks: whoever wants to end its job run would wait for ever.
    """
    with closing(connection.cursor()) as cursor:
        cursor.execute(f"set idle_in_transaction_session_timeout = {_LONGEST_PAUSE}")
    connection.commit()


def _check_connections(engine: sa.Engine) -> None:
    """Have connections that a database closed at its restart replaced before they are used.

    SQLAlchemy's own way asks the server each time, half of all messages of a run. One that was in use a moment ago
    is only looked at: a server that closes a connection says so, and what it said lies there to be read.
    """

    def returned(_: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info[_USED_AT] = time.monotonic()

    def taken(
        given: DBAPIConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection
    ) -> None:
        used_at = record.info.get(_USED_AT)
        if used_at is None or (time.monotonic() - used_at < _FRESH and not _has_news(given)):
            return
        try:
            engine.dialect.do_ping(given)
        except engine.dialect.loaded_dbapi.Error as fault:
            raise sa.exc.DisconnectionError from fault

    sa.event.listen(engine, "checkin", returned)
    sa.event.listen(engine, "checkout", taken)


def _has_news(connection: DBAPIConnection) -> bool:
    if connection.closed:
        return True
    news = select.poll()
    news.register(connection.fileno(), select.POLLIN)
    return bool(news.poll(0))
