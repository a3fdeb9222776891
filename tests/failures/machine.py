"""What this machine lets tests do to it: mount, limit, and see with other eyes."""

import ctypes
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mounting import may_mount

_NEW_MOUNTS = 0x00020000
_PRIVATE, _BIND, _ALL = 1 << 18, 1 << 12, 1 << 14


CANNOT_MOUNT = "" if may_mount() else "no right to mount"


@contextmanager
def small_disk(folder: Path, size: str = "1m", owner: int = 0) -> Iterator[Path]:
    """Mount a disk of a small size."""
    folder.mkdir(mode=0o755)
    what = f"size={size},uid={owner},mode=0755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", what, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def see_instead(path: str, other: Path) -> None:
    """Let the calling thread, and those that it starts, see another file in the place of one."""
    libc = ctypes.CDLL(None, use_errno=True)

    def done(result: int) -> None:
        assert result == 0, os.strerror(ctypes.get_errno())

    done(libc.unshare(_NEW_MOUNTS))
    done(libc.mount(b"none", b"/", None, _PRIVATE | _ALL, None))
    done(libc.mount(str(other).encode(), path.encode(), None, _BIND, None))


@contextmanager
def limited(kind: int, most: int) -> Iterator[None]:
    """Hold this process to a limit for a while."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


@contextmanager
def no_more_files() -> Iterator[None]:
    """Have all the files open that this process may."""
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    held: list[int] = []
    with limited(resource.RLIMIT_NOFILE, highest + 3):
        try:
            with suppress(OSError):
                while True:
                    held.append(os.open(os.devnull, os.O_RDONLY))
            yield
        finally:
            for number in held:
                os.close(number)


def memory() -> int:
    """Count the bytes of address space in use."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


class Meddled:
    """A source with which something is done right after it has connected."""

    def __init__(self, source: Any, then: Any) -> None:
        self._source, self._then = source, then

    def connect(self) -> None:
        self._source.connect()
        with suppress(StopIteration):
            self._then()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)
