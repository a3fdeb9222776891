"""Forked processes: how one begins as good as new, how it is signalled, and how its end is seen."""

import gc
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aiia_pipelines.local.processes import started_at

# What ends a process; all but the first, which asks nobody, wait until the new process can take them.
_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_CRASHED = 70

Work = Callable[[Callable[[], None]], int]


@dataclass(frozen=True, slots=True)
class Forked:
    """A process that is watched; `handle` becomes readable when it ends, and cannot mean another one."""

    pid: int
    handle: int
    own: bool = True

    def signal(self, sign: signal.Signals) -> None:
        """Signal it, if it is still there."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, sign)

    def end(self) -> int | None:
        """Let go of a process that has ended; gives its exit code, None when it had another parent."""
        os.close(self.handle)
        if not self.own:
            return None
        with suppress(ChildProcessError):
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return None


def open_files() -> set[int]:
    """List the descriptors that are open in this process."""
    numbers = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    return {number for number in numbers if _is_open(number)}


def _is_open(number: int) -> bool:
    # The list also has the one that it was read with.
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def adopt(pid: int, ticks: int) -> Forked | None:
    """Watch a process that another one forked; None when it has ended."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return None
    if started_at(pid) != ticks:
        os.close(handle)
        return None
    return Forked(pid, handle, own=False)


def fork(work: Work, *, log: Path, keep: Collection[int]) -> Forked:
    """Start a process for some work, with a session, a log and random numbers of its own.

    It has no open file but those in `keep`. The work is given a function that lets signals in; its result
    is the exit code.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        pid = os.fork()
        if pid == 0:
            _become(work, log, keep)
        return Forked(pid, os.pidfd_open(pid))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _become(work: Work, log: Path, keep: Collection[int]) -> None:
    code = _CRASHED
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for sign in (*_ENDING, signal.SIGCHLD):
            signal.signal(sign, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _only(keep, log)
        _reseed()
        gc.enable()
        code = work(_let_in)
    finally:
        # Nobody above may see this process: it ends here, whatever happened.
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _let_in() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


def _only(keep: Collection[int], log: Path) -> None:
    """Close what belongs to the parent, and write to a log of its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for number in open_files() - {0, 1, 2, *keep}:
        with suppress(OSError):
            os.close(number)


def _reseed() -> None:
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()
