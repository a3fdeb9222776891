"""The whole harness: `python tests/chaos/harness.py --faults 2000`, or a part of it from the tests."""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import faults
from attempts import Zygote
from file_places import DuckDBPlace, ParquetPlace, S3Place
from places import Place, PostgresPlace, Sources, new_server, passwords
from s3_server import serving
from trials import Report, Trials
from world import MODES, Mode

PER_MODE = 12  # faults at most before another mode has its turn
PROGRESS = 50  # faults between two words on how it goes
# Most faults go to the destination that has a network and a server of its own that can die.
SHARES = {"postgres": 0.6, "duckdb": 0.15, "parquet": 0.15, "s3": 0.1}


@dataclass
class Arena:
    """Everything that trials need, started once."""

    folder: Path
    sources: Sources
    warehouse: PostgresPlace
    zygote: Zygote
    bucket: S3Place

    def place(self, name: str) -> Place:
        """Give the destination of this name."""
        folder = self.folder / name
        made: dict[str, Place] = {
            "postgres": self.warehouse,
            "duckdb": DuckDBPlace(name, folder),
            "parquet": ParquetPlace(name, folder),
            "s3": self.bucket,
        }
        return made[name]

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
        tell: Callable[[str], object] = len,
    ) -> Report:
        """Strike syncs into one place `count` times, changing the mode every now and then."""
        dice = random.Random(f"{seed} {place.name} {mutation}")
        trials = Trials(
            sources=self.sources, place=place, zygote=self.zygote, dice=dice, size=size,
            logs=self.folder, mutation=mutation,
        )  # fmt: skip
        done = 0
        # Every mode has its turn, also where there are few faults.
        per_mode = min(PER_MODE, max(1, count // len(modes)))
        turns = [modes[n % len(modes)] for n in range(count)]
        while done < count:
            trials.begin(turns[done // per_mode])
            for _ in range(min(per_mode, count - done)):
                fault = faults.any_of(dice, place, only)
                trials.trial(fault)
                done += 1
                wrong = len(trials.report.violations) + len(trials.report.looks.odd)
                if done % PROGRESS == 0:
                    tell(f"{place.name}: {done} of {count} faults, {wrong} violations\n")
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
        s3 = stack.enter_context(serving())
        os.environ["AWS_ACCESS_KEY_ID"] = s3.access_key
        os.environ["AWS_SECRET_ACCESS_KEY"] = s3.secret_key
        zygote = Zygote.start()
        stack.callback(zygote.close)
        bucket = S3Place("s3", folder / "s3", server=s3)
        stack.callback(bucket.close)
        yield Arena(folder, sources, warehouse, zygote, bucket)


def main() -> int:
    """Run the harness and say what it found; 1 when anything was violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000)
    parser.add_argument("--places", default=",".join(SHARES))
    parser.add_argument("--only", default="", help="one kind of fault")
    parser.add_argument("--mode", default="", help="one mode")
    parser.add_argument("--mutation", default="")
    parser.add_argument("--jobs", type=int, default=1, help="harnesses side by side")
    given = parser.parse_args()
    if given.jobs > 1:
        return _side_by_side(given)
    names = given.places.split(",")
    whole = sum(SHARES[name] for name in names)
    modes = [mode for mode in MODES if given.mode in ("", mode.name)]
    wrong = 0
    sys.stdout.write(f"seed {given.seed}\n")
    with arena() as found:
        for name in names:
            began = time.monotonic()
            report = found.strike(
                found.place(name),
                round(given.faults * SHARES[name] / whole),
                seed=given.seed,
                modes=modes,
                mutation=given.mutation,
                only=given.only,
                tell=sys.stderr.write,
            )
            wrong += len(report.violations) + len(report.looks.odd)
            lines = "\n  ".join(report.lines())
            sys.stdout.write(f"{name} ({time.monotonic() - began:.0f} s)\n  {lines}\n")
            sys.stdout.flush()
    return 1 if wrong else 0


def _side_by_side(given: argparse.Namespace) -> int:
    """Let several harnesses, each with servers of its own, share the faults."""
    share = ceil(given.faults / given.jobs)
    started = [
        subprocess.Popen(
            [
                sys.executable, __file__, f"--faults={share}", f"--seed={given.seed + number}",
                f"--places={given.places}", f"--only={given.only}", f"--mode={given.mode}",
                f"--mutation={given.mutation}",
            ]
        )
        for number in range(given.jobs)
    ]  # fmt: skip
    return max([each.wait() for each in started])


if __name__ == "__main__":
    sys.exit(main())
