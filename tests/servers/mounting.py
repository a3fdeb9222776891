"""Whether tests may mount disks of their own on this machine."""

import os
import shutil
from pathlib import Path


def may_mount() -> bool:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    rights = int(status.partition("CapEff:")[2].split()[0], 16)
    return os.geteuid() == 0 and bool(rights >> 21 & 1) and shutil.which("mount") is not None
