"""Mixed runs under random faults against a whole installation: `python tests/soak/soak.py --runs 500 --minutes 10`."""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from conftest import Installation, build, eventually, tear_down
from remains import left_behind

from aiia_pipelines.config.settings import Settings
from aiia_pipelines.jobs import attempts
from aiia_pipelines.jobs.state import FINAL
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.local.postgres import WAREHOUSE

NEVER = "retry: { policy: never }\n"
RETRY = "retry: { first_wait: 1, longest_wait: 3, max_in_a_row: 2, max_attempts: 4 }\n"
GOOD = ("shop", "one", "two", "three")
MIX = (*GOOD, *GOOD, "slow", "slow", "typo", "mixed", "locked")
MOST_WAITING = 25
SETTLING = 240.0  # seconds that runs have to end once nobody disturbs them any more


@dataclass
class Soak:
    """Launches runs of all kinds, disturbs them, and remembers what was promised."""

    here: Installation
    store: JobStore
    chance: random.Random
    launched: int = 0
    done: Counter[str] = field(default_factory=Counter)
    cancelled: set[int] = field(default_factory=set)
    stopped: list[tuple[float, int]] = field(default_factory=list)
    told: str = ""  # why the last run could not be launched
    quiet_until: float = (
        0.0  # services die at most so often: the supervisor gives up on one that never lasts
    )

    def launch(self) -> None:
        """Ask for a run of some connector, as Dagster's pages do; while a service is away there is none."""
        if launched(self, f"sync__{self.chance.choice(MIX)}"):
            self.launched += 1

    def disturb(self) -> None:
        """Inject one fault, if there is something that it can hit."""
        faults: list[Callable[[], bool]] = [
            self.kill_run, self.kill_run, self.stop_run, self.cancel, self.cancel, self.pause, self.cut_source,
            self.cut_destination,
        ]  # fmt: skip
        if time.monotonic() > self.quiet_until:
            faults += [self.kill_service, self.restart_database]
        fault = self.chance.choice(faults)
        if fault():
            tell(f"  {fault.__name__}")
            self.done[fault.__name__] += 1

    # -- faults -----------------------------------------------------------------------------

    def working(self) -> list[tuple[int, int]]:
        """List the job runs at work, each with its process."""
        query = (
            "select j.number, a.pid from aiia.job_runs j join aiia.attempts a using (number)"
            " where a.ended_at is null and a.pid is not null and j.state = 'Running'"
        )
        return [(number, pid) for number, pid in self.here.query(query)]

    def kill_run(self) -> bool:
        """Kill the process of a run."""
        return self._signal(signal.SIGKILL) is not None

    def stop_run(self) -> bool:
        """Stop the process of a run, and let it go on later, perhaps after it was given up."""
        pid = self._signal(signal.SIGSTOP)
        if pid is not None:
            self.stopped.append((time.monotonic() + self.chance.choice([1, 5, 45]), pid))
        return pid is not None

    def _signal(self, number: signal.Signals) -> int | None:
        found = self.working()
        if not found:
            return None
        pid = self.chance.choice(found)[1]
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            return pid
        return None

    def wake(self, *, everybody: bool = False) -> None:
        """Let stopped processes go on whose time has come."""
        now = time.monotonic()
        ripe = [pid for at, pid in self.stopped if everybody or at <= now]
        self.stopped = [(at, pid) for at, pid in self.stopped if pid not in ripe]
        for pid in ripe:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _open_number(self) -> int | None:
        found = self.store.open_runs()
        return self.chance.choice(found)[0] if found else None

    def cancel(self) -> bool:
        """Cancel a run in whatever state it is, as the command does."""
        number = self._open_number()
        if number is None:
            return False
        done = self.here.run("aiia", "jobs", "cancel", str(number), "-o", "json")
        if '"accepted": true' in done.stdout:
            self.cancelled.add(number)
        return done.returncode == 0

    def pause(self) -> bool:
        """Pause a run, and let it go on."""
        number = self._open_number()
        if number is None or attempts.hold(self.store, number, by="soak") is None:
            return False
        time.sleep(self.chance.choice([0.0, 0.5, 1.5]))
        attempts.release(self.store, number)
        return True

    def cut_source(self) -> bool:
        """End the sessions at the source."""
        return self._cut("usename = 'shop_read'")

    def cut_destination(self) -> bool:
        """End the sessions at the destination."""
        return self._cut(f"datname = '{WAREHOUSE}'")

    def _cut(self, condition: str) -> bool:
        ended = self.here.query(
            f"select pg_terminate_backend(pid) from pg_stat_activity where {condition}",
            "postgres",
            "aiia",
        )
        return bool(ended)

    def kill_service(self) -> bool:
        """Kill one of the services; `aiia up` starts it again."""
        words = self.chance.choice(
            ["aiia_pipelines.daemon", "aiia_pipelines.worker", "aiia_pipelines.code_server"]
        )
        self.quiet_until = time.monotonic() + 30
        told = subprocess.run(
            ["pgrep", "-f", words], capture_output=True, text=True, check=False
        ).stdout
        mine = str(self.here.home).encode()
        for pid in map(int, told.split()):
            with suppress(OSError):
                if mine in Path(f"/proc/{pid}/environ").read_bytes():
                    os.kill(pid, signal.SIGKILL)
                    return True
        return False

    def restart_database(self) -> bool:
        """Restart the server that holds the history, the source and the warehouse."""
        self.quiet_until = time.monotonic() + 30
        self.here.server.stop()
        time.sleep(self.chance.choice([0.0, 2.0]))
        self.here.server.start()
        return True

    # -- the end ----------------------------------------------------------------------------

    def settle(self) -> list[str]:
        """Let everything come to an end, and list what did not."""
        self.wake(everybody=True)
        end = time.monotonic() + SETTLING
        while (unsettled := self.unsettled()) and time.monotonic() < end:
            time.sleep(1)
        return unsettled

    def unsettled(self) -> list[str]:
        """List what has not ended: job runs of ours, and runs of Dagster's."""
        states = ", ".join(f"'{state}'" for state in FINAL)
        ours = self.here.query(
            f"select '#' || number || ' of ' || connector || ' is ' || state from aiia.job_runs"
            f" where state not in ({states})"
        )
        theirs = self.here.query(
            "select run_id || ' is ' || status from public.runs"
            " where status not in ('SUCCESS', 'FAILURE', 'CANCELED')"
        )
        return [text for (text,) in [*ours, *theirs]]


@contextmanager
def soaked(seed: int) -> Iterator[Soak]:
    """Give a soak whose installation is up."""
    here = build("one", "two", "three")
    try:
        for path in (here.home / "connectors").glob("*.yaml"):
            if path.stem != "torn":
                text = path.read_text()
                path.write_text(text.replace(NEVER, RETRY))
        here.pace(0.01)
        os.environ.update(here.environment)
        here.bring_up()
        store = JobStore.open(str(Settings.load(here.environment, here.root).database_url))
        try:
            yield Soak(here, store, random.Random(seed))
        finally:
            store.close()
    finally:
        tear_down(here)


def verdict(soak: Soak) -> list[str]:
    """Say what is wrong once all is over: nothing may be unfinished, untrue or left behind."""
    wrong = [f"not ended: {text}" for text in soak.settle()]
    for name in GOOD:
        # The web server asks for the jobs again once the code server is back.
        eventually(lambda job=f"sync__{name}": launched(soak, job), 20)
        number = soak.store.busy_with(name) or 0
        eventually(lambda n=number: n and soak.store.state_of(n) in FINAL, 30)
        state = soak.store.state_of(number) if number else "not launched"
        if state != "Completed":
            wrong.append(f"a last, undisturbed sync of {name} is {state}")
    flipped = [number for number in soak.cancelled if soak.store.row(number).state != "Cancelled"]
    wrong += [f"#{number} was cancelled, and is not Cancelled" for number in flipped]
    return wrong + left_behind(soak.here, GOOD)


def launched(soak: Soak, job: str) -> str:
    """Launch a run; what hindered it is told, and empty when there was nothing."""
    try:
        return soak.here.launch(job)
    except (OSError, AssertionError) as fault:
        soak.told = str(fault)
        return ""


def outcomes(soak: Soak) -> str:
    """Count how the runs ended, by state and cause."""
    found = soak.here.query(
        "select state, coalesce(failure_code, ''), count(*) from aiia.job_runs group by 1, 2 order by 3 desc"
    )
    counts = [f"  {count:5} {state} {code}".rstrip() for state, code, count in found]
    # What the catalogue has no row for is worth a look.
    odd = soak.here.query(
        "select number, message from aiia.attempts where failure_code = 'unclassified' order by number"
    )
    return "\n".join([*counts, *(f"        #{number}: {message}" for number, message in odd)])


def main() -> int:
    """Soak, tell what happened, and fail when anything is wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--faults", type=int, default=150)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = parser.parse_args()
    tell(f"seed {given.seed}")
    with soaked(given.seed) as soak:
        soak_for(soak, given.runs, given.faults, given.minutes * 60)
        wrong = verdict(soak)
        tell(f"{soak.launched} runs, {sum(soak.done.values())} faults: {dict(soak.done)}")
        tell(outcomes(soak))
    if wrong and soak.told:
        tell(f"last refusal: {soak.told}")
    for text in wrong:
        tell(f"WRONG {text}")
    return 1 if wrong else 0


def tell(text: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def soak_for(soak: Soak, runs: int, faults: int, seconds: float) -> None:
    """Launch so many runs and inject so many faults, spread over the time."""
    began = time.monotonic()
    struck = told = 0
    while (gone := time.monotonic() - began) < seconds and soak.launched < runs:
        soak.wake()
        waiting = len(soak.store.open_runs()) if soak.launched % 5 == 0 else 0
        if soak.launched <= runs * gone / seconds and waiting < MOST_WAITING:
            soak.launch()
        if struck <= faults * gone / seconds:
            soak.disturb()
            struck += 1
        if gone > 30 * (told + 1):
            told += 1
            tell(
                f"{gone:4.0f} s: {soak.launched} runs, {sum(soak.done.values())} faults; {soak.told}"
            )
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
