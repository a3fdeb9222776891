"""Follows job runs that are under way until they end."""

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from aiia_pipelines.cli.output import Output
from aiia_pipelines.control import Launched
from aiia_pipelines.jobs import history
from aiia_pipelines.jobs.badge import BADGES
from aiia_pipelines.jobs.log import render
from aiia_pipelines.jobs.lost import Lost, death_of, end_lost
from aiia_pipelines.jobs.state import FINAL, JobState, family
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.jobs.waiting import WAITING

_LOOK = 0.25  # seconds between two looks
_QUIET_LOOK = 10.0  # seconds between two lines when nobody watches a terminal
_REASON_LOOK = 1.0  # seconds between two questions why a job run waits
_LAST_WORDS = 30.0  # seconds that a process gets after its job run has ended
_GONE = 5.0  # seconds that a process may be gone before its job run counts as lost


@dataclass
class Watch:
    """What is shown while job runs go on."""

    store: JobStore
    output: Output
    zone: str
    launched: Sequence[Launched]
    # The log goes to stdout where it is what the command is about.
    log_is_data: bool = False
    # Where the limits of Dagster's queue stand, to say what a job run waits for.
    limits_file: Path | None = None
    _seen: dict[int, int] = field(default_factory=dict)
    _gone: dict[int, float] = field(default_factory=dict)
    _spoke: float = 0.0
    _reasons: dict[int, tuple[float, str]] = field(default_factory=dict)

    def until_ended(self, timeout: float | None = None) -> list[JobState]:
        """Wait until all have ended, or `timeout` seconds, and give their states."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            rows = [self.store.row(run.number) for run in self.launched]
            states = [JobState(row.state) for row in rows if row is not None]
            self._show(rows, last=all(state in FINAL for state in states))
            if all(state in FINAL for state in states) or (end and time.monotonic() >= end):
                self._clear()
                self._see_off(states)
                return states
            for run in self.launched:
                self._look_after(run)
            time.sleep(_LOOK)

    def _see_off(self, states: Sequence[JobState]) -> None:
        """Let processes whose job runs have ended finish Dagster's part of the run."""
        for run, state in zip(self.launched, states, strict=True):
            if run.process is not None and state in FINAL:
                with suppress(subprocess.TimeoutExpired):
                    run.process.wait(_LAST_WORDS)

    def _look_after(self, run: Launched) -> None:
        """End a job run whose process died without a word."""
        if run.process is None or (code := run.process.poll()) is None:
            return
        since = self._gone.setdefault(run.number, time.monotonic())
        if time.monotonic() - since > _GONE:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            death = death_of(self.store, run.number, how)
            end_lost(self.store, Lost(run.number, None, death))

    # -- what people see --------------------------------------------------------------------

    def _show(self, rows: Sequence[Any], *, last: bool) -> None:
        if self.output.verbose or self.log_is_data:
            self._log()
        elif self.output.quiet:
            return
        elif sys.stderr.isatty():
            line = "  ".join(_line(row, self._reason(row)) for row in rows)
            click.echo(f"\r\x1b[2K{line[: _width()]}", nl=False, err=True)
        elif not last and time.monotonic() - self._spoke >= _QUIET_LOOK:
            self._spoke = time.monotonic()
            for row in rows:
                click.echo(_line(row, self._reason(row)), err=True)

    def _reason(self, row: Any) -> str:  # noqa: ANN401 - a row of the store
        """Say why a job run waits, if it does."""
        if row.state not in WAITING:
            return ""
        at, said = self._reasons.get(row.number, (-_REASON_LOOK, ""))
        if time.monotonic() - at >= _REASON_LOOK:
            with closing(self.store.engine.raw_connection()) as db:
                driver: Any = db.driver_connection
                found = history.run(
                    driver, row.number, limits_file=self.limits_file, zone=self.zone
                )
            said = found.waits
            self._reasons[row.number] = (time.monotonic(), said)
        return said

    def _log(self) -> None:
        zone = UTC if self.zone == "UTC" else ZoneInfo(self.zone)
        for run in self.launched:
            for place, line in self.store.log_after(run.number, self._seen.get(run.number, 0)):
                self._seen[run.number] = place
                whole = line if not self.log_is_data else replace(line, detail=())
                click.echo(render(whole, zone), err=not self.log_is_data)

    def _clear(self) -> None:
        if self.output.verbose or self.log_is_data or self.output.quiet or not sys.stderr.isatty():
            return
        click.echo("\r\x1b[2K", nl=False, err=True)


def _line(row: Any, reason: str = "") -> str:  # noqa: ANN401 - a row of the store
    state = JobState(row.state)
    parts = [f"#{row.number} {row.connector} {BADGES[family(state)].icon} {state}"]
    parts += [text for text in (reason, row.activity) if text]
    seconds = _seconds(row)
    if row.records:
        parts.append(f"{row.records:,} records")
        if seconds >= 1 and state is JobState.RUNNING:
            rate = row.records / seconds
            parts.append(f"{rate:,.0f}/s")
            parts += _ahead(row, rate)
    return " · ".join(parts)


def _ahead(row: Any, rate: float) -> list[str]:  # noqa: ANN401
    """Estimate from the last completed run how far this one is."""
    if not row.records_total or row.records_total <= row.records:
        return []
    left = (row.records_total - row.records) / rate
    return [f"{100 * row.records // row.records_total} %", f"about {left:,.0f} s left"]


def _seconds(row: Any) -> float:  # noqa: ANN401
    if row.started_at is None:
        return 0.0
    return float(((row.ended_at or datetime.now(UTC)) - row.started_at).total_seconds())


def _width() -> int:
    return max(shutil.get_terminal_size().columns - 1, 20)
