import re
import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from aiia_pipelines.connectors.base import open_source
from aiia_pipelines.jobs import contracts
from aiia_pipelines.jobs.log import Level
from aiia_pipelines.sync.destinations.postgres import PostgresLanding, open_postgres
from aiia_pipelines.sync.faults import Stopped
from aiia_pipelines.sync.pump import Pump

pytestmark = pytest.mark.integration
ROWS = {"name": "rows", "table": "public.rows"}
CANARY = "canary-Passw0rd-7f3a"


@pytest.mark.parametrize(
    "seconds", [2, pytest.param(20, marks=pytest.mark.acceptance)], ids=["2s", "default"]
)
def test_the_log_of_a_source_that_never_answers_is_exactly_this(bench: Any, seconds: int) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1]
        url = f"postgresql+psycopg://sap_read@127.0.0.1:{port}/production"
        options: dict[str, Any] = {"kind": "sql", "url": url, "password": CANARY}
        options |= {} if seconds == 20 else {"connect_timeout": seconds}
        ended = bench.sync(source=lambda: open_source(options))
    at = r"\[[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\]"
    assert re.sub(at, "[at]", ended.log) == (
        f"[at] INFO: Starting data refresh job run #{ended.number} (SAP ERP DB)\n"
        f"[at] INFO: Connecting to postgresql://sap_read@127.0.0.1:{port}/production...\n"
        f"[at] ERROR: Connection timeout. Unable to reach 127.0.0.1:{port} after {seconds} seconds.\n"
        "[at] FATAL: Job aborted with state FAILED."
    )
    assert (ended.state, ended.code) == ("Failed", "connection-timeout")
    assert ended.row.failure_place == f"127.0.0.1:{port}"
    steps = ended.steps("rows")
    assert (steps["prepare"], steps["connect"], steps["extract"]) == (
        "Completed",
        "Failed",
        "Skipped",
    )


def test_a_sync_that_goes_well_tells_what_arrived(bench: Any) -> None:
    bench.fill(
        "id int primary key, name text", "select n, 'n' || n from generate_series(1, 1234) n"
    )
    ended = bench.sync(ROWS | {"key": ["id"], "batch_rows": 500})
    assert ended.state == "Completed"
    assert [line.message for line in ended.lines][2:] == [
        "rows: 1,234 records extracted and valid.",
        "rows: reconciled, 8 figures agree on both sides.",
        "rows: committed, 1,234 inserted, 0 updated, 0 unchanged, 0 deleted.",
        "Job finished with state COMPLETED. 1,234 records ingested.",
    ]
    assert set(ended.steps("rows").values()) == {"Completed"}
    assert (ended.row.records, ended.row.bytes > 0) == (1234, True)
    assert bench.staging() == []
    assert bench.ledger() == 1


def test_one_bad_stream_of_three_leaves_the_others_committed(bench: Any) -> None:
    for name in ("a", "b", "c"):
        bench.fill("id int", "values (1), (2)", name=name)
    streams = [{"name": name, "table": f"public.{name}"} for name in ("a", "b", "c")]
    streams[1]["table"] = "public.missing"
    ended = bench.sync(*streams)
    assert (ended.state, ended.code, ended.row.records) == (
        "Partially Succeeded",
        "column-mismatch",
        4,
    )
    assert [line.message for line in ended.lines][-1] == (
        "Job finished with state PARTIALLY SUCCEEDED. 4 records ingested."
    )
    assert bench.arrived(name="a") == bench.arrived(name="c") == [(1,), (2,)]
    assert ended.steps("b")["commit"] == "Skipped"


def test_the_columns_learned_at_the_first_sync_are_frozen(bench: Any) -> None:
    bench.fill("id int, name text", "values (1, 'a')")
    assert bench.sync(ROWS).state == "Completed"
    learned = contracts.learned(bench.store, "sap_erp", "rows")
    assert learned is not None
    assert [column["type"] for column in learned] == ["int32", "string"]
    bench.fill("id int, title text", "values (1, 'a')")
    ended = bench.sync(ROWS)
    assert (ended.state, ended.code) == ("Error", "column-mismatch")
    error = next(line for line in ended.lines if line.level is Level.ERROR)
    assert error.detail[0].endswith("map it with `name: {from: title}`")
    assert "Traceback (most recent call last):" in error.detail
    assert contracts.learned(bench.store, "sap_erp", "rows") == learned
    assert bench.arrived() == [(1, "a")]
    mapped = bench.sync(ROWS | {"columns": {"name": {"from": "title"}}})
    assert mapped.state == "Completed", mapped.log


def test_values_never_reach_the_log_as_they_are(bench: Any) -> None:
    bench.fill("id int, card text", "values (1, 'Hidden4111')")
    column = {"card": {"type": "string", "checks": {"str_matches": "^[0-9]+$"}}}
    broken = bench.sync(ROWS | {"columns": column})
    assert (broken.state, broken.code) == ("Error", "value-invalid"), broken.log
    bench.fill("id int, booked date", "values (1, 'infinity')")
    infinite = bench.sync({"name": "dates", "table": "public.rows"})
    assert (infinite.state, infinite.code) == ("Error", "value-invalid")
    assert "Column 'booked', row 1: a str that is no exact date." in infinite.log
    for log in (broken.log, infinite.log):
        assert "4111" not in log
        assert "Hidden" not in log


@pytest.mark.parametrize(
    ("more", "rows", "code"),
    [
        ({"checks": {"row_count": {"min": 3}}}, 2, "row-count"),
        ({"checks": {"row_count": {"max": 1}}}, 2, "row-count"),
        ({"max_rows": 1}, 2, "too-many-records"),
        ({"checks": {"unique": ["kind"]}}, 2, "duplicate-key"),
        ({"key": ["kind"]}, 2, "duplicate-key"),
        ({}, 0, "empty-source"),
        ({"checks": {"row_count": {"min": 0}}}, 0, None),
    ],
)
def test_what_holds_over_the_whole_stream_is_checked_before_anything_is_seen(
    bench: Any, more: dict[str, Any], rows: int, code: str | None
) -> None:
    bench.fill("id int, kind text", "values (0, 'Secret-1')")
    assert bench.sync(ROWS).state == "Completed"
    bench.fill("id int, kind text", f"select n, 'Secret-1' from generate_series(1, {rows}) n")
    ended = bench.sync(ROWS | {"batch_rows": 1} | more)
    assert (ended.state, ended.code) == (("Error", code) if code else ("Completed", None))
    assert bench.arrived("id") == ([(0,)] if code else [])
    assert bench.staging() == []
    if code == "duplicate-key":
        assert "Duplicate values in rows: 2 rows share their kind." in ended.log
        assert "(xxxxxx-#) 2 times" in ended.log
        assert "Secret" not in ended.log


class Interrupted(PostgresLanding):
    """Somebody presses Ctrl-C while rows are on their way."""

    def stage(self, batch: Any, checkpoint: Any = None) -> None:
        super().stage(batch, checkpoint)
        raise KeyboardInterrupt

    def forward(self, rows: Any, checkpoint: Any = None) -> bool:
        super().forward(rows, checkpoint)
        raise KeyboardInterrupt


class InterruptedTooLate(PostgresLanding):
    """Somebody presses Ctrl-C when the rows are there already."""

    def commit(self, *given: Any, **how: Any) -> None:
        super().commit(*given, **how)
        raise KeyboardInterrupt


def test_an_interruption_after_the_last_commit_stops_nothing(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "aiia_pipelines.sync.destinations.postgres.PostgresLanding"
    monkeypatch.setattr(place, InterruptedTooLate)
    bench.fill("id int", "values (1)")
    ended = bench.sync(ROWS)
    assert (ended.state, bench.arrived()) == ("Completed", [(1,)])


def test_a_cancel_is_accepted_or_the_commit_is(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.fill("id int", "values (1)")
    accepted = []

    def newest() -> int:
        with bench.store.engine.connect() as db:
            found: int = db.exec_driver_sql("select max(number) from aiia.job_runs").scalar_one()
        return found

    class Asked(PostgresLanding):
        def commit(self, *given: Any, **how: Any) -> None:
            number = newest()
            seal = how.pop("seal")

            def sealed() -> None:
                if early:
                    accepted.append(bench.store.request_cancel(number, by="sara"))
                seal()
                if not early:
                    accepted.append(bench.store.request_cancel(number, by="sara"))

            super().commit(*given, seal=sealed)

    monkeypatch.setattr("aiia_pipelines.sync.destinations.postgres.PostgresLanding", Asked)
    early = False
    ended = bench.sync(ROWS)
    assert (ended.state, accepted, bench.arrived()) == ("Completed", [False], [(1,)])
    bench.fill("id int", "values (2)")
    early = True
    with pytest.raises(Stopped):
        bench.sync(ROWS)
    assert bench.store.row(newest()).state == "Cancelled"
    assert (accepted, bench.arrived()) == ([False, True], [(1,)])


def test_an_interrupted_sync_is_cancelled_and_leaves_nothing(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiia_pipelines.sync.destinations.postgres.PostgresLanding", Interrupted)
    for name in ("a", "b"):
        bench.fill("id int", "values (1)", name=name)
    streams = [{"name": name, "table": f"public.{name}"} for name in ("a", "b")]
    with pytest.raises(KeyboardInterrupt):
        bench.sync(*streams)
    number = bench.store.reserve() - 1
    assert bench.store.row(number).state == "Cancelled"
    assert {state.value for _, state in bench.store.tasks_of(number)} == {"Cancelled"}
    assert bench.staging() == []


def test_a_cancelled_sync_stops_between_batches(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.fill("id int", "select generate_series(1, 10)")
    read = Pump._read

    def asked(self: Pump, *given: Any) -> None:
        bench.store.request_cancel(self.recorder.number, by="sara")
        self.recorder.flush()
        read(self, *given)

    monkeypatch.setattr(Pump, "_read", asked)
    ended = None
    try:
        ended = bench.sync(ROWS)
    except Exception as stopped:  # noqa: BLE001 - told apart below
        assert type(stopped).__name__ == "Stopped"  # noqa: PT017
    number = ended.number if ended else bench.store.reserve() - 1
    assert bench.store.row(number).state == "Cancelled"
    assert bench.store.row(number).failure_code in {None, "cancelled"}
    assert bench.staging() == []
    assert bench.ledger() == 0


def test_a_tampered_staging_table_is_noticed_and_nothing_committed(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tampering(patch: pytest.MonkeyPatch, statement: str) -> None:
        match = PostgresLanding.match

        def tampered(self: PostgresLanding, *, complete: bool) -> Any:
            self._staging.seal()  # before that nobody else sees the table
            bench.warehouse.execute(statement.format(self._stage.as_string(self._db)))
            return match(self, complete=complete)

        patch.setattr(PostgresLanding, "match", tampered)

    bench.fill("id int, name text", "values (1, 'a'), (2, 'b')")
    for statement in (
        "delete from {} where id = 2",
        "update {} set id = 3 where id = 2",
        "update {} set name = null where id = 2",
        "update {} set name = 'c' where id = 2",
    ):
        with monkeypatch.context() as patch:
            tampering(patch, statement)
            ended = bench.sync(ROWS)
        assert (ended.state, ended.code) == ("Error", "reconciliation-mismatch"), statement
        assert bench.ledger() == 0
        assert bench.warehouse.execute("select to_regclass('sap_erp.rows')") == [(None,)]
        with bench.store.engine.connect() as db:
            query = "select count(*) from aiia.reconciliations where number = %s and not agrees"
            assert db.exec_driver_sql(query, (ended.number,)).scalar_one() > 0


@pytest.mark.usefixtures("forgetful")
def test_no_failing_path_tells_a_password(bench: Any, store_db: Any) -> None:
    bench.fill("id int", "values (1)")
    host = f"127.0.0.1:{bench.source.port}"
    sources: list[Callable[[], Any]] = [
        lambda: open_source(bench.source.options(password=CANARY)),
        lambda: open_source(
            bench.source.options(password=CANARY, url=f"postgresql://u@{host}/nope")
        ),
        lambda: open_source({"kind": "sql", "password": CANARY}),
        lambda: open_source({"kind": "nope", "password": CANARY}),
        lambda: open_source(
            bench.source.options(password=CANARY, url="postgresql://u@127.0.0.1:1/d")
        ),
        lambda: open_source({"kind": "sql", "url": f"postgresql://u:{CANARY}@{host}/nope"}),
    ]
    destinations = [
        f"postgresql://aiia_app:{CANARY}@{host}/{bench.warehouse.name}",
        f"postgresql://aiia_app:{CANARY}@127.0.0.1:1/x",
        f"postgres//aiia_app:{CANARY}@127.0.0.1/x",
        f"host=127.0.0.1 port={bench.source.port} user=aiia_app password={CANARY} dbname=x",
    ]
    ended = [bench.sync(source=source) for source in sources]
    ended += [bench.sync(destination=open_postgres(url)) for url in destinations]
    assert {run.state for run in ended} == {"Failed"}
    assert "unclassified" not in {run.code for run in ended[:1] + ended[4:]}
    for run in ended:
        assert CANARY not in run.log
    with bench.store.engine.connect() as db:
        for table in ("job_runs", "tasks", "steps", "log_lines", "attempts"):
            text = db.exec_driver_sql(f"select json_agg(t)::text from aiia.{table} t").scalar_one()
            assert CANARY not in text


def test_a_destination_without_url_is_a_mistake_in_the_settings(bench: Any) -> None:
    ended = bench.sync(destination=open_postgres("unset:warehouse"))
    assert (ended.state, ended.code) == ("Failed", "config-invalid")
    assert "set AIIA_DESTINATION_<NAME>" in ended.log
