"""Small files that must be whole, private, and in the right hands."""

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path


def make_folder(folder: Path, mode: int = 0o755) -> None:
    """Makes a folder and its parents, owned by whoever owns the nearest one above."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode, exist_ok=True)
    _hand_over(folder)


def write_whole(path: Path, text: str, mode: int = 0o600) -> None:
    """Puts text in place so that a reader sees the old or the new file, never half of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    _hand_over(part)
    part.replace(path)


def last_lines(path: Path, count: int = 20, since: int = 0) -> tuple[str, ...]:
    """Reads the end of a log, from the byte `since` on."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since, size - 65536))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ()
    return tuple(deque((line for line in lines if line.strip()), maxlen=count))


def roll(path: Path, limit: int = 10_000_000) -> int:
    """Puts a log of more than `limit` bytes aside; gives the byte where new lines begin."""
    size = path.stat().st_size if path.exists() else 0
    if size < limit:
        return size
    path.replace(path.with_name(f"{path.name}.1"))
    return 0


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lets one process at a time in; the lock goes with the process that holds it."""
    with path.open("a") as file:
        flock(file, LOCK_EX)
        yield


def _hand_over(path: Path) -> None:
    # root working in somebody's folder must not lock that person out
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
