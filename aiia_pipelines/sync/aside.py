"""A thread beside this one, for what may hang: it is left behind when it does not answer in time."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeVar

_T = TypeVar("_T")
_GLANCE = 0.1  # seconds between two looks at whether somebody asked to stop


class Aside:
    """One thread that does one thing after another; a driver may ask to be used by one thread only."""

    def __init__(self, name: str) -> None:
        """Start the thread; it ends with `end`, or with the process."""
        self._waiting: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def do(
        self, action: Callable[[], _T], until: float, stopped: Callable[[], bool] = lambda: False
    ) -> Future[_T]:
        """Wait for an action until a moment of the monotonic clock, or until somebody stopped it.

        What comes back is done, unless the action goes on: then nothing more may be asked of this thread.
        """
        answer: Future[_T] = Future()
        self._waiting.put((action, answer))
        while not answer.done() and not stopped() and (left := until - time.monotonic()) > 0:
            wait([answer], timeout=min(left, _GLANCE))
        return answer

    def end(self) -> None:
        """Let the thread end after what it is doing."""
        self._waiting.put(None)

    def _work(self) -> None:
        while (wanted := self._waiting.get()) is not None:
            action, answer = wanted
            with _HandedOver(answer):
                answer.set_result(action())


class _HandedOver:
    """What is raised here belongs to the thread that waits for the answer."""

    def __init__(self, answer: "Future[Any]") -> None:
        self._answer = answer

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _: type[BaseException] | None, fault: BaseException | None, __: TracebackType | None
    ) -> bool:
        if fault is not None:
            self._answer.set_exception(fault)
        return True
