"""One command measured as a whole: wall time, CPU time and peak memory of it and of all that it starts."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_LOOK = 0.05  # seconds between two looks at the memory


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run of a command took: seconds, CPU seconds, and bytes resident at its peak.

    `servers` are the CPU seconds of the databases meanwhile.
    """

    wall: float
    cpu: float
    memory: int
    code: int
    said: str
    servers: float = 0.0


def spent(top: int) -> float:
    """Count the CPU seconds of a process, of those it has started, and of those of them that have ended."""
    process = psutil.Process(top)
    ended = process.cpu_times()
    total = float(ended.children_user + ended.children_system)
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            used = each.cpu_times()
            total += used.user + used.system
    return total


def measure(
    command: Sequence[str], *, environ: Mapping[str, str], log: Path, limit: float
) -> Measured:
    """Run a command to its end, or for `limit` seconds."""
    with log.open("w") as out:
        before = os.times()
        began = time.monotonic()
        process = subprocess.Popen(command, env=dict(environ), stdout=out, stderr=subprocess.STDOUT)
        peak = _Peak(process.pid)
        try:
            code = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            for child in [
                *psutil.Process(process.pid).children(recursive=True),
                psutil.Process(process.pid),
            ]:
                with suppress(psutil.Error):
                    child.kill()
            process.wait()
            code = 124
        wall = time.monotonic() - began
        after = os.times()
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return Measured(wall, cpu, peak.end(), code, log.read_text()[-2000:])


class Warm:
    """A process that has everything imported and forks one for each piece of work, like the worker of an installation."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start it and wait until it is warm."""
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, env=dict(environ), stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True
        )
        self._heard()

    def _heard(self) -> list[str]:
        if self._process.stdout is None:
            raise AssertionError("it was asked for")
        return self._process.stdout.readline().split()

    def measure(self, arguments: Sequence[str]) -> Measured:
        """Have one piece of work done; the memory is that of its process, with what it shares with the warm one."""
        if self._process.stdin is None:
            raise AssertionError("it was asked for")
        began = time.monotonic()
        self._process.stdin.write(" ".join(arguments) + "\n")
        self._process.stdin.flush()
        peak = _Peak(int(self._heard()[0]))
        code, cpu = self._heard()[:2]
        wall = time.monotonic() - began
        return Measured(wall, float(cpu), peak.end(), int(code), "")

    def end(self) -> None:
        """Let it go."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


class _Peak:
    """Looks at the memory of a process and its children until it is told to end."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._most = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(_LOOK):
            with suppress(psutil.Error):
                top = psutil.Process(self._pid)
                family = [top, *top.children(recursive=True)]
                self._most = max(self._most, sum(_resident(process) for process in family))

    def end(self) -> int:
        self._over.set()
        self._thread.join()
        return self._most


def _resident(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0
