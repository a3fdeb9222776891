"""The kind `s3`: data files in a bucket of any S3-compatible store."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors._s3_options import Options, StreamOptions
from aiia_pipelines.connectors._sample import sampled
from aiia_pipelines.connectors.base import Batch, FileSeen, Position, Reading, Source, SourceColumn

if TYPE_CHECKING:
    # Loading definitions must not import the client of S3.
    from aiia_pipelines.connectors._s3_reader import S3Reader

__all__ = ["Options", "S3Source", "StreamOptions", "listing", "open"]


class S3Source:
    """A bucket whose objects are data files."""

    def __init__(self, options: Options) -> None:
        """Keep the options; nothing is opened yet."""
        self._options = options
        self._reader: S3Reader | None = None

    def describe(self) -> str:
        """Name the bucket for people."""
        options = self._options
        where = f" at {options.endpoint_url}" if options.endpoint_url else ""
        return f"s3://{options.bucket}/{options.prefix}{where}"

    def place(self) -> str:
        """Tell the `host:port` that has to be reachable."""
        parts = urlsplit(self._options.endpoint)
        return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"

    def connect(self) -> None:
        """Reach the store and look into the bucket."""
        self._made().connect()

    def _made(self) -> "S3Reader":
        if self._reader is None:
            from aiia_pipelines.connectors._s3_reader import S3Reader  # noqa: PLC0415

            self._reader = S3Reader(self._options)
        return self._reader

    @property
    def _open(self) -> "S3Reader":
        if self._reader is None:
            raise AssertionError("connect() comes first")
        return self._reader

    def columns(self, stream: Stream) -> list[SourceColumn]:
        """Describe the columns of a stream by its first objects."""
        return self._open.columns(stream)

    def position(self, stream: Stream, reading: Reading) -> Position | None:  # noqa: ARG002 - as every kind is asked
        """Tell which objects there are now, where only new ones are wanted."""
        return self._open.position(stream)

    def rows_until(self, stream: Stream, reading: Reading) -> int | None:  # noqa: ARG002 - as every kind is asked
        """Count the rows up to a position: none can hide behind objects."""
        return None

    def batches(self, stream: Stream, reading: Reading) -> Iterator[Batch]:
        """Read the wanted objects one after the other, each as it was when it was listed."""
        return self._open.batches(stream, reading)

    # -- Connection Test --------------------------------------------------------------------

    def stages(self, streams: Sequence[Stream]) -> Iterator[tuple[str, Callable[[], str]]]:
        """List the stages: name, port, encryption, login, then objects and a row of each stream."""
        reader = self._made()
        reader.hurry()
        yield "dns", reader.stage_dns
        yield "tcp", reader.stage_tcp
        if self._options.endpoint.startswith("https:"):
            yield "tls", reader.stage_tls
        yield "login", reader.stage_login
        yield from ((f"permission {s.name}", partial(reader.stage_permission, s)) for s in streams)
        yield from ((f"query {s.name}", partial(self._stage_query, s)) for s in streams)

    def _stage_query(self, stream: Stream) -> str:
        return sampled(self, stream, [column.name for column in self.columns(stream)])

    # -- ending -----------------------------------------------------------------------------

    def cancel(self) -> None:
        """End the request in progress."""
        if self._reader is not None:
            self._reader.cancel()

    def close(self) -> None:
        """Close every connection."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


def listing(options: Options, streams: Sequence[Stream]) -> list[FileSeen]:
    """List the objects of some streams."""
    # Whoever only looks needs the client of S3, not the readers of data files.
    from aiia_pipelines.connectors._s3_client import Client  # noqa: PLC0415
    from aiia_pipelines.connectors._s3_objects import objects, pattern_of  # noqa: PLC0415

    client = Client(options)
    client.reach()
    client.open()
    try:
        paths = filter(None, (stream.path for stream in streams))
        found = (objects(client, pattern_of(options, path)) for path in paths)
        seen = {one.key: one for listed in found for one in listed}
    finally:
        client.close()
    return [FileSeen(one.key, one.size, one.etag, one.changed_at) for one in seen.values()]


def open(options: Options) -> Source:  # noqa: A001 - the kinds' common entry is called open
    """Open a bucket; nothing is connected yet."""
    return S3Source(options)
