"""A wire to PostgreSQL or to a bucket that can be cut when a commit passes."""

import re
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field

_LEDGER = b"_aiia.ledger"
_PUT_LOG = re.compile(rb"PUT \S*/_log/")
_COMMIT = re.compile(rb"(?<![A-Za-z_])COMMIT(?![A-Za-z_])")  # and no `committed_at`


@dataclass
class Cut:
    """When the wire breaks: at the `nth` COMMIT, before it arrives or before its answer does."""

    nth: int
    answered: bool  # the COMMIT arrives, only its answer is lost
    only_last: bool  # count from the entry into the ledger on
    armed: bool = False
    seen: int = 0

    def wants(self, sent: bytes, _: socket.socket) -> bool:
        """Tell whether the wire breaks at these bytes from the client."""
        if self.only_last and not self.armed:
            self.armed = b"insert into " + _LEDGER in sent
            if not self.armed:
                return False
        if not _COMMIT.search(sent):
            return False
        self.seen += 1
        return self.only_last or self.seen == self.nth


@dataclass
class PutCut:
    """When the wire to a bucket breaks: at the object that is the commit."""

    answered: bool
    armed: socket.socket | None = None  # the wire by which the object went

    def wants(self, sent: bytes, wire: socket.socket) -> bool:
        """Tell whether the commit passes, and nothing of it is to arrive."""
        if _PUT_LOG.match(sent) is None:
            return False
        self.armed = wire
        return not self.answered

    def hides(self, received: bytes, wire: socket.socket) -> bool:
        """Tell whether this is the answer to it; that its body may come is none."""
        return wire is self.armed and not received.startswith(b"HTTP/1.1 100")


@dataclass
class Proxy:
    """Forwards a port of this machine to another; once cut, every connection is gone until `mend`."""

    target: int
    cut: Cut | PutCut | None = None
    hits: int = 0
    _pairs: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)

    def start(self) -> "Proxy":
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._door.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                self._pairs.append((client, server))
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=self._down, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while sent := client.recv(65536):
                cut = self.cut
                if cut is not None and cut.wants(sent, server):
                    self.cut, self.hits = None, self.hits + 1
                    if cut.answered:
                        server.sendall(sent)
                        # The answer never gets back: the client's side breaks first.
                        _reset(client)
                        threading.Event().wait(0.05)
                        _reset(server)
                    else:
                        _reset(client)
                        _reset(server)
                    return
                server.sendall(sent)
        _reset(server)
        _reset(client)

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while sent := server.recv(65536):
                cut = self.cut
                if isinstance(cut, PutCut) and cut.hides(sent, server):
                    self.cut, self.hits = None, self.hits + 1
                    break
                client.sendall(sent)
        _reset(client)
        _reset(server)

    def close(self) -> None:
        self._door.close()
        for pair in self._pairs:
            for end in pair:
                _reset(end)


def _reset(end: socket.socket) -> None:
    """Close with a reset, as a broken wire or a firewall does."""
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # A thread that waits for bytes keeps the connection open through a mere close.
        end.shutdown(socket.SHUT_RDWR)
    end.close()
