"""What a source has now against what was agreed: which differences are taken up, and which are refused."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from aiia_pipelines.config.connector import Column, Stream
from aiia_pipelines.config.types import ColumnType, widens
from aiia_pipelines.connectors.base import SourceColumn
from aiia_pipelines.jobs.contracts import LearnedColumn, Profile
from aiia_pipelines.sync.renames import Known, Rename, proposed, related

Policy = Literal["freeze", "add_only", "evolve"]
Sample = Callable[[Sequence[str]], Mapping[str, Profile]]
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One way in which the source is not what was agreed; `mapping` is a line for `columns:` that settles it."""

    kind: Literal["missing", "renamed", "retyped", "new", "name"]
    column: str
    was: str = ""
    now: str = ""
    mapping: str = ""
    message: str

    def __str__(self) -> str:
        """Say it."""
        return self.message


@dataclass(frozen=True, slots=True)
class Settled:
    """The columns that go on, those without values at the source, and what was taken up or refused."""

    columns: tuple[SourceColumn, ...]
    absent: frozenset[str]
    changes: tuple[str, ...]
    refused: tuple[Difference, ...]


def settle(
    stream: Stream,
    found: Sequence[SourceColumn],
    learned: Sequence[LearnedColumn] | None,
    *,
    drift: Policy = "freeze",
    sample: Sample | None = None,
) -> Settled:
    """Compare, and take up what the policy allows; `sample` describes the first values of all columns."""
    return _Drift(stream, found, {c["name"]: c for c in learned or ()}, drift, sample).settle()


@dataclass(frozen=True)
class _Drift:
    stream: Stream
    found: Sequence[SourceColumn]
    frozen: Mapping[str, LearnedColumn]
    policy: Policy
    sample: Sample | None
    changes: list[str] = field(default_factory=list)

    def settle(self) -> Settled:
        absent = {name for name in self.wanted if self._known_absent(name)}
        refused = [*self._missing(absent), *self._retyped(), *self._added()]
        names = [*self.wanted, *(name for name in self._new if self.policy != "freeze")]
        refused += self._misnamed([self.declared[n][0] if n in self.declared else n for n in names])
        columns = tuple(
            self._column(name) for name in names if name in self.present or name in absent
        )
        return Settled(columns, frozenset(absent), tuple(self.changes), tuple(refused))

    # -- both sides -------------------------------------------------------------------------

    @cached_property
    def present(self) -> dict[str, SourceColumn]:
        return {column.name: column for column in self.found}

    @cached_property
    def declared(self) -> dict[str, tuple[str, Column]]:
        """By the name at the source: the name here, and what the file says."""
        return {c.from_ or name: (name, c) for name, c in self.stream.columns.items()}

    @cached_property
    def wanted(self) -> list[str]:
        # A frozen column that is gone is replaced by the one that the file maps to its name.
        renamed = {name for name, _ in self.declared.values()} - {*self.present, *self.declared}
        agreed = [name for name, c in self.frozen.items() if not self._is_back(name, c)]
        every = dict.fromkeys([*(agreed if self.frozen else self.present), *self.declared])
        return [name for name in every if name not in renamed]

    @cached_property
    def _new(self) -> list[str]:
        return [name for name in self.present if name not in self.wanted]

    @property
    def _cut(self) -> str | None:
        return self.stream.partition.column if self.stream.partition else None

    def _is_back(self, name: str, column: LearnedColumn) -> bool:
        return bool(column.get("absent")) and name in self.present

    def _known_absent(self, name: str) -> bool:
        known = self.frozen.get(name)
        return name not in self.present and known is not None and bool(known.get("absent"))

    def _expected(self, name: str) -> ColumnType | None:
        if name in self.declared and (kind := self.declared[name][1].type) is not None:
            return kind
        known = self.frozen.get(name)
        if known is None and name in self.declared:
            known = self.frozen.get(self.declared[name][0])
        return ColumnType.parse(known["type"]) if known else None

    def _column(self, name: str) -> SourceColumn:
        column, known = self.present.get(name), self.frozen.get(name)
        if column is None:
            return SourceColumn(name, self._expected(name), nullable=True, declared="")
        # The rows that came before a column have no value of it.
        later = self.frozen and name in self._new
        once = known is not None and known["nullable"]
        return replace(column, nullable=bool(column.nullable or later or once))

    # -- columns that are gone --------------------------------------------------------------

    def _missing(self, absent: set[str]) -> Iterator[Difference]:
        gone = [name for name in self.wanted if name not in self.present and name not in absent]
        # Where nothing of what was agreed is left, it is another table and not a change of this one.
        other = not any(name in self.present for name in self.wanted)
        for name in gone:
            kind = self._expected(name)
            shown = f"column '{name}'{f' ({kind})' if kind else ''}"
            rename = self.renames.get(name)
            if self.policy == "evolve" and not other and not self._is_needed(name):
                absent.add(name)
                hint = (
                    f"; if '{rename.new}' is what it is now, {self._map(rename)}" if rename else ""
                )
                self.changes.append(f"{shown} is gone and becomes NULL{hint}")
            elif rename is not None:
                yield self._renamed(rename, shown)
            else:
                yield Difference(
                    kind="missing", column=name, was=str(kind or ""), message=f"{shown} is missing"
                )

    def _is_needed(self, name: str) -> bool:
        """Tell whether the file asks for a column; what it asks for never goes silently."""
        stream = self.stream
        named = {*stream.key, *stream.checks.unique, stream.cursor, self._cut}
        return name in self.declared or name in named

    @cached_property
    def renames(self) -> dict[str, Rename]:
        """The columns that seem to have another name now, by the name they had."""
        known = [name for name in self.frozen if name in self.wanted]
        before = [*known, *(name for name in self.wanted if name not in self.frozen)]
        gone = [n for n in before if n not in self.present and not self._known_absent(n)]
        if not gone or not self._new:
            return {}
        found = self.sample(list(self.present)) if self.sample and self._profiles else {}
        was = [
            Known(n, self._expected(n), self._profiles.get(n))
            for n in before
            if not self._known_absent(n)
        ]
        now = [Known(c.name, c.type, found.get(c.name)) for c in self.found]
        return {rename.old: rename for rename in proposed(was, now)}

    @cached_property
    def _profiles(self) -> dict[str, Profile]:
        return {name: c["profile"] for name, c in self.frozen.items() if "profile" in c}

    def _renamed(self, rename: Rename, shown: str) -> Difference:
        now = self.present[rename.new]
        kind = now.type or now.declared
        retyped = self._expected(rename.old) not in {None, now.type}
        return Difference(
            kind="renamed",
            column=rename.old,
            was=str(self._expected(rename.old) or ""),
            now=f"{rename.new} ({kind})",
            mapping=self._mapping(rename),
            message=(
                f"{shown} is missing and seems to be '{rename.new}'{f' ({kind})' if retyped else ''}"
                f" now ({', '.join(rename.why)}): {self._map(rename)}"
            ),
        )

    def _map(self, rename: Rename) -> str:
        return f"map it with `{self._mapping(rename)}`"

    def _mapping(self, rename: Rename) -> str:
        old, kind = rename.old, self.present[rename.new].type
        target = self.declared[old][0] if old in self.declared else old
        expected = self._expected(old)
        typed = f", type: {_flow(str(kind))}" if kind and expected and kind != expected else ""
        return f"{_flow(target)}: {{from: {_flow(rename.new)}{typed}}}"

    # -- columns that are others, or more ---------------------------------------------------

    def _retyped(self) -> Iterator[Difference]:
        for name, column in self.present.items():
            expected = self._expected(name)
            taken = name in self.wanted or self.policy != "freeze"
            if expected is None or column.type is None or not taken:
                continue
            typed = name in self.declared and self.declared[name][1].type is not None
            if column.type == expected or (typed and self._fits(name, column.type, expected)):
                continue
            if self.policy == "evolve" and not typed and widens(expected, column.type):
                self.changes.append(f"column '{name}' is now {column.type} (was {expected})")
                continue
            yield Difference(
                kind="retyped",
                column=name,
                was=str(expected),
                now=str(column.type),
                mapping=self._declaration(name, column.type) if typed else "",
                message=f"column '{name}' expected {expected} but the source has {column.type} ({column.declared})",
            )

    def _declaration(self, name: str, kind: ColumnType) -> str:
        target = self.declared[name][0]
        origin = f"from: {_flow(name)}, " if target != name else ""
        return f"{_flow(target)}: {{{origin}type: {_flow(str(kind))}}}"

    def _fits(self, name: str, source: ColumnType, target: ColumnType) -> bool:
        """Tell whether values fit a declared type, or single ones may be changed so that they do."""
        lossy = self.declared[name][1].on_lossy
        return widens(source, target) or lossy == "text" or bool(lossy and related(source, target))

    def _added(self) -> Iterator[Difference]:
        if not self.frozen:
            return
        refused = {r.new for r in self.renames.values()} if self.policy != "evolve" else set()
        for name in (name for name in self._new if name not in refused):
            kind = str(self.present[name].type or self.present[name].declared)
            if self.policy == "freeze":
                message = f"column '{name}' ({kind}) is new at the source"
                yield Difference(kind="new", column=name, now=kind, message=message)
            else:
                how = "back" if name in self.frozen else "new"
                self.changes.append(f"column '{name}' ({kind}) is {how} at the source and taken up")

    def _misnamed(self, targets: Sequence[str]) -> Iterator[Difference]:
        """List names that the stream's own columns do not bear, or bear twice."""
        stream = self.stream
        twice = {name: None for name in targets if targets.count(name) > 1}
        sentences = [
            *((name, f"two columns of the source would be named '{name}'") for name in twice),
            *(
                (name, f"column '{name}' is one that mode and delete add; rename it with `from:`")
                for name in stream.added_columns
                if name in targets
            ),
            *(
                (name, f"key column '{name}' is not a column of the stream")
                for name in stream.key
                if name not in targets
            ),
            *(
                (name, f"column '{name}' that must be unique is not a column of the stream")
                for name in stream.checks.unique
                if name not in targets
            ),
            *(
                (name, f"{what} column '{name}' is not a column of the stream")
                for what, name in (("cursor", stream.cursor), ("partition", self._cut))
                if name is not None and name not in targets
            ),
        ]  # fmt: skip
        return (Difference(kind="name", column=n, message=said) for n, said in sentences)


def _flow(text: str) -> str:
    """Write a name or type so that YAML reads it back as text."""
    plain = _BARE.fullmatch(text) and text.lower() not in _YAML_WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)
