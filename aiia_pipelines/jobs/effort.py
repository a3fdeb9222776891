"""What work costs: CPU seconds of the thread that does it, and the memory that the process holds meanwhile.

The kernel keeps one high-water mark of memory for the whole life of a process. What a piece of work saw is
therefore taken from looks at its beginning, at its end and once a second, and from the mark when it rose
meanwhile: a peak between two looks that stays below an earlier one is missed.
"""

import os
import resource
import sys
import threading
import time

# Seconds for which a look at the memory holds: small pieces follow each other at once.
_FRESH = 0.01


class _Thread(threading.local):
    lent = 0.0  # CPU seconds that other threads spent for this one
    told = 0.0  # CPU seconds that pieces of work on this thread have accounted for
    handed = 0.0  # CPU seconds of this thread that another one accounts for


_HERE = _Thread()
_claimed: dict[int, float] = {}  # by process: a fork begins at nothing
_look = (float("-inf"), 0)


def spent() -> float:
    """Give the CPU seconds of this thread and of those that worked for it."""
    return time.thread_time() + _HERE.lent


def lend(seconds: float) -> None:
    """Take CPU seconds of another thread for those of this one, which had it do the work."""
    _HERE.lent += seconds


def unlent() -> float:
    """Give the CPU seconds of this thread since it was asked last, for the thread that it works for."""
    before, _HERE.handed = _HERE.handed, spent()
    return _HERE.handed - before


def of_process() -> float:
    """Give the CPU seconds of all threads of this process, those that nobody accounts for as well."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def claimed() -> float:
    """Give the CPU seconds of this process that earlier job runs have accounted for."""
    return _claimed.get(os.getpid(), 0.0)


def claim() -> None:
    """Account for all that this process has used: its next job run begins at nothing."""
    _claimed[os.getpid()] = of_process()


def most_held() -> int:
    """Give the high-water mark of memory in bytes; after an exec it may be that of the parent."""
    in_kib = sys.platform != "darwin"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if in_kib else 1)


def held() -> int:
    """Give the bytes of memory that the process holds, as of the last hundredth of a second."""
    global _look  # noqa: PLW0603 - the memory is the process's, and so is the look at it
    at, found = _look
    now = time.monotonic()
    if now - at > _FRESH:
        found = _resident()
        _look = (now, found)
    return found


def _resident() -> int:
    try:
        file = os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        return most_held()  # where there is no /proc
    try:
        return int(os.read(file, 100).split()[1]) * resource.getpagesize()
    finally:
        os.close(file)


class Piece:
    """A stretch of work on one thread; of pieces inside each other the inner one has the CPU seconds."""

    __slots__ = ("_began", "_cpu", "_mark", "_process", "_told", "busy", "cpu", "peak")

    def __init__(self) -> None:
        """Begin."""
        self.busy = self.cpu = 0.0
        self._mark = most_held()
        self.peak = held()
        self._told = _HERE.told
        self._process = of_process()
        self._began = time.monotonic()
        self._cpu = spent()

    def look(self) -> None:
        """See how much memory the process holds now; any thread may ask for it."""
        self.peak = max(self.peak, held())

    def end(self, *, alone: bool = False, besides: float = 0.0) -> None:
        """Stop the clocks; who was alone at work has what the whole process used `besides` the heartbeat.

        Engines such as DuckDB work in threads of their own, whose CPU seconds nobody else could account for.
        """
        total = spent() - self._cpu
        if alone:
            total = max(total, of_process() - self._process - besides)
        self.busy = time.monotonic() - self._began
        self.cpu = total - (_HERE.told - self._told)
        _HERE.told = self._told + total
        mark = most_held()
        self.peak = max(self.peak, mark if mark > self._mark else held())
