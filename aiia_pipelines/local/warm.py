"""Where the warm worker of a home listens, and how it is asked: one packet there, one packet back."""

import hashlib
import json
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiia_pipelines.local.files import make_folder

FOLDER = "worker"
PACKET = 65536
_LONGEST = 107  # bytes that the kernel takes as the name of a socket


class NoWorker(Exception):
    """No warm worker listens for this home."""


class WorkerLeft(Exception):
    """The worker went away before it answered; whether it did what was asked is not known."""


def place(home: Path) -> Path:
    """Give the path of the socket: in the home, or in a short folder where that is too long a name."""
    found = home.absolute() / FOLDER / "socket"
    if len(os.fsencode(found)) <= _LONGEST:
        return found
    digest = hashlib.sha256(os.fsencode(home.absolute())).hexdigest()[:16]
    return Path(f"/tmp/aiia-{_owner(home)}-{digest}/socket")  # noqa: S108 - checked by `private`


def private(folder: Path) -> None:
    """Make a folder that only its owner may enter.

    Raises:
        PermissionError: It is there and belongs to somebody else.
    """
    make_folder(folder, 0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.geteuid(), _owner(folder.parent)}:
        raise PermissionError(f"{folder} belongs to somebody else; remove it.")
    folder.chmod(0o700)


def ask(home: Path, request: Mapping[str, Any], timeout: float = 10.0) -> dict[str, Any]:
    """Ask the warm worker of a home.

    Raises:
        NoWorker: None listens.
        WorkerLeft: It took the request and did not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as talk:
        talk.settimeout(timeout)
        try:
            talk.connect(str(place(home)))
        except OSError as fault:
            raise NoWorker(f"No warm worker listens for {home}: {fault}.") from fault
        try:
            talk.sendall(json.dumps(dict(request)).encode())
            answer = talk.recv(PACKET)
        except OSError as fault:
            raise WorkerLeft(f"The warm worker of {home} did not answer: {fault}.") from fault
    if not answer:
        raise WorkerLeft(f"The warm worker of {home} went away.")
    found: dict[str, Any] = json.loads(answer)
    return found


def is_ready(home: Path) -> bool:
    """Tell whether a warm worker answers."""
    try:
        return bool(ask(home, {"do": "ready"}, timeout=2.0).get("ready"))
    except (NoWorker, WorkerLeft):
        return False


def _owner(path: Path) -> int:
    try:
        return path.stat().st_uid
    except OSError:
        return os.geteuid()
