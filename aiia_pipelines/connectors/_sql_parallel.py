"""Several readers at the same time, their batches in one iterator that holds a bounded number of bytes."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from aiia_pipelines.connectors.base import Batch
from aiia_pipelines.jobs import effort

_WAITING = 32 * 1024 * 1024  # bytes


class _Merge:
    """Batches of several threads on their way to one."""

    def __init__(self, readers: int) -> None:
        self._readers = readers
        self._held = 0
        self._batches: deque[tuple[Batch, int]] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._spent = 0.0  # CPU seconds of the readers that nobody has accounted for
        self.broken: list[int] = []  # readers in the order in which they broke off

    def fill(self, number: int, reader: Callable[[], Generator[Batch, None, None]]) -> None:
        """Take over all batches of one reader; one that breaks off stops the others."""
        done = False
        try:
            with closing(reader()) as batches:
                for batch in batches:
                    if not self._put(batch):
                        break
            done = True
        finally:
            with self._changed:
                self._spent += effort.unlent()
                self._readers -= 1
                if not done:
                    self._stopped = True
                    self.broken.append(number)
                self._changed.notify_all()

    def _put(self, batch: Batch) -> bool:
        size = batch.nbytes
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopped or not self._batches or self._held + size <= _WAITING
            )
            self._spent += effort.unlent()
            if self._stopped:
                return False
            self._batches.append((batch, size))
            self._held += size
            self._changed.notify_all()
        return True

    def take(self) -> Batch | None:
        """Give the next batch, None after the last one or when a reader broke off."""
        with self._changed:
            self._changed.wait_for(lambda: self._batches or self._stopped or not self._readers)
            if self._stopped or not self._batches:
                return None
            batch, size = self._batches.popleft()
            self._held -= size
            self._changed.notify_all()
        self.settle()
        return batch

    def settle(self) -> None:
        """Let the thread that takes batches account for what reading them took."""
        with self._changed:
            effort.lend(self._spent)
            self._spent = 0.0

    def stop(self) -> None:
        """Let no reader wait any longer."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def merged(
    readers: Sequence[Callable[[], Generator[Batch, None, None]]], cancel: Callable[[], None]
) -> Generator[Batch, None, None]:
    """Read from all readers at the same time; `cancel` makes them end early.

    Raises:
        DriverFault: A reader broke off.
    """
    merge = _Merge(len(readers))
    with ThreadPoolExecutor(len(readers), thread_name_prefix="read-part") as threads:
        filling = [threads.submit(merge.fill, *facts) for facts in enumerate(readers)]
        ended = False
        try:
            while (batch := merge.take()) is not None:
                yield batch
            ended = not merge.broken
        finally:
            merge.stop()
            if not ended:
                cancel()
    merge.settle()
    for number in merge.broken:
        filling[number].result()
