"""The last stage of a Connection Test: one row of a stream, read as a sync reads all of them."""

from collections.abc import Sequence

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors.base import Reading, Source


def counted(number: int, thing: str) -> str:
    """Say how many there are of a thing."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def sampled(source: Source, stream: Stream, names: Sequence[str]) -> str:
    """Read one row of a stream, and say whether it has any.

    Raises:
        SourceFault: The rows cannot be read.
    """
    one = stream.model_copy(update={"batch_rows": 1})
    batches = source.batches(one, Reading(names=names))
    try:
        found = next(batches, None)
    finally:
        # A reading that is given up half-way must not go on at the source.
        if hasattr(batches, "close"):
            batches.close()
    return "one row read" if found else "no rows yet"
