"""Encryption as PyMySQL agrees on it: asked for after the server's greeting, by the options of the URL."""

import socket
import struct
from importlib import import_module
from typing import Any

import sqlalchemy as sa

from aiia_pipelines.connectors._sql_wanted import DriverFault
from aiia_pipelines.connectors._tls import NotOffered, Peer, look
from aiia_pipelines.connectors.base import SourceFault

_SSL, _PROTOCOL_41, _SECURE = 0x800, 0x200, 0x8000
_GREETING, _LONGEST = 10, 1 << 16
_UTF8 = 45


def wanted(url: sa.URL) -> bool:
    """Tell whether the driver asks for encryption."""
    return not url.query.get("ssl_disabled")


def agree(url: sa.URL, peer: Peer) -> str:
    """Agree on encryption as the driver would.

    Raises:
        SourceFault: There is none although the URL demands it, or it is not to be trusted.
        DriverFault: A file of the URL cannot be used.
    """
    client = _client(url)
    try:
        return look(peer, client.ctx, _greeted)
    except NotOffered:
        if not client._ssl_required:  # noqa: SLF001 - nothing else tells
            return "not encrypted: the server offers no TLS, and the URL demands none"
        raise SourceFault(
            f"TLS failure. {peer.place} offers no encryption, and the URL demands it.",
            "tls:failure",
            place=peer.place,
        ) from None


def _client(url: sa.URL) -> Any:  # noqa: ANN401 - PyMySQL has no types
    """Make a client of the driver that does not connect: it knows what the options of the URL mean."""
    _, options = url.get_dialect()().create_connect_args(url)
    try:
        connections: Any = import_module("pymysql.connections")
        return connections.Connection(**options, defer_connect=True)
    except OSError as fault:
        raise DriverFault(fault) from fault


def _greeted(plain: socket.socket) -> None:
    """Read the greeting, and say that TLS comes next."""
    length = int.from_bytes(_exactly(plain, 4)[:3], "little")
    greeting = _exactly(plain, min(length, _LONGEST))
    if greeting[:1] != bytes([_GREETING]) or not _offers(greeting):
        # What else the server says, the login will tell.
        raise NotOffered
    flags = _SSL | _PROTOCOL_41 | _SECURE
    request = struct.pack("<IIB23x", flags, (1 << 24) - 1, _UTF8)
    plain.sendall(len(request).to_bytes(3, "little") + b"\x01" + request)


def _offers(greeting: bytes) -> bool:
    # The version ends with a zero; thread, salt and a filler come before the capabilities.
    at = greeting.find(b"\0", 1) + 1 + 4 + 8 + 1
    return bool(int.from_bytes(greeting[at : at + 2], "little") & _SSL)


def _exactly(plain: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = plain.recv(count - len(found))
        if not more:
            raise ConnectionResetError
        found += more
    return found
