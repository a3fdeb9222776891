"""What maintenance removes because it is old, and what it keeps however old it is."""

from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus

from aiia_pipelines.resources.job_board import settings
from aiia_pipelines.upkeep import retention

pytestmark = pytest.mark.integration


def remove(rim: Any, what: str) -> int:
    return retention.stages(rim.store.engine, settings())[what]()


def change(rim: Any, statement: str) -> None:
    with rim.store.engine.begin() as db:
        db.exec_driver_sql(statement)


def age(rim: Any, run_id: str, days: int) -> None:
    """Let a run and its job run have ended so long ago."""
    at = f"now() - interval '{days} days'"
    change(rim, f"update public.runs set update_timestamp = {at} where run_id = '{run_id}'")
    change(
        rim,
        f"update aiia.job_runs set ended_at = {at} where ended_at is not null and number in"
        f" (select number from aiia.attempts where run_id = '{run_id}')",
    )


def kinds(rim: Any, run_id: str) -> set[str]:
    query = f"select distinct dagster_event_type from public.event_logs where run_id = '{run_id}'"
    return {kind for (kind,) in rim.history(query)}


def lines(rim: Any, number: int) -> int:
    return int(rim.history(f"select count(*) from aiia.log_lines where number = {number}")[0][0])


def test_each_part_goes_at_its_time(rim: Any) -> None:
    run_id, young = (rim.run().run_id for _ in range(2))
    number = rim.number(run_id)
    age(rim, run_id, 31)
    assert remove(rim, "events of runs") == 1
    assert kinds(rim, run_id) == {"ASSET_MATERIALIZATION"}
    assert len(kinds(rim, young)) > 5
    assert remove(rim, "events of runs") == 0
    assert remove(rim, "logs of job runs") == 0

    age(rim, run_id, 181)
    assert remove(rim, "logs of job runs") == 1
    assert (lines(rim, number), lines(rim, rim.number(young)) > 5) == (0, True)
    assert rim.row(run_id).records == 500
    assert remove(rim, "job runs") == 0

    age(rim, run_id, 549)
    assert remove(rim, "job runs") == 1
    assert rim.store.row(number) is None
    assert rim.instance.get_run_by_id(run_id) is None
    assert kinds(rim, run_id) == set()
    assert rim.row(young).state == "Completed"
    latest = rim.instance.get_latest_materialization_event(dg.AssetKey(["shop", "orders"]))
    assert latest.run_id == young


def test_what_has_not_ended_is_kept_however_old(rim: Any) -> None:
    waiting, paused = rim.create(), rim.create()
    rim.instance.report_run_canceled(paused)
    number = rim.number(paused.run_id)
    # Its Dagster run is over, its next attempt is not.
    change(
        rim, f"update aiia.job_runs set state = 'Paused', ended_at = null where number = {number}"
    )
    before = {run.run_id: kinds(rim, run.run_id) for run in (waiting, paused)}
    for run in (waiting, paused):
        age(rim, run.run_id, 900)
    assert [remove(rim, what) for what in ("events of runs", "logs of job runs", "job runs")] == [
        0
    ] * 3
    assert {run_id: kinds(rim, run_id) for run_id in before} == before
    change(
        rim,
        f"update aiia.job_runs set state = 'Cancelled', ended_at = now() where number = {number}",
    )
    rim.instance.report_run_canceled(waiting)


def test_of_each_schedule_the_last_tick_is_kept(rim: Any) -> None:
    for second in range(3):
        tick = TickData(
            "origin",
            "rare",
            InstigatorType.SCHEDULE,
            TickStatus.SKIPPED,
            second + 1.0,
            selector_id="rare",
        )
        rim.instance.create_tick(tick)
    change(
        rim,
        "update public.job_ticks set create_timestamp = now() - interval '40 days' where selector_id = 'rare'",
    )
    assert remove(rim, "ticks") == 2
    ((left,),) = rim.history(
        "select extract(epoch from timestamp) from job_ticks where selector_id = 'rare'"
    )
    assert left == 3
    assert remove(rim, "ticks") == 0
    change(rim, "delete from public.job_ticks where selector_id = 'rare'")


def test_what_is_to_be_kept_for_ever_has_no_stage(rim: Any) -> None:
    forever = replace(settings(), keep_events_days=0, keep_runs_days=0)
    assert list(retention.stages(rim.store.engine, forever)) == ["logs of job runs"]
