import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.jobs.log import Level, LogLine
from aiia_pipelines.jobs.store import JobStore

HEAVY = ("dagster", "sqlalchemy", "pandas", "pydantic", "pyarrow", "psycopg", "rich", "alembic")


def run(
    here: Any, *args: str, flags: Sequence[str] = (), **options: Any
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **here.environment()}
    command = [sys.executable, *flags, "-m", "aiia_pipelines", *args]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, **options
    )


def imported(stderr: str) -> set[str]:
    return {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in stderr.splitlines()
        if line.startswith("import time:")
    }


@pytest.mark.integration
@pytest.mark.parametrize(
    "command", [["jobs", "list"], ["jobs", "show", "1"], ["jobs", "logs", "1"]]
)
def test_reading_jobs_imports_nothing_heavy(
    here: Any, store: JobStore, command: Any, request_of: Any
) -> None:
    store.create(request_of(), number=1)
    store.write_log(1, [LogLine.of(Level.INFO, "begun")])
    done = run(here, *command, "-o", "json", flags=["-X", "importtime"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    found = imported(done.stderr)
    assert "psycopg2" in found
    assert found.isdisjoint(HEAVY)


@pytest.mark.integration
def test_connectors_are_read_without_dagster_and_pandas(here: Any) -> None:
    here.write()
    done = run(here, "connectors", "validate", flags=["-X", "importtime"])
    assert done.returncode == 0
    assert imported(done.stderr).isdisjoint({"dagster", "pandas", "pyarrow", "psycopg2", "rich"})


def test_help_imports_no_command(nowhere: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "aiia_pipelines", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "aiia_pipelines.cli.jobs" not in done.stderr
    assert imported(done.stderr).isdisjoint({*HEAVY, "psycopg2", "yaml"})


@pytest.mark.integration
def test_nothing_piped_holds_terminal_codes(here: Any, store: JobStore, request_of: Any) -> None:
    store.create(request_of())
    here.write()
    for args in (["jobs", "list"], ["connectors", "list"], ["explain"], ["doctor"], ["--help"]):
        done = run(here, *args, *(["-o", "table"] if args != ["--help"] else []))
        assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.integration
def test_a_reader_that_stops_early_is_no_fault(here: Any, store: JobStore, request_of: Any) -> None:
    store.create(request_of())
    script = f"{sys.executable} -m aiia_pipelines explain -o json | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}"],
        env={**os.environ, **here.environment()}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("[\n", "", 0)


def test_an_interrupted_command_ends_with_130(nowhere: Path) -> None:
    script = (
        "import os, signal, threading\n"
        "import click\n"
        "from aiia_pipelines.cli.main import Command, root\n"
        "@root.command('hang')\n"
        "def hang():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    threading.Event().wait(10)\n"
        "root.main(['hang'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert "Interrupted." in done.stderr
