"""The connections that a client has open, so that another thread can end them."""

import socket


class OpenSockets:
    """Sockets under the connections of a driver that offers no way to stop a request."""

    def __init__(self) -> None:
        """Begin with none."""
        self._open: list[socket.socket] = []

    def keep(self, opened: socket.socket) -> None:
        """Remember a socket, and forget those that were closed."""
        self._open = [*(known for known in self._open if known.fileno() >= 0), opened]

    def end(self) -> None:
        """Wake up whoever waits for one of them; may be called from another thread."""
        for opened in list(self._open):
            try:
                # Past the TLS layer, which another thread is using.
                socket.socket.shutdown(opened, socket.SHUT_RDWR)
            except OSError:
                continue

    def forget(self) -> None:
        """Forget all of them."""
        self._open = []
