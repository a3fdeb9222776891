import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from mounting import may_mount

from aiia_pipelines.jobs.run import Changes
from aiia_pipelines.sync.destinations._postgres_sql import staging_prefix
from aiia_pipelines.sync.destinations.postgres import PostgresLanding, open_postgres
from aiia_pipelines.sync.faults import DestinationFault

pytestmark = pytest.mark.integration
ROWS = {"name": "rows", "table": "public.rows"}
KEYED = ROWS | {"key": ["id"]}
NEXT = "values (1, 'a'), (2, 'B'), (4, 'd')"


def first(bench: Any, stream: dict[str, Any]) -> None:
    bench.fill("id int, name text", "values (1, 'a'), (2, 'b'), (3, 'c')")
    assert bench.sync(stream).changes == (3, 0, 0, 0)
    bench.fill("id int, name text", NEXT)


@pytest.mark.parametrize(
    ("more", "changes", "rows"),
    [
        ({"key": ["id"]}, (1, 1, 1, 1), [(1, "a"), (2, "B"), (4, "d")]),
        ({}, (3, 0, 0, 3), [(1, "a"), (2, "B"), (4, "d")]),
        ({"mode": "upsert", "key": ["id"]}, (1, 1, 1, 0), [(1, "a"), (2, "B"), (3, "c"), (4, "d")]),
        (
            {"mode": "append"},
            (3, 0, 0, 0),
            [(1, "a"), (1, "a"), (2, "B"), (2, "b"), (3, "c"), (4, "d")],
        ),
        (
            {"mode": "append", "key": ["id"]},
            (1, 1, 1, 0),
            [(1, "a"), (2, "B"), (3, "c"), (4, "d")],
        ),
    ],
    ids=["replace by key", "replace", "upsert", "append", "append by key"],
)
def test_each_mode_counts_exactly_what_it_changes(
    bench: Any, more: dict[str, Any], changes: tuple[int, ...], rows: list[Any]
) -> None:
    first(bench, ROWS | more)
    assert bench.sync(ROWS | more).changes == changes
    assert bench.arrived(order="1, 2") == rows
    if "key" in more:
        assert bench.sync(ROWS | more).changes == (0, 0, 3, 0)


def test_views_and_grants_survive_and_old_snapshots_see_old_rows(bench: Any) -> None:
    first(bench, ROWS)
    bench.warehouse.execute(
        "create view public.names as select name from sap_erp.rows",
        "grant usage on schema sap_erp to canary_reader",
        "grant select on sap_erp.rows to canary_reader",
    )
    reader = bench.warehouse.connect("canary_reader")
    reader.set_session(isolation_level="REPEATABLE READ", readonly=True)
    seen: set[tuple[str, ...]] = set()
    ended = threading.Event()

    def watch() -> None:
        watcher = bench.warehouse.connect("canary_reader")
        watcher.autocommit = True
        with watcher.cursor() as cursor:
            while not ended.is_set():
                cursor.execute("select name from sap_erp.rows order by id")
                seen.add(tuple(name for (name,) in cursor.fetchall()))
        watcher.close()

    thread = threading.Thread(target=watch)
    thread.start()
    with reader.cursor() as cursor:
        cursor.execute("select count(*), max(name) from sap_erp.rows")
        before = cursor.fetchone()
        assert bench.sync(ROWS).state == "Completed"
        cursor.execute("select count(*), max(name) from sap_erp.rows")
        assert cursor.fetchone() == before == (3, "c")
    reader.close()
    ended.set()
    thread.join()
    assert seen <= {("a", "b", "c"), ("a", "B", "d")}
    assert bench.warehouse.execute("select count(*) from public.names") == [(3,)]
    query = "select max(id) from sap_erp.rows"
    assert bench.warehouse.execute(query, user="canary_reader") == [(4,)]


def test_another_attempt_of_the_same_run_reports_what_was_committed(bench: Any) -> None:
    first(bench, KEYED)
    done = bench.sync(KEYED, uid="run-1")
    again = bench.sync(KEYED, uid="run-1")
    assert again.changes == done.changes == (1, 1, 1, 1)
    assert (again.state, again.row.records) == ("Completed", 3)
    assert "rows: an earlier attempt of this run committed it." in again.log
    assert bench.ledger() == 2


def test_an_older_attempt_cannot_commit_once_a_newer_one_began(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first(bench, KEYED)
    commit = PostgresLanding.commit

    def overtaken(self: PostgresLanding, *given: Any, **named: Any) -> None:
        query = "update _aiia.lease set epoch = epoch + 1 where stream = 'rows'"
        bench.warehouse.execute(query)
        commit(self, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(PostgresLanding, "commit", overtaken)
        ended = bench.sync(KEYED)
    assert (ended.state, ended.code) == ("Failed", "destination-conflict")
    assert bench.arrived() == [(1, "a"), (2, "b"), (3, "c")]
    assert bench.ledger() == 1
    assert bench.sync(KEYED).changes == (1, 1, 1, 1)


def test_rows_that_somebody_else_changes_after_the_match_undo_the_commit(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first(bench, KEYED)
    commit = PostgresLanding.commit

    def disturbed(self: PostgresLanding, *given: Any, **named: Any) -> None:
        bench.warehouse.execute("insert into sap_erp.rows values (9, 'x')")
        commit(self, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(PostgresLanding, "commit", disturbed)
        ended = bench.sync(KEYED)
    assert (ended.state, ended.code) == ("Failed", "destination-conflict")
    assert bench.arrived("id") == [(1,), (2,), (3,), (9,)]


KILLED = """
import os, signal, sys
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync.contract import Contract, ContractColumn
from aiia_pipelines.sync.destinations.base import Load
from aiia_pipelines.sync.destinations.postgres import open_postgres
url, phase = sys.argv[1:]
def column(name, kind):
    return ContractColumn(name=name, source=name, type=ColumnType.parse(kind), nullable=name != "id",
                          checks={})
contract = Contract((column("id", "int32"), column("name", "string")), ("id",), (("id",),), None, None)
def reached(name):
    if name == phase:
        os.kill(os.getpid(), signal.SIGKILL)
destination = open_postgres(url)
destination.connect()
landing = destination.land(Load(connector="sap_erp", stream="rows", mode="replace", run_key="killed/rows",
                                contract=contract))
reached("lease")
landing.stage(contract.parse([(1, "a"), (2, "B")], 1))
if phase == "copy":
    landing._staging.seal()
    with landing._db.cursor().copy(f"copy {landing._stage.as_string(landing._db)} from stdin") as copy:
        copy.write(b"4\\td\\n")
        reached("copy")
landing.stage(contract.parse([(4, "d")], 3))
changes = landing.match(complete=True)
reached("match")
apply = landing._apply
def applied(*given):
    apply(*given)
    reached("commit")
landing._apply = applied
landing.commit(3, changes, None)
"""


@pytest.mark.parametrize("phase", ["lease", "copy", "match", "commit"])
def test_a_killed_sync_leaves_the_old_rows_and_the_next_one_succeeds(
    bench: Any, phase: str
) -> None:
    first(bench, KEYED)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, bench.warehouse.url(), phase], check=False, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL
    assert bench.arrived() == [(1, "a"), (2, "b"), (3, "c")]
    assert bench.ledger() == 1
    assert bench.sync(KEYED).changes == (1, 1, 1, 1)
    assert bench.arrived() == [(1, "a"), (2, "B"), (4, "d")]
    assert bench.staging() == []


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql://aiia_app@127.0.0.1:1/x", "destination-unreachable"),
        ("postgresql://aiia_app@no-such-host.invalid/x", "destination-unreachable"),
        ("postgresql://aiia_app:wrong-one@127.0.0.1:{port}/{name}", "destination-login"),
        ("postgresql://aiia_app@127.0.0.1:{port}/nope", "destination-login"),
        ("postgresql://canary_reader@127.0.0.1:{port}/{name}", "destination-permission"),
    ],
)
def test_a_destination_that_refuses_has_a_code_of_its_own(bench: Any, url: str, code: str) -> None:
    bench.fill("id int", "values (1)")
    place = bench.warehouse
    ended = bench.sync(destination=open_postgres(url.format(port=place.port, name=place.name)))
    assert (ended.state, ended.code) == ("Failed", code), ended.log
    assert "wrong-one" not in ended.log
    assert ended.steps("rows")["prepare"] == "Failed"


@pytest.mark.parametrize("rows", ["values (1)", ""], ids=["rows", "no rows"])
def test_a_lost_right_to_write_is_the_destinations_fault(bench: Any, rows: str) -> None:
    bench.fill("id int", rows)
    bench.sync(ROWS | {"name": "other"})
    bench.warehouse.execute(
        "grant usage on schema _aiia, _aiia_stg to canary_reader",
        "grant all on all tables in schema _aiia to canary_reader",
        f"grant create on database {bench.warehouse.name} to canary_reader",
    )
    destination = open_postgres(bench.warehouse.url("canary_reader"))
    stream = KEYED | {"checks": {"row_count": {"min": 0}}}
    ended = bench.sync(stream, destination=destination)
    assert (ended.state, ended.code) == ("Failed", "destination-permission"), ended.log


def test_a_session_that_the_destination_ends_leaves_the_old_rows(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first(bench, KEYED)
    match = PostgresLanding.match

    def cut(self: PostgresLanding, **given: bool) -> Changes:
        found = match(self, **given)
        query = "select pg_terminate_backend(pid) from pg_stat_activity where pid = {}"
        bench.warehouse.execute(query.format(self._db.info.backend_pid), user="aiia")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(PostgresLanding, "match", cut)
        ended = bench.sync(KEYED)
    assert (ended.state, ended.code) == ("Failed", "destination-unreachable")
    assert bench.arrived("name") == [("a",), ("b",), ("c",)]
    assert bench.sync(KEYED).state == "Completed"
    assert bench.staging() == []


MAY_MOUNT = may_mount()


@pytest.mark.parametrize(
    "disk", [MAY_MOUNT], ids=["on a small disk" if MAY_MOUNT else "left out: no right to mount"]
)
def test_a_full_disk_of_the_destination_is_told(bench: Any, server: Any, disk: bool) -> None:
    folder = server.home / f"small_{time.monotonic_ns()}"
    folder.mkdir(mode=0o755)
    if not disk:
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=True)
    try:
        owner = (server.log.parent / "data").stat()
        os.chown(folder, owner.st_uid, owner.st_gid)
        bench.warehouse.execute(f"create tablespace tiny location '{folder}'", user="aiia")
        bench.warehouse.execute("grant create on tablespace tiny to aiia_app", user="aiia")
        bench.fill(
            "id int, t text", "select n, repeat(md5(n::text), 30) from generate_series(1, 20000) n"
        )
        bench.warehouse.execute("alter role aiia_app set default_tablespace = tiny", user="aiia")
        ended = bench.sync()
        assert (ended.state, ended.code) == ("Failed", "destination-disk-full"), ended.log
        assert bench.ledger() == 0
    finally:
        bench.warehouse.execute("alter role aiia_app reset default_tablespace", user="aiia")
        admin = bench.warehouse.server.connect("postgres")
        admin.autocommit = True
        with admin.cursor() as cursor:
            for name in (bench.warehouse.name, bench.source.name):
                cursor.execute(f"drop database if exists {name} with (force)")
            cursor.execute("drop tablespace if exists tiny")
        admin.close()
        subprocess.run(["umount", str(folder)], check=False)


def test_streams_of_alike_names_do_not_share_their_staging() -> None:
    prefixes = {
        staging_prefix(connector, stream)
        for connector, stream in [
            ("a", "b__c"),
            ("a__b", "c"),
            ("a_", "b"),
            ("a", "b"),
            ("x" * 40, "y"),
        ]
    }
    assert len(prefixes) == 5
    assert staging_prefix("sap_erp", "journal_entries") == "sap_erp__journal_entries"
    assert max(map(len, prefixes)) < 41


def test_the_destination_is_named_without_password() -> None:
    opened = open_postgres("postgresql+psycopg2://u:canary-1234@h:5433/d")
    assert opened.describe() == "postgresql://u@h:5433/d"
    with pytest.raises(DestinationFault) as wrong:
        open_postgres("postgres//u:canary-1234@h").describe()
    assert "canary" not in str(wrong.value)
