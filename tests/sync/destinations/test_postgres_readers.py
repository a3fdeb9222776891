"""Readers while commits happen: one state or the next, never none, never both."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

pytestmark = pytest.mark.integration
ROUNDS = 8
WIDTH = 40
MODES: dict[str, dict[str, Any]] = {
    "replace": {"mode": "replace"},
    "append": {"mode": "append"},
    "upsert": {"mode": "upsert"},
    "soft": {"mode": "upsert", "delete": "soft"},
    "hard": {"mode": "upsert", "delete": "hard"},
    "history": {"mode": "history", "delete": "soft"},
}
LIVE = {"soft": "_deleted_at is null", "history": "_valid_to is null"}


@contextmanager
def watching(dock: Any, query: str) -> Iterator[set[Any]]:
    """Read again and again, and collect what was seen."""
    seen: set[Any] = set()
    faults: list[BaseException] = []
    ended = threading.Event()

    def watch() -> None:
        try:
            with psycopg.connect(dock.warehouse.url("canary_reader"), autocommit=True) as db:
                db.execute("set lock_timeout = '2s'")
                while not ended.is_set():
                    seen.add(db.execute(query).fetchone())
        except psycopg.Error as fault:
            faults.append(fault)

    threads = [threading.Thread(target=watch) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not faults


@pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "keyless"])
@pytest.mark.parametrize("name", MODES)
def test_readers_see_whole_states_only(dock: Any, name: str, keyed: bool) -> None:
    mode = MODES[name]
    if not keyed:
        if name not in {"replace", "append"}:
            return
        dock.key = ()

    def state(number: int) -> list[tuple[int, str]]:
        first = number if name in {"soft", "hard", "replace", "history"} else 0
        return [(key, f"v{number}") for key in range(first, first + WIDTH)]

    complete = name != "upsert"
    dock.sync(state(0), complete=complete, **mode)
    dock.query(
        "create view public.names as select id, name from erp.rows",
        "grant usage on schema erp to canary_reader",
        "grant select on erp.rows, public.names to canary_reader",
    )
    live = LIVE.get(name, "true")
    old = psycopg.connect(dock.warehouse.url("canary_reader"))
    old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    whole = "select count(*), md5(string_agg(t::text, '|' order by t::text)) from erp.rows t"
    before = old.execute(whole).fetchone()
    touched = psycopg.connect(dock.warehouse.url("canary_reader"))
    touched.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    touched.execute("select 1 from pg_class limit 1")
    count = f"select count(*), count(distinct name), max(name) from erp.rows where {live}"
    with watching(dock, count) as seen:
        for number in range(1, ROUNDS):
            dock.sync(state(number), complete=complete, **mode)
        assert old.execute(whole).fetchone() == before
        assert touched.execute(whole).fetchone() == before
    old.close()
    touched.close()
    if name == "append" and not keyed:
        assert seen <= {(WIDTH * n, n, f"v{n - 1}") for n in range(1, ROUNDS + 1)}
    else:
        assert seen <= {(WIDTH, 1, f"v{n}") for n in range(ROUNDS)}
    assert len(seen) > 1
    names = dock.warehouse.execute("select count(*) from public.names", user="canary_reader")
    assert names == [(dock.rows("count(*)", "1")[0][0],)]


def test_a_commit_waits_for_no_reader_and_lets_none_wait(dock: Any) -> None:
    dock.sync([(1, "a"), (2, "b")])
    dock.query(
        "grant usage on schema erp to canary_reader", "grant select on erp.rows to canary_reader"
    )
    reader = psycopg.connect(dock.warehouse.url("canary_reader"))
    reader.execute("select * from erp.rows")  # its transaction stays open
    landing = dock.land()
    landing.stage(dock.batch([(2, "B"), (3, "c")]))
    changes = landing.match(complete=True)
    apply = landing._apply

    def applied(*given: Any) -> None:
        apply(*given)
        other = psycopg.connect(dock.warehouse.url("canary_reader"))
        other.execute("set lock_timeout = '500ms'")
        assert other.execute("select id from erp.rows order by 1").fetchall() == [(1,), (2,)]
        other.close()

    landing._apply = applied
    landing.commit(2, changes, None)
    reader.close()
    assert dock.rows() == [(2, "B"), (3, "c")]


@pytest.mark.parametrize(
    ("columns", "rows", "mode"),
    [
        ({"more": "int32"}, [(3, "c", 1)], "replace"),
        ({"more": "int32"}, [(3, "c", 1)], "upsert"),
        ({"id": "int64"}, [(3, "c")], "upsert"),
    ],
    ids=["replaced", "added", "widened"],
)
def test_an_older_reader_keeps_its_rows_while_the_table_gets_other_columns(
    dock: Any, columns: dict[str, str], rows: Any, mode: str
) -> None:
    dock.sync([(1, "a"), (2, "b")])
    old = psycopg.connect(dock.warehouse.url())
    old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    old.execute("select 1 from pg_class limit 1")
    dock.columns |= columns
    dock.sync(rows, mode=mode)
    assert old.execute("select name from erp.rows order by 1").fetchall() == [("a",), ("b",)]
    old.close()
