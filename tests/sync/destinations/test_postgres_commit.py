import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from aiia_pipelines.jobs.classify import classify
from aiia_pipelines.sync.destinations._postgres_control import Control, set_up
from aiia_pipelines.sync.destinations._postgres_session import Session
from aiia_pipelines.sync.faults import DestinationFault

pytestmark = pytest.mark.integration
AB = [(1, "a"), (2, "b")]
MODES = [
    {"mode": "replace"},
    {"mode": "append"},
    {"mode": "upsert", "delete": "soft"},
    {"mode": "upsert", "delete": "hard"},
    {"mode": "history", "delete": "soft"},
]
NAMES = ["replace", "append", "soft", "hard", "history"]


def ready(dock: Any, rows: Any = AB, **facts: Any) -> Any:
    """Land rows up to the commit."""
    landing = dock.land(**facts)
    landing.stage(dock.batch(rows))
    return landing, landing.match(complete=True)


def test_the_position_moves_in_the_transaction_of_the_rows(dock: Any) -> None:
    positions = [{"cursor": "2026-01-01", "n": 10**20}, {"text": 'a"\u0000é'}, None, {"x": [1.5]}]
    before = None
    for number, position in enumerate(positions):
        landing, changes = ready(dock, run_key=f"run {number}")
        assert landing.position() == before
        landing.commit(2, changes, position)
        landing.discard()
        before = position
    state = dock.query("select generation, run_key from _aiia.sync_state")
    assert state == [(4, "run 3")]
    moved = "select position_from::text is null, position_to::text is null from _aiia.ledger order by epoch"
    assert dock.query(moved) == [(True, False), (False, False), (False, True), (True, False)]


def test_a_state_that_somebody_moved_meanwhile_undoes_the_commit(dock: Any) -> None:
    dock.sync(AB)
    landing, changes = ready(dock, [(1, "A")])
    dock.query("update _aiia.sync_state set generation = generation + 1")
    with pytest.raises(DestinationFault, match="Another run took over"):
        landing.commit(1, changes, None)
    assert dock.rows() == AB


def test_control_tables_of_an_older_version_are_brought_up_to_date(dock: Any) -> None:
    dock.query(
        "create schema _aiia",
        "create schema _aiia_stg",
        """create table _aiia.lease (connector text, stream text, epoch bigint not null,
          taken_at timestamptz not null default clock_timestamp(), primary key (connector, stream))""",
        """create table _aiia.ledger (run_key text primary key, connector text not null,
          stream text not null, mode text not null, epoch bigint not null, rows bigint not null,
          inserted bigint not null, updated bigint not null, unchanged bigint not null,
          deleted bigint not null, committed_at timestamptz not null default clock_timestamp())""",
        "insert into _aiia.lease values ('erp', 'rows', 6)",
        "insert into _aiia.ledger values ('old', 'erp', 'rows', 'replace', 6, 3, 3, 0, 0, 0)",
    )
    landing = dock.land(run_key="old")
    assert landing.committed_before()[0] == 3
    dock.sync(AB)
    assert dock.query("select max(epoch) from _aiia.ledger") == [(8,)]


def test_connecting_waits_for_nobody_once_the_control_tables_are_there(dock: Any) -> None:
    dock.sync(AB)
    holder = psycopg.connect(dock.warehouse.url())
    holder.execute("lock table _aiia.ledger, _aiia.sync_state in share mode")
    dock.destination()
    holder.close()


@pytest.mark.parametrize("mode", MODES, ids=NAMES)
def test_a_row_that_somebody_else_changes_after_the_match_undoes_the_commit(
    dock: Any, mode: dict[str, Any]
) -> None:
    dock.sync([(1, "a"), (2, "b"), (3, "c")], **mode)
    for disturbance in (
        "update erp.rows set name = 'z' where id = 2",
        "delete from erp.rows where id = 2",
    ):
        landing, changes = ready(dock, [(1, "a"), (2, "B")], **mode)
        dock.query(disturbance)
        with pytest.raises(DestinationFault, match="changed by somebody else") as fault:
            landing.commit(2, changes, None)
        assert classify(fault.value, side="destination").code == "destination-conflict"
        landing.discard()
    assert dock.query("select count(*) from _aiia.ledger") == [(1,)]


@pytest.mark.parametrize(
    "disturbance",
    [
        "insert into erp.rows values (9, 'x')",
        "update erp.rows set name = 'z' where id = 1",
        "delete from erp.rows where id = 1",
    ],
)
def test_replace_notices_rows_that_it_would_not_have_touched(dock: Any, disturbance: str) -> None:
    dock.sync([(1, "a"), (2, "b")])
    landing, changes = ready(dock, [(1, "a"), (2, "B")])
    dock.query(disturbance)
    with pytest.raises(DestinationFault, match="changed by somebody else"):
        landing.commit(2, changes, None)


def test_a_key_that_somebody_else_adds_after_the_match_undoes_the_commit(dock: Any) -> None:
    for mode in ("upsert", "history"):
        dock.query("drop schema if exists erp cascade")
        dock.sync([(1, "a"), (2, "b")], mode=mode)
        landing, changes = ready(dock, [(1, "a"), (3, "c")], mode=mode)
        moment = ", clock_timestamp()" if mode == "history" else ""
        dock.query(f"insert into erp.rows values (3, 'theirs'{moment})")
        with pytest.raises(DestinationFault, match="changed by somebody else"):
            landing.commit(2, changes, None)
        landing.discard()


def test_a_table_written_anew_by_vacuum_full_after_the_match_undoes_the_commit(dock: Any) -> None:
    dock.sync([(1, "a"), (2, "b"), (3, "c")], mode="upsert")
    landing, changes = ready(dock, [(3, "C")], mode="upsert", delete="hard")
    dock.query("vacuum full erp.rows")
    with pytest.raises(DestinationFault, match="changed by somebody else"):
        landing.commit(1, changes, None)


# -- the first commit of a stream --------------------------------------------------------------


def test_the_first_load_becomes_the_table_without_being_copied(dock: Any) -> None:
    landing, changes = ready(dock)
    file = "select pg_relation_filenode('{}')"
    staged = dock.query(file.format(f"_aiia_stg.{dock.staging()[0]}"))
    landing.commit(2, changes, None)
    landing.discard()
    assert dock.query(file.format("erp.rows")) == staged
    assert dock.query(
        "select relpersistence::text from pg_class where oid = 'erp.rows'::regclass"
    ) == [("p",)]
    index = "select indexrelid::regclass::text from pg_index where indrelid = 'erp.rows'::regclass"
    assert dock.query(index) == [("erp.rows_pkey",)]
    assert dock.query("select attname::text from pg_attribute where attrelid = 'erp.rows'::regclass"
                      " and attnotnull and attnum > 0") == [("id",)]  # fmt: skip


def test_the_name_of_a_key_that_is_taken_is_no_obstacle(dock: Any) -> None:
    dock.sync(AB)
    dock.query("alter table erp.rows rename to kept")
    assert dock.sync(AB) == (2, 0, 0, 0)
    assert dock.sync(AB) == (0, 0, 2, 0)


def test_rights_that_the_schema_gives_to_new_tables_are_given(dock: Any) -> None:
    dock.query(
        "create schema erp",
        "alter default privileges in schema erp grant select on tables to canary_reader",
    )
    dock.sync(AB)
    assert dock.query("select has_table_privilege('canary_reader', 'erp.rows', 'select')") == [
        (True,)
    ]


def test_a_table_that_appears_before_the_first_commit_is_a_conflict(dock: Any) -> None:
    landing, changes = ready(dock)
    dock.query("create schema erp", "create table erp.rows (id int)")
    with pytest.raises(DestinationFault, match="Another run took over"):
        landing.commit(2, changes, None)
    assert dock.rows() == []


def test_duplicates_are_counted_in_a_first_load_as_well(dock: Any) -> None:
    rows = [(1, "a"), (1, "b"), (2, "c"), (2, "d"), (2, "e"), (3, "f")]
    for _ in range(2):
        landing = dock.land()
        landing.stage(dock.batch(rows))
        count, samples = landing.duplicates(("id",))
        assert (count, sorted(samples)) == (5, ["(#) 2 times", "(#) 3 times"])
        landing.discard()
        dock.sync(AB)


# -- a connection that breaks inside the commit ------------------------------------------------


class Wire:
    """A way to the server that breaks at the first COMMIT after it was armed."""

    def __init__(self, port: int, *, lets_through: bool) -> None:
        self.lets_through = lets_through
        self.armed = False
        self.cuts = 0
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            for one, other, up in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(one, other, up), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                if up and self.armed and b"COMMIT\0" in data:
                    self.armed = False
                    self.cuts += 1
                    one.shutdown(socket.SHUT_RDWR)
                    if self.lets_through:
                        other.sendall(data)
                        other.recv(65536)
                    break
                other.sendall(data)
        for each in (one, other):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def wire(dock: Any) -> Iterator[Callable[[bool], Wire]]:
    made: list[Wire] = []

    def make(lets_through: bool) -> Wire:
        made.append(Wire(dock.warehouse.port, lets_through=lets_through))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("mode", MODES, ids=NAMES)
@pytest.mark.parametrize("lets_through", [True, False], ids=["done", "lost"])
def test_a_connection_that_breaks_at_the_commit_leaves_no_doubt(
    dock: Any, wire: Any, mode: dict[str, Any], lets_through: bool
) -> None:
    dock.sync([(1, "a"), (3, "c")], **mode)
    before, way = dock.rows("*", "1, 2"), wire(lets_through)
    url = dock.warehouse.url().replace(str(dock.warehouse.port), str(way.port))
    landing = dock.land(dock.destination(url), run_key="cut", **mode)
    landing.stage(dock.batch([(1, "A"), (2, "b")]))
    changes = landing.match(complete=True)
    way.armed = True
    if lets_through:
        landing.commit(2, changes, {"cursor": 2})
    else:
        with pytest.raises(DestinationFault) as fault:
            landing.commit(2, changes, {"cursor": 2})
        assert classify(fault.value, side="destination").code == "destination-unreachable"
        assert dock.rows("*", "1, 2") == before
    assert way.cuts == 1
    landing.discard()
    assert dock.staging() == []
    again = dock.land(run_key="cut", **mode)
    assert again.committed_before() == ((2, changes) if lets_through else None)
    assert again.position() == ({"cursor": 2} if lets_through else None)
    assert dock.query("select count(*) from _aiia.ledger") == [(2 if lets_through else 1,)]


def test_an_attempt_that_stands_still_while_it_takes_the_lease_keeps_the_next_one_waiting_for_seconds(
    dock: Any,
) -> None:
    still = Session(dock.warehouse.url())
    set_up(still.db)
    control = Control(still.db, "erp", "rows")
    still.db.execute("begin")
    assert control.take_lease() == 1
    # From here it does nothing any more: its transaction stays open.
    began = time.monotonic()
    landing = dock.land()
    assert landing._epoch == 1  # the first one was undone
    assert time.monotonic() - began < 40
    landing.discard()
    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        still.db.execute("commit")
    still.close()
