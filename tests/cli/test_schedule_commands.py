import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiia_pipelines.local.switches import switch
from aiia_pipelines.local.web import NoAnswer

ROOT = Path(__file__).parents[2]


def add(path: Path, **keys: object) -> None:
    path.write_text(path.read_text() + yaml.safe_dump(keys))


def listed(aiia: Callable[..., Any], *more: str) -> list[dict[str, Any]]:
    done = aiia("schedules", "list", *more, "-o", "json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_ticks_are_listed_in_the_zone_of_the_connector(aiia: Any, here: Any) -> None:
    here.write()
    found = listed(aiia, "--next", "3")
    assert [tick["local"][11:16] for tick in found] == ["02:00"] * 3
    assert {tick["connector"] for tick in found} == {"sample"}
    assert not any(tick["paused"] for tick in found)


def test_ticks_outside_the_window_are_not_listed(aiia: Any, here: Any) -> None:
    add(here.write(), window={"weekdays": ["mon"]})
    add(here.write("books"), window={"hours": "08:00-17:00"})
    add(here.write("past"), window={"until": "2020-01-01"})
    found = listed(aiia, "--next", "2")
    by = {
        name: [tick for tick in found if tick["connector"] == name]
        for name in ("sample", "books", "past")
    }
    days = aiia("schedules", "list", "--next", "2", "-o", "table").stdout
    assert "Mon " in days
    assert len(by["sample"]) == 2
    for name in ("books", "past"):
        (never,) = by[name]
        assert (never["at"], never["local"]) == (None, None)
        assert never["note"] == "the window is closed at each tick to come"


def test_without_a_database_the_files_are_told_all_the_same(aiia: Any, nowhere: Path) -> None:
    (nowhere / "connectors" / "crm.yaml").write_text(
        "name: crm\ntitle: CRM\nschedule: '*/5 * * * *'\nsource: {kind: sql, url: 'sqlite:///x.db'}\n"
        "streams: [{name: rows, table: rows}]\n"
    )
    assert len(listed(aiia, "--next", "4")) == 4
    (nowhere / "connectors" / "crm.yaml").unlink()
    done = aiia("schedules", "list", "-o", "table")
    assert "No connector has a schedule" in done.stderr


def test_a_connector_without_a_schedule_cannot_be_paused(aiia: Any, here: Any) -> None:
    path = here.write()
    path.write_text(path.read_text().replace('schedule: "0 2 * * *"\n', ""))
    done = aiia("schedules", "pause", "sample")
    assert done.exit_code == 5
    assert "sample has no schedule" in done.stderr
    assert aiia("schedules", "pause", "nobody").exit_code == 3


def test_services_that_do_not_answer_are_told(closed: int) -> None:
    with pytest.raises(NoAnswer):
        switch(f"http://127.0.0.1:{closed}", "shop", on=False)


@pytest.mark.integration
@pytest.mark.slow
def test_without_services_a_schedule_is_switched_off_and_on(
    aiia: Any, here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.write()
    monkeypatch.setenv("AIIA_PROJECT", str(ROOT))
    done = aiia(
        "schedules", "pause", "sample", "--reason", "the source is being moved", "-o", "json"
    )
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["paused"] is True
    (tick,) = listed(aiia)
    assert (tick["at"], tick["paused"]) == (None, True)
    assert tick["note"].startswith("paused by ")
    assert tick["note"].endswith(": the source is being moved")
    assert "is switched on" in aiia("schedules", "resume", "sample", "-o", "plain").stdout
    (tick,) = listed(aiia)
    assert (tick["paused"], tick["note"]) == (False, "")


@pytest.mark.integration
def test_a_project_without_dagster_yaml_is_told(aiia: Any, here: Any) -> None:
    here.write()
    done = aiia("schedules", "resume", "sample")
    assert done.exit_code == 5
    assert "no dagster.yaml" in done.stderr
