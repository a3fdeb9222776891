"""How long runs take to start, and what an idle installation costs: writes benchmarks/latency.md.

It brings up a whole installation as `aiia up` does, and asks it over HTTP like the buttons of Dagster's pages.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "acceptance"))

from conftest import Installation, build, eventually, tear_down  # noqa: E402 - tests are no package

from aiia_pipelines.jobs.quiet import AFTERMATH  # noqa: E402 - as above

REPORT = Path(__file__).with_name("latency.md")
QUEUED = 50
TICKING = (1, 3)  # connectors that are due at each full minute
_STARTED = (
    "select extract(epoch from j.started_at - j.created_at) from aiia.job_runs j"
    " join aiia.attempts a using (number) where a.run_id = '{run}' and j.started_at is not null"
)
_TICKED = (
    "select extract(epoch from started_at - date_trunc('minute', created_at)) from aiia.job_runs"
    " where trigger = 'schedule' and started_at is not null and created_at > '{since}' order by number"
)


def launches(here: Installation, connectors: Sequence[str], count: int) -> list[float]:
    """Launch one sync after the other and give the seconds each took from its creation to Running."""
    found = []
    for place in range(count):
        run = here.launch(f"sync__{connectors[place % len(connectors)]}")
        ((seconds,),) = eventually(lambda run=run: here.query(_STARTED.format(run=run)), 60, 0.05)
        found.append(float(seconds))
        here.ended(run)
    return found


def ticks(here: Installation, minutes: int, due: int) -> list[float]:
    """Give the seconds from each full minute until the syncs that were due then ran."""
    ((since,),) = here.query("select date_trunc('minute', now()) + interval '1 minute'")
    query = _TICKED.format(since=since.isoformat())
    wanted = minutes * due
    eventually(lambda: len(here.query(query)) >= wanted, 60 * (minutes + 2), 1)
    return [float(seconds) for (seconds,) in here.query(query)]


@contextmanager
def crowded(here: Installation) -> Iterator[None]:
    """Have runs of one connector in the queue, which wait for the one that runs."""
    here.pace(1)
    for _ in range(QUEUED + 1):
        here.launch("sync__slow")
    yield
    for (number,) in here.query(
        "select number from aiia.job_runs where connector = 'slow' and ended_at is null order by number desc"
    ):
        here.run("aiia", "jobs", "cancel", str(number))
    here.pace(0)


class Family:
    """The processes of an installation, PostgreSQL included."""

    def __init__(self, here: Installation) -> None:
        self.home = str(here.home).encode()
        self.servers: set[int] = set()
        self.servers = {pid for pid, name in self.members().items() if name == "PostgreSQL"}

    def members(self) -> dict[int, str]:
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                words = (entry / "cmdline").read_bytes()
                parent = int(_stat(int(entry.name))[1])
                # A server process of PostgreSQL has its own words where its environment was.
                if self.home in (entry / "environ").read_bytes() + words or parent in self.servers:
                    found[int(entry.name)] = _called(words)
            except OSError:
                continue
        return found

    def cpu(self) -> dict[int, float]:
        """Give the CPU seconds that each has used until now."""
        tick = os.sysconf("SC_CLK_TCK")
        found = {}
        for pid in self.members():
            try:
                stat = _stat(pid)
            except OSError:
                continue
            # With what children used that have ended: each connection is a process of the server.
            found[pid] = sum(map(int, stat[11:15])) / tick
        return found

    def memory(self) -> dict[int, int]:
        """Give the bytes of each, where what several share is counted once in all."""
        found = {}
        for pid in self.members():
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            found[pid] = (
                next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) << 10
            )
        return found


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def idle(here: Installation, seconds: float) -> tuple[dict[str, float], dict[str, int]]:
    """Give the percent of a core and the bytes of each kind of process while nothing is to be done."""
    family = Family(here)
    names, before = family.members(), family.cpu()
    time.sleep(seconds)
    after, memory = family.cpu(), family.memory()
    names |= family.members()
    spent: dict[str, float] = {}
    held: dict[str, int] = {}
    for pid, used in after.items():
        share = (used - before.get(pid, 0.0)) / seconds * 100
        spent[names[pid]] = spent.get(names[pid], 0.0) + share
    for pid, size in memory.items():
        held[names[pid]] = held.get(names[pid], 0) + size
    return spent, held


def _called(words: bytes) -> str:
    text = words.decode(errors="replace").replace("\0", " ")
    known = {
        "aiia_pipelines.worker": "warm worker",
        "aiia_pipelines.code_server": "code server",
        "aiia_pipelines.daemon": "daemon",
        "webserver": "web server",
        "aiia_pipelines.console": "web server",
        "postgres": "PostgreSQL",
        "local.warden": "warden",
        "aiia up": "aiia up",
    }
    return next((name for sign, name in known.items() if sign in text), "other")


def spread(found: Sequence[float]) -> str:
    ordered = sorted(found)
    if not ordered:
        return "| 0 | - | - | - |"
    high = ordered[math.ceil(len(ordered) * 0.95) - 1]
    return f"| {len(ordered)} | {statistics.median(ordered):.2f} | {high:.2f} | {ordered[-1]:.2f} |"


def told(
    rows: dict[str, list[float]], spent: dict[str, float], held: dict[str, int], load: float
) -> str:
    lines = [
        "# How soon runs start, and what waiting costs",
        "",
        f"One machine with {os.cpu_count()} cores, everything on it; seconds. Written by `benchmarks/latency.py`.",
        f"Load average of the quarter of an hour before it began: {load:.1f}.",
        "",
        "| | starts | p50 | p95 | max |",
        "|---|---|---|---|---|",
        *(f"| {name} {spread(found)}" for name, found in rows.items()),
        "",
        "While nothing is to be done, over a minute (memory that processes share is counted once):",
        "",
        "| process | percent of a core | MiB |",
        "|---|---|---|",
    ]
    lines += [
        f"| {name} | {spent.get(name, 0.0):.2f} | {held[name] / (1 << 20):.0f} |"
        for name in sorted(held, key=lambda each: -held[each])
    ]
    total = f"| in all | {sum(spent.values()):.2f} | {sum(held.values()) / (1 << 20):.0f} |"
    return "\n".join([*lines, total, ""])


def measured(here: Installation, count: int, minutes: int, rest: float) -> str:
    load = os.getloadavg()[2]
    # The first ones fill the caches of the services.
    launches(here, ["shop"], 2)
    # The daemon looks around for a while after each run.
    time.sleep(AFTERMATH + 5)
    spent, held = idle(here, rest)
    rows = {"Sync Now → Running, idle worker": launches(here, ["shop"], count)}
    for due in TICKING if minutes else ():
        rows[f"cron tick → Running, {due} due at once"] = _ticking(here, minutes, due)
    with crowded(here):
        free = ["shop", "astray", "locked"]
        rows[f"Sync Now → Running, {QUEUED} queued, slot free"] = launches(here, free, count)
    return told(rows, spent, held, load)


def _ticking(here: Installation, minutes: int, due: int) -> list[float]:
    """Measure the ticks of connectors that are due each minute, which are there for so long."""
    text = (here.home / "connectors" / "shop.yaml").read_text()
    files = [here.home / "connectors" / f"ticking_{place}.yaml" for place in range(due)]
    for file in files:
        named = text.replace("name: shop\n", f'name: {file.stem}\nschedule: "* * * * *"\n', 1)
        file.write_text(named)
    reload(here)
    try:
        return ticks(here, minutes, due)
    finally:
        for file in files:
            file.unlink()
        reload(here)


def reload(here: Installation) -> None:
    here.ask(
        'mutation { reloadRepositoryLocation(repositoryLocationName: "aiia_pipelines") { __typename } }'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--launches", type=int, default=30)
    parser.add_argument("--minutes", type=int, default=5)
    parser.add_argument("--rest", type=float, default=60.0, help="Seconds of idleness to measure.")
    given = parser.parse_args()
    here = build()
    try:
        here.bring_up()
        report = measured(here, given.launches, given.minutes, given.rest)
    finally:
        tear_down(here)
    REPORT.write_text(report)
    sys.stdout.write(report)


if __name__ == "__main__":
    main()
