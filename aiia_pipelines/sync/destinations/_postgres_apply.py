"""The statements of a commit, each with the result that it must have if nobody else changed the table."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from aiia_pipelines.jobs.run import Changes
from aiia_pipelines.sync.destinations import _postgres_structure as structure
from aiia_pipelines.sync.destinations._postgres_match import BY_LOOKUP, BY_SCAN, FEW, Sides
from aiia_pipelines.sync.destinations._postgres_sql import names_of
from aiia_pipelines.sync.destinations._postgres_structure import Structure
from aiia_pipelines.sync.destinations.base import DELETED_AT, VALID_FROM, VALID_TO, Load


@dataclass(frozen=True, slots=True)
class Step:
    """A statement, and the row or number of rows that it must give."""

    statement: sql.Composed
    expected: tuple[Any, ...] | int | None = None


Steps = Callable[[sql.Literal], Iterator[Step]]  # given the moment of the commit


@dataclass(frozen=True, slots=True)
class Before:
    """What the table was when it was matched: rows, the file that held them, the newest transaction."""

    rows: int | None
    file: int
    horizon: str
    about: int  # rows, as PostgreSQL estimates


@dataclass(frozen=True, slots=True, kw_only=True)
class Applying:
    """What the commits of a stream that has a table are made of."""

    load: Load
    sides: Sides
    old: Structure
    new: Structure
    before: Before
    changes: Changes
    returned: int = 0  # of the inserted rows, those that were deleted softly before

    @property
    def _names(self) -> sql.Composed:
        return names_of(column.name for column in self.load.contract.columns)

    def _sql(self, form: str, **parts: sql.Composable) -> sql.Composed:
        every: dict[str, sql.Composable] = {
            "table": self.sides.table,
            "stage": self.sides.stage,
            "moves": self.sides.moves,
            "names": self._names,
        }
        return sql.SQL(form).format(**(every | parts))

    def unchanged(self) -> Iterator[Step]:
        """Make sure that the places of the rows still mean the same rows."""
        yield Step(self._sql("lock table {table} in row exclusive mode"))
        literal = sql.Literal(self.sides.table.as_string())
        file = self._sql("select pg_relation_filenode({name}::regclass)::int8", name=literal)
        yield Step(file, (self.before.file,))
        if self.before.rows is not None:
            count = "select count(*), count(*) filter (where {young}) from {table} t"
            yield Step(self._sql(count, young=self._young()), (self.before.rows, 0))

    def _young(self) -> sql.Composed:
        """Tell whether a row `t` was written since the match."""
        horizon = sql.Literal(self.before.horizon)
        return sql.SQL("age(t.xmin) between 0 and age({}::xid8::xid)").format(horizon)

    def _there(self) -> sql.Composed:
        return sql.SQL("t.ctid = m.t and not ({})").format(self._young())

    # -- by key -----------------------------------------------------------------------------

    def by_key(self, additions: Callable[[], Iterator[sql.Composed]]) -> Steps:
        """Move what differs, and nothing else."""

        def steps(at: sql.Literal) -> Iterator[Step]:
            yield from self.unchanged()
            yield from map(Step, additions())
            if self.load.mode == "history":
                yield from self._versions(at)
            else:
                yield from self._rows(at)
                yield from self._new_rows()

        return steps

    def _rows(self, at: sql.Literal) -> Iterator[Step]:
        changes = self.changes
        if changes.deleted and self.load.delete == "soft":
            mark = "update {table} t set {gone} = {at} from {moves} m where m.s is null and {there}"
            parts = {"gone": sql.Identifier(DELETED_AT), "at": at, "there": self._there()}
            yield from self._by_place(Step(self._sql(mark, **parts), changes.deleted))
        elif changes.deleted:
            delete = "delete from {table} t using {moves} m where m.s is null and {there}"
            step = Step(self._sql(delete, there=self._there()), changes.deleted)
            yield from self._by_place(step)
        if changes.updated + self.returned:
            update = (
                "update {table} t set {sets} from {moves} m join {stage} s on s.ctid = m.s"
                " where m.t is not null and {there}"
            )
            parts = {"sets": self._sets(), "there": self._there()}
            yield from self._by_place(
                Step(self._sql(update, **parts), changes.updated + self.returned)
            )

    def _by_place(self, step: Step) -> Iterator[Step]:
        few = (step.expected * FEW if isinstance(step.expected, int) else 0) < self.before.about
        if few:
            yield Step(sql.SQL(BY_LOOKUP).format())
        yield step
        if few:
            yield Step(sql.SQL(BY_SCAN).format())

    def _new_rows(self) -> Iterator[Step]:
        changes = self.changes
        if changes.inserted > self.returned:
            yield Step(self._insert_new(), changes.inserted - self.returned)

    def _sets(self) -> sql.Composed:
        names = [c.name for c in self.load.contract.columns if c.name not in self.load.contract.key]
        sets = [sql.SQL("{c} = s.{c}").format(c=sql.Identifier(name)) for name in names]
        if DELETED_AT in self.old.columns:
            sets.append(sql.SQL("{} = null").format(sql.Identifier(DELETED_AT)))
        return sql.SQL(", ").join(sets)

    def _insert_new(self) -> sql.Composed:
        # A key that somebody else added meanwhile is left alone, and missing in the count.
        keys = names_of(self.load.contract.key)
        nothing_old = self.changes.unchanged == self.changes.updated == self.returned == 0
        source = (
            "{stage} s"
            if nothing_old
            else "{moves} m join {stage} s on s.ctid = m.s where m.t is null"
        )
        insert = "insert into {table} ({names}) select {values} from " + source
        return self._sql(
            insert + " on conflict ({keys}) do nothing", keys=keys, values=self._values()
        )

    def _values(self) -> sql.Composed:
        return sql.SQL(", ").join(
            sql.SQL("s.{}").format(sql.Identifier(column.name))
            for column in self.load.contract.columns
        )

    def _versions(self, at: sql.Literal) -> Iterator[Step]:
        changes = self.changes
        ended, begun = changes.updated + changes.deleted, changes.updated + changes.inserted
        parts = {"start": sql.Identifier(VALID_FROM), "end": sql.Identifier(VALID_TO), "at": at}
        if ended:
            end = (
                "update {table} t set {end} = {at} from {moves} m where m.t is not null and {there}"
            )
            yield from self._by_place(Step(self._sql(end, there=self._there(), **parts), ended))
        if begun:
            begin = (
                "insert into {table} ({names}, {start}) select {values}, {at} from {moves} m"
                " join {stage} s on s.ctid = m.s on conflict ({keys}) where {end} is null do nothing"
            )
            keys = names_of(self.load.contract.key)
            yield Step(self._sql(begin, keys=keys, values=self._values(), **parts), begun)

    # -- whole tables -----------------------------------------------------------------------

    def all_staged(self, at: sql.Literal) -> Iterator[Step]:
        """Add every staged row."""
        if self.load.mode == "history":
            insert = "insert into {table} ({names}, {start}) select {names}, {at} from {stage}"
            yield Step(self._sql(insert, start=sql.Identifier(VALID_FROM), at=at), self._staged)
        else:
            yield Step(
                self._sql("insert into {table} ({names}) select {names} from {stage}"), self._staged
            )

    @property
    def _staged(self) -> int:
        return self.changes.inserted + self.changes.updated + self.changes.unchanged

    def anew(self, at: sql.Literal) -> Iterator[Step]:
        """Replace all rows, in a table of the new structure."""
        yield from self.unchanged()
        yield Step(self._sql("delete from {table}"), self.before.rows)
        for statement in structure.alterations(self.sides.table, self.old, self.new):
            yield Step(statement)
        yield from self.all_staged(at)

    # -- rows kept through a change of types ------------------------------------------------

    def held(self) -> sql.Composed:
        """Give the query of the rows that a change of types has to carry over."""
        columns = [
            sql.SQL("t.{c}::{kind} as {c}").format(c=sql.Identifier(name), kind=sql.SQL(kind))
            for name, kind in self.new.columns.items()
            if name in self.old.columns
        ]
        query = self._sql("select {columns}", columns=sql.SQL(", ").join(columns))
        if not self.load.contract.key:
            return query + self._sql(", false as _aiia_gone from {table} t")
        every = "" if self.load.mode == "history" else " where m.t is null or m.s is null"
        joined = (
            ", m.t is not null as _aiia_gone from {table} t left join {moves} m on m.t = t.ctid"
        )
        return query + self._sql(joined + every)

    def anew_with(self, held: sql.Identifier, count: int) -> Steps:
        """Replace all rows as `anew` does, and put `count` of those that were held back."""

        def steps(at: sql.Literal) -> Iterator[Step]:
            yield from self.unchanged()
            yield Step(self._sql("delete from {table}"), self.before.rows)
            for statement in structure.alterations(self.sides.table, self.old, self.new):
                yield Step(statement)
            yield Step(self._put_back(held, at), count)
            if not self.load.contract.key:
                yield from self.all_staged(at)
            else:
                yield Step(self._insert_moved(at), self.changes.inserted + self.changes.updated)

        return steps

    def _put_back(self, held: sql.Identifier, at: sql.Literal) -> sql.Composed:
        names = [name for name in self.new.columns if name in self.old.columns]
        mark = {"history": VALID_TO}.get(self.load.mode, DELETED_AT)
        marks = self.load.mode == "history" or self.load.delete == "soft"
        if marks and mark not in names:
            names.append(mark)
        form = "case when _aiia_gone then {at} else {c} end"
        if mark not in self.old.columns:
            form = "case when _aiia_gone then {at} end"
        values = [
            sql.SQL(form if marks and name == mark else "{c}").format(c=sql.Identifier(name), at=at)
            for name in names
        ]
        query = "insert into {table} ({all}) select {values} from {held}"
        if self.load.delete == "hard":
            query += " where not _aiia_gone"
        listed = sql.SQL(", ").join(values)
        return self._sql(query, all=names_of(names), values=listed, held=held)

    def _insert_moved(self, at: sql.Literal) -> sql.Composed:
        begins = self.load.mode == "history"
        start = sql.SQL(", {}").format(sql.Identifier(VALID_FROM))
        moment = sql.SQL(", {}").format(at)
        none = sql.SQL("").format()
        return self._sql(
            "insert into {table} ({names}{start}) select {values}{moment} from {moves} m"
            " join {stage} s on s.ctid = m.s",
            values=self._values(),
            start=start if begins else none,
            moment=moment if begins else none,
        )

    # -- tables without a key, and new ones -------------------------------------------------

    def added(self, additions: Callable[[], Iterator[sql.Composed]]) -> Steps:
        """Add all staged rows to those that are there."""

        def steps(at: sql.Literal) -> Iterator[Step]:
            yield from map(Step, additions())
            yield from self.all_staged(at)

        return steps

    def created(self, at: sql.Literal) -> Iterator[Step]:
        """Make the table and add every staged row."""
        yield from map(Step, structure.create(self.sides.table, self.new))
        yield from self.all_staged(at)
