"""Dagster's own scheduler over our schedules: killed between its steps, started again, and after an outage."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.local.postgres import APPLICATION_ROLE

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# Looks at all schedules as the daemon does, at given times; a crash is a SIGKILL at a point inside Dagster.
SCHEDULER = """
import json, logging, signal, sys
from datetime import datetime
import dagster as dg
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import (
    InProcessTestWorkspaceLoadTarget, create_test_daemon_workspace_context, freeze_time,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._scheduler.scheduler import launch_scheduled_runs
from aiia_pipelines.sensors.strays import take_up

origin = InProcessCodeLocationOrigin(
    LoadableTargetOrigin(executable_path=sys.executable, module_name="aiia_pipelines.definitions"),
    location_name="aiia_pipelines",
)
target = InProcessTestWorkspaceLoadTarget(origin)
with dg.DagsterInstance.get() as instance:
    with create_test_daemon_workspace_context(target, instance) as workspace:
        for step in json.loads(sys.argv[1]):
            at = datetime.fromisoformat(step["at"])
            flags = {name: {point: signal.SIGKILL} for name, point in step.get("crash", {}).items()}
            with freeze_time(at):
                list(launch_scheduled_runs(
                    workspace, logging.getLogger("test"), at, iteration_times={},
                    max_tick_retries=10, debug_crash_flags=flags,
                ))
    print(json.dumps(take_up(instance)))
"""
FILE = """\
name: {name}
title: {title}
schedule: "{cron}"
timezone: {zone}
{more}
source: {{kind: sql, url: "postgresql://nobody@127.0.0.1:1/none"}}
streams:
  - name: rows
    table: public.rows
"""
RUNS = """
select connector, trigger, triggered_by from aiia.job_runs where connector = %s order by number
"""
TICKS = """
select status, tick_body::json->>'skip_reason' as reason from public.job_ticks
where tick_body like %s order by timestamp
"""


class Scheduled:
    """An installation of which only the scheduler runs."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment, self.folder = environment, folder
        self.store = JobStore.open(environment["AIIA_DATABASE_URL"])

    def write(self, name: str, cron: str, zone: str = "UTC", more: str = "") -> None:
        text = FILE.format(name=name, title=name.title(), cron=cron, zone=zone, more=more)
        (self.folder / f"{name}.yaml").write_text(text)

    def look(self, *steps: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", SCHEDULER, json.dumps(steps)],
            env={**os.environ, **self.environment}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def by(self, connector: str) -> list[str]:
        with self.store.engine.connect() as db:
            rows = db.exec_driver_sql(RUNS, (connector,)).all()
        assert {row.trigger for row in rows} <= {"schedule"}
        return [row.triggered_by for row in rows]

    def ticks(self, connector: str) -> list[tuple[str, str | None]]:
        with self.store.engine.connect() as db:
            found = db.exec_driver_sql(TICKS, (f'%"schedule__{connector}"%',)).all()
        return [(row.status, row.reason) for row in found]

    def let_time_pass(self) -> None:
        with self.store.engine.begin() as db:
            db.exec_driver_sql(
                "update public.runs set create_timestamp = create_timestamp - interval '1 minute'"
            )

    def statuses(self) -> set[str]:
        with self.store.engine.connect() as db:
            return {row.status for row in db.exec_driver_sql("select status from public.runs")}


@pytest.fixture
def scheduled(
    rim_server: Any, rim_environment: dict[str, str], tmp_path: Path
) -> Iterator[Scheduled]:
    rim_server.ensure_database("scheduled", APPLICATION_ROLE)
    url = f"postgresql+psycopg2://{rim_server.url('scheduled', APPLICATION_ROLE).split('://')[1]}"
    folder = tmp_path / "connectors"
    folder.mkdir()
    changed = {"AIIA_DATABASE_URL": url, "AIIA_CONNECTORS": str(folder)}
    found = Scheduled({**rim_environment, **changed}, folder)
    yield found
    found.store.close()


def at(text: str, **crash: str) -> dict[str, Any]:
    moment = datetime.fromisoformat(f"2026-{text}").replace(tzinfo=UTC)
    named = {f"schedule__{name}": point for name, point in crash.items()}
    return {"at": moment.isoformat(), "crash": named}


def test_each_tick_has_one_job_run_whenever_the_scheduler_is_killed(scheduled: Scheduled) -> None:
    scheduled.write("made", "0 * * * *")
    scheduled.write("late", "30 2 * * *", "Europe/Berlin", "missed: skip")
    scheduled.write("every", "0 * * * *", more="missed: all")
    scheduled.write("nightly", "0 * * * *", more='window: {hours: "22:00-05:00"}')
    scheduled.write("havana", "0 0 * * *", "America/Havana")

    killed = scheduled.look(at("10-31T07:30"), at("10-31T08:00:01", made="RUN_CREATED"))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(scheduled.by("made")) == 1
    assert "NOT_STARTED" in scheduled.statuses()

    # It goes on with the tick, and is killed again at the next.
    again = scheduled.look(at("10-31T08:01"), at("10-31T09:00:01", made="RUN_CREATED"))
    assert again.returncode == -signal.SIGKILL, again.stderr
    scheduled.let_time_pass()

    # It comes back hours later: the ticks in between follow the policy of each connector, and a run that was
    # made and not submitted, of a tick that Dagster does not look at again, is queued.
    back = scheduled.look(at("10-31T12:20"), at("11-01T04:00:01"), at("11-01T05:00:01"))
    assert back.returncode == 0, back.stderr
    hours = [by.rpartition(" at ")[2] for by in scheduled.by("made")]
    assert hours == [f"2026-{each} UTC" for each in (
        "10-31 08:00", "10-31 09:00", "10-31 12:00", "11-01 04:00", "11-01 05:00",
    )]  # fmt: skip
    each = [by.rpartition(" at ")[2] for by in scheduled.by("every")]
    first = datetime(2026, 10, 31, 8, tzinfo=UTC)
    assert each == [f"{first + timedelta(hours=n):%Y-%m-%d %H:%M} UTC" for n in range(22)]
    # Havana's clocks go back from 1 to 0 o'clock at 5 UTC: of two midnights it ticks at the second.
    assert scheduled.by("havana") == ["schedule__havana at 2026-11-01 00:00 America/Havana"]
    assert scheduled.by("late") == []
    (status, reason), *_ = scheduled.ticks("late")
    assert (status, reason) == (
        "SKIPPED",
        "The tick of Sun 2026-11-01 02:30 Europe/Berlin passed while nothing ran, and missed is skip.",
    )
    assert scheduled.ticks("nightly")[0][1] == (
        "The window is closed; it opens at Sat 2026-10-31 22:00 UTC."
    )
    # Dagster leaves the row of the tick in which it was killed as it was; its run is there all the same.
    assert [status for status, _ in scheduled.ticks("made")] == [
        "SUCCESS", "STARTED", "SUCCESS", "SUCCESS", "SUCCESS",
    ]  # fmt: skip
    assert len(json.loads(back.stdout.splitlines()[-1])) == 1
    assert "NOT_STARTED" not in scheduled.statuses()
