import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]


@pytest.fixture
def fresh(installations: Any) -> Iterator[Any]:
    """An installation that is wholly down; `aiia up` starts its database as well."""
    found = installations()
    found.server.stop()
    return found


def left(here: Any) -> dict[int, str]:
    """List the processes that work for this home."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            known = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            dead = (entry / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            continue
        if str(here.home).encode() in known and not dead:
            found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
    return found


def listening(here: Any) -> list[int]:
    """List the ports of this installation on which somebody listens."""
    port = int(here.environment["AIIA_PORT"])
    found = []
    for number in (port, port + 1, here.server.port):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", number)) == 0:
                found.append(number)
    return found


def test_ctrl_c_stops_everything_and_leaves_nothing(fresh: Any, eventually: Any) -> None:
    assert fresh.bring_up() < 60
    port = int(fresh.environment["AIIA_PORT"])
    assert listening(fresh) == [port, port + 1, fresh.server.port]
    assert len(left(fresh)) > 4
    fresh.up.send_signal(signal.SIGINT)
    assert fresh.up.wait(20) == 0
    assert "Everything has stopped." in fresh.told()
    assert left(fresh) == {}
    assert listening(fresh) == []


def test_a_killed_aiia_up_leaves_no_service(fresh: Any, eventually: Any) -> None:
    fresh.bring_up()
    fresh.up.kill()
    fresh.up.wait()

    def services() -> dict[int, str]:
        return {pid: line for pid, line in left(fresh).items() if "postgres" not in line}

    assert eventually(lambda: not services(), 15), services()
    assert listening(fresh) in ([], [fresh.server.port])
