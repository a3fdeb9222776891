"""A folder and the files in it: nothing outside it is ever opened, and no file that changed."""

import errno
import glob
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aiia_pipelines.connectors._tabular_bytes import DataFile
from aiia_pipelines.connectors.base import SourceFault

_MOST_FILES = 100_000
_BUFFER = 1 << 20
_NAMES_NOTHING = {"ELOOP", "ENAMETOOLONG", "EINVAL"}
_Identity = tuple[int, int, int, int]  # device, inode, size, and time of change in nanoseconds


@dataclass(frozen=True, slots=True)
class Listed:
    """A file as it was when the folder was listed."""

    name: str
    identity: _Identity

    @property
    def mark(self) -> list[int]:
        """What tells another version of the file from this one in a later sync."""
        return [self.identity[2], self.identity[3]]


class Folder:
    """A folder that files are read from."""

    def __init__(self, root: str) -> None:
        """Keep its path; nothing is looked at yet."""
        self._stated = root
        self.root = root

    def open(self) -> None:
        """Make sure that the folder is there and can be listed.

        Raises:
            SourceFault: It is not, or must not be.
        """
        with self.translated(self._stated):
            self.root = os.path.realpath(self._stated)
            with os.scandir(self.root):
                pass

    # -- finding ----------------------------------------------------------------------------

    def listed(self, pattern: str, *, empty_ok: bool) -> list[Listed]:
        """List the files that a pattern finds, by name.

        Raises:
            SourceFault: There is none, or one that must not be read.
        """
        self._check_pattern(pattern)
        with self.translated(pattern):
            literal = Path(self.root, pattern)
            names = (
                [pattern]
                if literal.is_symlink() or literal.exists()
                else glob.iglob(pattern, root_dir=self.root, recursive=True)  # noqa: PTH207 - no hidden files
            )
            found = []
            for name in names:
                listed = self._look_at(name)
                if listed is not None:
                    found.append(listed)
                if len(found) > _MOST_FILES:
                    raise self.fault(
                        f"'{pattern}' finds more than {_MOST_FILES:,} files.",
                        "limit:size",
                        "config:invalid",
                    )
        if not found and not empty_ok:
            raise self.fault(f"No file in {self.root} is named '{pattern}'.", "source:not-found")
        return sorted(found, key=lambda file: file.name)

    def _check_pattern(self, pattern: str) -> None:
        if pattern.startswith("/") or ".." in Path(pattern).parts or "\0" in pattern:
            raise self.fault(
                f"The path '{pattern}' leads out of the root.",
                "source:forbidden-path",
                "config:invalid",
            )

    def _look_at(self, name: str) -> Listed | None:
        """Take a file down; None for a folder."""
        about = os.stat(self._inside(name))  # noqa: PTH116 - of a path that is resolved already
        if stat.S_ISDIR(about.st_mode):
            return None
        self._check_plain(name, about)
        return Listed(name, _identity(about))

    def _inside(self, name: str) -> str:
        """Resolve a name, and refuse one that leads elsewhere."""
        real = os.path.realpath(os.path.join(self.root, name))  # noqa: PTH118 - also for bad names
        if os.path.commonpath([self.root, real]) != self.root:
            raise self.fault(
                f"{name} is a link that leads out of the root.",
                "source:forbidden-path",
                "config:invalid",
            )
        return real

    def _check_plain(self, name: str, about: os.stat_result) -> None:
        if not stat.S_ISREG(about.st_mode):
            raise self.fault(
                f"{name} is no plain file but a device, pipe or socket.",
                "source:forbidden-path",
                "config:invalid",
            )

    # -- opening ----------------------------------------------------------------------------

    def files(self, listed: Sequence[Listed]) -> list[DataFile]:
        """Make files of the list that can be opened as long as they stay as they are."""
        return [
            DataFile(
                file.name,
                file.identity[2],
                lambda file=file: self._open(file),  # type: ignore[misc]  # mypy cannot type it
                lambda file=file: self._check_unchanged(file),  # type: ignore[misc]  # as above
            )
            for file in listed
        ]

    def _open(self, file: Listed) -> BinaryIO:
        with self.translated(file.name):
            real = self._inside(file.name)
            # Without waiting: a pipe that took the place of the file would block for good.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            stream = os.fdopen(os.open(real, flags), "rb", buffering=_BUFFER)
            about = os.fstat(stream.fileno())
        if _identity(about) != file.identity:
            stream.close()
            self._check_plain(file.name, about)
            raise self.changed(file)
        return stream

    def _check_unchanged(self, file: Listed) -> None:
        with self.translated(file.name):
            about = os.stat(self._inside(file.name))  # noqa: PTH116 - see `_look_at`
        if _identity(about) != file.identity:
            raise self.changed(file)

    def changed(self, file: Listed) -> SourceFault:
        """Return the fault of a file that is another one now."""
        return self.fault(
            f"{file.name} changed while it was read; write it under another name and rename it.",
            "source:changed",
            "source:unavailable",
        )

    # -- faults -----------------------------------------------------------------------------

    def fault(self, sentence: str, *signals: str) -> SourceFault:
        """Return a fault at this folder."""
        return SourceFault(sentence, *signals, place=self._stated)

    @contextmanager
    def translated(self, name: str) -> Iterator[None]:
        """Turn what the system raises into a SourceFault, once, here."""
        try:
            yield
        except OSError as fault:
            code = errno.errorcode.get(fault.errno or 0, "EIO")
            what = f"{name}: {os.strerror(fault.errno or errno.EIO)}."
            # The catalogue knows the common ones; a link in a circle leads to no file.
            rest = "source:not-found" if code in _NAMES_NOTHING else "source:unavailable"
            raise self.fault(what, f"errno:{code}", rest) from fault


def _identity(about: os.stat_result) -> _Identity:
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
