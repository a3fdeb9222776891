"""What installations of many connectors and many runs cost: writes the tables of docs/explanation/scale.md.

Everything is measured in fresh processes, in CPU seconds and peak memory, because those depend less than time on what
else the machine does. `--sizes`, `--histories` and `--rounds` make it shorter or longer.
"""

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from measure import measure
from scale_history import files_of, fill, left_behind, read_times
from scale_parts import REAL, Figures

from aiia_pipelines.config.settings import Settings
from aiia_pipelines.local.ports import free_port
from aiia_pipelines.local.postgres import APPLICATION_ROLE, WAREHOUSE, EmbeddedPostgres

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "scale.md"
STREAMS = 5
DUE = 20  # schedules that are due in the same minute
RUNS = 12  # real runs, by which what one leaves behind is told
LIMIT = 1200.0  # seconds for one process
_MIB = 1 << 20

_STREAM = """\
  - name: stream_{place}
    table: public.stream_{place}
    key: [id]
    columns:
      id: {{ type: int64, nullable: false }}
      name: {{ type: string, nullable: false, checks: {{ str_length: {{ max_value: 200 }} }} }}
      amount: {{ type: "decimal(12,2)", checks: {{ ge: 0 }} }}
      changed_at: {{ type: timestamptz, nullable: false }}
"""
_SQL = """\
source:
  kind: sql
  url: postgresql://reader@{host}:{port}/source
  password: ${{file:secrets/reader}}
"""
_FILES = "source:\n  kind: files\n  root: {root}\n"
_TABLE = """
create table public.stream_{place} (id bigint primary key, name text not null, amount numeric(12,2), changed_at timestamptz not null);
insert into public.stream_{place} select n, 'name ' || n, n * 1.25, now() from generate_series(1, 100) n;
"""


@dataclass
class Ground:
    """A server, and for each size a folder of connector files and a database."""

    server: EmbeddedPostgres
    due: datetime
    log: Path
    figures: dict[int, Figures] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.server.home

    def environment(self, size: int, database: str) -> dict[str, str]:
        """Give a process its connector files and its database."""
        self.server.ensure_database(database, APPLICATION_ROLE)
        found = {
            **self.server.environment(),
            "AIIA_DATABASE_URL": self.server.url(database, APPLICATION_ROLE),
            "AIIA_HOME": str(self.home),
            "AIIA_CONNECTORS": str(self.home / f"connectors-{size}"),
        }
        settings = Settings.load(found, ROOT).environment()
        own = {
            "AIIA_PROJECT": str(ROOT),
            "DAGSTER_HOME": str(self.home / "dagster"),
            "SCALE_DUE": self.due.isoformat(),
        }
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIIA_", "DAGSTER_", "PG"))
        }
        return {**kept, **found, **settings, **own}  # fmt: skip

    def part(self, environ: Mapping[str, str], *words: str) -> Figures:
        """Run one part in a process of its own and read its figures."""
        command = [sys.executable, str(Path(__file__).with_name("scale_parts.py")), *words]
        done = subprocess.run(
            command, env=dict(environ), cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr[-3000:]}")
        figures: Figures = json.loads(done.stdout.strip().splitlines()[-1])
        told = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
        sys.stderr.write(f"{words[0]}: {told}\n")
        return figures


def write_files(ground: Ground, size: int) -> None:
    """Write a folder of connector files: every second with a cron, every twentieth waits for files or for another."""
    folder = ground.home / f"connectors-{size}"
    folder.mkdir()
    arrivals = ground.home / "arrivals"
    arrivals.mkdir(exist_ok=True)
    streams = "streams:\n" + "".join(_STREAM.format(place=place) for place in range(STREAMS))
    for number in range(size - 1):
        more = ""
        if number % 2 == 0:
            # The first is due alone, which warms up; the next ones together, the others over the rest of the day.
            at = (
                ground.due
                if number // 2 <= DUE
                else ground.due + timedelta(minutes=60 + number % 1300)
            )
            at -= timedelta(minutes=0 if number else 5)
            more = f'schedule: "{at.minute} {at.hour} * * *"\n'
        source = _SQL.format(host=f"10.1.{number // 250}.{number % 250}", port=5432)
        if number % 20 == 1:
            source = _FILES.format(root=arrivals)
            more += "triggers: { files: { every: 1m } }\n"
        if number % 20 == 3:
            more += f"triggers: {{ after: [c{number - 1:04}] }}\n"
        text = streams
        if number % 20 == 1:
            text = streams.replace("    table: public.stream_", "    path: stream_")
            text = re.sub(r"path: stream_(\d)", r'path: "stream_\1/*.csv"', text)
        name = f"c{number:04}"
        head = f'name: {name}\ntitle: Connector {number}\nowners: ["team:data"]\n'
        (folder / f"{name}.yaml").write_text(head + more + source + text)
    real = _SQL.format(host="127.0.0.1", port=ground.server.port)
    (folder / f"{REAL}.yaml").write_text(f"name: {REAL}\ntitle: Real\n{real}{streams}")


def prepare(ground: Ground) -> None:
    """Make the source of the one real connector, and an instance whose queue starts nothing."""
    _hurry(ground.server)
    ground.server.ensure_role("reader")
    ground.server.ensure_database("source", "reader")
    with closing(ground.server.connect("source", "reader")) as db, db, db.cursor() as cursor:
        for place in range(STREAMS):
            cursor.execute(_TABLE.format(place=place))
    settings = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    settings["run_coordinator"] = {
        "module": "dagster.core.run_coordinator",
        "class": "QueuedRunCoordinator",
    }
    (ground.home / "dagster").mkdir()
    (ground.home / "dagster" / "dagster.yaml").write_text(yaml.safe_dump(settings))


def _hurry(server: EmbeddedPostgres) -> None:
    """Spare the disk: CPU and rows are measured, and nothing here survives the benchmark."""
    with closing(server.connect("postgres")) as admin:
        admin.autocommit = True
        with admin.cursor() as cursor:
            for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                cursor.execute(f"alter system set {setting} = off")
            cursor.execute("select pg_reload_conf()")


def measure_size(ground: Ground, size: int, rounds: int) -> Figures:
    """Measure an installation of one size; of several rounds the least is what it takes."""
    write_files(ground, size)
    sys.stderr.write(f"-- {size} connectors\n")
    found: list[Figures] = []
    for turn in range(rounds):
        environ = ground.environment(size, f"store_{size}_{turn}")
        figures = ground.part(environ, "folder") | ground.part(environ, "definitions")
        figures |= ground.part(environ, "start") | ground.part(environ, "server")
        command = [
            sys.executable,
            "-m",
            "aiia_pipelines.launch",
            REAL,
            "--run-id",
            f"00000000-0000-4000-8000-{size:012}",
        ]
        done = measure(command, environ=environ, log=ground.log, limit=LIMIT)
        if done.code:
            raise SystemExit(f"The real sync failed:\n{done.said}")
        figures |= {"process_cpu": done.cpu, "process_mib": done.memory / _MIB}
        found.append(figures)
    return {name: min(each[name] for each in found) for name in found[0]}


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Fit y = c * x ** slope: 0 does not grow, 1 is linear."""
    logs = [(math.log(x), math.log(max(y, 1e-9))) for x, y in points]
    x_mean = sum(x for x, _ in logs) / len(logs)
    y_mean = sum(y for _, y in logs) / len(logs)
    over = sum((x - x_mean) ** 2 for x, _ in logs)
    return sum((x - x_mean) * (y - y_mean) for x, y in logs) / over if over else 0.0


# What a row of the table is called, the figure it shows, and its form.
_ROWS = (
    ("reading the folder, CPU s", "folder_cpu", "{:.2f}"),
    ("`definitions.defs()`, reading included, CPU s", "definitions_cpu", "{:.2f}"),
    ("its repository, CPU s", "repository_cpu", "{:.2f}"),
    ("memory that these take, MiB", "definitions_mib", "{:.0f}"),
    ("every job of it as a snapshot for the other services, CPU s", "snapshot_cpu", "{:.2f}"),
    ("the snapshot, MB", "snapshot_mb", "{:.2f}"),
    ("code server until it has answered, imports included, CPU s", "server_cpu", "{:.1f}"),
    ("code server, peak MiB", "server_mib", "{:.0f}"),
    ("each service that asks it, CPU s", "client_cpu", "{:.2f}"),
    ("scheduler's first look after a start, CPU s", "first_look", "{:.2f}"),
    ("a look at all schedules while none is due, CPU ms", "idle_look", "ms"),
    ("one tick that starts a run, CPU ms", "tick_cpu", "ms"),
    ("sensor `job_history`, CPU ms a look", "sensor_job_history", "ms"),
    ("sensor `due_runs`, CPU ms a look", "sensor_due_runs", "ms"),
    ("sensor `after_job`, CPU ms a look", "sensor_after_job", "ms"),
    ("sensor `file_arrival`, CPU ms when it lists all folders", "sensor_file_arrival", "ms"),
    ("building the definitions of one run, CPU ms", "start_cpu", "ms"),
    ("one whole sync of 5 small streams in a cold process, CPU s", "process_cpu", "{:.1f}"),
    ("the same, peak MiB", "process_mib", "{:.0f}"),
)


def size_table(figures: Mapping[int, Figures]) -> list[str]:
    sizes = sorted(figures)
    last = sizes[-2:]
    heads = " | ".join(f"{size:,}" for size in sizes)
    lines = [
        f"| connectors | {heads} | growth | from {last[0]:,} on |",
        "|---|" + "---|" * (len(sizes) + 2),
    ]
    for name, key, form in _ROWS:
        points = [(size, figures[size][key]) for size in sizes if key in figures[size]]
        if len(points) < 2:
            continue
        cells = " | ".join(_shown(figures[size].get(key), form) for size in sizes)
        lines.append(f"| {name} | {cells} | {slope(points):.2f} | {slope(points[-2:]):.2f} |")
    return lines


def _shown(value: float | None, form: str) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:,.0f}" if form == "ms" else form.format(value)


def measure_histories(
    ground: Ground, lengths: Sequence[int], rounds: int
) -> tuple[list[str], list[str]]:
    """Sync for real, then make the history longer and longer, and read it each time."""
    size = min(ground.figures) if ground.figures else 10
    environ = ground.environment(size, "history")
    os.environ["PGPASSFILE"] = environ["PGPASSFILE"]
    stored = _what_runs_leave(ground, environ)
    url = environ["AIIA_DATABASE_URL"]
    times: dict[int, dict[str, tuple[float, float]]] = {}
    sweeps: dict[int, Figures] = {}
    have = 0
    for length in sorted(lengths):
        with closing(ground.server.connect("history", APPLICATION_ROLE)) as db, db:
            fill(db, have, length, max(lengths))
        have = length
        times[length] = read_times(url, length, rounds)
        sweeps[length] = ground.part(environ, "sweep")
        sys.stderr.write(f"{length} job runs: {times[length]}\n")
    return _history_table(times, sweeps), stored


def _history_table(
    times: Mapping[int, Mapping[str, tuple[float, float]]], sweeps: Mapping[int, Figures]
) -> list[str]:
    lengths = sorted(times)
    heads = " | ".join(f"{length:,}" for length in lengths)
    lines = [
        f"| job runs in the history | {heads} | growth of p50 |",
        "|---|" + "---|" * (len(lengths) + 1),
    ]
    for name in times[lengths[0]]:
        cells = " | ".join("{:.0f} / {:.0f}".format(*times[length][name]) for length in lengths)
        grown = slope([(length, times[length][name][0]) for length in lengths])
        lines.append(f"| {name}: ms, p50 / p95 | {cells} | {grown:.2f} |")
    for name, key in (("sensor `job_history`", "sweep_cpu"), ("sensor `due_runs`", "due_cpu")):
        cells = " | ".join(f"{sweeps[length][key] * 1000:.0f}" for length in lengths)
        grown = slope([(length, sweeps[length][key]) for length in lengths])
        lines.append(f"| {name}, CPU ms a look | {cells} | {grown:.2f} |")
    return lines


def _what_runs_leave(ground: Ground, environ: Mapping[str, str]) -> list[str]:
    def look() -> dict[str, tuple[int, int]]:
        found = {}
        for name, called in (("history", ""), (WAREHOUSE, "destination: ")):
            with closing(ground.server.connect(name, APPLICATION_ROLE)) as db, db:
                found |= {called + table: each for table, each in left_behind(db).items()}
        return found

    ground.part(environ, "runs", "3")
    before, files = look(), files_of(ground.home)
    spent = ground.part(environ, "runs", str(RUNS - 1))
    after, more = look(), files_of(ground.home)
    grown = {
        table: ((rows - before[table][0]) / RUNS, (size - before[table][1]) / RUNS)
        for table, (rows, size) in after.items()
        if table in before
    }
    grown["files below `AIIA_HOME`"] = tuple(
        (more[key] - files[key]) / RUNS for key in ("files", "bytes")
    )
    return _stored_table({name: each for name, each in grown.items() if max(each) >= 0.5}, spent)


def _stored_table(grown: Mapping[str, tuple[float, float]], spent: Figures) -> list[str]:
    lines = ["| what one run leaves behind | rows | KiB with indexes |", "|---|---|---|"]
    ordered = sorted(grown.items(), key=lambda each: -each[1][1])
    lines += [f"| {name} | {rows:.1f} | {size / 1024:.1f} |" for name, (rows, size) in ordered]
    total = sum(size for _, size in grown.values())
    lines += [
        f"| in all | | {total / 1024:.1f} |",
        "",
        "| runs a day | CPU hours a day | GiB a month | GiB a year |",
        "|---|---|---|---|",
    ]
    for count in (10, 1_000, 100_000):
        a_day = count * total / (1 << 30)
        hours = count * spent["run_cpu"] / 3600
        lines.append(f"| {count:,} | {hours:,.2f} | {a_day * 30:,.2f} | {a_day * 365:,.1f} |")
    return [
        *lines,
        "",
        f"A run costs {spent['run_cpu']:.2f} CPU s in a process that is warm; PostgreSQL's own CPU comes on top.",
    ]


def rewrite(page: Path, tables: Mapping[str, Sequence[str]]) -> None:
    """Put the tables between their marks."""
    text = page.read_text()
    for name, lines in tables.items():
        body = "\n".join(lines)
        marks = rf"(<!-- {name}: written by benchmarks/scale.py -->\n).*?(<!-- end -->)"
        text, count = re.subn(
            marks,
            lambda found, body=body: f"{found[1]}\n{body}\n\n{found[2]}",
            text,
            flags=re.DOTALL,
        )
        if count != 1:
            raise SystemExit(f"{page} has no place for the table {name}.")
    page.write_text(text)


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10, 100, 300, 1000])
    parser.add_argument("--histories", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=2, help="Processes for each figure.")
    parser.add_argument(
        "--reads", type=int, default=40, help="How often each page of a history is read."
    )
    parser.add_argument("--page", type=Path, default=PAGE, help="Whose tables are rewritten.")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="aiia-scale-"))
    home.chmod(0o755)
    server = EmbeddedPostgres(home, preferred_port=free_port())
    server.bootstrap()
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    ground = Ground(server, now + timedelta(hours=2), home / "log.txt")
    tables: dict[str, list[str]] = {}
    try:
        prepare(ground)
        for size in given.sizes:
            ground.figures[size] = measure_size(ground, size, given.rounds)
        if len(given.sizes) > 1:
            tables["sizes"] = size_table(ground.figures)
        if given.histories:
            if not given.sizes:
                write_files(ground, 10)
            tables["histories"], tables["storage"] = measure_histories(
                ground, given.histories, given.reads
            )
        tables["when"] = [
            f"Measured on {now:%Y-%m-%d}, {os.cpu_count()} cores that other programs used as well."
        ]
        sys.stdout.write("\n\n".join("\n".join(lines) for lines in tables.values()) + "\n")
        rewrite(given.page, tables)
    finally:
        server.stop()
        shutil.rmtree(server.log.parent, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
