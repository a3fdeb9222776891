"""What /proc tells about the processes of this machine."""

import time
from collections.abc import Iterator
from pathlib import Path

from aiia_pipelines.jobs.traces import stat_of


def started_at(pid: int) -> int | None:
    """Gives the start of a live process in clock ticks since boot, None when there is none."""
    stat = _live(pid)
    return int(stat[19]) if stat else None


def session_of(pid: int) -> int | None:
    """Gives the session a live process belongs to."""
    stat = _live(pid)
    return int(stat[3]) if stat else None


def alive(pid: int) -> bool:
    """Tells whether a process is there and has not ended."""
    return started_at(pid) is not None


def command(pid: int) -> tuple[str, ...]:
    """Gives the words a process was started with."""
    return _words(Path(f"/proc/{pid}/cmdline"))


def environment(pid: int) -> tuple[str, ...]:
    """Gives the `NAME=value` pairs a process was started with, nothing for other people's."""
    return _words(Path(f"/proc/{pid}/environ"))


def everyone() -> Iterator[int]:
    """Lists the processes of this machine."""
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def wait_until_gone(pid: int, seconds: float) -> bool:
    """Waits for a process to end; False when it is still there."""
    deadline = time.monotonic() + seconds
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _live(pid: int) -> list[str]:
    stat = stat_of(pid)
    # a zombie has ended; only its parent has not looked yet
    return [] if stat and stat[0] in "ZX" else stat


def _words(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_bytes().decode(errors="replace").rstrip("\0").split("\0"))
    except OSError:
        return ()
