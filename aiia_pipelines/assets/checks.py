"""The rules of a connector file as Dagster asset checks, and what a run says of each."""

import re
from collections.abc import Iterator

import dagster as dg

from aiia_pipelines.config.connector import Connector, Stream
from aiia_pipelines.sync.outcome import Broken, Synced, rule_name

CONTRACT = "columns"
RECONCILED = "reconciliation"
ROW_COUNT = "row_count"
UNIQUE = "unique"
_FAILS = {
    "column-mismatch": CONTRACT,
    "reconciliation-mismatch": RECONCILED,
    "row-count": ROW_COUNT,
    "duplicate-key": UNIQUE,
}


def spec_of(connector: Connector, stream: Stream) -> list[dg.AssetCheckSpec]:
    """List the checks of a stream: its columns, each rule, uniqueness, row count, reconciliation."""
    key = dg.AssetKey([connector.name, stream.name])
    described = {
        CONTRACT: "Columns and types are those of the contract.",
        **{
            check_name(column, rule): f"Column {column}: {rule}"
            for column, rule in _declared_rules(stream)
        },
        RECONCILED: "Source and destination agree in every figure.",
    }
    if stream.key or stream.checks.unique:
        described[UNIQUE] = (
            f"No two rows share their {', '.join(stream.key or stream.checks.unique)}."
        )
    if stream.checks.row_count.min is not None or stream.checks.row_count.max is not None:
        described[ROW_COUNT] = "The stream has as many rows as it must."
    return [
        dg.AssetCheckSpec(name=name, asset=key, description=text)
        for name, text in described.items()
    ]


def _declared_rules(stream: Stream) -> Iterator[tuple[str, str]]:
    for name, column in stream.columns.items():
        for check, argument in column.checks.items():
            yield name, rule_name(check, argument)
        if column.nullable is False:
            yield name, "not_null"


def check_name(column: str, rule: str) -> str:
    """Name the asset check of a rule."""
    return re.sub(r"[^A-Za-z0-9_]", "_", f"{column}__{rule.partition('(')[0]}")


def materialized(connector: Connector, done: Synced, number: int) -> dg.MaterializeResult[None]:
    """Report a committed stream with its figures in Dagster's own metadata keys."""
    stream = connector.stream(done.stream)
    schema = dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=str(column.type),
                description=column.description or None,
                constraints=dg.TableColumnConstraints(nullable=column.nullable),
            )
            for column in done.columns
        ]
    )
    return dg.MaterializeResult(
        asset_key=dg.AssetKey([connector.name, done.stream]),
        metadata={
            "dagster/row_count": done.rows,
            "dagster/column_schema": schema,
            "job run": number,
            "inserted": done.changes.inserted,
            "updated": done.changes.updated,
            "unchanged": done.changes.unchanged,
            "deleted": done.changes.deleted,
        },
        check_results=[
            dg.AssetCheckResult(passed=True, check_name=spec.name, asset_key=spec.asset_key)
            for spec in spec_of(connector, stream)
        ],
    )


def broken(connector: Connector, outcome: Broken) -> Iterator[dg.AssetCheckResult]:
    """Report the checks that a stream did not pass; those not reached are not reported."""
    names = {check_name(column, rule) for column, rule in outcome.rules}
    if outcome.failure.code in _FAILS:
        names.add(_FAILS[outcome.failure.code])
    for spec in spec_of(connector, connector.stream(outcome.stream)):
        if spec.name in names:
            yield dg.AssetCheckResult(
                passed=False,
                check_name=spec.name,
                asset_key=dg.AssetKey([connector.name, outcome.stream]),
                description=outcome.failure.headline,
            )
