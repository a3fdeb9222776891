"""Whole syncs of a source whose columns change."""

from typing import Any

import pytest

from aiia_pipelines.jobs import contracts
from aiia_pipelines.jobs.log import Level

pytestmark = pytest.mark.integration
OF = ("sap_erp", "rows")
KEYED = {"name": "rows", "table": "public.rows", "mode": "upsert", "key": ["id"]}


def warnings(ended: Any) -> list[str]:
    return [line.message for line in ended.lines if line.level is Level.WARNING]


def changes(bench: Any) -> list[str]:
    return [version.change for version in contracts.versions(bench.store, *OF)]


@pytest.mark.parametrize("mode", ["replace", "upsert"])
def test_a_new_column_is_taken_up_and_told(bench: Any, mode: str) -> None:
    stream = KEYED | {"mode": mode}
    bench.fill("id int primary key, a int", "values (1, 10), (2, 20)")
    assert bench.sync(stream, drift="add_only").state == "Completed"
    bench.source.execute(
        "alter table public.rows add b text not null default 'x'",
        "delete from public.rows where id = 1",
    )
    ended = bench.sync(stream, drift="add_only")
    assert ended.state == "Completed", ended.log
    assert warnings(ended) == ["rows: column 'b' (string) is new at the source and taken up"]
    kept = [] if mode == "replace" else [(1, 10, None)]
    assert bench.arrived("id, a, b") == [*kept, (2, 20, "x")]
    assert changes(bench) == ["b added", "learned"]
    again = bench.sync(stream, drift="freeze")
    assert (again.state, warnings(again)) == ("Completed", [])


def test_under_evolve_columns_go_and_types_widen(bench: Any) -> None:
    bench.fill("id int primary key, a int not null, b text", "values (1, 10, 'x'), (2, 20, 'y')")
    assert bench.sync(KEYED, drift="evolve").state == "Completed"
    bench.source.execute(
        "alter table public.rows drop b",
        "alter table public.rows alter a type bigint",
        "update public.rows set a = 5000000000 where id = 2",
    )
    ended = bench.sync(KEYED, drift="evolve")
    assert ended.state == "Completed", ended.log
    assert warnings(ended) == [
        "rows: column 'b' (string) is gone and becomes NULL",
        "rows: column 'a' is now int64 (was int32)",
    ]
    assert bench.arrived("id, a, b") == [(1, 10, None), (2, 5_000_000_000, None)]
    again = bench.sync(KEYED, drift="freeze")
    assert (again.state, warnings(again)) == ("Completed", [])
    bench.source.execute("alter table public.rows add b text", "update public.rows set b = 'z'")
    assert bench.sync(KEYED, drift="evolve").state == "Completed"
    assert bench.arrived("id, b") == [(1, "z"), (2, "z")]


def test_a_rename_is_told_by_its_values_and_settled_by_its_mapping(bench: Any) -> None:
    rows = "select n, 'given ' || n, 'FAMILY-' || n from generate_series(1, 50) n"
    bench.fill("id int primary key, first text, last text", rows)
    assert bench.sync(KEYED).state == "Completed"
    before = bench.arrived()
    # As a tool does that makes a new table: the columns come in another order.
    bench.fill("id int primary key, surname text, called text", "values (0, '', '')")
    bench.source.execute(
        "delete from public.rows",
        "insert into public.rows select n, 'FAMILY-' || n, 'given ' || n from generate_series(1, 50) n",
    )
    ended = bench.sync(KEYED)
    assert (ended.state, ended.code) == ("Error", "column-mismatch")
    assert "map it with `first: {from: called}`" in ended.log
    assert "map it with `last: {from: surname}`" in ended.log
    assert "is new at the source" not in ended.log
    assert bench.arrived() == before
    mapped = KEYED | {"columns": {"first": {"from": "called"}, "last": {"from": "surname"}}}
    ended = bench.sync(mapped)
    assert ended.state == "Completed", ended.log
    assert sorted(bench.arrived("id, first, last")) == sorted(before)


def test_what_is_learned_holds_no_value(bench: Any) -> None:
    bench.fill(
        "id int primary key, secret text", "select n, 'hunter' || n from generate_series(1, 30) n"
    )
    assert bench.sync(KEYED).state == "Completed"
    learned = contracts.learned(bench.store, *OF)
    assert learned is not None
    assert learned[1]["profile"]["values"] == 30
    with bench.store.engine.connect() as db:
        query = "select c::text, h::text from aiia.contracts c, aiia.schema_history h"
        assert "hunter" not in str(db.exec_driver_sql(query).all())


def test_a_failed_sync_learns_nothing(bench: Any) -> None:
    bench.fill("id int, a int", "values (1, 1), (1, 2)")
    assert bench.sync(KEYED).state == "Error"
    assert contracts.learned(bench.store, *OF) is None
