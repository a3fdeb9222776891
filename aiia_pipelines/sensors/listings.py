"""Looks at many sources at a time; one that hangs stops no other."""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue

from pydantic import ValidationError

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.faults import ConfigInvalid
from aiia_pipelines.config.secrets import resolve_tree
from aiia_pipelines.connectors.base import FileSeen, SourceFault, listing, wrong_option
from aiia_pipelines.jobs.redaction import REDACTOR
from aiia_pipelines.resources.job_board import settings

_AT_ONCE = 8
# Dagster ends a sensor's look after a minute, and with it what all other sources have told.
_WITHIN = 30.0  # seconds

Told = tuple[str, list[FileSeen] | str]


class Listings:
    """Lists files in threads that are left behind when their source hangs."""

    def __init__(self, within: float = _WITHIN) -> None:
        """Nothing is looked at yet; `within` is in seconds."""
        self._within = within
        self._lock = threading.Lock()
        self._busy: set[str] = set()

    def of(self, connectors: Sequence[Connector]) -> tuple[dict[str, list[FileSeen]], list[str]]:
        """List the files of connectors, and tell of which sources that cannot be done."""
        todo: SimpleQueue[Connector] = SimpleQueue()
        done: SimpleQueue[Told] = SimpleQueue()
        asked = [one for one in connectors if self._take(one.name)]
        for one in asked:
            todo.put(one)
        for _ in range(min(_AT_ONCE, len(asked))):
            threading.Thread(target=self._work, args=(todo, done), daemon=True).start()
        found = _gathered(done, len(asked), time.monotonic() + self._within)
        faults = [f"{name}: {told}" for name, told in found.items() if isinstance(told, str)]
        faults += [
            f"{c.name}: the source does not answer." for c in connectors if c.name not in found
        ]
        for never in _left(todo):
            self._give_back(never.name)
        return {name: told for name, told in found.items() if not isinstance(told, str)}, faults

    def _take(self, name: str) -> bool:
        with self._lock:
            free = name not in self._busy
            self._busy.add(name)
        return free

    def _give_back(self, name: str) -> None:
        with self._lock:
            self._busy.discard(name)

    def _work(self, todo: "SimpleQueue[Connector]", done: "SimpleQueue[Told]") -> None:
        for connector in _left(todo):
            try:
                done.put((connector.name, _listed(connector)))
            finally:
                self._give_back(connector.name)


def _left(todo: "SimpleQueue[Connector]") -> Iterator[Connector]:
    while True:
        try:
            yield todo.get_nowait()
        except Empty:
            return


def _gathered(done: "SimpleQueue[Told]", count: int, end: float) -> dict[str, list[FileSeen] | str]:
    found: dict[str, list[FileSeen] | str] = {}
    while len(found) < count:
        try:
            name, told = done.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            break
        found[name] = told
    return found


def _listed(connector: Connector) -> list[FileSeen] | str:
    try:
        source = resolve_tree(connector.source, os.environ, settings().home)
        return listing(source, connector.streams)
    except ValidationError as invalid:
        return REDACTOR.clean(wrong_option(invalid))
    except (SourceFault, ConfigInvalid) as fault:
        return REDACTOR.clean(str(fault))
