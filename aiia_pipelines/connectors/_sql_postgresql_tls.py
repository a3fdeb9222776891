"""Encryption as PostgreSQL's client library agrees on it: by the URL, the environment, and files it knows."""

import os
import socket
import ssl
import struct
from pathlib import Path

import sqlalchemy as sa

from aiia_pipelines.connectors._tls import NotOffered, Peer, look
from aiia_pipelines.connectors.base import SourceFault

_REQUEST = struct.pack("!ii", 8, 80877103)
_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


class Encryption:
    """What the URL of a connector says about encryption."""

    def __init__(self, url: sa.URL) -> None:
        """Take the words of the URL, and where it is silent those that the library goes by."""
        # Loading definitions must not import a driver.
        from psycopg.pq import Conninfo  # noqa: PLC0415

        usual = {one.keyword.decode(): one.val for one in Conninfo.get_defaults()}
        self._told = {
            key: str(url.query.get(key) or (value.decode() if value else ""))
            for key, value in usual.items()
            if key.startswith("ssl")
        }
        self.mode = self._told["sslmode"]

    @property
    def wanted(self) -> bool:
        """Whether the library asks for encryption first."""
        return self.mode not in {"disable", "allow"}

    def look(self, peer: Peer) -> str:
        """Agree on encryption as the library would.

        Raises:
            SourceFault: There is none although the URL demands it, or it is not to be trusted.
        """
        direct = self._told.get("sslnegotiation") == "direct"
        try:
            if direct:
                return look(peer, self._context(direct=True))
            return look(peer, self._context(), _asked)
        except NotOffered:
            if self.mode == "prefer":
                return "not encrypted: the server offers no TLS, which sslmode=prefer accepts"
            raise SourceFault(
                f"TLS failure. {peer.place} offers no encryption, and sslmode={self.mode} demands it.",
                "tls:failure",
                place=peer.place,
            ) from None
        except SourceFault as fault:
            if self.mode == "prefer" and "tls:failure" in fault.signals:
                return f"not encrypted, which sslmode=prefer accepts: {fault}"
            raise

    def _context(self, *, direct: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = self.mode == "verify-full"
        if context.check_hostname or self.mode == "verify-ca" or self._authority().exists():
            context.verify_mode = ssl.CERT_REQUIRED
            self._trust(context)
        else:
            context.verify_mode = ssl.CERT_NONE
        context.minimum_version = _VERSIONS.get(
            self._told.get("ssl_min_protocol_version", ""), ssl.TLSVersion.TLSv1_2
        )
        own, key = self._told["sslcert"], self._told["sslkey"]
        if own:
            context.load_cert_chain(own, key or None)
        if direct:
            context.set_alpn_protocols(["postgresql"])
        return context

    def _authority(self) -> Path:
        told = self._told["sslrootcert"]
        # Without a file of its own name the library looks in the home folder.
        return Path(told) if told else Path(os.path.expanduser("~/.postgresql/root.crt"))  # noqa: PTH111 - libpq's words

    def _trust(self, context: ssl.SSLContext) -> None:
        if self._told["sslrootcert"] == "system":
            context.load_default_certs()
            return
        authority = self._authority()
        try:
            context.load_verify_locations(authority)
        except OSError as fault:
            raise SourceFault(
                f"TLS failure. The root certificate {authority} cannot be read, so the one of the server"
                " cannot be checked; name another with sslrootcert.",
                "tls:failure",
            ) from fault


def _asked(plain: socket.socket) -> None:
    """Ask for encryption in the protocol of PostgreSQL."""
    plain.sendall(_REQUEST)
    answer = plain.recv(1)
    if answer == b"":
        raise ConnectionResetError
    if answer != b"S":
        # Whatever else it says, the login will tell.
        raise NotOffered
