"""Certificates of every sort, and a front that speaks TLS before a server that does not."""

import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
Greeting = Callable[[socket.socket], None]


@dataclass(frozen=True)
class Authority:
    """Who trusts `path` trusts the certificates that it signs."""

    folder: Path

    @classmethod
    def founded(cls, folder: Path) -> "Authority":
        found = cls(folder)
        found._openssl(f"req -x509 {_KEY} -days 9 -subj /O=Ours/CN=ours -keyout ca.key -out ca.pem")
        return found

    @property
    def path(self) -> Path:
        return self.folder / "ca.pem"

    def certificate(self, name: str, host: str = "IP:127.0.0.1", days: int = 300) -> Path:
        """Make a certificate with its key beside it; negative days are over."""
        file = self.folder / f"{name}.pem"
        if not file.exists():
            self._openssl(
                f"req {_KEY} -subj /CN={name} -addext subjectAltName={host}"
                f" -keyout {name}.key -out {name}.csr"
            )
            self._openssl(
                f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -days {days}"
                f" -copy_extensions copy -out {name}.pem"
            )
        return file

    def _openssl(self, command: str) -> None:
        done = subprocess.run(
            ["openssl", *command.split()], cwd=self.folder, check=False, capture_output=True
        )
        assert done.returncode == 0, done.stderr


def asked_as_by_postgresql(client: socket.socket) -> None:
    """Take a wish for encryption in the protocol of PostgreSQL, and grant it."""
    client.recv(8)
    client.sendall(b"S")


def straight(_: socket.socket) -> None:
    """Begin with TLS at once."""


@contextmanager
def tls_before(
    port: int,
    certificate: Path,
    greeting: Greeting = straight,
    *,
    latest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> Iterator[int]:
    """Listen on a port that speaks TLS, and forward to one of this machine that does not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    context.maximum_version = latest
    # PostgreSQL's clients that begin with TLS at once insist on it; the others do not ask.
    context.set_alpn_protocols(["postgresql", "http/1.1"])
    talks: list[threading.Thread] = []

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                talk = threading.Thread(target=_talk, args=(client, port, context, greeting))
                talk.start()
                talks.append(talk)

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        accepting = threading.Thread(target=accept, args=(listener,))
        accepting.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
    for talk in talks:
        talk.join(5)


def _talk(client: socket.socket, port: int, context: ssl.SSLContext, greeting: Greeting) -> None:
    with client, suppress(OSError):
        client.settimeout(10)
        greeting(client)
        with (
            context.wrap_socket(client, server_side=True) as secure,
            socket.create_connection(("127.0.0.1", port)) as server,
        ):
            _forward(secure, server)


def _forward(secure: ssl.SSLSocket, server: socket.socket) -> None:
    """Forward both ways in one thread: two must not use one TLS connection at the same time."""
    while True:
        ready = [secure] if secure.pending() else select.select([secure, server], [], [], 30)[0]
        for one in ready:
            data = one.recv(65536)
            if not data:
                return
            (server if one is secure else secure).sendall(data)
        if not ready:
            return
