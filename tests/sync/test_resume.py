from typing import Any

import pytest

from aiia_pipelines.sync.destinations.postgres import PostgresLanding
from aiia_pipelines.sync.faults import DestinationFault

pytestmark = pytest.mark.integration
STREAM = {
    "name": "rows", "table": "public.rows", "mode": "upsert", "key": ["id"], "cursor": "at", "batch_rows": 100,
}  # fmt: skip


def test_a_broken_sync_goes_on_from_its_last_checkpoint(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.fill(
        "id int primary key, at timestamptz not null, note text",
        "select n, now() + n * interval '1 second', 'n' || n from generate_series(1, 950) n",
    )
    bench.source.execute("create index on public.rows (at, id)")
    stage = PostgresLanding.stage
    calls = []

    def broken(self: PostgresLanding, batch: Any, checkpoint: Any = None) -> None:
        stage(self, batch, checkpoint)
        calls.append(batch.num_rows)
        if len(calls) == 4:
            raise DestinationFault("The wire broke.", "sqlstate:08006")

    with monkeypatch.context() as patch:
        patch.setattr(PostgresLanding, "stage", broken)
        first = bench.sync(STREAM)
    assert first.state == "Failed", first.log
    second = bench.sync(STREAM)
    assert second.state == "Completed", second.log
    assert "rows: going on after 400 records that a broken attempt staged." in second.log
    assert second.changes == (950, 0, 0, 0)
    assert second.row.records == 950
    assert bench.arrived("count(*), sum(id)") == [(950, 950 * 951 // 2)]
    assert bench.staging() == []


def test_a_broken_incremental_sync_goes_on_as_well(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.fill(
        "id int primary key, at timestamptz, note text",
        "select n, now() - interval '1 hour', 'n' || n from generate_series(1, 300) n",
    )
    bench.source.execute("create index on public.rows (at, id)")
    assert bench.sync(STREAM).state == "Completed"
    bench.source.execute(
        "update public.rows set at = clock_timestamp(), note = 'new' where id > 50"
    )
    stage = PostgresLanding.stage

    def broken(self: PostgresLanding, batch: Any, checkpoint: Any = None) -> None:
        stage(self, batch, checkpoint)
        raise DestinationFault("The wire broke.", "sqlstate:08006")

    with monkeypatch.context() as patch:
        patch.setattr(PostgresLanding, "stage", broken)
        assert bench.sync(STREAM).state == "Failed"
    second = bench.sync(STREAM)
    assert second.state == "Completed", second.log
    assert "going on after 100 records that a broken attempt staged." in second.log
    assert second.changes == (0, 250, 0, 0)
    assert bench.arrived("count(*) filter (where note = 'new')") == [(250,)]


def test_nobody_goes_on_from_an_attempt_that_was_overtaken(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.fill(
        "id int primary key, at timestamptz not null, note text",
        "select n, now() + n * interval '1 second', 'n' || n from generate_series(1, 300) n",
    )
    bench.source.execute("create index on public.rows (at, id)")
    stage = PostgresLanding.stage
    rivals = []

    def overtaken(self: PostgresLanding, batch: Any, checkpoint: Any = None) -> None:
        if not rivals:
            # Another attempt does the whole job before this one writes its first rows.
            rivals.append(None)
            rivals[0] = bench.sync(STREAM)
        stage(self, batch, checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr(PostgresLanding, "stage", overtaken)
        late = bench.sync(STREAM)
    assert rivals[0].state == "Completed", rivals[0].log
    assert (late.state, late.code) == ("Failed", "destination-conflict"), late.log
    assert bench.staging() == []
    bench.source.execute("update public.rows set note = 'new', at = now() + interval '1 day'")
    again = bench.sync(STREAM)
    assert "going on after" not in again.log
    assert again.changes == (0, 300, 0, 0), again.log
