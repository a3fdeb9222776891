import json
import re
from typing import Any

import pytest

from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.local.ports import free_port

pytestmark = pytest.mark.integration

KEYS = [
    "number", "connector", "state", "failure_code", "message",
    "cause", "remedy", "verify", "place", "stages",
]  # fmt: skip


def said(aiia: Any, number: int) -> list[str]:
    return [line.partition("] ")[2] for line in aiia("jobs", "logs", number).stdout.splitlines()]


def test_a_reachable_source_passes_every_stage_and_is_a_job_run(
    here: Any, store: JobStore, aiia: Any
) -> None:
    here.write()
    done = aiia("test", "sample")
    assert done.exit_code == 0
    (told,) = json.loads(done.stdout)
    assert list(told) == KEYS
    assert [stage["name"] for stage in told["stages"]] == [
        "dns",
        "tcp",
        "login",
        "permission",
        "query",
    ]
    assert all(stage["passed"] for stage in told["stages"])
    (run,) = json.loads(aiia("jobs", "list", "--type", "connection_test").stdout)
    assert (run["number"], run["state"]) == (told["number"], "Completed")
    lines = said(aiia, told["number"])
    assert lines[0] == f"INFO: Starting connection test job run #{told['number']} (Sample DB)"
    url = f"postgresql://sample_read@127.0.0.1:{here.server.port}/sample"
    assert lines[1] == f"INFO: Connecting to {url}..."
    assert re.fullmatch(r"INFO: Login passed in \d\.\d{3} seconds: as sample_read", lines[4])
    assert lines[-1].startswith("INFO: Job finished with state COMPLETED.")


def test_a_closed_port_fails_at_tcp_with_cause_remedy_and_place(
    here: Any, store: JobStore, aiia: Any
) -> None:
    place = f"127.0.0.1:{free_port()}"
    here.write(url=f"postgresql://a@{place}/b")
    done = aiia("test", "sample", "-o", "table")
    assert done.exit_code == 11
    assert "✓ dns" in done.stdout
    assert "✕ tcp" in done.stdout
    assert "- login" in done.stdout
    assert "(connection-refused)" in done.stdout
    assert f"To open:     {place}" in done.stdout
    assert "Verify:      nc -vz" in done.stdout
    (run,) = json.loads(aiia("jobs", "list").stdout)
    assert (run["state"], run["failure_code"]) == ("Failed", "connection-refused")
    assert run["failure_place"] == place
    lines = said(aiia, run["number"])
    assert lines[-2].startswith("ERROR: Connection refused")
    assert lines[-1] == "FATAL: Job aborted with state FAILED."


def test_a_missing_table_is_an_error_of_the_mapping(here: Any, store: JobStore, aiia: Any) -> None:
    here.write(table="public.nothing")
    done = aiia("test", "sample")
    assert done.exit_code == 10
    (told,) = json.loads(done.stdout)
    assert (told["state"], told["failure_code"]) == ("Error", "column-mismatch")
    assert [stage["passed"] for stage in told["stages"]] == [True, True, True, False, None]


def test_a_wrong_password_is_named_so(
    here: Any, store: JobStore, aiia: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG", "not-the-password")
    here.write(password="${env:WRONG}")
    done = aiia("test", "sample")
    assert done.exit_code == 11
    assert json.loads(done.stdout)[0]["failure_code"] == "invalid-credentials"
    assert "not-the-password" not in done.output


def test_a_missing_secret_is_recorded_as_a_failed_test(
    here: Any, store: JobStore, aiia: Any
) -> None:
    here.write(password="${env:NOT_SET}")
    (told,) = json.loads(aiia("test", "sample").stdout)
    assert (told["failure_code"], told["stages"]) == ("secret-missing", [])


def test_all_tests_everything_and_the_worst_counts(here: Any, store: JobStore, aiia: Any) -> None:
    here.write()
    here.write("closed", url=f"postgresql://a@127.0.0.1:{free_port()}/b")
    done = aiia("test", "--all")
    assert done.exit_code == 11
    assert [told["connector"] for told in json.loads(done.stdout)] == ["closed", "sample"]


def test_a_broken_file_among_good_ones_ends_with_5(here: Any, store: JobStore, aiia: Any) -> None:
    here.write()
    (here.connectors / "bad.yaml").write_text("name: bad\n", encoding="utf-8")
    done = aiia("test", "--all")
    assert done.exit_code == 5
    assert len(json.loads(done.stdout)) == 1
    assert aiia("test", "bad").exit_code == 5
    assert aiia("test", "other").exit_code == 3


@pytest.mark.parametrize("args", [(), ("sample", "--all")])
def test_either_a_name_or_all_is_wanted(here: Any, aiia: Any, args: tuple[str, ...]) -> None:
    assert aiia("test", *args).exit_code == 2
