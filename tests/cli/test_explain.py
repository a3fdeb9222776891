import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.jobs.failures import CATALOGUE, Failure
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore

KEYS = [
    "code", "title", "badge", "origin", "retryable", "cause", "remedy", "verify", "signals",
    "category", "most_retries", "checks", "docs", "language",
]  # fmt: skip
PLACE = "10.0.0.1:5432"


def failed(
    store: JobStore, request_of: Any, code: str, source: dict[str, str] | None = None
) -> int:
    config = None if source is None else {"source": source}
    number = store.create(request_of(config=config))
    store.move(number, JobState.RUNNING)
    failure = Failure(CATALOGUE[code], "It went\u202e wrong.", PLACE)
    store.finish(number, JobState.FAILED, failure=failure)
    return number


def test_explain_covers_the_whole_catalogue(nowhere: Path, aiia: Any) -> None:
    found = json.loads(aiia("explain").stdout)
    assert [row["code"] for row in found] == list(CATALOGUE)
    assert all(list(row) == KEYS for row in found)
    for code, row in CATALOGUE.items():
        page = aiia("explain", code, "-o", "plain").stdout
        assert not re.search(r"\{(?:host|port|place)\}", page)
        assert row.cause in page
        assert row.docs in page


def test_the_list_says_how_often_a_job_run_tries_again(nowhere: Path, aiia: Any) -> None:
    lines = aiia("explain", "-o", "plain").stdout.splitlines()
    told = {line.split("\t")[0]: line.split("\t")[3] for line in lines}
    assert told["connection-timeout"] == "5"
    assert told["out-of-memory"] == "1"
    assert told["config-invalid"] == "no"


def test_a_page_says_whether_to_wait_for_a_retry(nowhere: Path, aiia: Any) -> None:
    for code, retried in {
        "connection-timeout": "automatically, up to 5 times",
        "query-timeout": "automatically, once",
        "column-mismatch": "only by hand",
    }.items():
        assert f"Retried:     {retried}\n" in aiia("explain", code, "-o", "plain").stdout


def test_a_page_shows_the_commands_of_all_families(nowhere: Path, aiia: Any) -> None:
    page = aiia("explain", "invalid-credentials", "-o", "plain").stdout
    assert "Verify:      aiia test CONNECTOR\n" in page
    assert "    PostgreSQL: psql -h HOST -p PORT " in page
    assert "    MySQL and MariaDB: mariadb -h HOST -P PORT " in page
    checks = json.loads(aiia("explain", "invalid-credentials").stdout)["checks"]
    assert checks["oracle"].endswith("sqlplus -S USER@//HOST:PORT/SERVICE")


def test_the_commands_of_the_product_exist(nowhere: Path, aiia: Any) -> None:
    told = {check for row in CATALOGUE.values() for check in row.checks.values()}
    told |= {
        code for row in CATALOGUE.values() for code in re.findall("`(aiia [^`]+)`", row.remedy)
    }
    for command in sorted(command for command in told if command.startswith("aiia ")):
        words = command.split()[1:]
        path = [word for word in words if re.fullmatch("[a-z]+", word)]
        options = [word for word in words if word.startswith("--")]
        usage = aiia(*path, "--help") if "error" not in path else aiia(*path[:-1], "--help")
        assert usage.exit_code == 0, command
        assert all(option in usage.stdout for option in options), command


def test_an_unknown_failure_code_ends_with_3_and_the_nearest(nowhere: Path, aiia: Any) -> None:
    done = aiia("explain", "conection-timeout")
    assert done.exit_code == 3
    assert "did you mean 'connection-timeout'" in done.stderr


def test_a_failure_is_explained_in_arabic(
    nowhere: Path, aiia: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = aiia("explain", "code-location-broken", "--language", "ar", "-o", "plain").stdout
    assert "تعذر تحميل شيفرة الموصلات (code-location-broken)" in asked
    assert "الشارة:      فشل، المنشأ: المنصة" in asked
    # Commands keep their direction among Arabic words.
    assert "\u2066`aiia up`\u2069" in asked
    monkeypatch.setenv("AIIA_LANGUAGE", "ar")
    assert aiia("explain", "code-location-broken", "-o", "plain").stdout == asked
    record = json.loads(aiia("explain", "cancelled").stdout)
    assert (record["title"], record["language"]) == ("أُلغي التشغيل", "ar")
    assert record["badge"] == "Cancelled"
    assert "\u2066" not in json.dumps(record, ensure_ascii=False)
    assert "انتهت" in aiia("explain", "-o", "json").stdout


def test_every_badge_and_origin_has_an_arabic_word(nowhere: Path, aiia: Any) -> None:
    for code in CATALOGUE:
        page = aiia("explain", code, "--language", "ar", "-o", "plain").stdout
        assert not re.search("[A-Za-z]", page.splitlines()[1])


def test_another_language_is_refused(nowhere: Path, aiia: Any) -> None:
    assert aiia("explain", "cancelled", "--language", "fr").exit_code == 2


@pytest.mark.integration
def test_the_failure_of_a_job_run_is_explained_with_its_place(
    store: JobStore, aiia: Any, request_of: Any
) -> None:
    mysql = {"kind": "sql", "url": "mysql://rd@10.0.0.1:5432/shop"}
    number = failed(store, request_of, "invalid-credentials", mysql)
    page = aiia("explain", f"#{number}", "-o", "plain").stdout
    assert f"Message:     #{number} It went\\u202e wrong.\n" in page
    assert "Verify:      mariadb -h 10.0.0.1 -P 5432 -u USER -p DATABASE -e 'select 1'\n" in page
    assert "psql" not in page
    record = json.loads(aiia("explain", number).stdout)
    assert list(record) == [*KEYS, "number", "message", "place", "family"]
    assert (record["number"], record["family"], record["place"]) == (number, "mysql", PLACE)


@pytest.mark.integration
def test_jobs_show_verifies_at_the_family_of_the_source(
    store: JobStore, aiia: Any, request_of: Any
) -> None:
    told = {}
    for url in ("mysql://rd@10.0.0.1/x", "postgresql://rd@10.0.0.1/x", "oracle://rd@10.0.0.1/x"):
        number = failed(store, request_of, "lock-conflict", {"kind": "sql", "url": url})
        guidance = json.loads(aiia("jobs", "show", number).stdout)["guidance"]
        told[url.partition(":")[0]] = guidance["verify"].split()[0]
    assert told == {"mysql": "mariadb", "postgresql": "psql", "oracle": "echo"}


@pytest.mark.integration
def test_a_failure_of_the_destination_is_verified_there(
    store: JobStore, aiia: Any, request_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIIA_DESTINATION_WAREHOUSE", "postgresql://app@dw/dw")
    source = {"kind": "sql", "url": "mysql://rd@10.0.0.1/x"}
    number = failed(store, request_of, "destination-login", source)
    record = json.loads(aiia("explain", number).stdout)
    assert record["family"] == "postgresql"
    assert record["verify"].startswith("psql -h 10.0.0.1 ")


@pytest.mark.integration
def test_an_arabic_page_sets_the_place_apart(store: JobStore, aiia: Any, request_of: Any) -> None:
    number = failed(store, request_of, "connection-timeout")
    page = aiia("explain", number, "--language", "ar", "-o", "plain").stdout
    assert f"إلى \u2066{PLACE}\u2069، ثم" in page


@pytest.mark.integration
def test_a_job_run_without_failure_is_not_explained(
    store: JobStore, aiia: Any, request_of: Any
) -> None:
    number = store.create(request_of())
    done = aiia("explain", number)
    assert done.exit_code == 3
    assert f"Job run #{number} is Pending and has no failure to explain." in done.stderr
    assert aiia("explain", 987654).exit_code == 3


def test_an_error_that_the_catalogue_knows_links_its_page(here: Any, aiia: Any) -> None:
    here.write(url="nonsense")
    done = aiia("connectors", "show", "sample", "-o", "json")
    told = json.loads(done.stderr)
    assert (told["code"], told["docs"]) == (
        "config-invalid",
        "docs/reference/failures/config-invalid.md",
    )


def test_explaining_a_code_imports_nothing_heavy(nowhere: Path) -> None:
    import subprocess

    script = (
        "import sys; from aiia_pipelines.cli.main import root\n"
        "try: root.main(['explain', 'cancelled'])\n"
        "except SystemExit: pass\n"
        "heavy = {'dagster', 'sqlalchemy', 'pandas', 'pydantic', 'psycopg', 'psycopg2', 'rich'}\n"
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("set()\n")
