"""A look at the encryption of a server, as its driver would agree on it, and at the certificate it shows."""

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from aiia_pipelines.connectors._certificate import Certificate
from aiia_pipelines.connectors._tls_faults import told
from aiia_pipelines.connectors.base import SourceFault

SOON = 14  # days before its end in which a certificate is warned of
_MOST_NAMES = 3

# What the two sides say to each other before the first byte of TLS.
Preface = Callable[[socket.socket], None]


class NotOffered(Exception):
    """The server has no encryption to offer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A server: `host` is the name that its certificate must bear, `address` where it was reached."""

    host: str
    address: str
    port: int
    seconds: float

    @property
    def place(self) -> str:
        """The `host:port` that people know it by."""
        return f"{self.host}:{self.port}"


def _straight(_: socket.socket) -> None:
    """Begin with TLS at once, as web servers do."""


def look(peer: Peer, context: ssl.SSLContext, preface: Preface = _straight) -> str:
    """Agree on encryption, and tell its protocol and the certificate.

    Raises:
        NotOffered: There is none.
        SourceFault: Both sides do not agree, or the certificate is not to be trusted.
    """
    try:
        version, der = _shaken(peer, context, preface)
    except ssl.SSLError as fault:
        raise _refused(fault, peer, preface) from fault
    except TimeoutError as fault:
        raise SourceFault(
            f"Connection timeout. {peer.place} did not answer the TLS handshake within"
            f" {peer.seconds:g} seconds.",
            "errno:ETIMEDOUT",
            place=peer.place,
        ) from fault
    except OSError as fault:
        raise _lost(peer) from fault
    return _note(version, Certificate.read(der), checked=context.verify_mode != ssl.CERT_NONE)


def _shaken(peer: Peer, context: ssl.SSLContext, preface: Preface) -> tuple[str, bytes]:
    place = (peer.address, peer.port)
    with socket.create_connection(place, timeout=peer.seconds) as plain:
        preface(plain)
        with context.wrap_socket(plain, server_hostname=peer.host) as secure:
            return str(secure.version()), secure.getpeercert(binary_form=True) or b""


def _note(version: str, shown: Certificate, *, checked: bool) -> str:
    days = (shown.until - datetime.now(UTC)).days
    ends = f"expired on {shown.until:%Y-%m-%d}"
    if days >= 0:
        ends = f"expires in {days} days ({shown.until:%Y-%m-%d})"
    trust = "" if checked else ", not checked"
    facts = f"{version}, certificate {shown.subject} issued by {shown.issuer}, {ends}{trust}"
    return f"Warning: {facts}" if days < SOON else facts


def _refused(fault: ssl.SSLError, peer: Peer, preface: Preface) -> SourceFault:
    found = told(fault, peer.place)
    if found is None:
        return _lost(peer)
    sentence, signal = found
    shown = None
    if isinstance(fault, ssl.SSLCertVerificationError):
        shown = _certificate(peer, preface)
    return SourceFault(
        f"{sentence}{_about(shown, signal) if shown else ''}",
        signal,
        "tls:failure",
        place=peer.place,
    )


def _about(shown: Certificate, signal: str) -> str:
    if signal == "tls:expired":
        return (
            f" It ends on {shown.until:%Y-%m-%d} and is {shown.subject}, issued by {shown.issuer}."
        )
    if signal == "tls:name":
        names = ", ".join(shown.names[:_MOST_NAMES]) or shown.subject
        return f" It is for {names}{' and others' if len(shown.names) > _MOST_NAMES else ''}."
    return f" It is {shown.subject}, issued by {shown.issuer}."


def _certificate(peer: Peer, preface: Preface) -> Certificate | None:
    """Fetch a certificate that was refused, only to say what is wrong with it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with suppress(OSError, NotOffered, SourceFault):
        return Certificate.read(_shaken(peer, context, preface)[1])
    return None


def _lost(peer: Peer) -> SourceFault:
    return SourceFault(
        f"Connection lost. {peer.place} ended it during the TLS handshake.",
        "connection:lost",
        place=peer.place,
    )
