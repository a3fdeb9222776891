"""What a running job has told and the store does not know yet: it goes there together with the next write."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from aiia_pipelines.jobs.counts import is_open
from aiia_pipelines.jobs.log import LogLine
from aiia_pipelines.jobs.moves import write_lines
from aiia_pipelines.jobs.tables import RECONCILIATIONS

Work = Callable[[sa.Connection], None]


@dataclass
class Unwritten:
    """Log lines in their order, figures of reconciliations, and other work; threads may share it."""

    lines: list[LogLine] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(
        self,
        lines: Sequence[LogLine] = (),
        figures: Sequence[dict[str, Any]] = (),
        works: Sequence[Work] = (),
    ) -> None:
        """Keep something for the next write."""
        with self._lock:
            self.works += works
            self.lines += lines
            self.figures += figures

    @contextmanager
    def taken(self) -> Iterator["Unwritten"]:
        """Take everything out for a write; if that fails, it waits again."""
        with self._lock:
            taken = Unwritten(self.lines, self.figures, self.works)
            self.lines, self.figures, self.works = [], [], []
        done = False
        try:
            yield taken
            done = True
        finally:
            if not done:
                with self._lock:
                    self.lines[:0], self.figures[:0] = taken.lines, taken.figures
                    self.works[:0] = taken.works

    def write_before(self, line: LogLine, db: sa.Connection, mine: tuple[int, int | None]) -> None:
        """Write it and a line after it, for a job run and its attempt."""
        number, attempt = mine
        # What an attempt found out before it ended is no business of the one that came after it.
        waits = bool(self.lines or self.figures or self.works)
        if waits and db.execute(sa.select(is_open(number, attempt))).scalar():
            self.write(db, number)
        write_lines(db, number, [line])

    def write(self, db: sa.Connection, number: int) -> None:
        """Write it for a job run."""
        write_lines(db, number, self.lines)
        if self.figures:
            put = insert(RECONCILIATIONS)
            kept = {key: put.excluded[key] for key in ("source", "destination", "agrees")}
            statement = put.on_conflict_do_update(constraint=RECONCILIATIONS.primary_key, set_=kept)
            db.execute(statement, [figure | {"number": number} for figure in self.figures])
        for work in self.works:
            work(db)
