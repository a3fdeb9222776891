"""Compare this package with its peers on one machine: `make bench`, or `python benchmarks/run.py --rows 1000000`."""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ground import HERE, Forked, Ground, ours, piped, run_once
from measure import Measured
from other_work import changed_rows, many_streams
from workload import COLUMNS, TABLE

from aiia_pipelines.local.ports import free_port
from aiia_pipelines.local.postgres import EmbeddedPostgres

REPORT = HERE / "report.md"
PEERS = HERE.parent / ".bench"
PANDAS_ROWS = 100_000  # pandas takes minutes for what the others do in seconds


@dataclass
class Contender:
    """One way to move the table."""

    name: str
    command: Callable[[Ground], list[str] | Forked]
    share: Callable[[int], int] = lambda rows: rows  # rows that it moves
    setup: tuple[str, ...] = ()  # what its environment is made of
    runs: list[Measured] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def raw(ground: Ground) -> list[str]:
    return piped(ground, TABLE, [f"copy raw.{TABLE} from stdin (format binary)"])


def by_dlt(backend: str) -> Callable[[Ground], list[str]]:
    def command(ground: Ground) -> list[str]:
        driver = "postgresql" if backend == "connectorx" else "postgresql+psycopg2"
        urls = [ground.open_url("bench_source", driver), ground.open_url("bench_target")]
        return [str(PEERS / "dlt/bin/python"), str(HERE / "peers/dlt_sync.py"), *urls, backend]

    return command


def by_ingestr(ground: Ground) -> list[str]:
    return [
        str(PEERS / "ingestr/bin/ingestr"), "ingest", "--yes", "--source-uri", ground.open_url("bench_source"),
        "--source-table", f"public.{TABLE}", "--dest-uri", ground.open_url("bench_target"),
        "--dest-table", f"bench.{TABLE}", "--sql-backend", "pyarrow", "--page-size", "200000",
        "--loader-file-size", "200000", "--extract-parallelism", "2", "--pipelines-dir", str(ground.work / "ingestr"),
    ]  # fmt: skip


def by_sling(ground: Ground) -> list[str]:
    found = next((PEERS / "sling").glob("lib/python*/site-packages/sling_linux_amd64/bin/sling*"))
    options = "?sslmode=disable"
    return [
        str(found), "run", "--src-conn", ground.open_url("bench_source") + options, "--src-stream", f"public.{TABLE}",
        "--tgt-conn", ground.open_url("bench_target") + options, "--tgt-object", f"bench.{TABLE}", "--mode", "full-refresh",
    ]  # fmt: skip


def by_pandas(ground: Ground) -> list[str]:
    urls = [
        ground.open_url(name, "postgresql+psycopg2") for name in ("bench_source", "bench_target")
    ]
    rows = str(min(ground.rows, PANDAS_ROWS))
    return [sys.executable, str(HERE / "peers/pandas_sync.py"), *urls, rows]


CONTENDERS = (
    Contender("raw COPY, binary, piped", raw),
    Contender("aiia_pipelines, no checks", ours("none")),
    Contender("aiia_pipelines, all checks", ours("all")),
    Contender("aiia_pipelines, all checks, started cold", ours("all", cold=True)),
    Contender("dlt, connectorx", by_dlt("connectorx"), setup=("dlt", "dlt[postgres]==1.31.0", "connectorx==0.4.6", "psycopg2-binary", "psycopg[binary]", "pyarrow", "sqlalchemy")),
    Contender("dlt, pyarrow", by_dlt("pyarrow"), setup=("dlt",)),
    Contender("ingestr", by_ingestr, setup=("ingestr", "ingestr==0.14.155")),
    Contender("Sling", by_sling, setup=("sling", "sling-linux-amd64==1.4.11")),
    Contender("SQLAlchemy + pandas", by_pandas, share=lambda rows: min(rows, PANDAS_ROWS)),
)  # fmt: skip


def install(contender: Contender) -> None:
    """Make the environment of a peer."""
    name, *packages = contender.setup
    if (PEERS / name).exists() or not packages:
        return
    uv = [str(Path(sys.executable).with_name("uv"))]
    subprocess.run(
        [*uv, "venv", "--quiet", "--python", sys.executable, str(PEERS / name)], check=True
    )
    environ = os.environ | {"VIRTUAL_ENV": str(PEERS / name)}
    subprocess.run(
        [*uv, "pip", "install", "--quiet", "--compile-bytecode", *packages], check=True, env=environ
    )


def compete(ground: Ground, contenders: list[Contender], rounds: int) -> None:
    """Run all contenders one after the other, and that `rounds` times."""
    for turn in range(rounds):
        for contender in contenders:
            shutil.rmtree(ground.work / "dlt", ignore_errors=True)
            shutil.rmtree(ground.work / "ingestr", ignore_errors=True)
            ground.fresh()
            done = run_once(ground, contender.command(ground))
            sys.stderr.write(
                f"{turn + 1}/{rounds} {contender.name}: {done.wall:.1f} s, {done.cpu:.1f} CPU s, {done.memory >> 20} MiB\n"
            )
            if done.code:
                contender.faults = [f"ended with code {done.code}"]
                continue
            contender.runs.append(done)
            if turn == 0:
                contender.faults = ground.compare(contender.share(ground.rows))


def steps(ground: Ground) -> list[str]:
    """Tell how long each step of the last sync of ours was at work, as its job run has it."""
    found = ground.execute(
        "bench_store",
        "select step, busy_seconds, cpu_seconds from aiia.steps where busy_seconds > 0"
        " and number = (select max(number) from aiia.steps) order by position",
    )
    if not found:
        return []
    told = ", ".join(f"{step} {busy:.1f} s ({cpu:.1f} CPU s)" for step, busy, cpu in found)
    return [f"**Steps of the last sync of ours**, of which the first ones overlap: {told}."]


def report(contenders: list[Contender], rows: int, rounds: int, more: list[str]) -> str:
    """Write the comparison as a page; ratios are to the raw COPY of the same number of rows."""
    base = contenders[0].runs
    wall, cpu = (statistics.median(getattr(run, key) for run in base) for key in ("wall", "cpu"))
    told = (
        f"PostgreSQL to PostgreSQL, {rows:,} rows of {len(COLUMNS)} columns, {rounds} interleaved runs, medians;"
        f" {os.cpu_count()} cores; both databases on the same machine; {datetime.now(UTC):%Y-%m-%d}."
        " CPU and memory are those of the client and its children; beside them stands the CPU of the databases. Read the ratios: seconds belong to the machine."
    )
    lines = [
        "# Benchmark report",
        "",
        told,
        "",
        "| contender | rows | wall s | wall ratio | min-max s | CPU s | CPU ratio | servers' CPU s | peak MiB | differences by value |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(contender, rows, wall, cpu) for contender in contenders]
    lines += [line for told in more for line in ("", told)]
    return "\n".join(lines) + "\n"


def _line(contender: Contender, rows: int, wall: float, cpu: float) -> str:
    moved = contender.share(rows)
    if not contender.runs:
        return f"| {contender.name} | {moved:,} | - | - | - | - | - | - | - | {'; '.join(contender.faults)} |"
    walls = [run.wall for run in contender.runs]
    middle = statistics.median(walls)
    spent, served = (
        statistics.median(getattr(run, key) for run in contender.runs) for key in ("cpu", "servers")
    )
    scale = rows / moved
    return (
        f"| {contender.name} | {moved:,} | {middle:.1f} | {middle * scale / wall:.2f} | {min(walls):.1f}-{max(walls):.1f}"
        f" | {spent:.1f} | {spent * scale / cpu:.1f} | {served:.1f} | {max(run.memory for run in contender.runs) >> 20}"
        f" | {'; '.join(contender.faults) or 'none'} |"
    )


def main() -> None:
    """Run the comparison and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", default="", help="part of the contenders' names, separated by commas"
    )
    parser.add_argument("--report", type=Path, default=REPORT)
    given = parser.parse_args()
    chosen = [
        c for c in CONTENDERS if not given.only or any(w in c.name for w in given.only.split(","))
    ]
    for contender in chosen:
        if contender.setup:
            install(contender)
    work = Path(tempfile.mkdtemp(prefix="aiia-bench-"))
    work.chmod(0o755)
    server = EmbeddedPostgres(work / "home", preferred_port=free_port())
    server.bootstrap()
    try:
        os.environ["PGPASSFILE"] = str(server.passwords.pgpass)
        ground = Ground(server, given.rows, work)
        ground.prepare()
        compete(ground, chosen, given.rounds)
        more = steps(ground)
        if not given.only or "more" in given.only:
            more += [*changed_rows(ground, given.rounds), *many_streams(ground)]
        given.report.write_text(report(chosen, given.rows, given.rounds, more))
        sys.stdout.write(given.report.read_text())
    finally:
        server.stop()
        shutil.rmtree(server.log.parent, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
