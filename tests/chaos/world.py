"""What a trial happens in: a source that changes, a destination, and what the destination must hold."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Row = tuple[Any, ...]
Content = Counter[Row]
NAME, STREAM = "chaos", "rows"


@dataclass
class Table:
    """The source's table as Python knows it: id → (generation, note)."""

    rows: dict[int, tuple[int, str]] = field(default_factory=dict)
    generation: int = 0
    changed: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)

    def mutate(self, dice: random.Random, size: int) -> None:
        """Change a fifth of the rows, delete some, add some; every touched row bears the new generation."""
        self.generation += 1
        ids = sorted(self.rows)
        touched = dice.sample(ids, len(ids) // 5) if ids else []
        self.gone = set(dice.sample(touched, len(touched) // 4))
        start = max(ids, default=0)
        fresh = range(start + 1, start + 1 + max(size - len(ids) + len(self.gone), size // 10))
        self.changed = (set(touched) - self.gone) | set(fresh)
        for number in self.gone:
            del self.rows[number]
        for number in self.changed:
            self.rows[number] = (self.generation, f"note {number} of {self.generation}")

    def statements(self) -> list[tuple[str, Any]]:
        """Give the SQL that brings the real table here, in one transaction."""
        values = [(n, *self.rows[n]) for n in sorted(self.changed)]
        return [
            ("delete from public.rows where id = any(%s)", (list(self.gone),)),
            (
                (
                    "insert into public.rows (id, generation, note, updated_at)"
                    " select id, generation, note, clock_timestamp()"
                    " from unnest(%s::int[], %s::int[], %s::text[]) t(id, generation, note)"
                    " on conflict (id) do update set generation = excluded.generation,"
                    " note = excluded.note, updated_at = excluded.updated_at"
                ),
                tuple(map(list, zip(*values, strict=True))) if values else ([], [], []),
            ),
        ]


# -- what a mode makes of the source -----------------------------------------------------------


def replaced(_: Content, table: Table) -> Content:
    return Counter((number, *row, True) for number, row in table.rows.items())


def upserted(old: Content, table: Table) -> Content:
    """Rows that are gone at the source stay."""
    new = {row[0]: row for row in old}
    new |= {number: (number, *table.rows[number], True) for number in table.changed}
    return Counter(new.values())


def upserted_softly(old: Content, table: Table) -> Content:
    new = {row[0]: row if row[0] in table.rows else (*row[:3], False) for row in old}
    new |= {number: (number, *table.rows[number], True) for number in table.changed}
    return Counter(new.values())


def appended(old: Content, table: Table) -> Content:
    """Each sync adds the versions that are new since the last one."""
    return old + Counter((number, *table.rows[number], True) for number in table.changed)


def kept(old: Content, table: Table) -> Content:
    """Every version stays; the last one of a row is current while the source has the row."""
    new: Content = Counter()
    for row, times in old.items():
        current = row[3] and row[0] in table.rows and row[0] not in table.changed
        new[(*row[:3], current)] += times
    return new + Counter((number, *table.rows[number], True) for number in table.changed)


@dataclass(frozen=True)
class Mode:
    """One way to sync, and what it must make of the rows."""

    name: str
    stream: dict[str, Any]
    expected: Callable[[Content, Table], Content]
    alive: str = "true"  # SQL that tells whether a row is present
    keeps: bool = False  # deleted rows stay
    versions: bool = False  # updated rows stay, too

    def growth(self, entry: Mapping[str, Any]) -> int:
        """Tell by how many rows the commit of a ledger's entry made the table longer."""
        removed = 0 if self.keeps else entry["deleted"]
        return int(entry["inserted"] - removed + (entry["updated"] if self.versions else 0))


_BASE = {"name": STREAM, "table": "public.rows"}
_KEYED = _BASE | {"key": ["id"]}
_CURSOR = {"cursor": "updated_at"}
_SOFT, _VERSIONS = "_deleted_at is null", "_valid_to is null"
MODES = (
    Mode("replace", _BASE | {"mode": "replace"}, replaced),
    Mode("replace by key", _KEYED | {"mode": "replace"}, replaced),
    Mode("upsert", _KEYED | _CURSOR | {"mode": "upsert"}, upserted),
    Mode("upsert, hard deletes", _KEYED | _CURSOR | {"mode": "upsert", "delete": "hard", "max_delete": "100%"}, replaced),
    Mode("upsert, soft deletes", _KEYED | _CURSOR | {"mode": "upsert", "delete": "soft", "max_delete": "100%"}, upserted_softly, _SOFT, keeps=True),
    Mode("append", _BASE | _CURSOR | {"mode": "append"}, appended),
    Mode("history", _KEYED | _CURSOR | {"mode": "history", "delete": "soft", "max_delete": "100%"}, kept, _VERSIONS, keeps=True, versions=True),
)  # fmt: skip


class Reader(Protocol):
    """A look at a destination by somebody else."""

    polls: bool  # whether one can look while a sync is running

    def content(self, mode: Mode) -> Content:
        """Read all rows in one statement: (id, generation, note, present)."""
        ...

    def ledger(self) -> dict[str, dict[str, Any]]:
        """Read the ledger: run key → epoch and counts."""
        ...

    def state(self) -> str | None:
        """Tell the run key of the last commit that moved the position."""
        ...

    def staging(self) -> list[str]:
        """List what is staged."""
        ...
