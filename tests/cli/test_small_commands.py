import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import pytest

from aiia_pipelines.jobs.store import JobStore


@pytest.mark.integration
def test_schedules_lists_ticks_in_both_zones(here: Any, aiia: Any) -> None:
    here.write()
    found = json.loads(aiia("schedules", "list", "--next", 3).stdout)
    assert list(found[0]) == [
        "connector", "schedule", "timezone", "paused", "at", "note", "local",
    ]  # fmt: skip
    assert len(found) == 3
    for tick in found:
        local, at = datetime.fromisoformat(tick["local"]), datetime.fromisoformat(tick["at"])
        assert local == at
        assert local.hour in {2, 3}
    page = aiia("schedules", "list", "-o", "table").stdout
    assert "America/New_York" in page


def test_ticks_follow_the_daemon_through_the_change_to_summer_time() -> None:
    from aiia_pipelines.schedules.ticks import next_ticks

    after = datetime(2026, 3, 7, 12, tzinfo=UTC)
    found = next_ticks("0 2 * * *", "America/New_York", 5, after)
    # On 8 March 02:00 does not exist in New York: the daemon ticks at 03:00, which is 07:00 UTC.
    assert [f"{tick.astimezone(UTC):%d %H}" for tick in found] == [
        "08 07",
        "09 06",
        "10 06",
        "11 06",
        "12 06",
    ]
    zone = ZoneInfo("America/New_York")
    assert [tick.astimezone(zone).hour for tick in found] == [3, 2, 2, 2, 2]


def test_a_tick_on_the_very_moment_is_not_the_next() -> None:
    from aiia_pipelines.schedules.ticks import next_ticks

    after = datetime(2026, 3, 7, 2, tzinfo=UTC)
    assert next_ticks("0 2 * * *", "UTC", 1, after)[0] == datetime(2026, 3, 8, 2, tzinfo=UTC)


@pytest.mark.integration
def test_env_prints_exports_a_shell_understands(
    here: Any, aiia: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIIA_DESTINATION_LAKE", "postgresql://a:hunter2@b/c")
    done = aiia("env")
    assert done.exit_code == 0
    names = "DAGSTER_HOME AIIA_HOME AIIA_DATABASE_URL AIIA_DESTINATION_WAREHOUSE PGPASSFILE"
    script = done.stdout + "".join(f'echo "${name}"\n' for name in names.split())
    shell = subprocess.run(
        ["bash", "-eu"], input=script, capture_output=True, text=True, check=True
    )
    project, home, url, warehouse, passwords = shell.stdout.splitlines()
    assert project == str(here.connectors.parent)
    assert home == str(here.server.home)
    assert url == here.url
    assert warehouse.endswith("/warehouse")
    assert passwords == str(here.server.passwords.pgpass)
    assert "hunter2" not in done.output
    assert here.server.passwords.known("aiia_app") not in done.output
    assert "AIIA_DESTINATION_LAKE is not printed" in done.stderr


def test_env_says_when_there_is_no_database(nowhere: Path, aiia: Any) -> None:
    done = aiia("env")
    assert done.exit_code == 0
    assert done.stderr.startswith("# The database was never started.")
    assert all(line.startswith("export ") for line in done.stdout.splitlines())


@pytest.mark.integration
def test_the_url_that_env_prints_still_means_the_embedded_server(
    here: Any, aiia: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aiia_pipelines.cli.session import opened

    monkeypatch.setenv("AIIA_DATABASE_URL", here.url)
    assert opened().embedded is not None


@pytest.mark.integration
def test_a_server_started_for_a_command_stops_with_it(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    import tempfile

    from aiia_pipelines.cli.session import started
    from aiia_pipelines.local.ports import free_port

    home = Path(tempfile.mkdtemp(prefix="aiia-own-"))
    home.chmod(0o755)
    monkeypatch.setenv("AIIA_HOME", str(home))
    monkeypatch.setenv("AIIA_POSTGRES_PORT", str(free_port()))
    try:
        with started() as session:
            assert session.owned
            assert session.embedded.running()
            with started() as other:
                assert not other.owned
            assert session.embedded.running()
        assert not session.embedded.running()
    finally:
        session.embedded.stop()
        shutil.rmtree(home)


@pytest.mark.integration
def test_migrate_can_be_repeated(here: Any, store: JobStore, aiia: Any) -> None:
    with store.engine.begin() as db:
        db.exec_driver_sql("drop schema aiia cascade")
    assert aiia("jobs", "list").exit_code == 4
    assert json.loads(aiia("migrate").stdout)["changed"] is True
    told = json.loads(aiia("migrate").stdout)
    assert told["changed"] is False
    assert told["from"] == told["to"]
    assert aiia("jobs", "list").exit_code == 0


def run(*args: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aiia_pipelines", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_command(nowhere: Path, aiia: Any, shell: str) -> None:
    done = aiia("completion", shell)
    assert done.exit_code == 0
    assert "_AIIA_COMPLETE" in done.stdout
    assert aiia("completion", "tcsh").exit_code == 2


def test_the_completion_script_sources_in_bash(tmp_path: Path) -> None:
    script = run("completion", "bash").stdout
    sourced = f"{script}\ncomplete -p aiia\n"
    done = subprocess.run(
        ["bash", "-eu"], input=sourced, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "complete -o nosort -F _aiia_completion aiia" in done.stdout


def test_completion_offers_commands_and_options(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.shell_completion import ShellComplete

    from aiia_pipelines.cli.main import root

    offered = ShellComplete(root, {}, "aiia", "_AIIA_COMPLETE")
    names = [item.value for item in offered.get_completions([], "co")]
    assert names == ["connectors", "completion"]
    assert [item.value for item in offered.get_completions(["jobs"], "l")] == ["list", "logs"]
    assert "failed" in [
        item.value for item in offered.get_completions(["jobs", "list", "--status"], "f")
    ]


def test_version_and_help_tell_what_there_is(nowhere: Path, aiia: Any) -> None:
    assert aiia("version").stdout.startswith("aiia 0.")
    assert list(json.loads(aiia("version", "-o", "json").stdout)) == ["aiia_pipelines", "python"]
    shown = aiia("--help").stdout
    for command in ("up", "demo", "sync", "test", "jobs", "doctor", "completion"):
        assert f"\n  {command} " in shown


def test_every_command_in_the_table_can_be_imported(aiia: Any) -> None:
    from aiia_pipelines.cli.main import Command, Group, root

    def check(group: click.Group) -> None:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert isinstance(command, Command | Group)
            assert command.help
            if isinstance(command, Group):
                check(command)

    check(root)


def test_ticks_come_from_the_iterator_of_the_daemon() -> None:
    import inspect

    from dagster._core.remote_representation.external import RemoteSchedule

    from aiia_pipelines.schedules import ticks

    source = inspect.getsource(RemoteSchedule.execution_time_iterator)
    assert ticks.schedule_execution_time_iterator.__name__ in source


@pytest.mark.parametrize("command", [["up"], ["sync", "shop"], ["demo"]])
def test_a_folder_without_dagster_yaml_is_refused_before_anything_starts(
    nowhere: Path, aiia: Any, command: list[str]
) -> None:
    done = aiia(*command)
    assert done.exit_code == 5
    assert "has no dagster.yaml" in done.stderr
    assert "AIIA_PROJECT" in done.stderr
    assert not (nowhere / ".aiia").exists()
