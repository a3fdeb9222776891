"""A source that lost its rows does not take those of the destination with it."""

from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.sync.destinations import open_destination

pytestmark = pytest.mark.integration
BASE: dict[str, Any] = {"name": "rows", "table": "public.rows", "key": ["id"]}
CURSOR = {"cursor": "at"}
FOLLOWING: list[dict[str, Any]] = [
    {"mode": "replace"},
    {"mode": "upsert", "delete": "hard"},
    {"mode": "upsert", "delete": "soft"},
    {"mode": "history", "delete": "soft"},
    CURSOR | {"mode": "upsert", "delete": "hard"},
    CURSOR | {"mode": "upsert", "delete": "soft"},
    CURSOR | {"mode": "history", "delete": "soft"},
]


def fill(bench: Any) -> None:
    bench.fill(
        "id int primary key, at int, note text", "select n, n, 'n' from generate_series(1, 50) n"
    )


@pytest.mark.parametrize("stream", FOLLOWING, ids=str)
def test_a_source_that_is_suddenly_empty_deletes_nothing(
    bench: Any, stream: dict[str, Any]
) -> None:
    fill(bench)
    allowing = BASE | stream | ({"max_delete": "100%"} if "delete" in stream else {})
    assert bench.sync(allowing).state == "Completed"
    before = bench.arrived()
    bench.source.execute("delete from public.rows")
    done = bench.sync(allowing)
    assert (done.state, done.code) == ("Error", "empty-source"), done.log
    assert bench.arrived() == before
    meant = allowing | {"checks": {"row_count": {"min": 0}}}
    done = bench.sync(meant)
    assert (done.state, done.changes[3]) == ("Completed", 50), done.log


def test_a_source_whose_rows_are_all_set_aside_deletes_nothing(bench: Any) -> None:
    fill(bench)
    stream = BASE | {"columns": {"note": {"type": "string", "checks": {"ne": "bad"}}}}
    facts = {"on_invalid": "quarantine", "max_invalid": "100%"}
    assert bench.sync(stream, **facts).state == "Completed"
    before = bench.arrived()
    bench.source.execute("update public.rows set note = 'bad'")
    done = bench.sync(stream, **facts)
    assert (done.state, done.code) == ("Error", "empty-source"), done.log
    assert bench.arrived() == before


@pytest.mark.parametrize("stream", FOLLOWING[1:5], ids=str)
@pytest.mark.parametrize("kind", ["postgres", "duckdb", "parquet"])
def test_a_row_that_is_set_aside_is_not_gone(
    bench: Any, tmp_path: Path, stream: dict[str, Any], kind: str
) -> None:
    fill(bench)
    url = bench.warehouse.url() if kind == "postgres" else f"{kind}://{tmp_path}/warehouse"
    checked = BASE | stream | {"columns": {"note": {"type": "string", "checks": {"ne": "bad"}}}}
    facts = {"on_invalid": "quarantine", "max_invalid": 10}
    assert bench.sync(checked, destination=open_destination(url), **facts).state == "Completed"
    bench.source.execute(
        "update public.rows set note = 'bad', at = at + 100 where id = 1",
        "delete from public.rows where id = 2",
    )
    done = bench.sync(checked, destination=open_destination(url), **facts)
    assert done.state == "Completed", done.log
    assert done.outcomes[0].rejected == 1
    # The source still has row 1; only row 2 is gone.
    assert done.changes[3] == 1, done.log
