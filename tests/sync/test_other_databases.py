"""Whole syncs from MariaDB and SQLite: what arrives is what was there, and what cannot arrive ends as Error."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.connectors.base import open_source

pytestmark = pytest.mark.integration

# declared as, written as, and as the warehouse shows it
MARIADB = [
    ("bigint unsigned", "18446744073709551615", "18446744073709551615"),
    ("decimal(65,30)", "0.000000000000000000000000000001", "0.000000000000000000000000000001"),
    ("decimal(38,10)", "-9999999999999999999999999999.9999999999",
     "-9999999999999999999999999999.9999999999"),
    ("float", "16777217", "1.6777216e+07"),
    ("double", "5e-324", "5e-324"),
    ("datetime(6)", "'9999-12-31 23:59:59.999999'", "9999-12-31 23:59:59.999999"),
    ("timestamp(6) null", "'2024-07-01 12:00:00.000001'", "2024-07-01 12:00:00.000001+00"),
    ("time(6)", "'23:59:59.999999'", "23:59:59.999999"),
    ("date", "'0001-01-01'", "0001-01-01"),
    ("varchar(20)", "'😀 ä\\\\'", "😀 ä\\"),
    ("varchar(20)", "''", ""),
    ("varbinary(9)", "x'00ff'", "\\x00ff"),
    ("bit(1)", "b'1'", "true"),
    ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("int", "null", None),
]  # fmt: skip


def test_hard_values_of_mariadb_arrive_as_they_are(bench: Any, maria: Any) -> None:
    columns = ", ".join(f"c{number} {entry[0]}" for number, entry in enumerate(MARIADB))
    maria.execute(
        "set time_zone = '+00:00'",
        f"create table hard (id int primary key, {columns})",
        f"insert into hard values (1, {', '.join(entry[1] for entry in MARIADB)})",
    )
    bench.opened = lambda: open_source(maria.options())
    ended = bench.sync({"name": "rows", "table": "hard"}, reconcile="full")
    assert ended.state == "Completed", ended.log
    shown = ", ".join(f"c{number}::text" for number in range(len(MARIADB)))
    assert bench.arrived(shown) == [tuple(entry[2] for entry in MARIADB)]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("date", "'0000-00-00'"),
        ("datetime", "'2024-02-00 00:00:00'"),
        ("time", "'25:00:00'"),
        ("time", "'-00:00:01'"),
        ("varchar(9)", "concat('a', char(0))"),
    ],
)
def test_what_no_column_holds_ends_as_error_with_column_and_row(
    bench: Any, maria: Any, kind: str, value: str
) -> None:
    maria.execute(
        "set sql_mode = ''",
        f"create table hard (id int primary key, c {kind})",
        f"insert into hard values (1, null), (2, {value})",
    )
    bench.opened = lambda: open_source(maria.options())
    ended = bench.sync({"name": "rows", "table": "hard"})
    assert ended.code == "value-invalid", ended.log
    assert "Column 'c', row 2" in ended.log
    assert bench.staging() == []


@pytest.mark.parametrize("lookback", [None, "1h"])
def test_a_cursor_of_mariadb_brings_what_is_new_once(
    bench: Any, maria: Any, lookback: str | None
) -> None:
    maria.execute(
        "create table t (id int primary key, s text, at datetime(6))",
        "insert into t values (1, 'a', '2024-01-01 00:00:00.000001'), (2, 'b', null)",
    )
    bench.opened = lambda: open_source(maria.options())
    stream = {"name": "rows", "table": "t", "mode": "upsert", "key": ["id"], "cursor": "at"}
    stream |= {"lookback": lookback} if lookback else {}
    assert bench.sync(stream).changes == (2, 0, 0, 0)
    maria.execute(
        "insert into t values (3, 'c', '2024-01-01 00:00:00.000002')",
        "update t set s = 'B' where id = 2",
    )
    assert bench.sync(stream).changes == (1, 1, 1, 0)
    assert bench.arrived("id, s") == [(1, "a"), (2, "B"), (3, "c")]


def test_hard_values_of_sqlite_arrive_as_they_are_or_end_as_error(
    bench: Any, tmp_path: Path
) -> None:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("create table t (id integer primary key, n decimal(20,4), d timestamp, b blob)")
        db.execute("insert into t values (?, 10.1, '2024-01-01T00:00:00.5', x'00')", (2**53 + 1,))
        db.commit()
        bench.opened = lambda: open_source({"kind": "sql", "url": f"sqlite:///{path}"})
        stream = {"name": "rows", "table": "t"}
        assert bench.sync(stream, reconcile="full").state == "Completed"
        expected = [("9007199254740993", "10.1000", "2024-01-01 00:00:00.5", "\\x00")]
        assert bench.arrived("id::text, n::text, d::text, b::text") == expected
        db.execute("insert into t values (2, 1, '2024-01-01 00:00:00.1234567', null)")
        db.commit()
        ended = bench.sync(stream)
    assert ended.code == "value-invalid", ended.log
    assert "Column 'd', row 1" in ended.log
    assert bench.arrived("id::text, n::text, d::text, b::text") == expected


EDGES: list[dict[str, Any]] = [
    {"mode": "upsert", "key": ["id"]},
    {"mode": "upsert", "key": ["id"], "delete": "soft"},
    {"mode": "upsert", "key": ["id"], "delete": "hard"},
    {"mode": "history", "key": ["id"]},
    {"mode": "history", "key": ["id"], "delete": "soft"},
    {"mode": "append"},
]


@pytest.mark.parametrize("mode", EDGES, ids=str)
def test_a_row_committed_late_behind_the_cursor_is_read_again_or_ends_as_error(
    bench: Any, maria: Any, mode: dict[str, Any]
) -> None:
    maria.execute(
        "create table t (id int primary key, s text, at datetime(6))",
        "insert into t values (1, 'a', '2024-01-01 00:00:01')",
    )
    bench.opened = lambda: open_source(maria.options())
    stream = {"name": "rows", "table": "t", "cursor": "at"} | mode
    assert bench.sync(stream).state == "Completed"
    facts = {"database": maria.name, "autocommit": False}
    with closing(maria.server.connect(**facts)) as late, late.cursor() as cursor:
        cursor.execute("insert into t values (2, 'late', '2024-01-01 00:00:02')")
        maria.execute("insert into t values (3, 'c', '2024-01-01 00:00:03')")
        assert bench.sync(stream).state == "Completed"
        late.commit()
    before = bench.arrived("id, s")
    ended = bench.sync(stream)
    assert (ended.state, ended.code) == ("Error", "reconciliation-mismatch"), ended.log
    assert "Rows of rows are missing: the source has 3 up to this cursor" in ended.log
    assert bench.arrived("id, s") == before
    if "key" in mode:
        # The remedy that the sentence tells.
        assert bench.sync(stream | {"lookback": "1h"}).state == "Completed"
        assert bench.arrived("id, s") == [(1, "a"), (2, "late"), (3, "c")]


@pytest.mark.parametrize("mode", [EDGES[0], EDGES[4], EDGES[5]], ids=str)
def test_rows_that_are_set_aside_are_not_missing_behind_the_cursor(
    bench: Any, maria: Any, mode: dict[str, Any]
) -> None:
    maria.execute(
        "create table t (id int primary key, s varchar(9), at datetime(6))",
        "insert into t values (1, 'a', '2024-01-01 00:00:01'), (2, 'bad', '2024-01-01 00:00:02')",
    )
    bench.opened = lambda: open_source(maria.options())
    columns = {"s": {"type": "string", "checks": {"ne": "bad"}}}
    stream = {"name": "rows", "table": "t", "cursor": "at", "columns": columns} | mode
    facts = {"on_invalid": "quarantine", "max_invalid": "50%"}
    assert bench.sync(stream, **facts).state == "Completed"
    maria.execute("insert into t values (3, 'c', '2024-01-01 00:00:03')")
    done = bench.sync(stream, **facts)
    assert done.state == "Completed", done.log
    assert bench.arrived("id, s") == [(1, "a"), (3, "c")]
    # What else is missing is still noticed.
    maria.execute("insert into t values (4, 'late', '2023-01-01')")
    assert bench.sync(stream, **facts).code == "reconciliation-mismatch"
