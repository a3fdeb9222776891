from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import InstigatorStatus

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.schedules import build
from aiia_pipelines.schedules.switch import main, switch

pytestmark = pytest.mark.integration

HOUR = timedelta(hours=1)


@dg.op
def _nothing() -> None: ...


@dg.job
def nothing() -> None:
    _nothing()


def schedule_of(name: str, **parts: Any) -> dg.ScheduleDefinition:
    file = {
        "name": name,
        "title": "CRM",
        "source": {"kind": "sql"},
        "schedule": "0 * * * *",
        "streams": [{"name": "orders", "table": "orders"}],
    }
    found = build(Connector.model_validate(file | parts), nothing)
    assert found is not None
    return found


def evaluated(rim: Any, schedule: dg.ScheduleDefinition, at: datetime) -> Any:
    with dg.build_schedule_context(instance=rim.instance, scheduled_execution_time=at) as context:
        return schedule.evaluate_tick(context)


def full_hour() -> datetime:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def test_a_tick_asks_for_a_run_that_says_what_it_is_for(rim: Any) -> None:
    at = full_hour()
    (request,) = evaluated(rim, schedule_of("crm", timezone="Asia/Riyadh"), at).run_requests
    assert request.run_key == f"crm@{at.isoformat()}"
    assert request.tags[".dagster/aiia_trigger"] == "schedule"
    assert request.tags[".dagster/aiia_by"] == (
        f"schedule__crm at {at + 3 * HOUR:%Y-%m-%d %H:%M} Asia/Riyadh"
    )
    assert request.tags["dagster/schedule_name"] == "schedule__crm"


def test_a_closed_window_skips_the_tick(rim: Any) -> None:
    found = evaluated(rim, schedule_of("crm", window={"until": "2020-01-01"}), full_hour())
    assert found.run_requests == []
    assert found.skip_message == "The window has ended and does not open again."


def test_without_a_past_all_ticks_are_the_one_of_now(rim: Any) -> None:
    found = evaluated(rim, schedule_of("newcomer", missed="all"), full_hour())
    assert len(found.run_requests) == 1


def test_ticks_that_have_a_run_already_are_left_out(rim: Any) -> None:
    at = full_hour()
    switch(rim.instance, "again", "0 * * * *", on=True)
    tag = {"dagster/schedule_name": "schedule__again", ".dagster/aiia_tick": at.isoformat()}
    run = rim.instance.create_run_for_job(nothing, tags=tag)
    found = evaluated(rim, schedule_of("again", missed="all"), at)
    assert found.run_requests == []
    assert found.skip_message == "Each tick up to now has been run already."
    rim.instance.delete_run(run.run_id)


def test_a_schedule_is_switched_off_and_on_in_the_store(rim: Any) -> None:
    def state() -> tuple[InstigatorStatus, float | None]:
        states = rim.instance.all_instigator_state()
        found = next(each for each in states if each.instigator_name == "schedule__away")
        return found.status, found.instigator_data.start_timestamp

    assert main(["away", "0 * * * *", "off"]) == 0
    assert state() == (InstigatorStatus.STOPPED, None)
    assert main(["away", "0 * * * *", "off"]) == 0
    assert main(["away", "0 * * * *", "on"]) == 0
    status, since = state()
    assert status is InstigatorStatus.RUNNING
    # Ticks before that were not missed: nobody wanted them.
    assert since is not None


def test_a_database_that_is_away_is_told(
    rim: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], closed: int
) -> None:
    monkeypatch.setenv("AIIA_DATABASE_URL", f"postgresql+psycopg2://nobody@127.0.0.1:{closed}/x")
    assert main(["away", "0 * * * *", "off"]) == 4
    assert capsys.readouterr().err.startswith("the database refused: ")
