"""Connections to the database of the job runs that all parts of a process share, while any of them needs them."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

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
    return sa.create_engine(
        url,
        hide_parameters=True,
        pool_size=2,
        max_overflow=20,
        # A database that was restarted closed them all.
        pool_pre_ping=True,
        # The counts of many steps go to the server in one message.
        executemany_mode="values_plus_batch",
        connect_args={"connect_timeout": 10},
        **more,
    )
