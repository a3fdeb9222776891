"""The kind `rest`: the records of JSON APIs, page by page."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors._rest_options import Options, StreamOptions
from aiia_pipelines.connectors.base import (
    Batch,
    Position,
    Reading,
    Source,
    SourceColumn,
)

if TYPE_CHECKING:
    # Loading definitions must not import a web client.
    from aiia_pipelines.connectors._rest_reader import RestReader

__all__ = ["Options", "RestSource", "StreamOptions", "open"]


class RestSource:
    """A JSON API, asked page by page."""

    def __init__(self, options: Options, pause: Callable[[float], None] | None = None) -> None:
        """Keep the options; nothing is opened yet. `pause` waits so many seconds."""
        self._options = options
        self._pause = pause
        self._reader: RestReader | None = None

    def describe(self) -> str:
        """Name the API for people; a URL of this kind holds no secret."""
        return self._options.url

    def place(self) -> str:
        """Tell the `host:port` that has to be reachable."""
        parts = urlsplit(self._options.url)
        return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"

    def connect(self) -> None:
        """Reach the server, and fetch a token if that is how to log in."""
        self._made().connect()

    def _made(self) -> "RestReader":
        if self._reader is None:
            from aiia_pipelines.connectors._rest_reader import RestReader  # noqa: PLC0415

            self._reader = RestReader(self._options, self._pause)
        return self._reader

    @property
    def _open(self) -> "RestReader":
        if self._reader is None:
            raise AssertionError("connect() comes first")
        return self._reader

    def columns(self, stream: Stream) -> list[SourceColumn]:
        """Describe the columns of a stream by its first page."""
        return self._open.columns(stream)

    def position(self, stream: Stream, reading: Reading) -> Position | None:
        """Tell the greatest cursor that the stream has now."""
        return self._open.position(stream, reading)

    def rows_until(self, stream: Stream, reading: Reading) -> int | None:  # noqa: ARG002 - as every kind is asked
        """Count the rows up to a position, which no API tells."""
        return None

    def batches(self, stream: Stream, reading: Reading) -> Iterator[Batch]:
        """Read the wanted records, page by page."""
        return self._open.batches(stream, reading)

    # -- Connection Test --------------------------------------------------------------------

    def stages(self, streams: Sequence[Stream]) -> Iterator[tuple[str, Callable[[], str]]]:
        """List the stages: name, port, encryption, login, then the first page of each stream."""
        reader = self._made()
        reader.hurry()
        yield "dns", reader.stage_dns
        yield "tcp", reader.stage_tcp
        if self._options.url.startswith("https:"):
            yield "tls", reader.stage_tls
        yield "login", lambda: reader.stage_login(streams)
        yield from ((f"permission {s.name}", partial(reader.stage_permission, s)) for s in streams)
        yield from ((f"query {s.name}", partial(reader.stage_query, s)) for s in streams)

    # -- ending -----------------------------------------------------------------------------

    def cancel(self) -> None:
        """End the request or the wait in progress."""
        if self._reader is not None:
            self._reader.cancel()

    def close(self) -> None:
        """Close every connection and drop what was put by."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


def open(options: Options) -> Source:  # noqa: A001 - the kinds' common entry is called open
    """Open an API; nothing is connected yet."""
    return RestSource(options)
