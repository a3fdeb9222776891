"""The rules of a connector file as Dagster asset checks, and what a run says of each."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import dagster as dg

from aiia_pipelines.config.connector import Connector, Stream
from aiia_pipelines.sync.outcome import Broken, Synced, Violation, rule_name

CONTRACT = "columns"
VALUES = "values"
SCHEMA = "schema"
RECONCILED = "reconciliation"
ROW_COUNT = "row_count"
UNIQUE = "unique"
BUDGET = "error_budget"
NOT_NULL = "not_null"
_INVALID = "value-invalid"
_FAILS = {
    "column-mismatch": CONTRACT,
    "reconciliation-mismatch": RECONCILED,
    "row-count": ROW_COUNT,
    "empty-source": ROW_COUNT,
    "duplicate-key": UNIQUE,
}
_Told = Mapping[str, dg.MetadataValue | int | str]


def spec_of(connector: Connector, stream: Stream) -> list[dg.AssetCheckSpec]:
    """List the checks of a stream: its columns and values, each rule, and what holds over all rows."""
    key = dg.AssetKey([connector.name, stream.name])
    described = {
        CONTRACT: "Columns and types are those of the contract.",
        VALUES: "Every value fits the type of its column, and is there where it must be.",
        **{
            name: f"Column {column}: {rule}" for (column, rule), name in check_names(stream).items()
        },
        RECONCILED: "Source and destination agree in every figure.",
        **dict(_over_all_rows(connector, stream)),
    }
    return [
        dg.AssetCheckSpec(name=name, asset=key, description=text)
        for name, text in described.items()
    ]


def _over_all_rows(connector: Connector, stream: Stream) -> Iterator[tuple[str, str]]:
    sets = [stream.key, stream.checks.unique]
    sets += [[name] for name, column in stream.columns.items() if column.checks.get("unique")]
    told = dict.fromkeys(", ".join(names) for names in sets if names)
    if told:
        yield UNIQUE, f"No two rows share their {'; or their '.join(told)}."
    if stream.checks.row_count.min is not None or stream.checks.row_count.max is not None:
        yield ROW_COUNT, "The stream has as many rows as it must."
    if stream.schema_ is not None:
        yield SCHEMA, f"Every batch passes {stream.schema_}."
    if connector.on_invalid == "quarantine":
        allowed = connector.max_invalid or 0
        yield BUDGET, f"No rows had to be set aside; at most {allowed} may."


def check_names(stream: Stream) -> dict[tuple[str, str], str]:
    """Name the asset check of every declared rule, (column, rule) → name, each name once."""
    names: dict[tuple[str, str], str] = {}
    for column, rule in dict.fromkeys(_declared_rules(stream)):
        plain = re.sub(r"[^A-Za-z0-9_]", "_", f"{column}__{rule.partition('(')[0]}")
        names[column, rule] = _free(plain, names.values())
    return names


def _free(name: str, taken: Iterable[str]) -> str:
    """Number a name that another rule has already: Dagster knows letters, digits and underscores only."""
    found, number = name, 1
    while found in {*taken}:
        number += 1
        found = f"{name}_{number}"
    return found


def _declared_rules(stream: Stream) -> Iterator[tuple[str, str]]:
    for name, column in stream.columns.items():
        for check, argument in column.checks.items():
            if check != UNIQUE:
                yield name, rule_name(check, argument)
        if column.nullable is False:
            yield name, NOT_NULL
    for name in stream.key:
        yield name, NOT_NULL


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
    changed = {f"changed {how}: {column}": count for column, how, count in done.adjusted}
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
            **({"set aside": done.rejected} if done.rejected else {}),
            **changed,
        },
        check_results=list(_passed(connector, stream, done)),
    )


def _passed(connector: Connector, stream: Stream, done: Synced) -> Iterator[dg.AssetCheckResult]:
    """Report every check of a committed stream: as a warning where rows were set aside for it."""
    found = _by_check(stream, done.violations)
    if done.rejected:
        found[BUDGET] = {"rows": done.rejected, "read": done.rows + done.rejected}
    for spec in spec_of(connector, stream):
        told = found.get(spec.name)
        yield dg.AssetCheckResult(
            passed=told is None,
            check_name=spec.name,
            asset_key=spec.asset_key,
            severity=dg.AssetCheckSeverity.WARN if told else dg.AssetCheckSeverity.ERROR,
            metadata=told or {},
        )


def broken(connector: Connector, outcome: Broken) -> Iterator[dg.AssetCheckResult]:
    """Report the checks that a stream did not pass; those not reached are not reported."""
    stream = connector.stream(outcome.stream)
    found = _by_check(stream, outcome.violations or _untold(outcome))
    if outcome.failure.code in _FAILS:
        found.setdefault(_FAILS[outcome.failure.code], {})
    if outcome.failure.code == _INVALID:
        if not found:
            found[VALUES] = {}
        if connector.on_invalid == "quarantine":
            found[BUDGET] = {}
    for spec in spec_of(connector, stream):
        if spec.name in found:
            yield dg.AssetCheckResult(
                passed=False,
                check_name=spec.name,
                asset_key=spec.asset_key,
                description=outcome.failure.headline,
                metadata=found[spec.name],
            )


def _untold(outcome: Broken) -> list[Violation]:
    return [Violation(column, rule) for column, rule in outcome.rules]


def _by_check(stream: Stream, violations: Sequence[Violation]) -> dict[str, _Told]:
    """Give the metadata of each check that violations belong to."""
    names = check_names(stream)
    grouped: dict[str, list[Violation]] = {}
    for violation in violations:
        family = SCHEMA if violation.family == "schema" else VALUES
        name = names.get((violation.column, violation.rule), family)
        grouped.setdefault(name, []).append(violation)
    return {name: _told(found) for name, found in grouped.items()}


def _told(violations: Sequence[Violation]) -> _Told:
    count = sum(violation.count for violation in violations)
    samples = [sample for violation in violations for sample in violation.samples]
    if not count:
        return {}
    return {
        "broken": "; ".join(violation.told for violation in violations),
        "rows": count,
        "masked samples": dg.MetadataValue.text("\n".join(samples)),
    }
