"""In how large portions a sync reads: smaller ones after an attempt that ran out of memory."""

from collections.abc import Sequence

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.jobs.log import Level
from aiia_pipelines.jobs.reader import JobReader
from aiia_pipelines.jobs.recorder import Recorder

_OUT_OF_MEMORY = "out-of-memory"
_DIVISOR = 4
_FEWEST_ROWS = 100


def after_shortages(recorder: Recorder, streams: Sequence[Stream]) -> list[Stream]:
    """Read a quarter of the rows at a time for each attempt before that ran out of memory, and say so."""
    short = _shortages(recorder.store, recorder.number)
    found = [_smaller(stream, _DIVISOR ** len(short)) for stream in streams]
    for before, now in zip(streams, found, strict=True):
        if now is not before:
            recorder.log(
                Level.INFO,
                f"{now.name}: reading {now.batch_rows:,} instead of {before.batch_rows:,} rows at a time,"
                f" since #{short[0]} ran out of memory.",
            )
    return found


def _shortages(store: JobReader, number: int) -> list[int]:
    """List the job runs that this one tries again, the last first, as far as each ran out of memory."""
    found: list[int] = []
    row = store.row(number)
    while row is not None and row.retry_of is not None:
        row = store.row(row.retry_of)
        if row is None or row.failure_code != _OUT_OF_MEMORY:
            break
        found.append(row.number)
    return found


def _smaller(stream: Stream, divisor: int) -> Stream:
    rows = max(min(_FEWEST_ROWS, stream.batch_rows), stream.batch_rows // divisor)
    return stream if rows == stream.batch_rows else stream.model_copy(update={"batch_rows": rows})
