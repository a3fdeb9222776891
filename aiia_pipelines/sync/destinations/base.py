"""What every destination offers to one stream of one job run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from aiia_pipelines.jobs.run import Changes
from aiia_pipelines.sync.contract import Contract


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is loaded where, by whom; `run_key` is the same in every attempt of one task."""

    connector: str
    stream: str
    mode: str
    run_key: str
    contract: Contract


class Landing(Protocol):
    """The rows of one stream on their way: staged out of sight, then committed at once or never."""

    def committed_before(self) -> tuple[int, Changes] | None:
        """Tell the rows and changes of an earlier attempt of this task that did commit."""
        ...

    def stage(self, batch: pa.RecordBatch) -> None:
        """Add a batch to the staged rows."""
        ...

    def duplicates(self, columns: Sequence[str]) -> tuple[int, list[str]]:
        """Count the staged rows whose values in these columns another row has, and show some."""
        ...

    def figures(self, wanted: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Any]:
        """Compute figures over the staged rows: (column, figure) → value."""
        ...

    def match(self) -> Changes:
        """Compare the staged rows with what the destination holds."""
        ...

    def holds_rows(self) -> bool:
        """Tell whether the destination has rows of this stream now."""
        ...

    def commit(self, rows: int, changes: Changes) -> None:
        """Make the staged rows visible in one transaction, exactly as matched.

        Raises:
            DestinationFault: Another run took the stream over, or the rows changed since `match`.
        """
        ...

    def discard(self) -> None:
        """Drop what is staged; may be called at any time, also twice."""
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

    def close(self) -> None:
        """Disconnect; may be called twice."""
        ...
