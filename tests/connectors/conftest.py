import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors.base import Source, open_source

Opened = Callable[..., Source]
Streams = Callable[..., Stream]


@pytest.fixture
def open_sql() -> Iterator[Opened]:
    made: list[Source] = []

    def make(options: dict[str, Any], *, connect: bool = True) -> Source:
        source = open_source(options)
        made.append(source)
        if connect:
            source.connect()
        return source

    yield make
    for source in made:
        source.close()


@pytest.fixture
def stream() -> Streams:
    def make(**facts: Any) -> Stream:
        return Stream.model_validate({"name": "rows"} | facts)

    return make


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def full() -> Iterator[int]:
    """A port whose backlog is full: further connection attempts get no answer."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as listener:
        place = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(place)
        yield place[1]
        for client in waiting:
            client.close()
