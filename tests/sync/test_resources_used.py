"""What a sync says that it used: CPU, memory, bytes in and out, by step, stream and job run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.connectors.base import open_source
from aiia_pipelines.jobs.state import STEPS
from aiia_pipelines.sync.destinations import open_destination

pytestmark = pytest.mark.integration

COUNT = 20_000
ROWS = {"name": "rows", "table": "public.rows", "batch_rows": 5000}
FILLED = ("id int, name text", f"select n, 'name ' || n from generate_series(1, {COUNT}) n")
# An int32, an int32 offset and ten to fourteen letters a row.
LEAST, MOST = COUNT * 16, COUNT * 24


def steps_of(ended: Any, stream: str = "rows") -> dict[str, Any]:
    with ended.store.engine.connect() as db:
        query = "select * from aiia.steps where number = %s and stream = %s"
        found = db.exec_driver_sql(query, (ended.number, stream))
        return {row.step: row for row in found}


def bytes_of(ended: Any) -> tuple[int, int]:
    return ended.row.bytes, ended.row.bytes_written


def consistent(ended: Any, *streams: str) -> dict[str, Any]:
    """Check that steps, tasks and job run agree, and give the steps of the first stream."""
    assert ended.state == "Completed", ended.log
    with ended.store.engine.connect() as db:
        query = "select * from aiia.tasks where number = %s"
        tasks = {row.stream: row for row in db.exec_driver_sql(query, (ended.number,))}
    steps = {name: steps_of(ended, name) for name in streams or ("rows",)}
    assert set(steps) == set(tasks)
    for name, found in steps.items():
        assert set(found) == set(STEPS)
        task = tasks[name]
        assert task.bytes_read == sum(step.bytes_read for step in found.values()) > 0
        assert task.bytes_written == sum(step.bytes_written for step in found.values()) > 0
        spent = sum(step.cpu_seconds for step in found.values())
        assert task.cpu_seconds == pytest.approx(spent, abs=1e-4)
        assert all(step.cpu_seconds >= 0 for step in found.values())
        for step in found.values():
            assert 10_000_000 < step.peak_memory <= ended.row.peak_memory * 1.05
    assert bytes_of(ended) == (
        sum(task.bytes_read for task in tasks.values()),
        sum(task.bytes_written for task in tasks.values()),
    )
    assert 0 < sum(task.cpu_seconds for task in tasks.values()) <= ended.row.cpu_seconds
    return steps[next(iter(steps))]


def test_a_sync_says_what_each_step_used(bench: Any) -> None:
    bench.fill(*FILLED)
    first = bench.sync(ROWS)
    steps = consistent(first)
    assert LEAST < steps["extract"].bytes_read < MOST
    assert LEAST < steps["commit"].bytes_written < MOST
    for name in ("extract", "parse", "validate", "commit"):
        assert steps[name].cpu_seconds > 0
        assert steps[name].busy_seconds > 0
    again = bench.sync(ROWS)
    consistent(again)
    assert bytes_of(again) == bytes_of(first)


def test_streams_are_told_apart_and_share_what_they_wait_for_together(bench: Any) -> None:
    bench.fill(*FILLED)
    bench.fill("id int", "values (1), (2)", name="few")
    ended = bench.sync({"name": "few", "table": "public.few"}, ROWS)
    consistent(ended, "few", "rows")
    few, rows = steps_of(ended, "few"), steps_of(ended, "rows")
    assert few["extract"].bytes_read < 100
    assert rows["extract"].bytes_read > LEAST
    for name in ("prepare", "connect"):
        assert few[name].cpu_seconds > 0
        assert rows[name].cpu_seconds > 0
    assert few["connect"].cpu_seconds == rows["connect"].cpu_seconds


def test_a_stream_read_in_parts_has_the_work_of_all_its_readers(bench: Any) -> None:
    bench.fill("id int primary key, name text", FILLED[1])
    alone = consistent(bench.sync(ROWS))
    parts = ROWS | {"partition": {"column": "id", "ranges": 4}}
    together = consistent(bench.sync(parts))
    assert together["extract"].bytes_read == pytest.approx(alone["extract"].bytes_read, rel=0.01)
    assert together["extract"].cpu_seconds > 0


def test_text_that_is_copied_is_counted_as_it_is_sent(bench: Any) -> None:
    # An interval goes as CSV, which has two quotes around each value, a comma and an end of line.
    bench.fill("id int, lasted interval", f"select n, '1 s' from generate_series(1, {COUNT}) n")
    ended = bench.sync(ROWS)
    written = consistent(ended)["commit"].bytes_written
    columns = 'octet_length(format(E\'"%s","%s"\n\', id, lasted))'
    assert written >= bench.arrived(f"sum({columns})")[0][0] * 0.8


def test_keys_that_are_read_again_are_a_part_of_the_match(bench: Any) -> None:
    bench.fill("id int primary key, at timestamp", "select n, now() from generate_series(1, 500) n")
    stream = ROWS | {"mode": "upsert", "key": ["id"], "cursor": "at", "delete": "hard"}
    consistent(bench.sync(stream))
    steps = steps_of(bench.sync(stream))
    assert steps["match"].bytes_read >= 500 * 4
    assert steps["match"].bytes_written >= 500 * 4


def test_nothing_goes_out_in_a_sync_that_read_nothing_new(bench: Any) -> None:
    bench.fill("id int primary key, at timestamp", "")
    ended = bench.sync(ROWS | {"mode": "upsert", "key": ["id"]})
    assert bytes_of(ended) == (0, 0)


def test_a_sync_that_fails_has_used_something_too(bench: Any) -> None:
    bench.fill(*FILLED)
    stream = ROWS | {"columns": {"id": {"checks": {"le": COUNT - 1}}}}
    ended = bench.sync(stream)
    assert ended.state == "Error"
    steps = steps_of(ended)
    assert LEAST < steps["extract"].bytes_read == ended.row.bytes
    assert (steps["commit"].state, steps["commit"].bytes_written > 0) == ("Skipped", True)


def test_every_destination_of_files_says_what_came_in(bench: Any, local_shelf: Any) -> None:
    bench.fill(*FILLED)
    syncs = [bench.sync(ROWS, destination=open_destination(local_shelf.url)) for _ in range(2)]
    for ended in syncs:
        steps = consistent(ended)
        assert LEAST < steps["extract"].bytes_read < MOST
        assert steps["reconcile"].cpu_seconds > 0
    assert bytes_of(syncs[0]) == bytes_of(syncs[1])
    if local_shelf.kind == "parquet":
        folder = Path(local_shelf.url.removeprefix("parquet://"))
        newest = max(folder.rglob("data/*.parquet"), key=lambda path: path.stat().st_mtime_ns)
        assert syncs[1].row.bytes_written == newest.stat().st_size


def test_files_are_counted_as_the_rows_that_they_hold(
    bench: Any, tmp_path: Path, free_files: Callable[[], Any]
) -> None:
    (tmp_path / "rows.csv").write_text(
        "id,name\n" + "".join(f"{n},name {n}\n" for n in range(1, COUNT + 1))
    )
    columns = {"id": {"type": "int32"}, "name": {"type": "string"}}
    from_file = bench.sync(
        {"name": "rows", "path": "rows.csv", "columns": columns}, source=free_files
    )
    bench.fill(*FILLED)
    # What the kind is makes no difference: the same rows have the same size.
    assert consistent(from_file)["extract"].bytes_read == pytest.approx(
        consistent(bench.sync(ROWS))["extract"].bytes_read, rel=0.02
    )


@pytest.fixture
def free_files(tmp_path: Path) -> Callable[[], Any]:
    return lambda: open_source({"kind": "files", "root": str(tmp_path)})
