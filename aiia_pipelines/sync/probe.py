"""A Connection Test: stage by stage within a deadline, and as a job run of its own."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.faults import ConfigInvalid
from aiia_pipelines.config.secrets import resolve_tree
from aiia_pipelines.connectors.base import Source, SourceFault, open_source, wrong_option
from aiia_pipelines.jobs.failures import Failure, classify
from aiia_pipelines.jobs.families import family_of
from aiia_pipelines.jobs.log import connection_timeout
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.sync.aside import Aside
from aiia_pipelines.sync.faults import Stopped
from aiia_pipelines.sync.firewall import FirewallRequest, request_for

DEADLINE = 20.0  # seconds for the whole test
# What stands between a worker and the first word of a server.
NETWORK = ("dns", "tcp", "tls")
_BEFORE_STREAMS = (*NETWORK, "login")
_NOT_REACHED = {
    "connection-refused", "connection-timeout", "host-not-found", "name-server-unavailable",
    "network-unreachable",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Staged:
    """One stage as it went; `passed` is None when it was not reached."""

    name: str
    passed: bool | None = None
    seconds: float = 0.0
    note: str = ""
    failure: Failure | None = None
    # What was raised, for the traceback of a fault that nobody foresaw.
    fault: BaseException | None = None

    @property
    def warns(self) -> bool:
        """Whether the stage passed and somebody should still look at it."""
        return self.note.startswith("Warning: ")

    def sentence(self) -> str:
        """Say the stage in one line of a log."""
        note = f": {self.note}" if self.note else ""
        name = (
            self.name.upper() if self.name in NETWORK else f"{self.name[:1].upper()}{self.name[1:]}"
        )
        return f"{name} passed in {self.seconds:.3f} seconds{note}"


@dataclass(slots=True)
class Probed:
    """How a Connection Test of one connector went; failure and firewall are those of its first failed stage.

    `within` are the seconds for the whole of it.
    """

    connector: str
    title: str
    within: float = DEADLINE
    number: int | None = None
    state: JobState = JobState.RUNNING
    stages: list[Staged] = field(default_factory=list)
    failure: Failure | None = None
    firewall: FirewallRequest | None = None
    place: str = ""
    family: str = ""

    @property
    def failed_stage(self) -> str:
        """The first stage that failed; empty when none did."""
        return next((stage.name for stage in self.stages if stage.passed is False), "")

    @property
    def wants_firewall(self) -> bool:
        """Whether the network may be what keeps the worker from the source, or from who gives its tokens."""
        if self.failed_stage in NETWORK:
            return True
        failure = self.failure
        elsewhere = failure is not None and failure.place != self.place
        return elsewhere and failure is not None and failure.code in _NOT_REACHED

    def fail(self, fault: BaseException, stage: str = "") -> Failure:
        """Take the first fault as that of the test, and classify any."""
        side = "connect" if stage in _BEFORE_STREAMS else ""
        failure = classify(fault, stage=side)
        if self.failure is None:
            self.failure, self.state = failure, JobState(failure.badge.value)
        return failure


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Who follows a test: told of the stages there are, of each that begins, and how each went."""

    planned: Callable[[list[str]], None] = lambda _: None
    began: Callable[[str], None] = lambda _: None
    ended: Callable[[Staged], None] = lambda _: None
    stopped: Callable[[], bool] = lambda: False


@contextmanager
def opened_source(connector: Connector, home: Path) -> Iterator[Source]:
    """Open the source of a connector with its secrets resolved; nothing is connected yet.

    Raises:
        ConfigInvalid: A reference leads to nothing, or an option is wrong once it is resolved.
    """
    source = _opened(connector, home)
    try:
        yield source
    finally:
        source.close()


def _opened(connector: Connector, home: Path) -> Source:
    try:
        return open_source(resolve_tree(connector.source, os.environ, home))
    except ValidationError as fault:
        raise ConfigInvalid(f"{connector.name}: {wrong_option(fault)}") from None


def run_stages(
    connector: Connector,
    home: Path,
    tested: Probed,
    watch: Watch,
    *,
    opened: Callable[[Source], None] = lambda _: None,
) -> None:
    """Go through the stages; those that a failed one stands before stay unreached.

    Raises:
        ConfigInvalid: The connector cannot be opened at all.
        Stopped: Somebody asked the test to stop.
    """
    until = time.monotonic() + tested.within
    tested.family = family_of(connector.source)
    source = _opened(connector, home)
    tested.place = source.place()
    opened(source)
    walk = _Walk(source, tested, watch, until)
    try:
        walk.through(connector)
        if tested.state is JobState.RUNNING:
            tested.state = JobState.COMPLETED
    finally:
        walk.leave()
    tested.firewall = _firewall(connector, tested)


def _firewall(connector: Connector, tested: Probed) -> FirewallRequest | None:
    failure = tested.failure if tested.wants_firewall else None
    return request_for(
        connector,
        failure.place if failure is not None else tested.place,
        datetime.now(UTC),
        failure.headline if failure is not None else "Connected; the way is open.",
        resolves=tested.failed_stage != "dns",
    )


class _Walk:
    """One way through the stages of a source, in a thread that may be left behind."""

    def __init__(self, source: Source, tested: Probed, watch: Watch, until: float) -> None:
        self._source, self._tested, self._watch = source, tested, watch
        self._until = until
        self._aside = Aside(f"test-{tested.connector}")
        self._hangs = False
        # Streams that a stage of theirs failed for; "" once no stage at all can follow.
        self._closed: set[str] = set()

    def through(self, connector: Connector) -> None:
        """Do one stage after the other."""
        stages = list(self._source.stages(connector.streams))
        self._watch.planned([name for name, _ in stages])
        for name, check in stages:
            stream = name.partition(" ")[2]
            reached = self._closed.isdisjoint({"", stream})
            done = self._stage(name, check) if reached else Staged(name)
            if done.passed is False:
                self._closed.add("" if self._hangs else stream)
            self._tested.stages.append(done)
            self._watch.ended(done)

    def _stage(self, name: str, check: Callable[[], str]) -> Staged:
        self._watch.began(name)
        began = time.monotonic()
        answer = self._aside.do(check, self._until, self._watch.stopped)
        seconds = time.monotonic() - began
        if self._watch.stopped():
            self._hangs = not answer.done()
            raise Stopped("Somebody asked this test to stop.")
        self._hangs = not answer.done()
        fault = self._late(name) if self._hangs else answer.exception()
        if fault is None:
            return Staged(name, True, seconds, answer.result())  # noqa: FBT003 - reads as the field it is
        failure = self._placed(self._tested.fail(fault, name))
        return Staged(name, False, seconds, failure.headline, failure, fault)  # noqa: FBT003 - see above

    def _placed(self, failure: Failure) -> Failure:
        """Name the source where a fault names no place: every remedy begins there."""
        placed = replace(failure, place=failure.place or self._tested.place)
        if self._tested.failure is failure:
            self._tested.failure = placed
        return placed

    def _late(self, name: str) -> SourceFault:
        place, seconds = self._tested.place, self._tested.within
        if name == "tcp":
            return SourceFault(connection_timeout(place, seconds), "errno:ETIMEDOUT", place=place)
        if name == "dns":
            words, signal = (
                f"Name server unavailable. No address of {place} came",
                "errno:EAI_AGAIN",
            )
        elif name in _BEFORE_STREAMS:
            words, signal = f"Connection timeout. {place} did not answer", "errno:ETIMEDOUT"
        else:
            words, signal = f"Read timeout. {place} did not answer", "read:timeout"
        return SourceFault(
            f"{words} within the {seconds:g} seconds of this test ({name}).", signal, place=place
        )

    def leave(self) -> None:
        """Close the source; one that hangs is stopped and closed by somebody who has the time to wait."""
        if self._hangs:
            threading.Thread(target=partial(_abandon, self._source), daemon=True).start()
        else:
            self._aside.do(self._source.close, time.monotonic() + 5)
        self._aside.end()


def _abandon(source: Source) -> None:
    source.cancel()
    source.close()
