"""The connectors that other systems may start, as their files say it now."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.folder import connectors_with

_LOOK_EVERY = 1.0  # seconds
_WORD = b"webhook"


class Doors:
    """Reads the folder of connector files again when one of them has changed."""

    def __init__(self, folder: Path) -> None:
        """Looks at nothing yet."""
        self._folder = folder
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._state: list[tuple[str, int, int]] | None = None
        self._connectors: dict[str, Connector] = {}

    def connector(self, name: str) -> Connector | None:
        """Give a connector that has a webhook."""
        with self._lock:
            if time.monotonic() - self._looked_at > _LOOK_EVERY:
                self._look()
            return self._connectors.get(name)

    def _look(self) -> None:
        state = sorted(_files(self._folder))
        if state != self._state:
            # Of a thousand files only those that name a webhook are parsed.
            found = connectors_with(self._folder, _WORD)
            self._connectors = {name: one for name, one in found.items() if one.triggers.webhook}
            self._state = state
        self._looked_at = time.monotonic()


def _files(folder: Path) -> Iterator[tuple[str, int, int]]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file():
                about = entry.stat()
                yield entry.name, about.st_mtime_ns, about.st_size
