"""The demo from nothing, as `make demo` runs it: the real data set, two failures on purpose, both mended."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiia_pipelines.local.postgres import APPLICATION_ROLE, STORE, WAREHOUSE, EmbeddedPostgres

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
ROWS = {"flights": 336_776, "weather": 26_115, "planes": 3_322, "airports": 1_458, "airlines": 16}


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="aiia-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    server = EmbeddedPostgres(folder)
    server.stop()
    shutil.rmtree(server.log.parent, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def test_the_demo_runs_from_nothing_and_leaves_no_process(home: Path) -> None:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AIIA_")}
    done = subprocess.run(
        [str(Path(sys.executable).parent / "aiia"), "demo"],
        cwd=ROOT, env=ours | {"AIIA_HOME": str(home)}, capture_output=True, text=True,
        timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if re.match(r"\[\d{4}-", line)]
    ends = [line.partition("] ")[2] for line in lines if ": Job " in line]
    good = "INFO: Job finished with state COMPLETED. 367,687 records ingested."
    assert ends == [
        good,
        "FATAL: Job aborted with state FAILED.",
        "FATAL: Job aborted with state ERROR.",
        good,
    ]
    assert "ERROR: Invalid credentials for user nyc_read at 127.0.0.1:" in done.stdout
    assert "column 'distance' expected int32 but the source has string (text)" in done.stdout
    assert "0 inserted, 0 updated, 336,776 unchanged, 0 deleted" in done.stdout
    server = EmbeddedPostgres(home)
    assert not server.running()
    server.start()
    with server.connect(WAREHOUSE, APPLICATION_ROLE) as db, db.cursor() as cursor:
        for stream, rows in ROWS.items():
            cursor.execute(f"select count(*) from nyc_flights.{stream}")
            assert cursor.fetchone() == (rows,)
    with server.connect(STORE, APPLICATION_ROLE) as db, db.cursor() as cursor:
        cursor.execute("select state from aiia.job_runs order by number")
        assert [state for (state,) in cursor.fetchall()] == [
            "Completed", "Failed", "Error", "Completed",
        ]  # fmt: skip
        cursor.execute("select bool_and(agrees), count(*) > 300 from aiia.reconciliations")
        assert cursor.fetchone() == (True, True)
