"""A login within a deadline, for drivers whose own timeouts do not hold."""

import struct
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

import sqlalchemy as sa

from aiia_pipelines.connectors._sql_wanted import DriverFault

_T = TypeVar("_T")

# Besides their own errors, drivers let these out when the other side is not what they expect.
_CONFUSED = (
    AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError,
    struct.error,
)  # fmt: skip


def within(seconds: float, action: Callable[[], _T]) -> _T:
    """Do something within so many seconds; a driver that hangs is left behind in a thread of its own.

    Raises:
        DriverFault: It did not end in time, or broke off in a way of its own.
        sqlalchemy.exc.SQLAlchemyError: The driver refused.
    """
    answers: SimpleQueue[tuple[_T] | BaseException] = SimpleQueue()

    def act() -> None:
        try:
            answers.put((action(),))
        except (sa.exc.SQLAlchemyError, *_CONFUSED) as fault:
            answers.put(fault)

    threading.Thread(target=act, name="login", daemon=True).start()
    try:
        answer = answers.get(timeout=max(seconds, 0.1))
    except Empty:
        late = TimeoutError("the driver gave no answer")
        raise DriverFault(late) from late
    if isinstance(answer, sa.exc.SQLAlchemyError):
        raise answer
    if isinstance(answer, BaseException):
        raise DriverFault(answer) from answer
    return answer[0]
