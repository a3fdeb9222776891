from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from aiia_pipelines.assets import checks
from aiia_pipelines.config.connector import Connector
from aiia_pipelines.jobs.failures import classify
from aiia_pipelines.jobs.run import Changes
from aiia_pipelines.sync.faults import ContractBroken
from aiia_pipelines.sync.outcome import Broken, Synced, Violation

COLUMNS = {
    "id": {"type": "int32", "nullable": False, "checks": {"unique": True}},
    "amount": {"type": "decimal(9,2)", "checks": {"ge": 0, "lt": 100}},
    "größe": {"type": "int32", "checks": {"ge": 0}},
    "gr__e": {"type": "int32", "checks": {"ge": 0}},
    "a b": {"type": "int32", "checks": {"ge": 0}},
    "a-b": {"type": "int32", "checks": {"ge": 0}},
}


def connector(**more: Any) -> Connector:
    stream = {
        "name": "orders",
        "table": "public.orders",
        "key": ["id", "line"],
        "columns": COLUMNS,
        "schema": "shop.schemas:Orders",
        "checks": {"unique": ["amount"], "row_count": {"min": 1}},
    }
    given = {"name": "shop", "title": "Shop", "source": {"kind": "sql", "url": "postgresql://h/d"}}
    return Connector.model_validate({**given, "streams": [stream], **more})


CHANGES = Changes(inserted=97, updated=0, unchanged=0, deleted=0)
QUARANTINE = {"on_invalid": "quarantine", "max_invalid": "1%"}


def results(found: Any) -> dict[str, tuple[bool, str]]:
    return {each.check_name: (each.passed, each.severity.name) for each in found}


def synced(
    held: Connector, *violations: Violation, rejected: int = 0
) -> dg.MaterializeResult[None]:
    done = Synced("orders", 97, CHANGES, (), rejected, violations, (("amount", "round", 4),))
    return checks.materialized(held, done, 7)


def stopped(code: str, *violations: Violation, **more: Any) -> list[dg.AssetCheckResult]:
    fault = ContractBroken("It is so.", code)
    outcome = Broken("orders", classify(fault), (), violations)
    return list(checks.broken(connector(**more), outcome))


def test_every_rule_and_what_holds_over_all_rows_is_a_check_of_its_own() -> None:
    held = connector(**QUARANTINE)
    specs = {spec.name: spec.description for spec in checks.spec_of(held, held.streams[0])}
    assert list(specs) == [
        "columns", "values", "id__not_null", "amount__ge", "amount__lt", "gr__e__ge", "gr__e__ge_2",
        "a_b__ge", "a_b__ge_2", "line__not_null", "reconciliation", "unique", "row_count", "schema",
        "error_budget",
    ]  # fmt: skip
    assert specs["unique"] == "No two rows share their id, line; or their amount; or their id."
    assert specs["schema"] == "Every batch passes shop.schemas:Orders."
    assert specs["error_budget"] == "No rows had to be set aside; at most 1% may."
    assert {specs["gr__e__ge"], specs["gr__e__ge_2"]} == {
        "Column größe: ge(0)",
        "Column gr__e: ge(0)",
    }


def test_dagster_takes_the_names() -> None:
    held = connector()
    specs = checks.spec_of(held, held.streams[0])
    key = dg.AssetKey(["shop", "orders"])

    @dg.multi_asset(specs=[dg.AssetSpec(key)], check_specs=specs)
    def orders() -> Iterator[dg.MaterializeResult[None]]:
        yield synced(held)

    with dg.DagsterInstance.ephemeral() as instance:
        ran = dg.materialize([orders], instance=instance)
        assert ran.success
        found = {each.check_name for each in ran.get_asset_check_evaluations()}
    assert found == {spec.name for spec in specs}


def test_a_good_stream_passes_every_check_and_tells_what_was_changed() -> None:
    done = synced(connector(**QUARANTINE))
    assert set(results(done.check_results).values()) == {(True, "ERROR")}
    assert done.metadata is not None
    assert done.metadata["changed round: amount"] == 4
    assert "set aside" not in done.metadata


def test_rows_set_aside_within_the_budget_are_a_warning_with_counts_and_masked_samples() -> None:
    found = synced(
        connector(**QUARANTINE),
        Violation("amount", "ge(0)", 2, ["row 5: -#.##"]),
        Violation("amount", "type(decimal(9,2))", 1, ["row 9: xx"], "value"),
        Violation("", "sums_up", 1, [], "schema"),
        rejected=3,
    )
    told = results(found.check_results)
    assert {name for name, (passed, _) in told.items() if not passed} == {
        "amount__ge", "values", "schema", "error_budget"
    }  # fmt: skip
    assert {severity for passed, severity in told.values() if not passed} == {"WARN"}
    by_name = {each.check_name: each for each in found.check_results}
    assert by_name["amount__ge"].metadata == {
        "broken": dg.MetadataValue.text("column 'amount' breaks ge(0) in 2 rows"),
        "rows": dg.MetadataValue.int(2),
        "masked samples": dg.MetadataValue.text("row 5: -#.##"),
    }
    assert by_name["error_budget"].metadata == {
        "rows": dg.MetadataValue.int(3),
        "read": dg.MetadataValue.int(100),
    }


@pytest.mark.parametrize(
    ("signal", "name"),
    [
        ("contract:column", "columns"),
        ("reconcile:mismatch", "reconciliation"),
        ("contract:row-count", "row_count"),
        ("contract:empty", "row_count"),
        ("contract:unique", "unique"),
        ("contract:value", "values"),
    ],
)
def test_a_broken_stream_fails_the_check_it_broke_on(signal: str, name: str) -> None:
    assert results(stopped(signal)) == {name: (False, "ERROR")}


def test_each_broken_rule_fails_its_own_check() -> None:
    learned = Violation("note", "not_null", 1, ["row 1: null"])
    found = stopped(
        "contract:value", Violation("a-b", "ge(0)", 1), learned, Violation("", "x", 1, [], "schema")
    )
    assert set(results(found)) == {"a_b__ge_2", "values", "schema"}


def test_a_budget_that_is_exceeded_fails_as_an_error() -> None:
    found = stopped("contract:value", Violation("amount", "ge(0)", 9), **QUARANTINE)
    assert results(found) == {"amount__ge": (False, "ERROR"), "error_budget": (False, "ERROR")}


def test_a_failure_that_is_no_matter_of_the_data_fails_no_check() -> None:
    assert stopped("config:invalid") == []


def test_rules_without_figures_still_name_their_check() -> None:
    failure = classify(ContractBroken("It is so.", "contract:value"))
    outcome = Broken("orders", failure, (("amount", "lt(100)"),))
    assert set(results(checks.broken(connector(), outcome))) == {"amount__lt"}
