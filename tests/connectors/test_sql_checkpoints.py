"""A reading that broke off goes on after its last checkpoint: every row of it is read once."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from aiia_pipelines.connectors.base import Position, Reading, Source, open_source

pytestmark = pytest.mark.integration
Opened = Callable[..., Source]
NAMES = ["id", "part", "at", "v"]


def values(batch: Any) -> list[tuple[Any, ...]]:
    if isinstance(batch.rows, Sequence):
        return [tuple(row) for row in batch.rows]
    return list(zip(*(column.to_pylist() for column in batch.rows.columns), strict=True))


def filled(source_db: Any, *, index: str = "(at)", key: str = "primary key (part, id)") -> None:
    source_db.execute(
        f"create table rows (id int not null, part text, at numeric(12,3), v text{', ' if key else ''}{key})",
        f"create index on rows {index}",
        "insert into rows select i, 'P' || i % 7, case when i % 11 = 0 then null else i % 50 + 0.125 end, 'v'"
        " from generate_series(1, 20000) i",
    )


@pytest.fixture
def ordered(stream: Any) -> Any:
    return stream(table="rows", cursor="at", mode="upsert", key=["part", "id"], batch_rows=6000)


@pytest.mark.parametrize("size", [1000, 6000])
def test_batches_in_order_carry_checkpoints_and_the_rest_none(
    open_sql: Opened, source_db: Any, ordered: Any, size: int
) -> None:
    filled(source_db)
    source = open_sql(source_db.options())
    asked = ordered.model_copy(update={"batch_rows": size})
    source.columns(asked)
    batches = list(source.batches(asked, Reading(names=NAMES, cursor="at")))
    assert all(len(batch) <= size for batch in batches)
    marked = [batch for batch in batches if batch.checkpoint is not None]
    for batch in marked:
        last = values(batch)[-1]
        assert batch.checkpoint == {
            "columns": ["at", "part", "id"],
            "values": [str(last[2]), last[1], str(last[0])],
        }
        assert len(last) == len(NAMES)
    rest = [row for batch in batches if batch.checkpoint is None for row in values(batch)]
    assert {row[2] for row in rest} == {None}
    assert sum(map(len, batches)) == 20000


def broken_off(options: dict[str, Any], asked: Any, since: Position | None) -> Any:
    """Read all batches with a checkpoint but the last, and give the rows, the position and the checkpoint."""
    with closing(open_source(options)) as source:
        source.connect()
        source.columns(asked)
        reading = Reading(names=NAMES, cursor="at", since=since)
        reading = replace(reading, until=source.position(asked, reading))
        batches = [b for b in source.batches(asked, reading) if b.checkpoint is not None][:-1]
    return [row for batch in batches for row in values(batch)], reading, batches[-1].checkpoint


def rest_of(options: dict[str, Any], asked: Any, reading: Reading) -> list[tuple[Any, ...]]:
    with closing(open_source(options)) as source:
        source.connect()
        source.columns(asked)
        return [row for batch in source.batches(asked, reading) for row in values(batch)]


@pytest.mark.parametrize("dropped", [False, True], ids=["indexed", "index dropped"])
@pytest.mark.parametrize("size", [1000, 6000])
def test_a_reading_goes_on_after_its_checkpoint(
    source_db: Any, ordered: Any, size: int, *, dropped: bool
) -> None:
    filled(source_db)
    options, asked = source_db.options(), ordered.model_copy(update={"batch_rows": size})
    read, reading, mark = broken_off(options, asked, None)
    if dropped:
        source_db.execute("drop index rows_at_idx")
    read += rest_of(options, asked, replace(reading, after=mark))
    assert Counter(row[:2] for row in read) == Counter(
        source_db.execute("select id, part from rows")
    )


def test_what_changed_between_the_attempts_is_left_to_the_next_sync(
    source_db: Any, ordered: Any
) -> None:
    filled(source_db)
    options = source_db.options()
    read, reading, mark = broken_off(options, ordered, None)
    old = [row[0] for row in read[:3]]
    source_db.execute(
        # Rows that were read move behind the checkpoint, unread ones before it, new ones everywhere.
        f"update rows set at = 49.5, v = 'moved' where id in ({', '.join(map(str, old))})",
        "update rows set at = 0, v = 'moved' where id % 50 = 49 and at is not null and id < 1000",
        "insert into rows values (30001, 'P', 0, 'new'), (30002, 'P', 49.9, 'new'), (30003, 'P', null, 'new')",
    )
    resumed = replace(reading, after=mark)
    read += rest_of(options, ordered, resumed)
    assert max(Counter(row[:2] for row in read).values()) == 1
    assert {row[3] for row in read} == {"v"}
    follow = Reading(names=NAMES, cursor="at", since=reading.until)
    read += rest_of(options, ordered, follow)
    latest = {row[:2]: row for row in read}
    assert latest == {row[:2]: row for row in [(*r[:2], *r[2:]) for r in stored(source_db, latest)]}


def stored(source_db: Any, latest: dict[Any, Any]) -> list[tuple[Any, ...]]:
    kind = type(next(row[2] for row in latest.values() if row[2] is not None))
    rows = source_db.execute("select id, part, at, v from rows")
    return [(i, p, None if at is None else kind(str(at)), v) for i, p, at, v in rows]


def test_an_incremental_reading_goes_on_too(source_db: Any, ordered: Any) -> None:
    filled(source_db)
    options = source_db.options()
    with closing(open_source(options)) as source:
        source.connect()
        source.columns(ordered)
        since = source.position(ordered, Reading(names=NAMES, cursor="at"))
    source_db.execute(
        "insert into rows select i, 'Q', i, 'later' from generate_series(30000, 50000) i",
        "insert into rows values (60000, 'Q', 3, 'late'), (60001, 'Q', null, 'late')",
        "update rows set v = 'changed' where id = 5",
    )
    read, reading, mark = broken_off(options, ordered, since)
    assert {row[3] for row in read} == {"later"}
    read += rest_of(options, ordered, replace(reading, after=mark))
    assert Counter(row[:2] for row in read) == Counter(
        source_db.execute("select id, part from rows where v <> 'v'")
    )


@pytest.mark.parametrize(
    "facts",
    [
        {"index": "(v, at)"},
        {"index": "(at) where at > 0"},
        {"index": "(abs(at))"},
        {"key": "check (id > 0)"},
        {"key": "unique (part, id)"},
    ],
    ids=["cursor second", "part of the rows", "expression", "key not unique", "key may be null"],
)
def test_without_fitting_indexes_nothing_is_ordered(
    open_sql: Opened, source_db: Any, ordered: Any, facts: dict[str, str]
) -> None:
    filled(source_db, **facts)
    source = open_sql(source_db.options())
    source.columns(ordered)
    batches = list(source.batches(ordered, Reading(names=NAMES, cursor="at")))
    assert {batch.checkpoint for batch in batches} == {None}
    assert sum(map(len, batches)) == 20000


@pytest.fixture
def elsewhere(maria: Any) -> dict[str, Any]:
    """A table of another database: equal and missing cursors, decimals in the key."""
    maria.execute(
        "create table orders (id int not null, part decimal(9,3) not null, at datetime(6), v varchar(9),"
        " primary key (part, id), key (at))",
        "insert into orders select seq, seq mod 7 / 4, if(seq mod 11 = 0, null,"
        " '2026-01-31 10:00:00.123456' + interval (seq mod 50) second), 'v' from seq_1_to_5000",
    )
    options: dict[str, Any] = maria.options()
    return options


def test_another_database_goes_on_after_its_checkpoint(
    elsewhere: dict[str, Any], ordered: Any, maria: Any
) -> None:
    asked = ordered.model_copy(update={"table": "orders", "batch_rows": 700})
    read, reading, mark = broken_off(elsewhere, asked, None)
    assert mark["columns"] == ["at", "part", "id"]
    assert len(read) == 6 * 700
    maria.execute("insert into orders values (9000, 1, '2026-02-01', 'v')")
    read += rest_of(elsewhere, asked, replace(reading, after=mark))
    assert Counter(row[:2] for row in read) == Counter(
        tuple(row) for row in maria.execute("select id, part from orders where id < 9000")
    )
    since = replace(reading, since=reading.until, until=None)
    assert 9000 in {row[0] for row in rest_of(elsewhere, asked, since)}


def test_the_greatest_cursor_is_found_as_a_number(
    open_sql: Opened, source_db: Any, ordered: Any
) -> None:
    filled(source_db)
    source_db.execute("insert into rows values (0, 'P', 100, 'v'), (0, 'R', 'NaN', 'v')")
    source_db.execute("delete from rows where at = 'NaN'")
    source = open_sql(source_db.options())
    source.columns(ordered)
    found = source.position(ordered, Reading(names=NAMES, cursor="at"))
    assert found is not None
    assert found["cursor"] == "100.000"
