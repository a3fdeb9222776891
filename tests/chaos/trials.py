"""One trial: the source changes, a sync is struck by a fault, everything is checked, a retry must succeed."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import checkers
from attempts import Order, Point, Zygote
from checkers import After, Looks
from places import Place, Sources
from world import NAME, STREAM, Content, Mode, Table

from aiia_pipelines.jobs.lost import Lost, WorkerLost, end_lost
from aiia_pipelines.jobs.run import NewJobRun, Trigger
from aiia_pipelines.jobs.state import JobState

PATIENCE = 90.0  # seconds that one attempt may take
LOOKED_INSIDE = 0.5  # of the attempts, where nobody can look from outside
RETRIES = 3  # a retry may still meet what the fault left behind, such as a server that recovers


@dataclass
class Report:
    """What a run of the harness found."""

    trials: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    looks: Looks = field(default_factory=Looks)
    violations: list[str] = field(default_factory=list)
    committed: int = 0
    rolled_back: int = 0
    phases: set[tuple[str, bool]] = field(default_factory=set)  # at which an attempt was killed

    def lines(self) -> list[str]:
        """Say it for people."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        return [
            f"{self.trials} trials, {sum(self.faults.values())} faults ({kinds})",
            f"after the faults {self.committed} were committed and {self.rolled_back} were not",
            f"{self.looks.reads} reads by an onlooker, {len(self.looks.odd)} of them neither old nor new",
            f"{len(self.violations)} violations",
            *self.violations[:20],
        ]


@dataclass
class Running:
    """An attempt under way."""

    number: int


@dataclass(kw_only=True)
class Trials:
    """The trials of one destination."""

    sources: Sources
    place: Place
    zygote: Zygote
    dice: random.Random
    size: int
    logs: Path
    mutation: str = ""
    report: Report = field(default_factory=Report)
    table: Table = field(default_factory=Table)
    content: Content = field(default_factory=Counter)
    mode: Mode | None = None
    phases: list[tuple[str, bool]] = field(default_factory=list)  # whose turn is to come

    # -- one trial --------------------------------------------------------------------------

    def begin(self, mode: Mode) -> None:
        """Start a mode from nothing, with a first sync that nothing disturbs."""
        self.mode, self.table, self.content = mode, Table(), Counter()
        self.sources.empty()
        self.place.empty()
        self._change()
        new = mode.expected(self.content, self.table)
        first = self._start(self._new())
        code = self.zygote.wait(first.number, PATIENCE)
        if code != 0 or self.place.content(mode) != new:
            raise AssertionError(f"{mode.name}: the undisturbed sync failed: {self._told(first)}")
        self.content = new

    def trial(self, fault: "Fault") -> None:
        """Strike one sync and check everything."""
        mode = self._mode()
        self._change()
        old, new = self.content, mode.expected(self.content, self.table)
        uid = str(uuid4())
        before = self._after(uid, ())
        self.report.trials += 1
        with self._watched([old, new]):
            struck = fault.strike(self, uid)
            for running in struck:
                self._buried(running)
        for running in struck:
            for content in self.place.seen(self._inside(running.number)):
                self.report.looks.see(content, [old, new])
        after = self._after(uid, struck)
        wrong = checkers.after_a_fault(old, new, before, after)
        wrong += checkers.cancelled_xor_completed(after, accepted=fault.accepted)
        committed = uid_key(uid) in after.ledger
        self.report.committed += committed
        self.report.rolled_back += not committed
        retried = [*struck, *self._retry(uid)]
        end = self._after(uid, retried)
        wrong += checkers.at_the_end(new, end, self.place.staging(), cancelled=fault.accepted)
        place = f"{self.place.name}, {mode.name}, {fault.name}"
        self.report.violations += [f"{place}: {line}" for line in wrong]
        self.content = new
        if wrong:
            self.report.violations += [self._told(running) for running in retried]
            self.begin(mode)

    def _mode(self) -> Mode:
        assert self.mode is not None
        return self.mode

    def _change(self) -> None:
        self.table.mutate(self.dice, self.size)
        self.sources.apply(self.table)

    # -- attempts ---------------------------------------------------------------------------

    def launch(self, uid: str, point: Point | None = None) -> Running:
        """Start an attempt of the job run `uid`."""
        return self._start(self._new(), uid, point)

    def _new(self) -> int:
        request = NewJobRun(
            connector=NAME, title="Chaos", streams=(STREAM,), trigger=Trigger.MANUAL, triggered_by="chaos",
        )  # fmt: skip
        store = self.sources.store
        number = store.create(request)
        store.move(number, JobState.RUNNING)
        return number

    def _inside(self, number: int) -> Path:
        return self.logs / f"{number}.seen"

    def _start(self, number: int, uid: str | None = None, point: Point | None = None) -> Running:
        mode = self._mode()
        connector = {
            "name": NAME,
            "title": "Chaos",
            "source": self.sources.options(),
            "streams": [mode.stream | {"batch_rows": max(50, self.size // 6)}],
        }
        order = Order(
            number=number,
            uid=uid or str(uuid4()),
            connector=connector,
            store=self.sources.store_url,
            destination=self.place.url(),
            point=point,
            mutation=self.mutation,
            log=str(self.logs / f"{number}.txt"),
            # In some trials only: what is looked at is not closed as it would be.
            look=self.place.inside(mode) if self.dice.random() < LOOKED_INSIDE else "",
            seen=str(self._inside(number)),
        )
        self.zygote.attempt(order)
        return Running(number)

    def _buried(self, running: Running) -> None:
        """Wait for the end of an attempt; a job run that it left behind is ended as lost."""
        if self.zygote.wait(running.number, PATIENCE) is None:
            self.report.violations.append(f"an attempt went on for {PATIENCE:.0f} s")
            self.zygote.signal(running.number, signal.SIGKILL)
            self.zygote.wait(running.number, 5)
        end_lost(self.sources.store, Lost(running.number, None, WorkerLost("Worker lost. Killed.")))

    def _retry(self, uid: str) -> list[Running]:
        retried = []
        for _ in range(RETRIES):
            retried.append(self.launch(uid))
            self._buried(retried[-1])
            if self.zygote.ended.get(retried[-1].number) == 0:
                break
            time.sleep(0.3)
        return retried

    def _told(self, running: Running) -> str:
        """Tell how an attempt ended and what stands in its log, for whoever looks for the reason."""
        lines = [line.message for _, line in self.sources.store.log_after(running.number, 0)]
        file = self.logs / f"{running.number}.txt"
        head = f"attempt {running.number} ended with {self.zygote.ended.get(running.number)}"
        return "\n    ".join([head, *lines[-12:], file.read_text() if file.exists() else ""])

    # -- looking ----------------------------------------------------------------------------

    def _after(self, uid: str, struck: "tuple[Running, ...] | list[Running]") -> After:
        ledger = self.place.ledger()
        key = uid_key(uid)
        rows = [self.sources.store.row(running.number) for running in struck]
        return After(
            content=self.place.content(self._mode()),
            ledger=ledger,
            state=self.place.state(),
            run_key=key,
            grown=self._mode().growth(ledger[key]) if key in ledger else None,
            badges=tuple(str(row.state) for row in rows if row),
            exits=tuple(self.zygote.ended.get(running.number) for running in struck),
        )

    @contextmanager
    def _watched(self, allowed: list[Content]) -> Iterator[None]:
        """Let somebody read the table all the while, where a second reader is possible."""
        if not self.place.polls:
            yield
            return
        ended = threading.Event()
        onlooker = threading.Thread(target=self._look, args=(allowed, ended))
        onlooker.start()
        try:
            yield
        finally:
            ended.set()
            onlooker.join()

    def _look(self, allowed: list[Content], ended: threading.Event) -> None:
        mode = self._mode()
        with self.place.onlooker(mode) as look:
            while not ended.is_set():
                seen = look()
                if seen is not None:
                    self.report.looks.see(seen, allowed)
                time.sleep(0.004)


def uid_key(uid: str) -> str:
    return f"{uid}/{STREAM}"


@dataclass
class Fault:
    """One way to disturb a sync; `accepted` is set when a cancel was."""

    name: str
    strike_with: Callable[["Fault", Trials, str], tuple[Running, ...]]
    accepted: bool = False

    def strike(self, trials: Trials, uid: str) -> tuple[Running, ...]:
        """Start the attempt or attempts and disturb them."""
        struck = self.strike_with(self, trials, uid)
        trials.report.faults[self.name] += 1
        return struck
