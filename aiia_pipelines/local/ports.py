"""Which TCP ports of this machine are free, and whether PostgreSQL answers on one."""

import socket
import struct
from random import SystemRandom

# Below the ports that systems give to outgoing connections, which could take one back at any moment.
_QUIET = range(20_000, 32_000)
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def port_taken(host: str, port: int) -> bool:
    """Tells whether a server could not listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def free_port(host: str = "127.0.0.1") -> int:
    """Finds a port nobody uses, and that the system gives to nobody by itself.

    Raises:
        OSError: All that were tried are taken.
    """
    for port in SystemRandom().sample(_QUIET, 200):
        if not port_taken(host, port):
            return port
    raise OSError(f"No free port was found on {host}.")


def listens(host: str, port: int, timeout: float = 1.0) -> bool:
    """Tells whether a server accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=timeout):
            return True
    except OSError:
        return False


def postgres_answers(host: str, port: int, timeout: float = 2.0) -> bool:
    """Asks whether TLS is spoken, which every live PostgreSQL answers before any login."""
    try:
        with socket.create_connection((host, port), timeout=timeout) as talk:
            talk.sendall(_SSL_REQUEST)
            return talk.recv(1) in {b"N", b"S"}
    except OSError:
        return False
