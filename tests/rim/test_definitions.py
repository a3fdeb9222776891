import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from aiia_pipelines.config.folder import read_folder
from aiia_pipelines.definitions import definitions_of
from aiia_pipelines.schedules.ticks import longest_pause

SHOP = """\
name: {name}
title: Shop {name}
owners: ["team:data", "sara@example.com", "not a Dagster owner"]
tier: critical
priority: high
schedule: "0 2 * * *"
timezone: Europe/Berlin
source: {{ kind: sql, url: "postgresql://reader@db.example.com/shop" }}
streams:
  - name: orders
    description: One row for each order.
    table: public.orders
    key: [id]
    columns:
      id: {{ type: int32, nullable: false, description: Its number }}
      amount: {{ type: "decimal(9,2)", checks: {{ ge: 0 }} }}
    checks:
      row_count: {{ min: 1 }}
  - name: customers
    query: select 1 as id
"""
BY_HAND = """\
name: books
title: Books DB
source: { kind: sql, url: "mysql+pymysql://reader@db.example.com/books" }
streams: [{ name: ledger, table: ledger }]
"""
TORN = "name: torn\ntitle: Torn\nkron: never\nstreams: []\n"
LOAD = """
import json, sys
from pathlib import Path
from aiia_pipelines.config.folder import read_folder
from aiia_pipelines.definitions import definitions_of
made = definitions_of(read_folder(Path(sys.argv[1])))
repository = made.get_repository_def()
print(json.dumps({
    "jobs": len([j for j in repository.get_all_jobs() if j.name.startswith("sync__")]),
    "schedules": len([s for s in repository.schedule_defs if s.name.startswith("schedule__")]),
    "assets": len(repository.asset_graph.get_all_asset_keys()),
    "heavy": sorted({"pandas", "pandera", "pyarrow", "psycopg"} & set(sys.modules)),
}))
"""
ORDERS = dg.AssetKey(["shop", "orders"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    folder = tmp_path_factory.mktemp("connectors")
    (folder / "shop.yaml").write_text(SHOP.format(name="shop"))
    (folder / "books.yaml").write_text(BY_HAND)
    (folder / "torn.yaml").write_text(TORN)
    return definitions_of(read_folder(folder))


def spec(made: dg.Definitions, *path: str) -> dg.AssetSpec:
    return next(s for s in made.resolve_all_asset_specs() if s.key == dg.AssetKey(path))


@pytest.mark.slow
def test_hundreds_of_connectors_load_without_what_only_runs_need(tmp_path: Path) -> None:
    for number in range(300):
        name = f"shop_{number}"
        (tmp_path / f"{name}.yaml").write_text(SHOP.format(name=name))
    (tmp_path / "torn.yaml").write_text(TORN)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == {"jobs": 300, "schedules": 300, "assets": 601, "heavy": []}


def test_a_broken_file_is_an_asset_that_tells_its_mistakes(made: dg.Definitions) -> None:
    broken = spec(made, "broken", "torn")
    assert broken.group_name == "broken_connectors"
    told = broken.description or ""
    assert "torn.yaml:1: source: missing key" in told
    assert "torn.yaml:3: kron: unknown key" in told
    assert "torn.yaml:4: streams: must have at least 1 entry" in told
    assert {job.name for job in made.resolve_all_job_defs()} >= {"sync__shop", "sync__books"}


def test_an_asset_says_what_the_connector_file_says(made: dg.Definitions) -> None:
    orders = spec(made, "shop", "orders")
    assert orders.group_name == "shop"
    assert orders.description == "One row for each order."
    assert orders.kinds == {"postgres", "pandera", "table"}
    assert list(orders.owners) == ["team:data", "sara@example.com"]
    assert orders.tags["aiia/tier"] == "critical"
    assert orders.metadata["dagster/table_name"] == "warehouse.shop.orders"
    assert spec(made, "books", "ledger").kinds == {"mysql", "pandera", "table"}
    assert spec(made, "books", "ledger").description == "ledger of Books DB"


def test_an_asset_has_the_columns_of_its_contract(made: dg.Definitions) -> None:
    schema = spec(made, "shop", "orders").metadata["dagster/column_schema"]
    number, amount = schema.columns
    assert (number.name, number.type, number.description) == ("id", "int32", "Its number")
    assert (number.constraints.nullable, number.constraints.unique) == (False, True)
    assert (amount.type, amount.constraints.nullable) == ("decimal(9,2)", True)
    assert list(amount.constraints.other) == ["ge: 0"]
    assert "dagster/column_schema" not in spec(made, "shop", "customers").metadata


def test_each_rule_is_an_asset_check(made: dg.Definitions) -> None:
    keys = made.resolve_asset_graph().asset_check_keys
    assert {key.name for key in keys if key.asset_key == ORDERS} == {
        "columns",
        "values",
        "id__not_null",
        "amount__ge",
        "unique",
        "row_count",
        "reconciliation",
    }
    assert {key.name for key in keys if key.asset_key.path[-1] == "customers"} == {
        "columns",
        "values",
        "reconciliation",
    }


def test_a_schedule_comes_with_a_date_by_which_data_must_be_fresh(made: dg.Definitions) -> None:
    found = made.get_repository_def().schedule_defs
    (schedule,) = [each for each in found if each.name.startswith("schedule__")]
    assert schedule.name == "schedule__shop"
    assert schedule.cron_schedule == "0 2 * * *"
    assert schedule.execution_timezone == "Europe/Berlin"
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    policy = spec(made, "shop", "orders").freshness_policy
    assert policy is not None
    # Due each day, and one day to get there.
    assert policy.fail_window.to_timedelta() == timedelta(days=2)
    assert spec(made, "books", "ledger").freshness_policy is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cron", "least", "most"),
    [
        ("* * * * *", timedelta(minutes=1), timedelta(minutes=1)),
        ("0 * * * *", timedelta(hours=1), timedelta(hours=1)),
        ("0 2 * * *", timedelta(days=1), timedelta(days=1)),
        # Friday 18:00 to Monday 8:00 are 62 hours.
        ("*/5 8-18 * * 1-5", timedelta(hours=38), timedelta(hours=62)),
        ("0 6 1 * *", timedelta(days=31), timedelta(days=31)),
        ("0 6 1 1 *", timedelta(days=366), timedelta(days=366)),
    ],
)
def test_the_longest_pause_of_a_schedule_is_known_to_a_day(
    cron: str, least: timedelta, most: timedelta
) -> None:
    for hour in range(0, 7 * 24, 5):
        after = datetime(2026, 1, 5, tzinfo=UTC) + timedelta(hours=hour)
        assert least <= longest_pause(cron, "UTC", after) <= most


def test_streams_of_a_connector_share_an_operation_a_pool_and_a_job(made: dg.Definitions) -> None:
    assets = made.resolve_asset_graph()
    node = assets.get(ORDERS).assets_def
    assert {key.path[-1] for key in node.keys} == {"orders", "customers"}
    assert node.op.pool == "connector_shop"
    assert node.can_subset
    assert made.resolve_job_def("sync__shop").tags["dagster/priority"] == "10"
    assert made.resolve_job_def("sync__books").tags["dagster/priority"] == "0"
