"""A typed look at the network before a driver tries: drivers report connection faults only in words."""

import errno
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from aiia_pipelines.connectors.base import SourceFault

# An address that documentation may use and nobody has: the way there is the default route.
_ANYWHERE = "203.0.113.1"


@dataclass(frozen=True, slots=True)
class Reached:
    """An address that accepted a TCP connection."""

    address: str
    outbound: str  # the address that this machine used, for the firewall's rule
    seconds: float


def resolve(host: str, port: int) -> list[str]:
    """Look up the addresses of a host.

    Raises:
        SourceFault: The name is unknown, or the name server does not answer.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as unknown:
        place = f"{host}:{port}"
        if isinstance(unknown, socket.gaierror) and unknown.errno == socket.EAI_AGAIN:
            raise SourceFault(
                f"Name server unavailable. It gave no answer about the name {host}.",
                "errno:EAI_AGAIN",
                place=place,
            ) from unknown
        raise SourceFault(
            f"Host not found. The name {host} has no address on this worker's network.",
            "errno:EAI_NONAME",
            place=place,
        ) from unknown
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def reach(host: str, port: int, timeout: float) -> Reached:
    """Open and close a TCP connection to the first address that accepts one within `timeout` seconds.

    Raises:
        SourceFault: Nothing accepted a connection.
    """
    began = time.monotonic()
    place = f"{host}:{port}"
    fault: OSError | None = None
    for address in resolve(host, port):
        left = timeout - (time.monotonic() - began)
        try:
            with socket.create_connection((address, port), timeout=max(left, 0.001)) as opened:
                outbound = str(opened.getsockname()[0])
                return Reached(address, outbound, time.monotonic() - began)
        except OSError as refused:
            fault = refused
    raise _fault(fault, place, timeout) from fault


def outbound(addresses: Sequence[str]) -> str:
    """Tell the address that this machine sends from to the first that it has a route to; empty without any."""
    for address in (*addresses, _ANYWHERE):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as unsent:
            # Connecting a UDP socket looks up the route and sends nothing.
            unsent.connect((address, 1))
            return str(unsent.getsockname()[0])
    return ""


def timed_out(place: str, timeout: float) -> SourceFault:
    """Say that nothing answered within the connect timeout, in seconds."""
    return SourceFault(
        f"Connection timeout. Unable to reach {place} after {timeout:g} seconds.",
        "errno:ETIMEDOUT",
        place=place,
    )


def _fault(fault: OSError | None, place: str, timeout: float) -> SourceFault:
    if isinstance(fault, TimeoutError):
        return timed_out(place, timeout)
    if isinstance(fault, ConnectionRefusedError):
        return SourceFault(
            f"Connection refused. Nothing listens on {place}, or a firewall rejects it.",
            "errno:ECONNREFUSED",
            place=place,
        )
    reason = fault.strerror if fault else "no address"
    number = errno.errorcode.get(fault.errno or 0, "EHOSTUNREACH") if fault else "EHOSTUNREACH"
    return SourceFault(
        f"Connection failed. {place} cannot be reached: {reason}.",
        f"errno:{number}",
        "errno:EHOSTUNREACH",
        place=place,
    )
