"""How a sync is to be done, as the tags of its Dagster run say it."""

from typing import Any

import dagster as dg
import pytest

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, ("sync", False)),
        ({"aiia/full": "true"}, ("sync", True)),
        ({"aiia/dry_run": "true"}, ("dry_run", False)),
        ({"aiia/full": "true", "aiia/dry_run": "true"}, ("dry_run", True)),
        ({"aiia/full": "false", "aiia/dry_run": "no"}, ("sync", False)),
    ],
)
def test_a_job_run_is_of_the_type_that_its_tags_ask_for(
    rim: Any, tags: dict[str, str], expected: tuple[str, bool]
) -> None:
    run = rim.create(tags=tags)
    row = rim.row(run.run_id)
    assert (row.type, row.full_read) == expected
    rim.instance.report_run_canceled(run)


def test_executing_a_dry_run_again_is_a_dry_run(rim: Any) -> None:
    parent = rim.create(tags={"aiia/dry_run": "true", "aiia/full": "true"})
    rim.instance.report_run_canceled(parent)
    again = rim.create(
        status=dg.DagsterRunStatus.NOT_STARTED,
        tags={**parent.tags, "dagster/parent_run_id": parent.run_id},
        parent_run_id=parent.run_id,
        root_run_id=parent.run_id,
    )
    row = rim.row(again.run_id)
    assert (row.type, row.full_read, row.retry_of) == ("dry_run", True, rim.number(parent.run_id))
    rim.instance.report_run_canceled(again)


def test_a_dry_run_makes_no_asset_look_fresh(rim: Any) -> None:
    before = rim.warehouse("select to_regclass('shop.orders')")
    result = rim.run(tags={"aiia/dry_run": "true"})
    assert result.success
    number = rim.number(result.run_id)
    assert rim.row(result.run_id).state == "Completed"
    assert rim.log(number)[0] == f"INFO: Starting dry run job run #{number} (Shop DB)"
    assert rim.warehouse("select to_regclass('shop.orders')") == before
    assert not [event for event in result.all_events if event.is_step_materialization]
