"""Batches on their way between the threads of one stream, never more bytes at once than fit."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Abandoned(Exception):
    """The other end of a channel gave up; its own fault tells why."""


class Channel(Generic[Item]):
    """A queue from one thread to another that holds at most `limit` bytes, or one item that is larger."""

    def __init__(self, limit: int) -> None:
        """Open an empty channel; `limit` is in bytes."""
        self._limit = limit
        self._held = 0
        self._items: deque[tuple[Item, int]] = deque()
        self._ended = False
        self._abandoned = False
        self._changed = threading.Condition()

    def put(self, item: Item, size: int) -> None:
        """Hand over an item of `size` bytes, waiting until there is room.

        Raises:
            Abandoned: Nobody takes items any more.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._abandoned or not self._items or self._held + size <= self._limit
            )
            if self._abandoned:
                raise Abandoned
            self._items.append((item, size))
            self._held += size
            self._changed.notify_all()

    @contextmanager
    def filling(self) -> Iterator[None]:
        """End the channel with the block, or abandon it with the fault that ends the block."""
        done = False
        try:
            yield
            done = True
        finally:
            with self._changed:
                self._ended = True
                self._abandoned = self._abandoned or not done
                self._changed.notify_all()

    def abandon(self) -> None:
        """Wake up both ends for good; what is held is dropped."""
        with self._changed:
            self._abandoned = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        """Take items until the channel ends.

        Raises:
            Abandoned: Nobody hands over items any more, and they were not all.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended or self._abandoned)
                if self._abandoned:
                    raise Abandoned
                if not self._items:
                    return
                item, size = self._items.popleft()
                self._held -= size
                self._changed.notify_all()
            yield item
