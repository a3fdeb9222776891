"""What the kernel knows of a process and still tells when the process is gone."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

_PROC = Path("/proc")
# cgroup v1 writes its "no limit" as a number that no machine has bytes for.
_NO_LIMIT = 1 << 60
_V1, _V2 = "memory.oom_control", "memory.events"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """How a process is recognised, and the control group that its memory is counted in."""

    boot_id: str | None = None
    pid_namespace: str | None = None
    # In clock ticks since the machine started: a later process of the same number has another one.
    started_at: int | None = None
    cgroup: str | None = None
    cgroup_inode: int | None = None
    memory_limit: int | None = None  # bytes

    @classmethod
    def of_this_process(cls) -> Self:
        """Read what can be read; on a system without /proc that is nothing."""
        group = cgroup()
        return cls(
            boot_id=boot_id(),
            pid_namespace=pid_namespace(),
            started_at=started_at(os.getpid()),
            cgroup=str(group) if group else None,
            cgroup_inode=inode(group) if group else None,
            memory_limit=memory_limit(group) if group else None,
        )

    @classmethod
    def load(cls, facts: dict[str, Any] | None) -> Self:
        """Take up what was stored, be it by an older or a newer version."""
        known = {each.name for each in fields(cls)}
        return cls(**{key: value for key, value in (facts or {}).items() if key in known})

    def facts(self) -> dict[str, Any]:
        """Give what is to be stored."""
        return asdict(self)


def boot_id() -> str | None:
    """Tell which start of the machine this is."""
    return _read(_PROC / "sys/kernel/random/boot_id")


def pid_namespace() -> str | None:
    """Tell where the numbers of processes hold: in a container they are not those of the machine."""
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return None


def started_at(pid: int) -> int | None:
    """Tell when a process started; None when there is none."""
    stat = stat_of(pid)
    return int(stat[19]) if stat else None


def stat_of(pid: int) -> list[str]:
    """Give the fields of a process behind its name, the state first; none when there is no process."""
    # The name of a program stands in parentheses and may itself hold spaces and parentheses.
    return (_read(_PROC / str(pid) / "stat") or "").rpartition(")")[2].split()


def state(pid: int) -> str:
    """Give the kernel's letter for what a process does (R, S, T, Z …); "" when there is none."""
    stat = stat_of(pid)
    return stat[0] if stat else ""


def signal_of_zombie(pid: int) -> int:
    """Tell which signal ended a process whose parent has not looked yet; 0 when that cannot be told."""
    stat = stat_of(pid)
    return int(stat[49]) & 0x7F if stat and stat[0] == "Z" else 0


def cgroup() -> Path | None:
    """Find the folder of the control group that counts this process's memory."""
    memberships = (_read(_PROC / "self/cgroup") or "").splitlines()
    found = dict(_controllers(line) for line in memberships if line.count(":") >= 2)
    for names, path in ((_V1, found.get("memory")), (_V2, found.get(""))):
        folder = _mounted(path, v1=names == _V1) if path else None
        # A group without a memory controller of its own is counted in the nearest one above that has it.
        for each in _upwards(folder):
            if (each / names).is_file():
                return each
    return None


def inode(folder: Path) -> int | None:
    """Give the number by which a group is told from a later one of the same name."""
    try:
        return folder.stat().st_ino
    except OSError:
        return None


def oom_kills(group: Path) -> int | None:
    """Count the processes of a group that the kernel has ended for want of memory."""
    # Whatever the limit that was hit (the group's, one above it, or the machine), the group of
    # the victim counts it.
    for name in ("memory.events.local", _V2, _V1):
        for line in (_read(group / name) or "").splitlines():
            key, _, count = line.partition(" ")
            if key == "oom_kill":
                return int(count)
    return None


def memory_limit(group: Path) -> int | None:
    """Give the narrowest limit, in bytes, that a group is under; None when only the machine limits it."""
    found = [
        int(text)
        for folder in _upwards(group)
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := _read(folder / name) or "").isdigit()
    ]
    return min((limit for limit in found if limit < _NO_LIMIT), default=None)


def _controllers(line: str) -> tuple[str, str]:
    _, names, path = line.split(":", 2)
    return ("memory" if "memory" in names.split(",") else names), path


def _mounted(path: str, *, v1: bool) -> Path | None:
    """Find the folder under which a control group is seen here."""
    for line in (_read(_PROC / "self/mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        if kind != ("cgroup" if v1 else "cgroup2"):
            continue
        if v1 and "memory" not in options.split()[-1].split(","):
            continue
        # A container may see its own group only: then the root of the mount is that group.
        inside = path.removeprefix(root.rstrip("/")) if _below(path, root) else ""
        return Path(point) / inside.strip("/")
    return None


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _upwards(folder: Path | None) -> Iterator[Path]:
    while folder is not None and (folder / "cgroup.procs").is_file():
        yield folder
        folder = folder.parent


def _read(path: Path) -> str | None:
    try:
        # A program may be called by bytes that are no text.
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
