import json
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors.base import Reading, Source, open_source
from aiia_pipelines.connectors.rest import Options as RestOptions
from aiia_pipelines.connectors.rest import RestSource

Opened = Callable[..., Source]
Streams = Callable[..., Stream]


@pytest.fixture
def open_sql() -> Iterator[Opened]:
    made: list[Source] = []

    def make(options: dict[str, Any], *, connect: bool = True) -> Source:
        source = open_source(options)
        made.append(source)
        if connect:
            source.connect()
        return source

    yield make
    for source in made:
        source.close()


@pytest.fixture
def stream() -> Streams:
    def make(**facts: Any) -> Stream:
        return Stream.model_validate({"name": "rows"} | facts)

    return make


# -- a web server that does what a test tells it to ------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: Any
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: JSON, other bytes, or with `raw` whatever is written to the connection."""

    json: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    raw: bytes | None = None
    reset: bool = False
    wait: threading.Event | None = None  # before anything is sent


Script = Callable[[Asked], Reply] | list[Reply]


class Web:
    """A real server on this machine; `answers` holds, by path, what it replies."""

    reply = Reply

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Script] = {}
        self.asked: list[Asked] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65_536  # headers and body in one piece

            def do_GET(self) -> None:
                web._answer(self)

            do_POST = do_GET  # noqa: N815 - the name that the server looks for

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """Say nothing: clients break off here on purpose."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.scheme = "http" if context is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        asked = Asked(
            handler.command,
            unquote(parts.path),
            dict(parse_qsl(parts.query, keep_blank_values=True)),
            handler.headers,
            body,
        )
        self.asked.append(asked)
        script = self.answers.get(asked.path, [Reply({"error": "no such path"}, status=404)])
        if callable(script):
            reply = script(asked)
        else:
            reply = script.pop(0) if len(script) > 1 else script[0]
        _send(handler, reply)


def _send(handler: BaseHTTPRequestHandler, reply: Reply) -> None:
    if reply.wait is not None:
        reply.wait.wait(10)
    if reply.raw is not None or reply.reset:
        handler.wfile.write(reply.raw or b"")
        handler.wfile.flush()
        if reply.reset:
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        handler.close_connection = True
        return
    body = json.dumps(reply.json).encode() if reply.body is None else reply.body
    handler.send_response(reply.status)
    kinds = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    for name, value in (kinds | reply.headers).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server that answers what the test tells it to."""
    server = Web()
    yield server
    server.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, signed by itself, with its key."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    key = path.with_suffix(".key")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        f" -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {path}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return path


@pytest.fixture
def secure_web(certificate: Path) -> Iterator[Web]:
    """The same server behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    server = Web(context)
    yield server
    server.close()


@pytest.fixture
def open_rest(web: Web) -> Iterator[Opened]:
    """Open an API of the test's server; waits are noted in `source.waits` and not waited."""
    made: list[Any] = []

    def make(options: dict[str, Any] | None = None, *, connect: bool = True) -> Source:
        waits: list[float] = []
        given = {"kind": "rest", "url": web.url, "connect_timeout": 2, "read_timeout": 2}
        source: Any = RestSource(RestOptions.model_validate(given | (options or {})), waits.append)
        source.waits = waits
        made.append(source)
        if connect:
            source.connect()
        return source  # type: ignore[no-any-return]  # with a note of its waits

    yield make
    for source in made:
        source.close()


@pytest.fixture
def open_files(tmp_path: Path) -> Iterator[Opened]:
    """Open the test's own folder as a source of kind files."""
    made: list[Source] = []

    def make(options: dict[str, Any] | None = None, *, connect: bool = True) -> Source:
        given = {"kind": "files", "root": str(tmp_path)}
        source = open_source(given | (options or {}))
        made.append(source)
        if connect:
            source.connect()
        return source

    yield make
    for source in made:
        source.close()


@pytest.fixture
def read_files(open_files: Opened, stream: Streams) -> Callable[..., list[tuple[Any, ...]]]:
    """Read files of the test's folder: the names of the columns, then the rows."""

    def read(path: str, source: dict[str, Any] | None = None, **facts: Any) -> list[Any]:
        files, wanted = open_files(source), stream(path=path, **facts)
        names = tuple(column.name for column in files.columns(wanted))
        rows: list[tuple[Any, ...]] = [names]
        for batch in files.batches(wanted, Reading(names=names)):
            if isinstance(batch.rows, Sequence):
                rows += map(tuple, batch.rows)
            else:
                columns = (column.to_pylist() for column in batch.rows.columns)
                rows += zip(*columns, strict=True)
        return rows

    return read
