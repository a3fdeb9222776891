"""The whole harness: `python tests/chaos/harness.py --faults 2000`, or a part of it from the tests."""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import faults
from attempts import Zygote
from file_places import DuckDBPlace, ParquetPlace
from places import Place, PostgresPlace, Sources, new_server, passwords
from trials import Report, Trials
from world import MODES, Mode

PER_MODE = 12  # faults before another mode has its turn


@dataclass
class Arena:
    """Everything that trials need, started once."""

    folder: Path
    sources: Sources
    warehouse: PostgresPlace
    zygote: Zygote
    reports: dict[str, Report] = field(default_factory=dict)

    def places(self, names: Sequence[str]) -> list[Place]:
        """Give the destinations of these names."""
        made: dict[str, Place] = {
            "postgres": self.warehouse,
            "duckdb": DuckDBPlace("duckdb", self.folder / "duckdb"),
            "parquet": ParquetPlace("parquet", self.folder / "parquet"),
        }
        return [made[name] for name in names]

    def strike(  # noqa: PLR0913 - each of them is one fact of a run
        self,
        place: Place,
        count: int,
        *,
        seed: int,
        modes: Sequence[Mode] = MODES,
        size: int = 320,
        mutation: str = "",
        only: str = "",
        stop_at: int | None = None,
    ) -> Report:
        """Strike syncs into one place `count` times, changing the mode every now and then."""
        dice = random.Random(f"{seed} {place.name} {mutation}")
        trials = Trials(
            sources=self.sources, place=place, zygote=self.zygote, dice=dice, size=size,
            logs=self.folder, mutation=mutation,
        )  # fmt: skip
        done = 0
        turns = [modes[n % len(modes)] for n in range(count)]
        while done < count:
            trials.begin(turns[done // PER_MODE])
            for _ in range(min(PER_MODE, count - done)):
                fault = faults.any_of(dice, place, only)
                trials.trial(fault)
                done += 1
                wrong = len(trials.report.violations) + len(trials.report.looks.odd)
                if stop_at is not None and wrong >= stop_at:
                    return trials.report
        return trials.report


@contextmanager
def arena() -> Iterator[Arena]:
    """Start two servers and the process that attempts are forked from; stop and remove all of it."""
    folder = Path(tempfile.mkdtemp(prefix="aiia-chaos-", dir="/tmp"))
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        servers = []
        for name in ("a", "b"):
            server = new_server(folder / name)
            stack.callback(shutil.rmtree, server.log.parent, ignore_errors=True)
            stack.callback(server.stop)
            servers.append(server)
        passwords(*servers, at=folder / "pgpass")
        sources = Sources(servers[0])
        stack.callback(sources.close)
        warehouse = PostgresPlace(servers[1])
        stack.callback(warehouse.close)
        zygote = Zygote.start()
        stack.callback(zygote.close)
        yield Arena(folder, sources, warehouse, zygote)


def main() -> int:
    """Run the harness and say what it found; 1 when anything was violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000)
    parser.add_argument("--places", default="postgres,duckdb,parquet")
    parser.add_argument("--only", default="", help="one kind of fault")
    parser.add_argument("--mode", default="", help="one mode")
    parser.add_argument("--mutation", default="")
    given = parser.parse_args()
    names = given.places.split(",")
    # Two thirds go to the destination that has a network and a server of its own.
    shares = {
        name: 1.0 if len(names) == 1 else 2 / 3 if name == "postgres" else 1 / 3 / (len(names) - 1)
        for name in names
    }
    modes = [mode for mode in MODES if given.mode in ("", mode.name)]
    wrong = 0
    sys.stdout.write(f"seed {given.seed}\n")
    with arena() as found:
        for place in found.places(names):
            began = time.monotonic()
            count = round(given.faults * shares.get(place.name, 1 / 3))
            report = found.strike(
                place, count, seed=given.seed, modes=modes, mutation=given.mutation, only=given.only
            )
            wrong += len(report.violations) + len(report.looks.odd)
            lines = "\n  ".join(report.lines())
            sys.stdout.write(f"{place.name} ({time.monotonic() - began:.0f} s)\n  {lines}\n")
            sys.stdout.flush()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
