"""Small servers that stand before, or instead of, the real one and fail in a way of their own."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

Talk = Callable[[socket.socket], None]
_WISH_FOR_TLS = b"\0\0\0\x08\x04\xd2\x16\x2f"


@contextmanager
def answering(talk: Talk) -> Iterator[int]:
    """Let everybody in and talk to them, each in a thread; gives the port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as door:

        def one(client: socket.socket) -> None:
            with closing(client), suppress(OSError):
                talk(client)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = door.accept()
                    threading.Thread(target=one, args=(client,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield int(door.getsockname()[1])
        door.shutdown(socket.SHUT_RDWR)
    thread.join()


def saying(words: bytes) -> Talk:
    """Greet with some words and hang up."""
    return lambda client: client.sendall(words)


def hanging_up(after: int = 8) -> Talk:
    """Hang up after so many bytes."""

    def talk(client: socket.socket) -> None:
        client.recv(after)

    return talk


def refusing(state: str, words: str) -> Talk:
    """Refuse in the protocol of PostgreSQL, whatever is asked."""
    parts = (b"SFATAL", b"VFATAL", b"C" + state.encode(), b"M" + words.encode())
    told = b"".join(part + b"\0" for part in parts) + b"\0"

    def talk(client: socket.socket) -> None:
        if client.recv(8) == _WISH_FOR_TLS:
            client.sendall(b"N")
            client.recv(1000)
        client.sendall(b"E" + (len(told) + 4).to_bytes(4, "big") + told)

    return talk


def reset(client: socket.socket) -> None:
    """Close with a reset, as a broken wire or a firewall does."""
    with suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.shutdown(socket.SHUT_RDWR)
    client.close()


@dataclass
class Wire:
    """Forwards to a port of this machine; breaks or stalls after so many bytes of the answers."""

    target: int
    after: int = -1
    how: str = ""  # reset, close or stall
    wish: bytes = b""  # with which a client asks for TLS
    certificate: Path | None = None
    ciphers: str = ""

    def talk(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self.target)) as server:
            opened = self._secured(client)
            if opened is None:
                return
            with closing(opened):
                up = threading.Thread(target=self._up, args=(opened, server), daemon=True)
                up.start()
                self._down(server, opened)
                up.join()

    def _secured(self, client: socket.socket) -> socket.socket | None:
        if self.certificate is None:
            return client
        if self.wish:
            client.recv(len(self.wish))
            client.sendall(b"S")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.certificate.with_suffix(".key"))
        if self.ciphers:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(self.ciphers)
        begun = context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        try:
            begun.do_handshake()
        except OSError:
            with begun, suppress(OSError):
                # The last word of this side must arrive before the end does.
                begun.shutdown(socket.SHUT_WR)
                begun.recv(65536)
            return None
        return begun

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while sent := client.recv(65536):
                server.sendall(sent)
            server.shutdown(socket.SHUT_WR)

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        left = self.after
        with suppress(OSError):
            while sent := server.recv(65536):
                if 0 <= left < len(sent):
                    client.sendall(sent[:left])
                    self._break(client)
                    return
                left -= len(sent) if left >= 0 else 0
                client.sendall(sent)
            client.shutdown(socket.SHUT_RDWR)

    def _break(self, client: socket.socket) -> None:
        if self.how == "reset":
            reset(client)
        elif self.how == "close":
            client.shutdown(socket.SHUT_RDWR)
        else:
            threading.Event().wait(30)


def secured(target: int, certificate: Path, **more: object) -> Wire:
    """Stand before a PostgreSQL server as one that speaks TLS."""
    return Wire(target, wish=_WISH_FOR_TLS, certificate=certificate, **more)  # type: ignore[arg-type]
