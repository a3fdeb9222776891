"""Where Parquet files and their log are kept: named objects that never change once they are there."""

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aiia_pipelines.jobs.traces import started_at
from aiia_pipelines.sync.faults import DestinationFault

_LOCK = ".lock"
_SCRATCH = "aiia-parquet-"
_UNLOCKED = "aiia-new-"  # a folder that is just being made, and then its host, process id and start
_LONG = 3600.0  # seconds; a folder is unlocked for less than a second
_SIGNALS = {
    "ENOSPC": "sqlstate:53100",
    "EDQUOT": "sqlstate:53100",
    "EIO": "sqlstate:58030",
    "EACCES": "sqlstate:42501",
    "EPERM": "sqlstate:42501",
}


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as a listing shows it; `changed` is in seconds since 1970."""

    name: str
    changed: float


class Store(Protocol):
    """A folder, or a bucket from a prefix on; names are relative to it and have slashes."""

    def describe(self) -> str:
        """Name the place for people, without credentials."""
        ...

    def connect(self, *, writes: bool) -> None:
        """Make sure that the place is there, and may be written if it is to be."""
        ...

    def names(self, folder: str) -> list[Stored]:
        """List what lies in a folder."""
        ...

    def read(self, name: str) -> bytes | None:
        """Give the content of an object; None when there is none."""
        ...

    def put_new(self, name: str, content: bytes) -> bool:
        """Make an object, durably, unless there is one of that name; tell whether it was made.

        False is certain; a fault leaves open whether it was made.
        """
        ...

    def publish(self, path: Path, name: str) -> None:
        """Make a local file an object, durably; the file may be gone afterwards."""
        ...

    def local(self, name: str, scratch: Path) -> Path:
        """Give a path at which an object can be read as a file."""
        ...

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        ...

    def scratch(self) -> Path:
        """Give the folder for the files of attempts that are under way."""
        ...


class LocalStore:
    """A folder of this machine, or mounted on it."""

    def __init__(self, root: Path) -> None:
        """Keep the folder; it is made when it is connected to."""
        self._root = root

    def describe(self) -> str:
        """Name the folder."""
        return f"parquet://{self._root}"

    def connect(self, *, writes: bool) -> None:
        """Make the folder that is to be written."""
        if not writes:
            return
        self._root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._root):
            pass

    def names(self, folder: str) -> list[Stored]:
        """List what lies in a folder."""
        listed = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self._root / folder) as found:
            for entry in found:
                # Another run may remove a file meanwhile: the others are there all the same.
                with contextlib.suppress(FileNotFoundError):
                    listed.append(Stored(f"{folder}/{entry.name}", entry.stat().st_mtime))
        return listed

    def read(self, name: str) -> bytes | None:
        """Give the content of a file."""
        with contextlib.suppress(FileNotFoundError):
            return (self._root / name).read_bytes()
        return None

    def put_new(self, name: str, content: bytes) -> bool:
        """Write beside, then link: the name is there with all its content or not at all."""
        path = self._root / name
        _make(path.parent)
        beside = path.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            with beside.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(beside, path)
        except FileExistsError:
            return False
        finally:
            beside.unlink(missing_ok=True)
        _sync_folder(path.parent)
        return True

    def publish(self, path: Path, name: str) -> None:
        """Move a file to its place once it is on the disk."""
        target = self._root / name
        _make(target.parent)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.rename(target)
        _sync_folder(target.parent)

    def local(self, name: str, scratch: Path) -> Path:  # noqa: ARG002 - nothing is copied
        """Give the path of a file."""
        return self._root / name

    def remove(self, name: str) -> None:
        """Remove a file."""
        (self._root / name).unlink(missing_ok=True)

    def scratch(self) -> Path:
        """Give a folder on the same disk, so that files need not be copied."""
        return self._root / "_tmp"


def _make(folder: Path) -> None:
    """Make a folder so that it is still there after a power failure."""
    if folder.is_dir():
        return
    _make(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def sweep_scratch(parent: Path) -> int:
    """Remove the folders of attempts that were killed, and count them."""
    locked = [*parent.glob(f"{_SCRATCH}*")]
    for other in locked:
        _remove_if_dead(other)
    unlocked = [*parent.glob(f"{_UNLOCKED}*")]
    for other in unlocked:
        _remove_if_orphaned(other)
    return sum(not other.exists() for other in (*locked, *unlocked))


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Make a folder for one attempt, and remove those of attempts that were killed."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep_scratch(parent)
    made = Path(tempfile.mkdtemp(prefix=f"{_UNLOCKED}{_maker(os.getpid())}-", dir=parent))
    with (made / _LOCK).open("wb") as lock:
        # Named only when it is locked: without a lock it would pass for one of a dead attempt.
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = made.rename(parent / f"{_SCRATCH}{uuid.uuid4().hex}")
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_if_dead(folder: Path) -> None:
    """Remove the folder of an attempt whose process let go of its lock."""
    with contextlib.suppress(OSError), (folder / _LOCK).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)


def _maker(pid: int) -> str:
    return f"{socket.gethostname()}-{pid}-{started_at(pid)}"


def _remove_if_orphaned(folder: Path) -> None:
    """Remove a folder whose process ended before it could lock it."""
    maker = folder.name.removeprefix(_UNLOCKED).rpartition("-")[0]
    host, pid, _ = maker.rsplit("-", 2)
    with contextlib.suppress(OSError):
        here = host == socket.gethostname()
        # Of another machine, or another container, only time tells.
        gone = maker != _maker(int(pid)) if here else folder.stat().st_mtime < time.time() - _LONG
        if gone:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def translated(place: str) -> Iterator[None]:
    """Turn what the system says about a file into a DestinationFault."""
    try:
        yield
    except OSError as fault:
        name = errno.errorcode.get(fault.errno or 0, "")
        signal = _SIGNALS.get(name, f"errno:{name}")
        # Arrow has words of its own in front of those of the system.
        said = os.strerror(fault.errno) if fault.errno else type(fault).__name__
        raise DestinationFault(
            f"The destination {place} cannot be written: {said}.", signal, place=place
        ) from fault
