"""The note an `aiia up` leaves in its home, so that others know where it is."""

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from aiia_pipelines.local.files import locked, make_folder, write_whole
from aiia_pipelines.local.processes import started_at
from aiia_pipelines.local.warden import sweep


class AlreadyUp(Exception):
    """Another `aiia up` serves this home."""

    def __init__(self, running: "Running") -> None:
        """Says where."""
        super().__init__(
            f"aiia is already up at {running.url} (process {running.pid}): use that one, or stop it"
            " first."
        )
        self.running = running


@dataclass(frozen=True, slots=True)
class Running:
    """Which process serves a home, and where; `ticks` tells it from a later one of its number."""

    pid: int
    url: str
    started_at: str
    ticks: int
    mark: str

    @classmethod
    def read(cls, home: Path) -> "Running | None":
        """Gives the live `aiia up` of a home, None when there is none."""
        note = cls._note(home)
        return note if note is not None and started_at(note.pid) == note.ticks else None

    @classmethod
    def claim(cls, home: Path, url: str, mark: str) -> "Running":
        """Takes the home for this process, and ends what a dead predecessor left behind.

        Raises:
            AlreadyUp: somebody else has it.
        """
        make_folder(home)
        with locked(home / "up.lock"):
            former = cls._note(home)
            other = cls.read(home)
            if other is not None and other.pid != os.getpid():
                raise AlreadyUp(other)
            if former is not None and other is None:
                sweep(former.mark)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            running = cls(os.getpid(), url, now, started_at(os.getpid()) or 0, mark)
            write_whole(home / "up.json", json.dumps(asdict(running)) + "\n")
        return running

    def release(self, home: Path) -> None:
        """Takes the note away, unless it is somebody else's by now."""
        with locked(home / "up.lock"):
            if self._note(home) == self:
                (home / "up.json").unlink()

    @classmethod
    def _note(cls, home: Path) -> "Running | None":
        try:
            return cls(**json.loads((home / "up.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
