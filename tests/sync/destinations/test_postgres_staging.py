import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync.destinations._postgres_lane import ArrowLane, CopyLane, goes_in_binary
from aiia_pipelines.sync.destinations.base import REJECTED
from aiia_pipelines.sync.faults import DestinationFault
from aiia_pipelines.sync.reconcile import compare, mismatch
from aiia_pipelines.sync.totals import Totals

pytestmark = pytest.mark.integration
NAN, INF = float("nan"), float("inf")
TOP = Decimal("9" * 38)
MOMENTS = [
    dt.datetime(1, 1, 1, tzinfo=dt.UTC),
    dt.datetime(9999, 12, 31, 23, 59, 59, 999999, dt.UTC),
    dt.datetime(1999, 12, 31, 23, 59, 59, 999999, dt.UTC),
    dt.datetime(1969, 12, 31, 0, 0, 0, 1, dt.UTC),
]
EDGES: dict[str, list[Any]] = {
    "bool": [True, False],
    "int16": [-(2**15), 2**15 - 1],
    "int32": [-(2**31), 2**31 - 1],
    "int64": [-(2**63), 2**63 - 1],
    "float32": [NAN, INF, -INF, -0.0, 1e-45, 3.4028234663852886e38],
    "float64": [NAN, INF, -INF, -0.0, 5e-324, 1.7976931348623157e308],
    "decimal(38,0)": [TOP, Decimal("-" + "9" * 38), Decimal(0), Decimal(10000), Decimal(10) ** 37],
    "decimal(38,38)": [Decimal(1).scaleb(-38), Decimal(-1).scaleb(-38), Decimal("0.1"), Decimal("0.00010000")],
    "decimal(9,4)": [Decimal("99999.9999"), Decimal("-0.0001"), Decimal(10000), Decimal("0.1000")],
    "decimal(76,2)": [Decimal("9" * 74 + ".99"), Decimal("-" + "9" * 74 + ".99"), Decimal("0.01")],
    "decimal": [Decimal("1.500"), Decimal("12345678901234567890.12345678901234567890")],
    "string": ["", "\\N", "NULL", "a\r\n\t\"',;", "\U0001f600e\u0301", "x" * 100_000],
    "binary": [b"", b"\x00\xff\\x", bytes(range(256))],
    "date": [dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(1999, 12, 31), dt.date(2000, 1, 1)],
    "time": [dt.time(0), dt.time(23, 59, 59, 999999)],
    "timestamp": [moment.replace(tzinfo=None) for moment in MOMENTS],
    "timestamptz": MOMENTS,
    "interval": ["1 year 2 mons -3 days +04:05:06.789", "1 mon", "30 days"],
    "uuid": ["00000000-0000-0000-0000-000000000007", "ffffffff-ffff-4fff-bfff-ffffffffffff"],
    "json": ["null", '{"a": 1, "a":2}', "  12e400 ", '"\\u0000"'],
    "list<int16>": [[], [1, None, -1]],
    "list<int32>": [[], [1, None, -1]],
    "list<int64>": [[], [2**63 - 1, None]],
    "list<float32>": [[NAN, None, -0.0, 0.5]],
    "list<float64>": [[NAN, None, -0.0, 0.1]],
    "list<bool>": [[True, None, False]],
    "list<string>": [[], ["", None, 'a"\\,{}', "NULL"]],
    "list<binary>": [[b"", None, b"\x00"]],
    "list<date>": [[dt.date(1, 1, 1), None]],
    "list<time>": [[dt.time(1), None]],
    "list<timestamp>": [[MOMENTS[0].replace(tzinfo=None), None]],
    "list<timestamptz>": [[MOMENTS[1], None]],
    "list<decimal(5,2)>": [[Decimal("1.50"), None, Decimal("-0.01")]],
    "list<uuid>": [["00000000-0000-0000-0000-000000000007", None]],
    "list<json>": [['{"a": [1, "x"]}', None]],
}  # fmt: skip


def text(kind: str, value: Any) -> Any:
    """Say what psycopg reads back for a value."""
    if value is None or isinstance(value, str):
        return value
    if kind.startswith("list<"):
        return [text(kind[5:-1], item) for item in value]
    if kind.startswith("decimal"):
        scale = ColumnType.parse(kind).scale
        return format(value, "f") if scale is None else f"{value:.{scale}f}"
    if kind.startswith("float"):
        return repr(np.float32(value) if kind == "float32" else value)
    return str(value)


@pytest.mark.parametrize("lane", ["binary", "csv"])
@pytest.mark.parametrize("kind", EDGES)
def test_values_at_the_edges_arrive_exactly_and_reconcile_by_either_lane(
    dock: Any, kind: str, lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock.columns = {"id": "int32", "v": kind}
    values = [*EDGES[kind], None]
    landing = dock.land()
    binary = lane == "binary" and goes_in_binary(ColumnType.parse(kind))
    if not binary:
        monkeypatch.setattr(landing, "_lane", lambda: CopyLane(landing._db))
    assert isinstance(landing._lane(), ArrowLane if binary else CopyLane)
    batch = dock.batch(list(enumerate(values)))
    landing.stage(batch)
    totals = Totals(dock.contract(), "full")
    totals.add(batch)
    wanted = totals.figures()
    assert mismatch("rows", compare(wanted, landing.figures(list(wanted)))) is None
    landing.commit(len(values), landing.match(complete=True), None)
    db = psycopg.connect(dock.warehouse.url())
    db.adapters.register_loader("numeric", psycopg.types.string.TextLoader)
    for name in ("json", "uuid", "interval"):
        db.adapters.register_loader(name, psycopg.types.string.TextLoader)
    found = [value for (value,) in db.execute("select v from erp.rows order by id")]
    db.close()
    assert [text(kind, value) for value in found] == [text(kind, value) for value in values]


def test_only_types_seen_to_be_exact_go_in_binary() -> None:
    csv = {kind for kind in EDGES if not goes_in_binary(ColumnType.parse(kind))}
    assert csv == {"decimal", "interval", "list<uuid>"}
    assert not goes_in_binary(ColumnType.parse("decimal(100,0)"))


def test_uuids_are_read_in_every_form_that_postgresql_reads_and_in_no_other(dock: Any) -> None:
    dock.columns = {"id": "int32", "v": "uuid"}
    plain = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"

    def batch(*forms: str | None) -> pa.RecordBatch:
        columns = [pa.array(range(len(forms)), pa.int32()), pa.array(forms, pa.string())]
        return pa.RecordBatch.from_arrays(columns, names=["id", "v"])

    forms = [plain, plain.upper(), f"{{{plain}}}", plain.replace("-", ""), None]
    landing = dock.land()
    landing.stage(batch("", *forms).slice(1))
    landing.commit(5, landing.match(complete=True), None)
    assert dock.rows("v::text") == [*[(plain,)] * 4, (None,)]
    for wrong in ("a0eebc99", "z" * 32, f"{{{plain}", f" {plain}", plain.replace("a", "_", 1)):
        with pytest.raises(DestinationFault, match="is no uuid") as fault:
            dock.land().stage(batch(wrong))
        assert wrong not in str(fault.value)


def test_a_refused_value_is_not_repeated(dock: Any) -> None:
    for columns, value in (({"v": "json"}, '{"canary": '), ({"v": "interval"}, "canary")):
        dock.columns = {"id": "int32"} | columns
        landing = dock.land()
        with pytest.raises(DestinationFault) as fault:
            landing.stage(dock.batch([(1, value)]))
        assert "canary" not in str(fault.value)
        assert any(signal.startswith("sqlstate:22") for signal in fault.value.signals)
        landing.discard()
        dock.columns = {"id": "int32", "name": "string"}
        assert dock.sync([(1, "a")])[0] <= 1


# -- checkpoints -------------------------------------------------------------------------------

PLANNED: dict[str, Any] = {"plan": "p1"}
INTERVAL = {"id": "int32", "name": "string", "i": "interval"}


def rejected(*numbers: int) -> pa.RecordBatch:
    rows = [{"row": n, "place": "", "rules": "r", "record": "{}"} for n in numbers]
    return pa.RecordBatch.from_pylist(rows, schema=REJECTED)


@pytest.mark.parametrize("columns", [None, INTERVAL], ids=["binary", "csv"])
@pytest.mark.parametrize("there", [False, True], ids=["first load", "table there"])
def test_a_broken_attempt_is_gone_on_with_from_its_last_checkpoint(
    dock: Any, columns: dict[str, str] | None, there: bool
) -> None:
    dock.columns = columns or dock.columns
    more = ("1 day",) if columns else ()
    if there:
        dock.sync([(1, "old", *more)])
    broken = dock.land(**PLANNED)
    assert broken.resume() is None
    broken.reject(rejected(1))
    broken.stage(dock.batch([(1, "a", *more)]), {"after": 1})
    broken.reject(rejected(2))
    broken.stage(dock.batch([(2, "b", *more)]), {"after": 2})
    broken.reject(rejected(3))
    broken.stage(dock.batch([(3, "lost", *more)]))
    broken.discard(keep=True)

    landing = dock.land(**PLANNED)
    assert landing.resume() == {"after": 2}
    landing.stage(dock.batch([(3, "c", *more)]))
    landing.reject(rejected(4))
    assert landing.duplicates(("id",)) == (0, [])
    landing.commit(3, landing.match(complete=True), None)
    landing.discard(keep=True)
    assert dock.rows("id, name") == [(1, "a"), (2, "b"), (3, "c")]
    assert dock.query('select "row" from erp.rows__quarantine order by 1') == [(1,), (2,), (4,)]
    assert dock.staging() == []
    assert dock.query("select count(*) from _aiia.checkpoint") == [(0,)]
    assert dock.query(
        "select relpersistence::text from pg_class where oid = 'erp.rows'::regclass"
    ) == [("p",)]


def test_rows_behind_the_last_checkpoint_vanish_with_a_killed_attempt(dock: Any) -> None:
    broken = dock.land(**PLANNED)
    broken.stage(dock.batch([(1, "a")]), {"after": 1})
    broken.stage(dock.batch([(2, "b")]))
    dock.opened[-1].close()
    landing = dock.land(**PLANNED)
    assert landing.resume() == {"after": 1}
    assert landing.figures([("", "rows")]) == {("", "rows"): 1}


def test_an_attempt_that_broke_after_its_last_row_is_gone_on_with_too(dock: Any) -> None:
    broken = dock.land(**PLANNED)
    broken.stage(dock.batch([(1, "a")]), {"after": 1})
    assert broken.duplicates(("id",)) == (0, [])
    broken.match(complete=True)
    broken.discard(keep=True)
    landing = dock.land(**PLANNED)
    assert landing.resume() == {"after": 1}
    landing.stage(dock.batch([(2, "b")]), {"after": 2})
    assert landing.duplicates(("id",)) == (0, [])
    landing.commit(2, landing.match(complete=True), None)
    assert dock.rows() == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("columns", [None, INTERVAL], ids=["binary", "csv"])
def test_sealed_rows_that_no_checkpoint_knows_of_are_not_gone_on_with(
    dock: Any, columns: dict[str, str] | None
) -> None:
    dock.columns = columns or dock.columns
    more = ("1 day",) if columns else ()
    for killed in (True, False):
        broken = dock.land(**PLANNED)
        assert broken.resume() is None
        broken.stage(dock.batch([(1, "a", *more)]), {"after": 1})
        broken.stage(dock.batch([(1, "b", *more)]))
        assert broken.duplicates(("id",))[0] == 2
        if killed:
            dock.opened[-1].close()
        else:
            broken.discard(keep=True)
            assert dock.staging() == []


def test_staged_rows_of_other_types_are_not_gone_on_with(dock: Any) -> None:
    broken = dock.land(**PLANNED)
    broken.stage(dock.batch([(1, "a")]), {"after": 1})
    broken.discard(keep=True)
    dock.columns = {"id": "int64", "name": "string"}
    assert dock.land(**PLANNED).resume() is None


def test_another_plan_begins_from_nothing(dock: Any) -> None:
    broken = dock.land(**PLANNED)
    broken.stage(dock.batch([(1, "a")]), {"after": 1})
    broken.discard(keep=True)
    assert len(dock.staging()) == 1
    landing = dock.land(plan="p2")
    assert landing.resume() is None
    assert dock.staging() == []
    landing.stage(dock.batch([(2, "b")]), {"after": 2})
    landing.discard()
    assert dock.staging() == []
    assert dock.land(plan="p2").resume() is None
    assert dock.land(**PLANNED).resume() is None


def test_what_has_no_checkpoint_is_not_kept(dock: Any) -> None:
    for facts, checkpoint in (({}, {"after": 1}), (PLANNED, None)):
        broken = dock.land(**facts)
        broken.stage(dock.batch([(1, "a")]), checkpoint)
        broken.discard(keep=True)
        assert dock.staging() == []


def test_an_attempt_that_was_taken_over_cannot_write_any_more(dock: Any) -> None:
    zombie = dock.land(**PLANNED)
    zombie.stage(dock.batch([(1, "a")]), {"after": 1})
    heir = dock.land(**PLANNED)
    assert heir.resume() == {"after": 1}
    with pytest.raises(DestinationFault, match="Another run took over") as fault:
        zombie.stage(dock.batch([(2, "zombie")]), {"after": 2})
    assert "destination:fenced" in fault.value.signals
    zombie.discard(keep=True)
    heir.stage(dock.batch([(2, "b")]), {"after": 2})
    heir.commit(2, heir.match(complete=True), None)
    zombie.discard()
    assert dock.rows() == [(1, "a"), (2, "b")]


def test_an_empty_batch_of_a_zombie_moves_no_checkpoint(dock: Any) -> None:
    zombie = dock.land(**PLANNED)
    zombie.stage(dock.batch([(1, "a")]), {"after": 1})
    heir = dock.land(**PLANNED)
    heir.resume()
    zombie.stage(dock.batch([]), {"after": 99})
    assert dock.query("select state ->> 'after' from _aiia.checkpoint") == [("1",)]
    heir.discard(keep=True)
    assert dock.land(**PLANNED).resume() == {"after": 1}


def test_an_attempt_that_stands_still_in_the_middle_of_a_copy_blocks_nobody(dock: Any) -> None:
    zombie = dock.land()
    zombie.stage(dock.batch([(1, "a")]))
    with zombie._db.cursor().copy(f"copy {zombie._stage.as_string()} from stdin") as writer:
        writer.write(b"2\tzombie\n")
        landing = dock.land()
        landing.stage(dock.batch([(3, "c")]))
        landing.commit(1, landing.match(complete=True), None)
        landing.discard()
        assert dock.rows() == [(3, "c")]
    dock.sync([(3, "c")])


def test_a_destination_without_a_second_connection_takes_the_slow_lane(dock: Any) -> None:
    dock.destination().close()
    owner = "select current_user"
    ((name,),) = dock.query(owner)
    dock.warehouse.execute(f"alter role {name} connection limit 1", user="aiia")
    try:
        destination = dock.destination()
        landing = dock.land(destination)
        landing.stage(dock.batch([(1, "a")]))
        landing.commit(1, landing.match(complete=True), None)
        destination.close()
    finally:
        dock.warehouse.execute(f"alter role {name} connection limit -1", user="aiia")
    assert dock.rows() == [(1, "a")]


def staged(db: psycopg.Connection) -> int:
    """Count the staging tables that others see."""
    found = db.execute("select count(*) from pg_tables where schemaname = '_aiia_stg'").fetchone()
    return int(found[0]) if found else 0


def test_rows_of_a_new_table_are_frozen_so_that_reading_them_writes_nothing(dock: Any) -> None:
    # COPY on the connection of the landing takes these.
    dock.columns = {"id": "int32", "v": "decimal"}
    landing = dock.land()
    with psycopg.connect(dock.warehouse.url(), autocommit=True) as db:
        for start in (0, 20_000):
            landing.stage(dock.batch([(n, Decimal(n)) for n in range(start, start + 20_000)]))
            assert staged(db) == 0
        landing.commit(40_000, landing.match(complete=True), None)
        read = "explain (analyze, buffers) select count(*) from erp.rows"
        plan = "\n".join(row[0] for row in db.execute(read).fetchall())
        assert "Buffers" in plan
        assert "dirtied" not in plan
    assert dock.rows("count(*)") == [(40_000,)]


def test_where_transactions_are_to_be_short_each_batch_is_kept_by_itself(dock: Any) -> None:
    dock.columns = {"id": "int32", "v": "decimal"}
    landing = dock.land()
    with psycopg.connect(dock.warehouse.url(), autocommit=True) as db:
        assert db.info.server_version >= 170000, "older servers have no such limit"
        landing._db.execute("set transaction_timeout = '10min'")
        landing.stage(dock.batch([(1, Decimal(1))]))
        assert staged(db) == 1
    landing.stage(dock.batch([(2, None)]))
    landing.commit(2, landing.match(complete=True), None)
    assert dock.rows("id") == [(1,), (2,)]


def test_a_landing_that_is_given_up_leaves_nothing_of_a_table_that_nobody_saw(dock: Any) -> None:
    dock.columns = {"id": "int32", "v": "decimal"}
    landing = dock.land()
    landing.stage(dock.batch([(1, Decimal(1))]))
    landing.discard()
    with psycopg.connect(dock.warehouse.url(), autocommit=True) as db:
        assert staged(db) == 0
    again = dock.land()
    again.stage(dock.batch([(2, Decimal(2))]))
    again.commit(1, again.match(complete=True), None)
    assert dock.rows("id") == [(2,)]
