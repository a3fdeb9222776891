"""Keeps the processes of `aiia up` alive, and leaves none behind."""

import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from aiia_pipelines.local.faults import ServiceLost
from aiia_pipelines.local.files import last_lines, make_folder, roll
from aiia_pipelines.local.ports import port_taken
from aiia_pipelines.local.running import AlreadyUp, Running
from aiia_pipelines.local.warden import MARK, Warden, belonging, signal_process, sweep

__all__ = ["AlreadyUp", "Running", "Service", "ServiceLost", "Supervisor", "port_taken"]

_RESTARTS = 3
_WITHIN_SECONDS = 60.0
_GRACE_SECONDS = 10.0
_HEAD_START_SECONDS = 2.0
_LOOK_SECONDS = 0.1  # while something starts
_WATCH_SECONDS = 0.5  # afterwards


@dataclass(frozen=True, slots=True)
class Service:
    """A process to keep up; `env` is all of its environment, `ready` tells when it can be used."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    ready: Callable[[], bool] | None = None
    ready_seconds: float = 120.0


@dataclass(slots=True)
class _Child:
    service: Service
    log: Path
    process: subprocess.Popen[bytes]
    deaths: deque[float] = field(default_factory=deque)


class Supervisor:
    """Starts services in order, starts them again when they die, stops them in reverse."""

    def __init__(
        self, services: Sequence[Service], log_dir: Path, announce: Callable[[str], None]
    ) -> None:
        """Starts nothing yet."""
        self.services = tuple(services)
        self.log_dir = log_dir
        self.announce = announce
        self.mark = token_hex(8)
        self._children: list[_Child] = []

    def run(self, stop: threading.Event) -> None:
        """Keeps everything up until `stop` is set.

        Raises:
            ServiceLost: a service does not get ready, or dies again and again.
        """
        make_folder(self.log_dir)
        self._warden = Warden(self.mark)
        try:
            for service in self.services:
                self._bring_up(service, stop)
            while not stop.wait(_WATCH_SECONDS):
                self._look(stop)
        finally:
            self._stop_all()
            self._warden.dismiss()

    def _bring_up(self, service: Service, stop: threading.Event) -> None:
        if stop.is_set():
            return
        log = self.log_dir / f"{service.name}.log"
        roll(log)
        child = _Child(service, log, self._spawn(service, log))
        self._children.append(child)
        self._await_ready(child, stop)

    def _spawn(self, service: Service, log: Path) -> subprocess.Popen[bytes]:
        log.touch(0o600)
        with log.open("ab") as output:
            try:
                process = subprocess.Popen(
                    list(service.argv),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**service.env, MARK: self.mark},
                    start_new_session=True,
                )
            except OSError as fault:
                raise ServiceLost(
                    service.name, f"{service.name} cannot be started: {fault}."
                ) from fault
        self._warden.tell(service.name, process.pid)
        return process

    def _await_ready(self, child: _Child, stop: threading.Event) -> None:
        service = child.service
        deadline = time.monotonic() + service.ready_seconds
        while service.ready is not None and not service.ready():
            if stop.wait(_LOOK_SECONDS):
                return
            if time.monotonic() > deadline:
                raise self._lost(child, f"is not ready after {service.ready_seconds:.0f} s")
            self._revive(child, stop)
        self.announce(f"{service.name} is ready")

    def _look(self, stop: threading.Event) -> None:
        if self._warden.gone:
            self._warden.dismiss()
            self._warden = Warden(self.mark)
            for child in self._children:
                self._warden.tell(child.service.name, child.process.pid)
        for child in self._children:
            if self._revive(child, stop):
                self._await_ready(child, stop)

    def _revive(self, child: _Child, stop: threading.Event) -> bool:
        status = child.process.poll()
        if status is None or stop.is_set():
            return False
        now = time.monotonic()
        child.deaths.append(now)
        while child.deaths[0] < now - _WITHIN_SECONDS:
            child.deaths.popleft()
        how = _ending(status)
        if len(child.deaths) > _RESTARTS:
            raise self._lost(child, f"{how} {len(child.deaths)} times within a minute")
        self.announce(f"{child.service.name} {how}; starting it again")
        self._end_session(child)
        # what it needs may itself be on its way back
        if stop.wait(0.5 * 2 ** (len(child.deaths) - 1)):
            return False
        child.process = self._spawn(child.service, child.log)
        return True

    def _end_session(self, child: _Child) -> None:
        # what a dead service leaves would stand in the way of the next: ports, locks
        for pid in belonging(None, {child.process.pid}):
            signal_process(pid, signal.SIGKILL)

    def _lost(self, child: _Child, what: str) -> ServiceLost:
        name = child.service.name
        return ServiceLost(name, f"{name} {what}; its log is {child.log}.", last_lines(child.log))

    def _stop_all(self) -> None:
        sessions = [child.process.pid for child in reversed(self._children)]
        deadline = time.monotonic() + _GRACE_SECONDS
        for session in sessions:
            for pid in belonging(None, {session}):
                signal_process(pid, signal.SIGTERM)
            # those who use a service get a head start before it goes
            self._wait_for([session], min(deadline, time.monotonic() + _HEAD_START_SECONDS))
        self._wait_for(sessions, deadline)
        for pid in belonging(None, sessions):
            signal_process(pid, signal.SIGKILL)
        # those who moved to sessions of their own
        sweep(self.mark, sessions)
        for child in self._children:
            child.process.wait()
        self._children.clear()

    def _wait_for(self, sessions: Sequence[int], deadline: float) -> None:
        while belonging(None, sessions) and time.monotonic() < deadline:
            time.sleep(0.02)


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
