"""The streams of one JSON API, read."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors._reach import resolve
from aiia_pipelines.connectors._rest_api import Api, Wanted
from aiia_pipelines.connectors._rest_auth import Login
from aiia_pipelines.connectors._rest_client import Client
from aiia_pipelines.connectors._rest_columns import Record, describe, reader
from aiia_pipelines.connectors._rest_cursor import Cursor
from aiia_pipelines.connectors._rest_options import OAuth2, Options, StreamOptions
from aiia_pipelines.connectors._rest_pages import Page, Walk
from aiia_pipelines.connectors._rest_spool import Spool
from aiia_pipelines.connectors._sample import counted
from aiia_pipelines.connectors._tls import Peer, look
from aiia_pipelines.connectors._web_address import Origin
from aiia_pipelines.connectors.base import (
    Batch,
    Position,
    Reading,
    Row,
    SourceColumn,
    SourceFault,
)

_BATCH_BYTES = 16 * 1024 * 1024
_DONE = "done"


class RestReader:
    """A JSON API that is being read; one user at a time, any thread may cancel."""

    def __init__(self, options: Options, pause: Callable[[float], None] | None = None) -> None:
        """Keep the options; nothing is opened yet."""
        self._options = options
        self._origin = Origin.of(options.url)
        self._client = Client(options, pause)
        self._login = Login(options, self._client)
        self._api = Api(self._client, self._login)
        self._types: dict[str, dict[str, ColumnType | None]] = {}
        self._first: dict[str, Page] = {}
        self._spool: tuple[str, Reading, Spool] | None = None

    def hurry(self) -> None:
        """Wait for nothing: what passes at the third attempt only is no good connection."""
        self._client.patience = 0

    def connect(self) -> None:
        """Reach the server, and fetch a token if that is how to log in."""
        self._client.resume()
        self._client.open()
        self._client.reach(self._origin)
        self._login.headers()

    # -- columns ----------------------------------------------------------------------------

    def columns(self, stream: Stream) -> list[SourceColumn]:
        """Describe the columns of a stream by its first page."""
        self._client.resume()
        return self._described(stream, self._first_page(stream))

    def _described(self, stream: Stream, page: Page) -> list[SourceColumn]:
        found = describe(stream, _options(stream), page.records)
        self._types[stream.name] = {column.name: column.type for column in found}
        return found

    def _first_page(self, stream: Stream) -> Page:
        return next(self._walk(stream, None).pages())

    def _walk(
        self, stream: Stream, cursor: Cursor | None, more: Mapping[str, Any] | None = None
    ) -> Walk:
        options = _options(stream)
        path = str(stream.endpoint)
        if (
            stream.endpoint is None
            or not path.startswith("/")
            or set("?#\\ ") & set(path)
            or ".." in path.split("/")
        ):
            raise SourceFault(
                f"Stream {stream.name} of kind rest needs endpoint: a path below the URL, such as /orders;"
                " parameters stand under options: params.",
                "config:invalid",
                place=self._origin.place,
            )
        extra = dict(more or {})
        if cursor is not None and options.cursor_param:
            low = cursor.sent(options.cursor_format)
            extra |= {} if low is None else {options.cursor_param: low}
        post = options.method == "POST"
        wanted = Wanted(
            url=self._options.url + path,
            options=options,
            params=options.params if post else {**options.params, **extra},
            body=extra if post else {},
        )
        return Walk(self._api, self._options, wanted)

    # -- reading ----------------------------------------------------------------------------

    def position(self, stream: Stream, reading: Reading) -> Position | None:
        """Tell the greatest cursor that the stream has now, putting by what had to be read for it."""
        self._client.resume()
        cursor = self._cursor(stream, reading)
        if cursor is None:
            return None
        newest = _options(stream).newest
        greatest = _Greatest(cursor)
        if newest is not None:
            walk = self._walk(stream, cursor, newest)
            greatest.add(next(walk.pages()))
        else:
            self._drop_spool()
            pages = self._walk(stream, cursor).pages()
            self._spool = (stream.name, reading, Spool(map(greatest.add, pages)))
        return cursor.reached(greatest.value, reading.since)

    def _cursor(self, stream: Stream, reading: Reading) -> Cursor | None:
        kinds = self._types[stream.name]
        return Cursor.of(stream, reading, kinds.get(reading.cursor) if reading.cursor else None)

    def batches(self, stream: Stream, reading: Reading) -> Iterator[Batch]:
        """Read the wanted records, page by page; a batch that ends a page has a checkpoint."""
        self._client.resume()
        if stream.name not in self._types:
            self.columns(stream)
        yield from self._read(stream, reading, self._pages(stream, reading))

    def _read(
        self, stream: Stream, reading: Reading, pages: Iterable[tuple[Page, bool]]
    ) -> Iterator[Batch]:
        cursor = self._cursor(stream, reading)
        kinds = self._types[stream.name]
        readers = [(name, reader(kinds.get(name))) for name in reading.names]
        known = None if _options(stream).fields is not None else set(kinds)
        for page, resumable in pages:
            wanted = list(self._wanted(page, cursor, known, stream))
            rows = [[read(record.get(name)) for name, read in readers] for _, record in wanted]
            mark = {"after": page.after or _DONE} if resumable else None
            yield from _batches(page, rows, [place for place, _ in wanted], stream.batch_rows, mark)

    def _pages(self, stream: Stream, reading: Reading) -> Iterator[tuple[Page, bool]]:
        if reading.after is None and (spool := self._put_by(stream, reading)) is not None:
            yield from ((page, False) for page in spool.pages())
            self._drop_spool()
            return
        state = reading.after["after"] if reading.after else None
        cursor = self._cursor(stream, reading)
        if state != _DONE:
            yield from ((page, True) for page in self._walk(stream, cursor).pages(state))

    def _put_by(self, stream: Stream, reading: Reading) -> Spool | None:
        if self._spool is None:
            return None
        name, read, spool = self._spool
        same = name == stream.name and (read.cursor, read.since) == (reading.cursor, reading.since)
        return spool if same and reading.until is not None else None

    def _drop_spool(self) -> None:
        held, self._spool = self._spool, None
        if held is not None:
            held[2].close()

    @staticmethod
    def _wanted(
        page: Page, cursor: Cursor | None, known: set[str] | None, stream: Stream
    ) -> Iterator[tuple[int, Record]]:
        for number, record in enumerate(page.records, start=1):
            place = f"page {page.number:,}, record {number:,}"
            if known is not None and not record.keys() <= known:
                new = next(key for key in record if key not in known)
                raise SourceFault(
                    f"Column mismatch in {stream.name}. {place.capitalize()} has the key '{new[:63]}', which no"
                    " record of the first page has; name the keys and their types under options: fields.",
                    "contract:column",
                )
            if cursor is None or cursor.wants(cursor.value(record, place)):
                yield number, record

    # -- Connection Test --------------------------------------------------------------------

    def stage_dns(self) -> str:
        """Look up the host."""
        return ", ".join(resolve(self._origin.host, self._origin.port))

    def stage_tcp(self) -> str:
        """Open a connection to an address that may be asked."""
        reached = self._client.reach(self._origin)
        return f"{reached.address}:{self._origin.port} from {reached.outbound}"

    def stage_tls(self) -> str:
        """Agree on encryption, and tell about the certificate."""
        origin, seconds = self._origin, self._options.connect_timeout
        address = self._client.reach(origin).address
        peer = Peer(host=origin.host, address=address, port=origin.port, seconds=seconds)
        return look(peer, self._client.tls())

    def stage_login(self, streams: Sequence[Stream]) -> str:
        """Log in: with a token if there is one to fetch, else by asking for the first page."""
        self.connect()
        if isinstance(self._options.auth, OAuth2):
            return f"token for client {self._options.auth.client_id}"
        for stream in streams[:1]:
            try:
                self._first[stream.name] = self._first_page(stream)
            except SourceFault as fault:
                # What else is wrong is told by the stage that it belongs to.
                if "http:401" in fault.signals:
                    raise
        return self._options.auth.type if self._options.auth else "without credentials"

    def stage_permission(self, stream: Stream) -> str:
        """Ask for the first page of a stream."""
        if stream.name not in self._first:
            self._first[stream.name] = self._first_page(stream)
        return f"{counted(len(self._first[stream.name].records), 'record')} in the first page"

    def stage_query(self, stream: Stream) -> str:
        """Read the first page of a stream, which was asked for already, as a sync does."""
        page = self._first[stream.name]
        names = [column.name for column in self._described(stream, page)]
        reading = Reading(names=names, cursor=_cursor_at_source(stream))
        batches = self._read(stream, reading, [(page, False)])
        found = next(batches, None)
        if found is None:
            return "no records yet"
        return f"{counted(len(found), 'record')} of {counted(len(names), 'column')} read"

    # -- ending -----------------------------------------------------------------------------

    def cancel(self) -> None:
        """End the request or the wait in progress; may be called from another thread."""
        self._client.cancel()

    def close(self) -> None:
        """Close every connection and drop what was put by."""
        self._drop_spool()
        self._client.close()


def _cursor_at_source(stream: Stream) -> str | None:
    own = stream.columns.get(stream.cursor or "")
    return (own.from_ if own is not None else None) or stream.cursor


class _Greatest:
    """The greatest cursor of the pages that pass by."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self.value: Any = None

    def add(self, page: Page) -> Page:
        for number, record in enumerate(page.records, start=1):
            value = self._cursor.value(record, f"page {page.number:,}, record {number:,}")
            if value is not None and (self.value is None or value > self.value):
                self.value = value
        return page


def _options(stream: Stream) -> StreamOptions:
    return StreamOptions.model_validate(stream.options)


def _batches(
    page: Page, rows: Sequence[Row], places: Sequence[int], most: int, mark: Position | None
) -> Iterator[Batch]:
    """Cut the rows of a page into batches of at most `most` rows and of bounded bytes."""
    step = max(1, min(most, _BATCH_BYTES * len(page.records) // max(1, page.size)))
    for begin in range(0, len(rows), step):
        at = places[begin : begin + step]
        last = begin + step >= len(rows)
        yield Batch(
            rows[begin : begin + step],
            checkpoint=mark if last else None,
            where=partial(_where, page.number, at),
        )


def _where(page: int, places: Sequence[int], row: int) -> str:
    return f"page {page:,}, record {places[row]:,}"
