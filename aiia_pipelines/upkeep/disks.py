"""How much room is left where something is, or will be, written."""

import shutil
from pathlib import Path

# The larger of a share of the disk and of bytes.
_LOW = (0.10, 1 << 30)
_FULL = (0.02, 200 << 20)


class DiskFull(Exception):
    """So little room is left that job runs will fail."""

    signals = ("errno:ENOSPC",)

    def __init__(self, message: str, place: str) -> None:
        """Keep the sentence and the folder."""
        super().__init__(message)
        self.place = place


def room(wanted: Path) -> str:
    """Say how much room is left for a folder or file, which need not be there yet.

    Raises:
        DiskFull: There is next to none.
    """
    folder = next(each for each in (wanted, *wanted.absolute().parents) if is_folder(each))
    found = shutil.disk_usage(folder)
    return verdict(folder, found.free, found.total)


def verdict(folder: Path, free: int, total: int) -> str:
    """Judge what is left of a disk.

    Raises:
        DiskFull: It is less than 2 % or 200 MiB.
    """
    told = f"{size(free)} of {size(total)} free at {folder} ({free / max(total, 1):.0%})"
    if _is_below(_FULL, free, total):
        raise DiskFull(f"Disk almost full: {told}.", str(folder))
    return f"Warning: {told}" if _is_below(_LOW, free, total) else told


def size(count: int) -> str:
    """Say how many bytes something has."""
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"


def is_folder(path: Path) -> bool:
    """Tell whether a folder is there, as far as this user may look."""
    try:
        return path.is_dir()
    except PermissionError:
        return False


def _is_below(least: tuple[float, int], free: int, total: int) -> bool:
    share, count = least
    return free < count or free < share * total
