"""What must hold before a stream may be committed, beyond the rules of single rows."""

from decimal import Decimal

from aiia_pipelines.config.amounts import Budget
from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors.base import Position
from aiia_pipelines.jobs.run import Changes
from aiia_pipelines.sync.contract import Contract
from aiia_pipelines.sync.destinations.base import Landing
from aiia_pipelines.sync.faults import ContractBroken
from aiia_pipelines.sync.sieve import Sieve

_SHORT = "set_aside"  # beside the keys of a kind's position
# Without `max_delete`, so many rows may go at once where deletions are followed.
_SHARE, _FLOOR = Budget(percent=Decimal(20)), Budget(rows=100)


def row_count(contract: Contract, stream: str, rows: int) -> None:
    """Refuse a number of rows outside the range of the contract."""
    low, high = contract.min_rows, contract.max_rows
    if (low is not None and rows < low) or (high is not None and rows > high):
        raise ContractBroken(
            f"Row count of {stream} is {rows:,}; expected {_range(low, high)}.",
            "contract:row-count",
        )


def _range(low: int | None, high: int | None) -> str:
    if high is None:
        return f"at least {low:,}"
    return f"at most {high:,}" if low is None else f"{low:,} to {high:,}"


def not_empty(contract: Contract, stream: Stream, landing: Landing, *, rejected: int = 0) -> None:
    """Refuse to replace or delete everything because a source that had rows has none, or no valid ones."""
    follows = stream.mode == "replace" or stream.delete != "none"
    if contract.min_rows is None and follows and landing.live_rows():
        raise ContractBroken(
            f"The source has no {'valid ' if rejected else ''}rows of {stream.name}, the destination"
            " has; if that is right,"
            " set `checks: {row_count: {min: 0}}`.",
            "contract:empty",
        )


def invalid_budget(stream: str, budget: Budget, sieve: Sieve) -> None:
    """Refuse to set aside more rows than the error budget allows."""
    if budget.allows(sieve.rejected, sieve.rows):
        return
    raise ContractBroken(
        f"Too many invalid rows in {stream}: {sieve.rejected:,} of {sieve.rows:,};"
        f" max_invalid allows {budget}.",
        "contract:value",
        report=tuple(str(violation) for violation in sieve.violations),
        rules=tuple((violation.column, violation.rule) for violation in sieve.violations),
    )


def unique(contract: Contract, stream: str, landing: Landing) -> None:
    """Refuse rows that share what the contract wants to be unique."""
    for columns in contract.unique:
        count, samples = landing.duplicates(columns)
        if count:
            raise ContractBroken(
                f"Duplicate values in {stream}: {count:,} rows share their {', '.join(columns)}.",
                "contract:unique",
                report=tuple(samples),
            )


def mass_delete(stream: Stream, landing: Landing, changes: Changes) -> None:
    """Refuse to delete more rows at once than anybody expects."""
    if not changes.deleted or (stream.delete == "none" and stream.max_delete is None):
        return
    live = landing.live_rows()
    budgets = [stream.max_delete] if stream.max_delete else [_SHARE, _FLOOR]
    if any(budget.allows(changes.deleted, live) for budget in budgets):
        return
    allowed = str(stream.max_delete or f"{_SHARE} or {_FLOOR} rows")
    raise ContractBroken(
        f"{changes.deleted:,} of {live:,} rows of {stream.name} are gone at the source;"
        f" at most {allowed} may be deleted at once. If that is right, raise max_delete.",
        "contract:mass-delete",
    )


def none_lost(
    stream: Stream, landing: Landing, changes: Changes, at_source: int | None, *, may_lack: int = 0
) -> int:
    """Refuse to move a cursor past rows that never arrived, and tell how many are rightly not there.

    `may_lack` counts the rows that may be missing because they were set aside, now or before.
    """
    if at_source is None:
        return 0
    held = landing.live_rows() + changes.inserted - changes.deleted
    if held + may_lack < at_source:
        raise ContractBroken(
            f"Rows of {stream.name} are missing: the source has {at_source:,} up to this cursor,"
            f" the destination would have {held:,}. Rows were written late, behind the cursor:"
            " raise lookback, and sync once with --full.",
            "contract:lost-rows",
        )
    # A row that is set aside again by every reading of the lookback is missing only once.
    return max(0, at_source - held)


def packed(position: Position | None, short: int) -> Position | None:
    """Put the number of rows that are rightly missing beside a position that a kind made."""
    return {**position, _SHORT: short} if position is not None and short else position


def unpacked(position: Position | None) -> tuple[Position | None, int]:
    """Take the number away again, so that the kind gets back what it made."""
    if position is None:
        return None, 0
    mine = {key: value for key, value in position.items() if key != _SHORT}
    return mine, int(position.get(_SHORT, 0))
