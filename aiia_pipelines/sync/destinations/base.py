"""What every destination offers to one stream of one job run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors.base import Position, Wired
from aiia_pipelines.jobs.run import Changes
from aiia_pipelines.sync.contract import Contract

# Rows that broke the contract and were set aside: `row` counts from 1 in the order they were read, `place` is
# where the source has it (a line of a file), `rules` what it breaks, `record` the row as a JSON object.
REJECTED = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("place", pa.string(), nullable=False),
        pa.field("rules", pa.string(), nullable=False),
        pa.field("record", pa.string(), nullable=False),
    ]
)
# Columns that a destination adds to those of the contract.
DELETED_AT = "_deleted_at"
VALID_FROM, VALID_TO = "_valid_from", "_valid_to"


def nothing() -> None:
    """Seal a commit that nobody can cancel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is loaded where, by whom; `run_key` is the same in every attempt of one task.

    `plan` tells one reading from another: what a broken attempt staged is only taken up by the same plan.
    A `trial` is never committed, and leaves to others what they staged.
    """

    connector: str
    stream: str
    mode: str
    run_key: str
    contract: Contract
    delete: str = "none"
    plan: str = ""
    trial: bool = False


class Landing(Protocol):
    """The rows of one stream on their way: staged out of sight, then committed at once or never.

    One thread at a time uses a landing. `sent` counts the bytes that went to the destination so far: those of
    a COPY as text or of a file where they are known, else those of the Arrow columns.
    """

    @property
    def sent(self) -> int:
        """Count the bytes that went to the destination so far."""
        ...

    def committed_before(self) -> tuple[int, Changes] | None:
        """Tell the rows and changes of an earlier attempt of this task that did commit."""
        ...

    def position(self) -> Position | None:
        """Tell up to where the source was read by the last commit of the stream."""
        ...

    def resume(self) -> Position | None:
        """Take over the rows that a broken attempt of the same plan staged, and give its last checkpoint."""
        ...

    def stage(self, batch: pa.RecordBatch, checkpoint: Position | None = None) -> None:
        """Add a batch to the staged rows, in one step with the checkpoint that it reaches."""
        ...

    def takes(self, kinds: Sequence[ColumnType]) -> bool:
        """Tell whether rows with fields of these types can be staged as they came."""
        ...

    def forward(self, rows: Wired, checkpoint: Position | None = None) -> bool:
        """Stage rows as they came, without the columns that are absent at the source; False if it cannot."""
        ...

    def stage_keys(self, batch: pa.RecordBatch) -> None:
        """Add to the keys that the source has now, by which `match` finds what is deleted."""
        ...

    def reject(self, rows: pa.RecordBatch) -> None:
        """Add rows of the form `REJECTED`, which become visible in the quarantine with the commit."""
        ...

    def duplicates(self, columns: Sequence[str]) -> tuple[int, list[str]]:
        """Count the staged rows whose values in these columns another row has, and show some."""
        ...

    def figures(self, wanted: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Any]:
        """Compute figures over the staged rows: (column, figure) → value."""
        ...

    def live_rows(self) -> int:
        """Count the rows of the stream that readers take for present now."""
        ...

    def match(self, *, complete: bool) -> Changes:
        """Compare the staged rows with what the destination holds.

        `complete` says that the staged rows are all that the source has; else the staged keys tell.
        """
        ...

    def commit(
        self,
        rows: int,
        changes: Changes,
        position: Position | None,
        *,
        seal: Callable[[], None] = nothing,
    ) -> None:
        """Make the staged rows visible in one transaction, exactly as matched, and move the position.

        Calls `seal` when all that is left to do is to commit; what it raises undoes the transaction.
        Returns when the commit is certain, also when the connection broke during it.

        Raises:
            DestinationFault: Another run took the stream over, or the rows changed since `match`.
        """
        ...

    def discard(self, *, keep: bool = False) -> None:
        """Drop what is staged, or keep what has a checkpoint; may be called at any time, also twice."""
        ...


class Destination(Protocol):
    """A place that holds the streams of connectors."""

    def describe(self) -> str:
        """Name the destination for people, without password or driver."""
        ...

    def connect(self) -> None:
        """Connect and make sure the control tables are there.

        Raises:
            DestinationFault: The destination cannot be reached or refuses.
        """
        ...

    def land(self, load: Load) -> Landing:
        """Take over a stream and prepare its staging."""
        ...

    def cancel(self) -> None:
        """Make a statement in progress stop; may be called from another thread, at any time."""
        ...

    def close(self) -> None:
        """Disconnect; may be called twice."""
        ...
