"""A stream that is cut into parts has the same rows as in one piece."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.connectors.base import Reading, Source, SourceFault
from aiia_pipelines.jobs.failures import classify

pytestmark = pytest.mark.integration
Opened = Callable[..., Source]
COLUMNS = {
    "n": "int",
    "big": "bigint",
    "amount": "numeric(12,2)",
    "wide": "double precision",
    "day": "date",
    "at": "timestamp",
    "zoned": "timestamptz",
    "name": "text",
    "uid": "uuid",
}


def values(batch: Any) -> list[tuple[Any, ...]]:
    if isinstance(batch.rows, Sequence):
        return [tuple(row) for row in batch.rows]
    return list(zip(*(column.to_pylist() for column in batch.rows.columns), strict=True))


def ids(source: Source, stream: Any) -> Counter[int]:
    source.columns(stream)
    batches = source.batches(stream, Reading(names=["id"]))
    return Counter(row[0] for batch in batches for row in values(batch))


@pytest.fixture
def cut_db(source_db: Any) -> Any:
    """A table with skewed, equal, missing and odd values."""
    source_db.execute(
        f"create table rows (id int, {', '.join(f'{n} {t}' for n, t in COLUMNS.items())})",
        "insert into rows select i, nullif(i % 17, 3), case when i < 2900 then 5 else i::bigint * 1000000007 end,"
        " nullif(i % 100, 0) / 4.0, case when i % 500 = 0 then 'NaN'::float8 else i end, date '2024-02-20' + i % 40,"
        " timestamp '2026-01-31 23:59:59.999999' + i * interval '1 hour', timestamptz '2026-03-29' + i * interval '7 min',"
        " case when i % 5 = 0 then 'it''s' else 'x' || i % 90 end, md5((i % 700)::text)::uuid"
        " from generate_series(1, 3000) i",
        "insert into rows (id, day, at, zoned) values (4001, 'infinity', '-infinity', 'infinity'), (4002, null, null, null)",
    )
    return source_db


@pytest.mark.parametrize("analysed", [True, False], ids=["analysed", "new"])
def test_ranges_of_any_type_have_every_row_once(
    open_sql: Opened, stream: Any, cut_db: Any, *, analysed: bool
) -> None:
    if analysed:
        cut_db.execute("analyze rows")
    source = open_sql(cut_db.options())
    every = Counter(row[0] for row in cut_db.execute("select id from rows"))
    for name in COLUMNS:
        for size in (50_000, 100):
            partition = {"column": name, "ranges": 4}
            asked = stream(name=f"by_{name}", table="rows", partition=partition, batch_rows=size)
            assert ids(source, asked) == every, name


@pytest.mark.parametrize("by", ["hour", "day", "month", "year"])
def test_parts_of_the_calendar_have_every_row_once(
    open_sql: Opened, stream: Any, cut_db: Any, by: str
) -> None:
    source = open_sql(cut_db.options())
    every = Counter(row[0] for row in cut_db.execute("select id from rows"))
    for name in ("day", "at", "zoned"):
        partition = {"column": name, "by": by}
        assert ids(source, stream(name=name, table="rows", partition=partition)) == every


def test_a_query_is_cut_too_and_by_the_name_at_the_source(
    open_sql: Opened, stream: Any, cut_db: Any, backends: Callable[[str], int]
) -> None:
    source = open_sql(cut_db.options())
    asked = stream(
        query="select id, big from rows",
        partition={"column": "number", "ranges": 3},
        columns={"number": {"from": "big", "type": "int64"}},
    )
    assert sum(ids(source, asked).values()) == 3002
    # As many at once as ranges, beside the first connection.
    assert backends(cut_db.name) == 4


def test_a_part_that_breaks_off_ends_the_others(
    open_sql: Opened, stream: Any, cut_db: Any, backends: Callable[[str], int]
) -> None:
    source = open_sql(cut_db.options())
    query = "select id, n, 1 / (id - 2999) as broken from rows"
    asked = stream(query=query, partition={"column": "n", "ranges": 3})
    source.columns(asked)
    with pytest.raises(SourceFault) as caught:
        list(source.batches(asked, Reading(names=["id", "broken"])))
    assert classify(caught.value).code == "value-invalid"
    assert sum(ids(source, stream(name="good", table="rows")).values()) == 3002


def test_parts_that_are_given_up_leave_no_session(
    open_sql: Opened, stream: Any, source_db: Any, backends: Callable[[str], int]
) -> None:
    source_db.execute(
        "create table rows as select i as id, repeat('x', 2000) t from generate_series(1, 25000) i"
    )
    source = open_sql(source_db.options())
    asked = stream(table="rows", partition={"column": "id", "ranges": 3})
    source.columns(asked)
    batches = source.batches(asked, Reading(names=["id", "t"]))
    next(batches)
    batches.close()
    source.close()
    assert any(backends(source_db.name) == 0 for _ in range(1000))


@pytest.mark.parametrize(
    ("partition", "words"),
    [
        ({"column": "nope", "ranges": 2}, "partition column 'nope' is not a column"),
        ({"column": "name", "by": "day"}, "by column 'name', which is string: `by` takes a date"),
    ],
)
def test_what_cannot_be_cut_is_told(
    open_sql: Opened, stream: Any, cut_db: Any, partition: dict[str, Any], words: str
) -> None:
    source = open_sql(cut_db.options())
    with pytest.raises(SourceFault, match=words):
        ids(source, stream(table="rows", partition=partition))


def test_another_database_reads_its_parts_one_after_the_other(
    open_sql: Opened, stream: Any, tmp_path: Path
) -> None:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as db:
        db.execute("create table rows (id integer, price numeric(8,2), day date, name varchar(9))")
        db.executemany(
            "insert into rows values (?, ?, ?, ?)",
            [(i, i % 7 or None, f"2026-0{i % 9 + 1}-03", "x") for i in range(200)],
        )
    db.close()
    source = open_sql({"kind": "sql", "url": f"sqlite:///{path}"})
    for partition in ({"column": "price", "ranges": 3}, {"column": "day", "by": "month"}):
        asked = stream(name=partition["column"], table="rows", partition=partition)
        assert ids(source, asked) == Counter(range(200))
    with pytest.raises(SourceFault, match="which is string: take a number, date or timestamp"):
        ids(source, stream(table="rows", partition={"column": "name", "ranges": 2}))
