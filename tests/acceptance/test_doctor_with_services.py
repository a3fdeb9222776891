import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.local.running import Running

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

REPOSITORY = (
    '(repositorySelector: {repositoryName: "__repository__",'
    ' repositoryLocationName: "aiia_pipelines"})'
)
SCHEDULES = f"""
{{ schedulesOrError{REPOSITORY} {{ ... on Schedules {{ results {{ name state: scheduleState {{ id }} }} }} }} }}
"""
SENSORS = f"""
{{ sensorsOrError{REPOSITORY} {{ ... on Sensors {{ results {{ name state: sensorState {{ id }} }} }} }} }}
"""
STOP_SCHEDULE = "mutation($id: String!) { stopRunningSchedule(id: $id) { __typename } }"
STOP_SENSOR = "mutation($id: String!) { stopSensor(id: $id) { __typename } }"
CLOSE_POOL = 'mutation { setConcurrencyLimit(concurrencyKey: "connector_shop", limit: 0) }'


def doctor(here: Any, *more: str) -> dict[str, tuple[str, str]]:
    done = here.run("aiia", "doctor", *more, "-o", "json")
    assert done.returncode in {0, 4, 5, 10, 11}, done.stderr
    return {each["check"]: (each["verdict"], each["note"]) for each in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def here(installations: Any, eventually: Any) -> Iterator[Any]:
    found = installations("ticker")
    (found.home / "connectors" / "torn.yaml").unlink()
    found.bring_up()
    beats = "select count(*) from daemon_heartbeats"
    assert eventually(lambda: found.query(beats) != [(0,)], 90)
    return found


def state_of(here: Any, query: str, name: str) -> str:
    results = here.ask(query)["results"]
    return next(str(each["state"]["id"]) for each in results if each["name"] == name)


def test_where_all_is_well_nothing_is_in_the_way(here: Any, eventually: Any) -> None:
    assert eventually(lambda: here.latest("ticker").get("ended_at"), 120)
    found = doctor(here, "ticker")
    # One of the destinations is set with a password that nobody has.
    assert [name for name, each in found.items() if each[0] != "ok"] == ["destination elsewhere"]
    assert found["web server"] == ("ok", f"answers at {here.url}")
    assert found["code location"][0] == "ok"
    verdict, note = found["schedules"]
    assert (verdict, note.startswith("1 are on; next is ticker at ")) == ("ok", True)
    assert found["ticks"] == ("ok", "none is missing")


def test_a_connector_that_came_after_the_start_is_told(here: Any) -> None:
    folder = here.home / "connectors"
    text = (folder / "shop.yaml").read_text()
    late = folder / "late.yaml"
    late.write_text(text.replace("name: shop", "name: late"))
    assert doctor(here, "late")["code location"] == ("problem", "loaded before late came")
    late.unlink()


def test_a_tick_that_the_daemon_left_out_is_told(here: Any) -> None:
    (daemon,) = [pid for pid in processes() if b"aiia_pipelines.daemon" in pid.read_bytes()][:1]
    number = int(daemon.parent.name)
    os.kill(number, signal.SIGSTOP)
    try:
        # As if it had stood still for ten minutes.
        ((tick, body),) = here.query(
            "select id, tick_body from job_ticks where type = 'SCHEDULE' order by timestamp desc limit 1"
        )
        facts = json.loads(body)
        facts["timestamp"] -= 600
        text = json.dumps(facts).replace("'", "''")
        here.query(f"update job_ticks set tick_body = '{text}' where id = {tick}")
        verdict, note = doctor(here, "ticker")["ticks"]
        assert (verdict, note.startswith("ticker was due ")) == ("problem", True), note
        assert note.endswith(" min ago and did not tick")
    finally:
        os.kill(number, signal.SIGCONT)


def processes() -> Iterator[Path]:
    mine = os.getpid()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            path.read_bytes()
            if is_below(int(path.parent.name), mine):
                yield path
        except (OSError, IndexError):
            continue


def is_below(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        stat = Path(f"/proc/{pid}/stat").read_text()
        pid = int(stat.rpartition(")")[2].split()[1])
    return False


def test_a_schedule_is_paused_and_resumed_through_the_services(here: Any) -> None:
    done = here.run("aiia", "schedules", "pause", "ticker", "--reason", "moving")
    assert done.returncode == 0, done.stderr
    assert doctor(here)["schedules"] == ("warning", "switched off: ticker")
    (tick,) = json.loads(here.run("aiia", "schedules", "list", "-o", "json").stdout)
    assert (tick["paused"], tick["note"].endswith(": moving")) == (True, True)
    assert here.run("aiia", "schedules", "resume", "ticker").returncode == 0
    assert doctor(here)["schedules"][0] == "ok"


def test_what_somebody_switched_off_in_dagster_is_told(here: Any) -> None:
    here.ask(STOP_SCHEDULE, id=state_of(here, SCHEDULES, "schedule__ticker"))
    here.ask(STOP_SENSOR, id=state_of(here, SENSORS, "job_history"))
    here.ask(CLOSE_POOL)
    found = doctor(here)
    assert found["schedules"] == ("warning", "switched off: ticker")
    assert found["sensor job_history"] == ("problem", "switched off")
    assert found["queue"] == ("problem", "the pool connector_shop lets no run in")


def test_code_that_does_not_load_is_told_with_its_error(
    down: Any, eventually: Any, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("import a_package_that_nobody_has\n")
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text(f"load_from:\n  - python_file: {tmp_path}/broken.py\n")
    port = down.url.rpartition(":")[2]
    down.start("dagster-webserver", "-w", str(workspace), "-h", "127.0.0.1", "-p", port)
    note = Running.claim(down.home, down.url, "doctor")
    try:
        eventually(lambda: "code location" in doctor(down), 60, 1)
        verdict, told = doctor(down)["code location"]
        assert verdict == "problem"
        assert told.startswith("it does not load: ")
        assert "a_package_that_nobody_has" in told
    finally:
        note.release(down.home)
