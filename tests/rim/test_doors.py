from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from aiia_pipelines.jobs.state import STEPS

pytestmark = pytest.mark.integration

ORDERS = dg.AssetKey(["shop", "orders"])
CUSTOMERS = dg.AssetKey(["shop", "customers"])
LEDGER = dg.AssetKey(["books", "ledger"])


@pytest.fixture
def spoilt(rim: Any) -> Iterator[Any]:
    """The source while one order and one line of the ledger break a rule."""
    rim.source("update public.orders set amount = -1 where id = 7")
    yield rim
    rim.source("update public.orders set amount = 8.75 where id = 7")


@pytest.fixture(scope="module")
def completed(rim: Any) -> Any:
    """A run of all streams that went well."""
    return rim.run()


def tasks(rim: Any, number: int) -> dict[str, str]:
    return dict(rim.store.tasks_of(number))


def test_a_run_in_process_becomes_a_completed_job_run(rim: Any, completed: Any) -> None:
    result = completed
    assert result.success
    row = rim.row(result.run_id)
    assert (row.state, row.trigger, row.type) == ("Completed", "manual", "sync")
    assert (row.connector, row.title) == ("shop", "Shop DB")
    assert (row.records, list(row.streams)) == (500, ["orders", "customers"])
    assert row.config["source"]["password"] == "${file:secrets/shop_read}"
    assert tasks(rim, row.number) == {"orders": "Succeeded", "customers": "Succeeded"}
    tags = rim.tags(result.run_id)
    assert (tags["aiia/badge"], tags["aiia/job"]) == ("Completed", str(row.number))


def test_all_steps_of_a_completed_task_completed_in_order(rim: Any, completed: Any) -> None:
    number = rim.number(completed.run_id)
    with rim.store.engine.connect() as db:
        rows = db.exec_driver_sql(
            "select stream, step, state, started_at, completed_at from aiia.steps"
            f" where number = {number} order by stream, position"
        ).all()
    assert [row.step for row in rows if row.stream == "orders"] == list(STEPS)
    assert {row.state for row in rows} == {"Completed"}
    assert all(row.started_at <= row.completed_at for row in rows)


def test_the_log_has_the_documented_lines_also_in_dagster(rim: Any, completed: Any) -> None:
    number = rim.number(completed.run_id)
    lines = rim.log(number)
    port = rim.server.port
    assert lines[0] == f"INFO: Starting data refresh job run #{number} (Shop DB)"
    assert lines[1] == f"INFO: Connecting to postgresql://shop_read@127.0.0.1:{port}/shop..."
    assert lines[-1] == "INFO: Job finished with state COMPLETED. 500 records ingested."
    told = [entry.user_message for entry in rim.instance.all_logs(completed.run_id)]
    for line in lines:
        assert line.partition(": ")[2] in told


def test_materializations_carry_row_count_and_columns_and_all_checks_pass(
    rim: Any, completed: Any
) -> None:
    found = {event.asset_key: event for event in completed.get_asset_materialization_events()}
    assert set(found) == {ORDERS, CUSTOMERS}
    metadata = found[ORDERS].step_materialization_data.materialization.metadata
    assert metadata["dagster/row_count"].value == 300
    assert metadata["job run"].value == rim.number(completed.run_id)
    columns = metadata["dagster/column_schema"].value.columns
    assert [(column.name, column.type) for column in columns] == [
        ("id", "int32"),
        ("amount", "decimal(9,2)"),
        ("note", "string"),
    ]
    checks = completed.get_asset_check_evaluations()
    assert all(check.passed for check in checks)
    names = {check.check_name for check in checks if check.asset_key == ORDERS}
    assert names >= {"columns", "amount__ge", "amount__lt", "row_count", "reconciliation"}


def test_only_the_check_of_the_broken_rule_fails(spoilt: Any) -> None:
    result = spoilt.run(asset_selection=[ORDERS])
    assert not result.success
    (check,) = result.get_asset_check_evaluations()
    assert (check.passed, check.check_name, check.asset_key) == (False, "amount__ge", ORDERS)
    row = spoilt.row(result.run_id)
    assert (row.state, row.failure_code) == ("Error", "value-invalid")
    assert list(row.streams) == ["orders"]
    lines = spoilt.log(row.number)
    assert lines[-1] == "FATAL: Job aborted with state ERROR."
    assert any(
        line.startswith("ERROR: Invalid values in orders: column 'amount'") for line in lines
    )


def test_dagster_runs_can_be_filtered_by_their_badge(spoilt: Any) -> None:
    failed = spoilt.run(asset_selection=[ORDERS]).run_id
    good = spoilt.run(asset_selection=[CUSTOMERS]).run_id

    def bearing(badge: str) -> set[str]:
        wanted = dg.RunsFilter(tags={"aiia/badge": badge})
        return {run.run_id for run in spoilt.instance.get_runs(filters=wanted)}

    assert failed in bearing("Error")
    assert good in bearing("Completed")
    assert not bearing("Running")


def test_one_broken_stream_of_two_ends_as_partially_succeeded(spoilt: Any) -> None:
    result = spoilt.run()
    row = spoilt.row(result.run_id)
    assert (row.state, row.records) == ("Partially Succeeded", 200)
    assert tasks(spoilt, row.number) == {"orders": "Error", "customers": "Succeeded"}
    assert spoilt.tags(result.run_id)["aiia/badge"] == "Error"
    last = spoilt.log(row.number)[-1]
    assert last == "WARNING: Job finished with state PARTIALLY SUCCEEDED. 200 records ingested."


def test_a_run_over_two_connectors_is_two_job_runs_with_states_of_their_own(spoilt: Any) -> None:
    job = spoilt.definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=spoilt.instance, asset_selection=[ORDERS, LEDGER], raise_on_error=False
    )
    shop, books = spoilt.row(result.run_id), spoilt.row(result.run_id, "books")
    assert (shop.state, books.state) == ("Error", "Completed")
    assert (list(shop.streams), list(books.streams)) == (["orders"], ["ledger"])
    tags = spoilt.tags(result.run_id)
    assert set(tags["aiia/job"].split(",")) == {str(shop.number), str(books.number)}
    assert tags["aiia/badge"] == "Error"
    assert spoilt.log(books.number)[0].endswith(f"#{books.number} (Books DB)")
    assert spoilt.log(shop.number)[-1] == "FATAL: Job aborted with state ERROR."


def test_executing_a_run_again_is_a_new_job_run_that_points_to_it(spoilt: Any) -> None:
    first = spoilt.run(asset_selection=[ORDERS], tags={"team": "blue"})
    old = spoilt.number(first.run_id)
    parent = spoilt.instance.get_run_by_id(first.run_id)
    job = spoilt.definitions.resolve_job_def("sync__shop")
    again = spoilt.instance.create_run_for_job(
        job.get_subset(asset_selection={ORDERS}),
        status=dg.DagsterRunStatus.NOT_STARTED,
        # Dagster copies every tag of the parent.
        tags={**parent.tags, "dagster/parent_run_id": parent.run_id},
        parent_run_id=parent.run_id,
        root_run_id=parent.run_id,
        asset_selection=frozenset({ORDERS}),
    )
    row = spoilt.row(again.run_id)
    assert row.number > old
    assert (row.state, row.trigger, row.retry_of) == ("Pending", "retry", old)
    tags = spoilt.tags(again.run_id)
    assert (tags["aiia/badge"], tags["aiia/job"]) == ("Pending", str(row.number))
    assert tags["team"] == "blue"
    spoilt.instance.report_run_canceled(again)


@pytest.mark.parametrize(
    ("tags", "trigger", "by"),
    [
        ({"dagster/schedule_name": "schedule__shop"}, "schedule", "schedule__shop"),
        ({"dagster/sensor_name": "arrivals"}, "sensor", "arrivals"),
        ({"dagster/backfill": "abcdef"}, "backfill", "abcdef"),
        ({"dagster/from_automation_condition": "true"}, "sensor", "true"),
        ({"user": "sara"}, "manual", "sara"),
        ({}, "manual", "Dagster"),
        ({".dagster/aiia_trigger": "manual", ".dagster/aiia_by": "sara@cli"}, "manual", "sara@cli"),
    ],
)  # fmt: skip
def test_a_job_run_knows_what_made_it(
    rim: Any, tags: dict[str, str], trigger: str, by: str
) -> None:
    run = rim.create(tags=tags)
    row = rim.row(run.run_id)
    assert (row.trigger, row.triggered_by, row.state) == (trigger, by, "Pending")
    rim.instance.report_run_canceled(run)


def test_a_run_of_assets_of_no_connector_is_no_job_run(rim: Any) -> None:
    @dg.asset
    def foreign() -> None:
        """Belong to nobody."""

    definitions = dg.Definitions(
        assets=[foreign], jobs=[dg.define_asset_job("elsewhere", selection=[foreign])]
    )
    result = definitions.resolve_job_def("elsewhere").execute_in_process(instance=rim.instance)
    assert result.success
    assert rim.store.numbers_of(result.run_id) == {}
    assert not {"aiia/badge", "aiia/job"} & set(rim.tags(result.run_id))


def test_assets_named_like_a_connector_but_no_stream_of_it_are_no_job_run(rim: Any) -> None:
    run = rim.create()
    stranger = run._replace(
        run_id=dg.DagsterRun(job_name="other").run_id,
        asset_selection=frozenset({dg.AssetKey(["shop", "nowhere"])}),
        tags={},
    )
    rim.instance.run_storage.add_run(stranger)
    assert rim.store.numbers_of(stranger.run_id) == {}
    rim.instance.report_run_canceled(run)
