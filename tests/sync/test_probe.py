"""A Connection Test as a whole: its deadline, its cancelling, its record and what it asks of a firewall."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.faults import ConfigInvalid
from aiia_pipelines.connectors._reach import outbound
from aiia_pipelines.jobs.log import Level, render
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.local.ports import free_port
from aiia_pipelines.sync.aside import Aside
from aiia_pipelines.sync.firewall import FirewallRequest, request_for
from aiia_pipelines.sync.probe import Probed, Staged, Watch, run_stages
from aiia_pipelines.sync.probe_wording import facts_of, line_of, lines_of, table_of
from aiia_pipelines.sync.recorded_probe import run_as_job

KEYS = [
    "number", "connector", "state", "failure_code", "message", "cause", "remedy", "verify",
    "place", "stages", "failed_stage", "outbound_ip", "firewall",
]  # fmt: skip
FIREWALL_KEYS = [
    "source_ip", "source_host", "destination", "addresses", "port", "protocol", "purpose", "at",
    "observed", "text",
]  # fmt: skip
WILD = """
import time

from pydantic import BaseModel


class Options(BaseModel):
    kind: str
    how: str = ""


class Wild:
    def __init__(self, options):
        self.options = options

    def describe(self):
        return "wild"

    def place(self):
        return "wild.example:99"

    def stages(self, streams):
        if self.options.how == "hang":
            yield "dns", lambda: time.sleep(3)
        yield "login", self.login
        yield "query a", lambda: "Warning: nearly over"

    def login(self):
        if self.options.how == "break":
            return {}["canary"]
        return ""

    def cancel(self):
        pass

    def close(self):
        if self.options.how == "cling":
            raise RuntimeError("it will not be closed")


open = Wild
"""


@pytest.fixture
def connector(source_db: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Connector]:
    monkeypatch.setenv("PROBE_PASSWORD", source_db.password("canary_reader"))
    source_db.execute("create table rows (i int)")

    def make(*streams: dict[str, Any], **source: Any) -> Connector:
        options = source_db.options() | {"password": "${env:PROBE_PASSWORD}"} | source
        facts = {"name": "erp", "title": "ERP", "source": options}
        listed = list(streams) or [{"name": "rows", "table": "rows"}]
        return Connector.model_validate(facts | {"streams": listed})

    return make


SLEEP = {"name": "slow", "query": "select pg_sleep(60)::text as t"}


def seconds(run: Callable[[], None]) -> float:
    began = time.monotonic()
    run()
    return time.monotonic() - began


def until(question: Callable[[], bool], patience: float = 20) -> None:
    end = time.monotonic() + patience
    while not question():
        assert time.monotonic() < end
        time.sleep(0.05)


# -- the deadline -------------------------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.parametrize("stage", ["tcp", "login"])
def test_a_server_that_hangs_fails_where_it_hangs_at_the_deadline(
    connector: Any, stage: str, request: pytest.FixtureRequest, tmp_path: Path, silent: int,
    full: int,
) -> None:  # fmt: skip
    port = full if stage == "tcp" else silent
    url = f"postgresql://canary_reader@127.0.0.1:{port}/x?sslmode=disable"
    wanted = connector(url=url, connect_timeout=600)
    tested = Probed("erp", "ERP", within=1)
    took = seconds(lambda: run_stages(wanted, tmp_path, tested, Watch()))
    assert took < 10
    assert (tested.failed_stage, tested.state) == (stage, JobState.FAILED)
    assert tested.failure is not None
    assert tested.failure.code == "connection-timeout"
    place = f"127.0.0.1:{port}"
    assert tested.failure.headline == {
        "tcp": f"Connection timeout. Unable to reach {place} after 1 seconds.",
        "login": f"Connection timeout. {place} did not answer within the 1 seconds of this test (login).",
    }[stage]  # fmt: skip
    assert [each.passed for each in tested.stages[-2:]] == [None, None]


@pytest.mark.integration
def test_a_query_that_hangs_is_stopped_at_the_source(
    connector: Any, source_db: Any, backends: Any, tmp_path: Path
) -> None:
    tested = Probed("erp", "ERP", within=4)
    rows = {"name": "rows", "table": "rows"}
    took = seconds(lambda: run_stages(connector(SLEEP, rows), tmp_path, tested, Watch()))
    assert took < 15
    assert tested.failed_stage == "query slow"
    assert tested.failure is not None
    assert tested.failure.code == "read-timeout"
    # Nobody is left who could answer for the other stream.
    assert tested.stages[-1].passed is None
    until(lambda: backends(source_db.name) == 0)


def test_what_hangs_is_left_behind_and_what_is_raised_is_handed_over() -> None:
    aside, gate = Aside("tests"), threading.Event()
    broken = aside.do(lambda: {}["canary"], time.monotonic() + 5)
    assert isinstance(broken.exception(), KeyError)
    assert aside.do(lambda: 42, time.monotonic() + 5).result() == 42
    hanging = aside.do(gate.wait, time.monotonic() + 0.1)
    assert not hanging.done()
    gate.set()
    assert hanging.result(5)
    stopped = aside.do(lambda: 1, time.monotonic() + 5, lambda: True)
    assert stopped.result(5) == 1
    aside.end()


# -- as a job run -------------------------------------------------------------------------------


def recorded(
    store: JobStore, wanted: Connector, home: Path, *, within: float = 20
) -> tuple[Probed, list[str]]:
    tested = Probed(wanted.name, wanted.title, within)
    run_as_job(store, wanted, home, tested, lambda _: None, by="sara")
    assert tested.number is not None
    lines = [render(line)[22:] for _, line in store.log_after(tested.number, 0)]
    return tested, lines


def steps(store: JobStore, number: int | None) -> dict[str, tuple[str, str]]:
    query = "select step, state, note from aiia.steps where number = %s order by position"
    with store.engine.connect() as db:
        rows = db.exec_driver_sql(query, (number,)).all()
    return {row[0]: (row[1], row[2]) for row in rows}


@pytest.mark.integration
def test_the_stages_are_steps_of_the_job_run(
    connector: Any, store: JobStore, tmp_path: Path
) -> None:
    tested, lines = recorded(store, connector(), tmp_path)
    row = store.row(int(tested.number or 0))
    assert row is not None
    assert (row.state, row.type, row.triggered_by) == ("Completed", "connection_test", "sara")
    assert store.tasks_of(row.number) == [("", "Succeeded")]
    found = steps(store, row.number)
    assert list(found) == ["dns", "tcp", "tls", "login", "permission rows", "query rows"]
    assert {state for state, _ in found.values()} == {"Completed"}
    assert found["permission rows"][1] == "1 column"
    assert lines[0] == f"INFO: Starting connection test job run #{row.number} (ERP)"
    assert lines[1].startswith("INFO: Connecting to postgresql://canary_reader@127.0.0.1:")
    assert lines[2].startswith("INFO: DNS passed in 0.0")
    assert lines[-1] == "INFO: Job finished with state COMPLETED."


@pytest.mark.integration
def test_a_failed_test_tells_cause_traceback_and_what_to_open(
    connector: Any, store: JobStore, tmp_path: Path
) -> None:
    place = f"127.0.0.1:{free_port()}"
    tested, lines = recorded(store, connector(url=f"postgresql://a@{place}/b"), tmp_path)
    row = store.row(int(tested.number or 0))
    assert row is not None
    assert (row.state, row.failure_code, row.failure_place) == (
        "Failed", "connection-refused", place,
    )  # fmt: skip
    states = [state for state, _ in steps(store, row.number).values()]
    assert states == ["Completed", "Failed", *["Skipped"] * 4]
    error, firewall, fatal = lines[-3:]
    assert error.startswith("ERROR: Connection refused. Nothing listens on")
    assert "    Traceback (most recent call last):" in error
    assert firewall.startswith("INFO: To paste to a firewall team:\n    Source:")
    assert fatal == "FATAL: Job aborted with state FAILED."


@pytest.mark.integration
def test_a_missing_secret_fails_before_the_first_stage(
    connector: Any, store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROBE_PASSWORD")
    tested, lines = recorded(store, connector(), tmp_path)
    assert tested.failure is not None
    assert (tested.failure.code, tested.stages) == ("secret-missing", [])
    assert facts_of(tested)["firewall"] is None
    assert lines[1].startswith("ERROR: ")
    assert lines[-1] == "FATAL: Job aborted with state FAILED."


@pytest.mark.integration
def test_a_cancel_ends_a_test_that_hangs(
    connector: Any, store: JobStore, tmp_path: Path, source_db: Any, backends: Any
) -> None:
    tested = Probed("erp", "ERP", within=60)

    def cancel() -> None:
        until(lambda: tested.number is not None)
        until(lambda: "query slow" in steps(store, tested.number))
        until(lambda: steps(store, tested.number)["query slow"][0] == "Running")
        store.request_cancel(int(tested.number or 0), by="omar")

    canceller = threading.Thread(target=cancel)
    canceller.start()
    took = seconds(
        lambda: run_as_job(store, connector(SLEEP), tmp_path, tested, lambda _: None, by="sara")
    )
    canceller.join()
    assert took < 40
    assert tested.state is JobState.CANCELLED
    row = store.row(int(tested.number or 0))
    assert row is not None
    assert (row.state, row.cancel_by, row.failure_code) == ("Cancelled", "omar", None)
    assert list(lines_of(tested)) == ["⊘ Cancelled"]
    until(lambda: backends(source_db.name) == 0)


# -- a kind that does what nobody foresaw ---------------------------------------------------------


@pytest.fixture
def wild(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Connector]:
    (tmp_path / "aiia_wild.py").write_text(WILD)
    facts = tmp_path / "aiia_wild-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: aiia-wild\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[aiia_pipelines.connectors]\nwild = aiia_wild\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(how: str = "") -> Connector:
        source = {"kind": "wild", "how": how}
        streams = [{"name": "a", "table": "a"}]
        facts = {"name": "wild", "title": "Wild", "source": source, "streams": streams}
        return Connector.model_validate(facts)

    return make


def test_what_nobody_foresaw_is_a_failure_as_well(wild: Any, tmp_path: Path) -> None:
    tested = Probed("wild", "Wild")
    run_stages(wild("break"), tmp_path, tested, Watch())
    assert tested.failure is not None
    assert (tested.failure.code, tested.failure.place) == ("unclassified", "wild.example:99")
    assert tested.stages[0].fault is not None
    clinging = Probed("wild", "Wild")
    run_stages(wild("cling"), tmp_path, clinging, Watch())
    assert clinging.state is JobState.COMPLETED


def test_a_name_server_that_says_nothing_is_named_at_the_deadline(
    wild: Any, tmp_path: Path
) -> None:
    tested = Probed("wild", "Wild", within=0.2)
    run_stages(wild("hang"), tmp_path, tested, Watch())
    assert tested.failure is not None
    assert (tested.failed_stage, tested.failure.code) == ("dns", "name-server-unavailable")
    assert "within the 0.2 seconds of this test (dns)" in tested.failure.headline
    assert tested.firewall is not None
    assert tested.firewall.addresses == ()


def test_an_option_that_is_wrong_once_it_is_resolved_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE_ROOT", "not/absolute")
    source = {"kind": "files", "root": "${env:PROBE_ROOT}"}
    wanted = Connector.model_validate(
        {"name": "in", "title": "In", "source": source, "streams": [{"name": "r", "path": "*"}]}
    )
    with pytest.raises(ConfigInvalid, match=r"in: source\.root: .* must be an absolute path"):
        run_stages(wanted, tmp_path, Probed("in", "In"), Watch())


@pytest.mark.integration
def test_a_warning_of_a_stage_is_one_of_the_log(wild: Any, store: JobStore, tmp_path: Path) -> None:
    tested, _ = recorded(store, wild(), tmp_path)
    lines = [line for _, line in store.log_after(int(tested.number or 0), 0)]
    (warned,) = [line for line in lines if line.level is Level.WARNING]
    assert warned.message.endswith(": Warning: nearly over")
    assert line_of(tested.stages[1]).startswith("  ! query a")
    broken, log = recorded(store, wild("break"), tmp_path)
    assert broken.state is JobState.FAILED
    assert "KeyError: 'canary'" in "\n".join(log)


# -- how it is told -------------------------------------------------------------------------------


@pytest.mark.integration
def test_the_record_has_stable_keys(connector: Any, tmp_path: Path) -> None:
    tested = Probed("erp", "ERP")
    run_stages(connector(), tmp_path, tested, Watch())
    told = facts_of(tested)
    assert list(told) == KEYS
    assert list(told["firewall"]) == FIREWALL_KEYS
    assert told["outbound_ip"] == told["firewall"]["source_ip"] == "127.0.0.1"
    assert {tuple(stage) for stage in told["stages"]} == {
        ("name", "passed", "seconds", "note", "failure_code")
    }


def test_a_table_of_stages_takes_nothing_for_markup() -> None:
    tested = Probed("erp", "ERP", stages=[
        Staged("dns", True, 0.012, "10.0.0.1"),
        Staged("tls", False, 1.5, "a|b <b> *c* [d](e) `f` g_h\n"),
        Staged("login"),
    ])  # fmt: skip
    assert table_of(tested).splitlines() == [
        "| stage | result | time | note |",
        "|---|---|---:|---|",
        "| dns | ✓ passed | 12 ms | 10.0.0.1 |",
        "| tls | ✕ failed | 1.5 s | a\\|b &lt;b> \\*c\\* \\[d](e) \\`f\\` g\\_h\\u000a |",
        "| login | not reached |  |  |",
    ]


NOON = datetime(2026, 5, 24, 12, 0, tzinfo=UTC)


def test_a_firewall_request_is_complete_and_says_what_it_cannot_know() -> None:
    asked = FirewallRequest(
        "10.1.2.3", "worker-7", "db.example.com", ("10.140.2.14", "10.140.2.15"), 5432,
        "TCP (PostgreSQL)", "aiia_pipelines reads the connector erp (ERP)", NOON, "Connection timeout.",
    )  # fmt: skip
    assert asked.text.splitlines() == [
        "Source:      10.1.2.3 (worker-7; its address before any translation (NAT) on the way)",
        "Destination: db.example.com (10.140.2.14, 10.140.2.15)",
        "Port:        5432",
        "Protocol:    TCP (PostgreSQL)",
        "Direction:   outbound from the source",
        "Purpose:     aiia_pipelines reads the connector erp (ERP)",
        "Time:        2026-05-24 12:00:00 UTC",
        "Observed:    Connection timeout.",
    ]
    nowhere = FirewallRequest("", "w", "db", (), 1, "TCP", "p", NOON, "o").text
    assert "unknown (w; this worker has no route to anywhere)" in nowhere
    assert "db (no address known to this worker)" in nowhere


@pytest.mark.parametrize(
    ("source", "protocol"),
    [
        ({"kind": "sql", "url": "oracle://a@h/d"}, "TCP (Oracle Net)"),
        ({"kind": "sql", "url": "clickhouse://a@h/d"}, "TCP"),
        ({"kind": "rest", "url": "http://h"}, "TCP (HTTP)"),
        ({"kind": "s3", "bucket": "b"}, "TCP (HTTPS)"),
    ],
)
def test_a_firewall_request_names_the_protocol(source: dict[str, Any], protocol: str) -> None:
    wanted = Connector.model_validate(
        {"name": "a", "title": "A", "source": source, "streams": [{"name": "r", "table": "r"}]}
    )
    asked = request_for(wanted, "[::1]:443", NOON, "x", resolves=True)
    assert asked is not None
    assert (asked.protocol, asked.destination, asked.addresses) == (protocol, "::1", ("::1",))
    assert "Destination: ::1\n" in asked.text
    assert request_for(wanted, "/data/in:5", NOON, "x", resolves=True) is None
    assert request_for(wanted, "/data/in", NOON, "x", resolves=False) is None


def test_the_outbound_address_is_known_without_a_connection() -> None:
    assert outbound(["127.0.0.1"]) == "127.0.0.1"
    # Where no route leads there, that to anywhere tells.
    assert outbound(["not an address", "127.0.0.1"]) == "127.0.0.1"
