"""No row is lost at the edge of a cursor on PostgreSQL, and none is read twice without need."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, islice
from typing import Any

import psycopg
import pytest

from aiia_pipelines.connectors import _sql_xmin
from aiia_pipelines.connectors.base import Position, Reading, Source, SourceFault, open_source
from aiia_pipelines.jobs.failures import classify

pytestmark = pytest.mark.integration
CURSORS = (None, None, 0, 1, 1, 2, 3, 5, 5, 8, -4, 2**31, 7)


@dataclass
class Follower:
    """Syncs a stream again and again, as the engine does."""

    options: dict[str, Any]
    stream: Any
    cursor: str = "at"
    since: Position | None = None
    read: list[tuple[Any, ...]] = field(default_factory=list)

    def sync(self) -> list[tuple[Any, ...]]:
        with connected(self.options) as source:
            return self.sync_from(source)

    def sync_from(self, source: Source) -> list[tuple[Any, ...]]:
        names = [column.name for column in source.columns(self.stream)]
        reading = Reading(names=names, cursor=self.cursor, since=self.since)
        until = source.position(self.stream, reading)
        found = rows(source, self.stream, replace(reading, until=until))
        self.since = until
        self.read += found
        return found


@contextmanager
def connected(options: dict[str, Any]) -> Iterator[Source]:
    with closing(open_source(options)) as source:
        source.connect()
        yield source


def rows(source: Source, stream: Any, reading: Reading) -> list[tuple[Any, ...]]:
    return [row for batch in source.batches(stream, reading) for row in values(batch)]


def values(batch: Any) -> list[tuple[Any, ...]]:
    if isinstance(batch.rows, Sequence):
        return [tuple(row) for row in batch.rows]
    return list(zip(*(column.to_pylist() for column in batch.rows.columns), strict=True))


INTERLEAVINGS = 102
Held = dict[int, int]
TABLES = ("plain", "indexed", "cut")
FACTS = {"cursor": "at", "batch_rows": 3}
MODES = {"upsert": {"key": ["id"], **FACTS}, "append": FACTS}


@dataclass
class Writer:
    """One session that writes now and commits some time; it only updates rows of its own."""

    chance: random.Random
    new: Iterator[int]
    db: psycopg.Connection
    table: str
    rows: Held = field(default_factory=dict)
    saved: list[Held] = field(default_factory=list)
    before: Held = field(default_factory=dict)

    def step(self) -> None:
        weights = (8, 6, 3, 2, 2, 2, 1)
        actions = (
            self.insert, self.update, self.save, self.undo, self.release, self.commit, self.rollback,
        )  # fmt: skip
        self.chance.choices(actions, weights)[0]()

    def insert(self) -> None:
        for row in islice(self.new, self.chance.randint(1, 3)):
            self.db.execute(
                f"insert into {self.table} values (%s, 0, %s)", (row, self.chance.choice(CURSORS))
            )
            self.rows[row] = 0

    def update(self) -> None:
        for row in self.chance.sample(list(self.rows), min(2, len(self.rows))):
            self.rows[row] += 1
            moved = self.chance.random() < 0.5
            given = [self.rows[row], *([self.chance.choice(CURSORS)] if moved else []), row]
            self.db.execute(
                f"update {self.table} set version = %s{', at = %s' if moved else ''} where id = %s",
                given,
            )

    def save(self) -> None:
        self.db.execute(f"savepoint s{len(self.saved)}")
        self.saved.append(dict(self.rows))

    def undo(self) -> None:
        if self.saved:
            self.rows = self.saved.pop()
            self.db.execute(f"rollback to savepoint s{len(self.saved)}")

    def release(self) -> None:
        if self.saved:
            self.saved.pop()
            self.db.execute(f"release savepoint s{len(self.saved)}")

    def commit(self) -> None:
        self.db.commit()
        self.saved, self.before = [], dict(self.rows)

    def rollback(self) -> None:
        self.db.rollback()
        self.saved, self.rows = [], dict(self.before)


def interleave(options: dict[str, Any], follower: Follower, writers: Sequence[Writer]) -> None:
    chance = writers[0].chance
    for last in (False, False, False, True):
        for _ in range(chance.randint(1, 14)):
            chance.choice(writers).step()
        if last:
            for writer in writers:
                writer.commit()
        with connected(options) as source:
            follower.sync_from(source)


@pytest.fixture
def writing(source_db: Any) -> Iterator[list[psycopg.Connection]]:
    connections = [psycopg.connect(source_db.url("aiia_app")) for _ in range(3)]
    yield connections
    for connection in connections:
        connection.close()


def test_no_interleaving_of_writers_loses_a_row_or_reads_it_twice(
    stream: Any, source_db: Any, writing: list[psycopg.Connection]
) -> None:
    source_db.execute(
        "create table plain (id int, version int, at bigint)",
        "create table indexed (like plain, primary key (id))",
        "create index on indexed (at)",
        "create table cut (like plain) partition by range (version)",
        "create table cut_1 partition of cut for values from (0) to (2)",
        "create table cut_2 partition of cut default",
    )
    options = source_db.options()
    for seed in range(INTERLEAVINGS):
        table, mode = TABLES[seed % len(TABLES)], ("upsert", "append")[seed % 2]
        source_db.execute(f"truncate {table}")
        chance, new = random.Random(seed), count(1)
        writers = [Writer(chance, new, db, table) for db in writing]
        follower = Follower(options, stream(name=table, table=table, mode=mode, **MODES[mode]))
        interleave(options, follower, writers)
        held = {row[0]: row for row in source_db.execute(f"select * from {table}")}
        assert {row[0]: row for row in follower.read} == held, (seed, table, mode)
        assert max(Counter(follower.read).values(), default=1) == 1, (seed, table, mode)


def test_a_transaction_that_commits_late_is_read_by_the_next_sync(
    stream: Any, source_db: Any
) -> None:
    source_db.execute("create table rows (id int primary key, at timestamptz)")
    follower = Follower(source_db.options(), stream(table="rows", cursor="at", mode="append"))
    with psycopg.connect(source_db.url("aiia_app")) as late:
        late.execute("insert into rows values (1, '2026-01-01')")
        late.execute("savepoint s")
        late.execute("insert into rows values (2, null)")
        source_db.execute("insert into rows values (3, '2026-02-01 00:00:00.123456+05')")
        assert [row[0] for row in follower.sync()] == [3]
        assert follower.since is not None
        assert follower.since["cursor"] == "2026-01-31 19:00:00.123456+00"
        late.execute("release savepoint s")
    assert sorted(row[0] for row in follower.sync()) == [1, 2]
    assert follower.sync() == []


def test_a_transaction_has_its_number_after_the_counter_wrapped() -> None:
    now = _sql_xmin.Snapshot(f"{2**32 + 8}:{2**32 + 10}:", "1/2/3")
    number = _sql_xmin._number(now)
    assert (now.xmin, now.xmax) == (2**32 + 8, 2**32 + 10)
    for stored, meant in ((5, 2**32 + 5), (9, 2**32 + 9), (2**32 - 6, 2**32 - 6), (11, 11)):
        # Sums and remainders of numbers above zero are the same in Python.
        assert eval(number.replace("xmin::text::int8", str(stored))) == meant


def test_a_hosted_server_that_hides_its_identity_is_followed_too(
    stream: Any, source_db: Any
) -> None:
    source_db.execute("create table rows (id int, at int)", "insert into rows values (1, 1)")
    source_db.execute("revoke execute on function pg_control_system() from public", user="aiia")
    follower = Follower(source_db.options(), stream(table="rows", cursor="at", mode="append"))
    assert follower.sync() == [(1, 1)]
    source_db.execute("insert into rows values (2, 0)")
    assert follower.sync() == [(2, 0)]


def test_a_partition_that_is_attached_brings_its_old_rows(stream: Any, source_db: Any) -> None:
    source_db.execute(
        "create table rows (id int, at int) partition by range (id)",
        "create table low partition of rows for values from (0) to (10)",
        "create table high (id int, at int)",
        "insert into rows values (1, 5)",
        "insert into high values (11, 1), (12, null)",
    )
    follower = Follower(source_db.options(), stream(table="rows", cursor="at", mode="append"))
    assert follower.sync() == [(1, 5)]
    source_db.execute("alter table rows attach partition high for values from (10) to (20)")
    assert sorted(row[0] for row in follower.sync()) == [11, 12]
    assert follower.sync() == []


@pytest.mark.parametrize("change", ["cursor backwards", "value only", "vacuum full"])
def test_a_row_is_read_again_when_it_changed_and_only_then(
    stream: Any, source_db: Any, change: str
) -> None:
    source_db.execute(
        "create table rows (id int, v int, at int)", "insert into rows values (1, 1, 9), (2, 1, 9)"
    )
    follower = Follower(
        source_db.options(), stream(table="rows", cursor="at", mode="upsert", key=["id"])
    )
    follower.sync()
    statements = {
        "cursor backwards": "update rows set at = 1 where id = 1",
        "value only": "update rows set v = 2 where id = 1",
        "vacuum full": "vacuum full rows",
    }
    source_db.execute(statements[change])
    assert len(follower.sync()) == (0 if change == "vacuum full" else 1)


@pytest.mark.parametrize("kept", ["database", "table", "snapshot"])
def test_a_database_that_is_not_the_same_any_more_is_read_whole_or_refused(
    stream: Any, source_db: Any, kept: str
) -> None:
    source_db.execute("create table rows (id int, at int)", "insert into rows values (1, 1)")
    wrong = {"database": "1/2/3", "table": 4, "snapshot": "999999999:999999999:"}[kept]
    for mode, facts in (("upsert", {"key": ["id"]}), ("append", {})):
        asked = stream(table="rows", cursor="at", mode=mode, **facts)
        follower = Follower(source_db.options(), asked)
        follower.sync()
        assert follower.since is not None
        follower.since = {**follower.since, kept: wrong}
        if mode == "upsert":
            assert follower.sync() == [(1, 1)]
            continue
        with pytest.raises(SourceFault, match="sync with --full") as caught:
            follower.sync()
        assert classify(caught.value).code == "config-invalid"


def test_a_view_is_followed_by_its_cursor_and_counts_what_is_behind(
    open_sql: Callable[..., Source], stream: Any, source_db: Any
) -> None:
    source_db.execute(
        "create table t (id int, at timestamptz)",
        "create view rows as select * from t",
        "insert into t values (1, '2026-01-01 10:00'), (2, '2026-01-01 11:00'), (3, null)",
    )
    asked = stream(table="rows", cursor="at", lookback="30m", mode="upsert", key=["id"])
    follower = Follower(source_db.options(), asked)
    assert sorted(row[0] for row in follower.sync()) == [1, 2, 3]
    source_db.execute("insert into t values (4, '2026-01-01 10:45'), (5, '2026-01-01 10:15')")
    assert sorted(row[0] for row in follower.sync()) == [2, 3, 4]
    source = open_sql(source_db.options())
    source.columns(asked)
    reading = Reading(names=["id"], cursor="at", until=follower.since)
    # One more than was ever read: the engine ends as Error instead of losing it.
    assert source.rows_until(asked, reading) == 5


def test_a_view_without_key_is_read_strictly_after_its_cursor(stream: Any, source_db: Any) -> None:
    source_db.execute("create table t (id int, at text)", "create view rows as select * from t")
    follower = Follower(
        source_db.options(), stream(query="select * from rows", cursor="at", mode="append")
    )
    assert follower.sync() == []
    source_db.execute("insert into t values (1, 'it''s'), (2, 'it')")
    assert len(follower.sync()) == 2
    source_db.execute("insert into t values (3, 'it''s'), (4, 'jt')")
    assert [row[0] for row in follower.sync()] == [4]


def test_a_lookback_goes_with_the_type_of_its_cursor(stream: Any, source_db: Any) -> None:
    source_db.execute("create table t (id int, at text)", "insert into t values (1, 'a')")
    asked = stream(query="select * from t", cursor="at", lookback=5, mode="upsert", key=["id"])
    follower = Follower(source_db.options(), asked)
    follower.sync()
    with pytest.raises(SourceFault, match="looks back 5 on column 'at', which is string"):
        follower.sync()


def test_what_cannot_see_changes_of_rows_is_followed_by_its_cursor(
    stream: Any, source_db: Any
) -> None:
    source_db.execute(
        "create table rows (id int, at int); insert into rows values (1, 1)",
        "alter table rows enable row level security",
        "create policy p on rows using (id < 10)",
    )
    follower = Follower(source_db.options(), stream(table="rows", cursor="at", mode="append"))
    assert follower.sync() == [(1, 1)]
    assert follower.since == {"column": "at", "cursor": "1"}


def test_a_user_who_may_read_some_columns_only_is_followed_by_the_cursor(
    stream: Any, source_db: Any
) -> None:
    source_db.execute(
        "create table rows (id int, at int, secret text); insert into rows values (1, 1, 'x')",
        "revoke select on rows from canary_reader; grant select (id, at) on rows to canary_reader",
    )
    query = stream(query="select id, at from rows", cursor="at", mode="append")
    assert Follower(source_db.options(), query).sync() == [(1, 1)]
