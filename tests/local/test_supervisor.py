import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from aiia_pipelines.local.processes import alive, environment
from aiia_pipelines.local.services import Service, ServiceLost, Supervisor
from aiia_pipelines.local.warden import belonging

ROOT = Path(__file__).parents[2]
PLAIN = {"PATH": "/usr/bin:/bin"}
# a grandchild in the same session, and one that left it
FAMILY = "sleep 300 & setsid sleep 301 & sleep 302"


def eventually(holds: Callable[[], object], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def shell(name: str, script: str, **more: object) -> Service:
    return Service(name, ["/bin/sh", "-c", script], PLAIN, **more)


class Up:
    """A supervisor at work in a thread."""

    def __init__(self, services: Sequence[Service], logs: Path) -> None:
        self.said: list[str] = []
        self.lost: ServiceLost | None = None
        self.stop = threading.Event()
        self.supervisor = Supervisor(services, logs, self.said.append)
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.supervisor.run(self.stop)
        except ServiceLost as lost:
            self.lost = lost

    @property
    def family(self) -> list[int]:
        return belonging(self.supervisor.mark)

    def pid(self, name: str) -> int:
        return next(
            child.process.pid for child in self.supervisor._children if child.service.name == name
        )


@contextmanager
def up(services: Sequence[Service], logs: Path) -> Iterator[Up]:
    running = Up(services, logs)
    running.thread.start()
    try:
        yield running
    finally:
        running.stop.set()
        running.thread.join()


def test_services_start_in_order_and_each_waits_for_the_one_before(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    services = [
        shell("one", f"sleep 0.4; touch {first}; sleep 300", ready=first.exists),
        shell("two", f"test -e {first} && touch {second}; sleep 300", ready=second.exists),
    ]
    with up(services, tmp_path / "logs") as running:
        assert eventually(lambda: len(running.said) == 2)
    assert running.said == ["one is ready", "two is ready"]
    assert running.lost is None


def test_output_goes_to_a_private_log_of_the_service(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "one.log"
    script = "echo out; echo err >&2; sleep 300"
    with up([shell("one", script)], tmp_path / "logs"):
        assert eventually(lambda: log.exists() and log.read_text() == "out\nerr\n")
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_service_gets_its_own_variables_only(tmp_path: Path) -> None:
    with up([shell("one", "sleep 300")], tmp_path) as running:
        assert eventually(lambda: running.said)
        names = {pair.partition("=")[0] for pair in environment(running.pid("one"))}
    assert names - {"PWD"} == {"PATH", "AIIA_UP"}


@pytest.mark.integration
def test_stop_leaves_nothing_behind_not_even_those_who_left_the_session(tmp_path: Path) -> None:
    with up([shell("one", FAMILY), shell("two", FAMILY)], tmp_path) as running:
        assert eventually(lambda: len(running.family) == 8)
    assert running.family == []
    assert running.lost is None


@pytest.mark.integration
def test_services_are_asked_in_reverse_order(tmp_path: Path) -> None:
    order = tmp_path / "order"
    script = "trap 'echo {0} >> {1}; exit' TERM; touch {1}.{0}; while :; do sleep 0.1; done"
    services = [shell(name, script.format(name, order)) for name in ("one", "two")]
    with up(services, tmp_path):
        assert eventually(lambda: all(Path(f"{order}.{name}").exists() for name in ("one", "two")))
    assert order.read_text().split() == ["two", "one"]


@pytest.mark.integration
def test_a_service_that_does_not_listen_is_killed_after_ten_seconds(tmp_path: Path) -> None:
    deaf = tmp_path / "deaf"
    script = f"trap '' TERM; touch {deaf}; while :; do sleep 0.1; done"
    with up([shell("one", script, ready=deaf.exists)], tmp_path) as running:
        assert eventually(lambda: running.said)
        begin = time.monotonic()
    assert 9 < time.monotonic() - begin < 60
    assert running.family == []


@pytest.mark.integration
def test_a_service_that_dies_is_started_again(tmp_path: Path) -> None:
    with up([shell("one", FAMILY), shell("two", "sleep 300")], tmp_path) as running:
        assert eventually(lambda: len(running.said) == 2)
        first, other = running.pid("one"), running.pid("two")
        os.kill(first, signal.SIGKILL)
        assert eventually(lambda: len(running.said) == 4)
        assert running.pid("one") != first
        assert running.pid("two") == other
        # nothing of the former session stays
        assert belonging(None, {first}) == []
    assert running.said[2:] == ["one was ended by SIGKILL; starting it again", "one is ready"]


@pytest.mark.integration
def test_a_service_that_dies_again_and_again_is_given_up_and_named(tmp_path: Path) -> None:
    services = [shell("good", "sleep 300"), shell("bad", "echo no luck; exit 3")]
    with up(services, tmp_path) as running:
        assert eventually(lambda: running.lost)
    assert running.lost is not None
    assert running.lost.name == "bad"
    assert str(running.lost) == (
        f"bad ended with exit code 3 4 times within a minute; its log is {tmp_path / 'bad.log'}."
    )
    assert running.lost.log == ("no luck",) * 4
    assert running.said.count("bad ended with exit code 3; starting it again") == 3
    assert running.family == []


def test_a_service_that_does_not_get_ready_is_named(tmp_path: Path) -> None:
    slow = shell("slow", "echo waiting; sleep 300", ready=lambda: False, ready_seconds=0.3)
    with up([slow], tmp_path) as running:
        assert eventually(lambda: running.lost)
    assert running.lost is not None
    assert "slow is not ready after" in str(running.lost)
    assert running.family == []


def test_a_program_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with up([Service("gone", ["/nowhere/at/all"], PLAIN)], tmp_path) as running:
        assert eventually(lambda: running.lost)
    assert "gone cannot be started" in str(running.lost)


def test_stopping_while_a_service_gets_ready_does_not_wait_for_it(tmp_path: Path) -> None:
    begin = time.monotonic()
    with up([shell("slow", "sleep 300", ready=lambda: False)], tmp_path) as running:
        assert eventually(lambda: running.family)
    assert time.monotonic() - begin < 60
    assert running.lost is None


@pytest.mark.integration
def test_a_warden_that_was_killed_is_replaced(tmp_path: Path) -> None:
    with up([shell("one", "sleep 300")], tmp_path) as running:
        assert eventually(lambda: running.said)
        first = running.supervisor._warden
        os.kill(first._process.pid, signal.SIGKILL)
        assert eventually(lambda: running.supervisor._warden is not first)
        assert not running.supervisor._warden.gone
    assert running.family == []


SCRIPT = f"""
import signal, sys, threading
from pathlib import Path
from aiia_pipelines.local.services import Service, Supervisor
stop = threading.Event()
if sys.argv[2] == "event":
    signal.signal(signal.SIGINT, lambda *_: stop.set())
services = [Service(n, ["/bin/sh", "-c", {FAMILY!r}], {PLAIN!r}) for n in ("one", "two")]
supervisor = Supervisor(services, Path(sys.argv[1]), lambda text: print(text, flush=True))
print(supervisor.mark, flush=True)
supervisor.run(stop)
"""


@contextmanager
def another(logs: Path, mode: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A supervisor in a process of its own, with everything up."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, logs, mode],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        mark = process.stdout.readline().strip()
        assert process.stdout.readline() == "one is ready\n"
        assert process.stdout.readline() == "two is ready\n"
        assert eventually(lambda: len(belonging(mark)) == 8)
        yield process, mark


@pytest.mark.integration
def test_a_supervisor_that_is_killed_takes_everything_with_it(tmp_path: Path) -> None:
    with another(tmp_path, "event") as (process, mark):
        process.kill()
        assert eventually(lambda: not belonging(mark), seconds=5)


@pytest.mark.integration
def test_services_that_drop_the_mark_go_with_a_killed_supervisor_too(tmp_path: Path) -> None:
    script = SCRIPT.replace(FAMILY, "env -i sleep 303")
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path, "event"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
        assert eventually(lambda: not any(alive(int(child)) for child in children), seconds=5)


@pytest.mark.integration
@pytest.mark.parametrize(("mode", "code"), [("event", 0), ("plain", -signal.SIGINT)])
def test_ctrl_c_ends_everything(tmp_path: Path, mode: str, code: int) -> None:
    with another(tmp_path, mode) as (process, mark):
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=15) == code
        assert belonging(mark) == []
