from typing import Any

import pytest

from aiia_pipelines.sync.faults import DestinationFault

pytestmark = pytest.mark.integration
SOFT: dict[str, Any] = {"mode": "upsert", "delete": "soft"}
HARD: dict[str, Any] = {"mode": "upsert", "delete": "hard"}
HISTORY: dict[str, Any] = {"mode": "history", "delete": "soft"}
ABC = [(1, "a"), (2, "b"), (3, "c")]


def test_rows_deleted_softly_are_marked_once_and_come_back_as_inserted(dock: Any) -> None:
    assert dock.sync(ABC, complete=True, **SOFT) == (3, 0, 0, 0)
    assert dock.sync([(1, "a"), (2, "B")], complete=True, **SOFT) == (0, 1, 1, 1)
    marked = dock.rows("id, name, _deleted_at is not null")
    assert marked == [(1, "a", False), (2, "B", False), (3, "c", True)]
    assert dock.land(**SOFT).live_rows() == 2
    first = dock.rows("_deleted_at", order="id desc")
    assert dock.sync([(1, "a"), (2, "B")], complete=True, **SOFT) == (0, 0, 2, 0)
    assert dock.rows("_deleted_at", order="id desc") == first
    assert dock.sync([(3, "c")], **SOFT) == (1, 0, 0, 0)
    assert dock.rows("id, _deleted_at") == [(1, None), (2, None), (3, None)]


def test_rows_deleted_hard_are_gone(dock: Any) -> None:
    dock.sync(ABC, complete=True, **HARD)
    assert dock.sync([(1, "A")], complete=True, **HARD) == (0, 1, 0, 2)
    assert dock.rows() == [(1, "A")]


@pytest.mark.parametrize("mode", [SOFT, HARD, HISTORY], ids=["soft", "hard", "history"])
def test_keys_that_the_source_listed_decide_what_is_deleted(dock: Any, mode: Any) -> None:
    dock.sync(ABC, **mode)
    assert dock.sync([(4, "d")], keys=[1, 3, 4], **mode) == (1, 0, 0, 1)
    assert dock.sync([], keys=[1, 3, 4], **mode) == (0, 0, 0, 0)
    assert dock.land(**mode).live_rows() == 3
    assert dock.sync([(5, "e")], **mode) == (1, 0, 0, 0)
    assert dock.sync([], keys=[], **mode) == (0, 0, 0, 4)


def test_history_keeps_every_version_without_gap_or_overlap(dock: Any) -> None:
    assert dock.sync(ABC, complete=True, **HISTORY) == (3, 0, 0, 0)
    assert dock.sync([(1, "a"), (2, "B")], complete=True, **HISTORY) == (0, 1, 1, 1)
    assert dock.sync([(1, "a"), (2, "B"), (3, "c")], complete=True, **HISTORY) == (1, 0, 2, 0)
    versions = dock.rows("id, name, _valid_to is null", order="id, _valid_from")
    assert versions == [
        (1, "a", True), (2, "b", False), (2, "B", True), (3, "c", False), (3, "c", True),
    ]  # fmt: skip
    gaps = """select count(*) from erp.rows a join erp.rows b using (id)
      where a._valid_from < b._valid_from and a._valid_to > b._valid_from"""
    assert dock.query(gaps) == [(0,)]
    joined = """select count(*) from erp.rows a join erp.rows b
      on a.id = b.id and a.id = 2 and a._valid_to = b._valid_from"""
    assert dock.query(joined) == [(1,)]
    assert dock.land(**HISTORY).live_rows() == 3


def test_commit_times_grow_though_the_clock_of_the_server_goes_back(dock: Any) -> None:
    dock.sync([(1, "a")], **HISTORY)
    dock.query("update _aiia.sync_state set committed_at = '2999-01-01'")
    dock.sync([(1, "b")], **HISTORY)
    dock.sync([(1, "c")], **HISTORY)
    query = "select count(*) from erp.rows where _valid_to <= _valid_from"
    assert dock.query(query) == [(0,)]
    times = dock.rows("_valid_from::text", order="_valid_from desc")
    assert times[0] == ("2999-01-01 00:00:00.000002+00",)


def test_an_unchanged_table_is_not_touched_on_disk(dock: Any) -> None:
    for mode in ({"mode": "replace"}, {"mode": "upsert"}):
        dock.sync(ABC, **mode)
        places = dock.rows("ctid::text, xmin::text")
        assert dock.sync(ABC, **mode) == (0, 0, 3, 0)
        assert dock.rows("ctid::text, xmin::text") == places


def test_values_that_postgresql_takes_for_equal_are_still_changes(dock: Any) -> None:
    dock.columns = {
        "id": "int32", "f": "float64", "g": "float32", "n": "decimal", "j": "json",
        "i": "interval", "l": "list<float64>",
    }  # fmt: skip
    one = (1, 0.0, 0.0, "1.0", '{"a": 1}', "1 mon", [0.0])
    rows = [
        (1, -0.0, 0.0, "1.0", '{"a": 1}', "1 mon", [0.0]),
        (1, -0.0, -0.0, "1.0", '{"a": 1}', "1 mon", [0.0]),
        (1, -0.0, -0.0, "1.00", '{"a": 1}', "1 mon", [0.0]),
        (1, -0.0, -0.0, "1.00", '{"a":1}', "1 mon", [0.0]),
        (1, -0.0, -0.0, "1.00", '{"a":1}', "30 days", [0.0]),
        (1, -0.0, -0.0, "1.00", '{"a":1}', "30 days", [-0.0]),
    ]
    from decimal import Decimal

    def exact(row: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*row[:3], Decimal(row[3]), *row[4:])

    dock.sync([exact(one)], mode="upsert")
    for row in rows:
        assert dock.sync([exact(row)], mode="upsert") == (0, 1, 0, 0)
        assert dock.sync([exact(row)], mode="upsert") == (0, 0, 1, 0)
    everything = "f::text, g::text, n::text, j::text, i::text, l::text"
    assert dock.rows(everything) == [("-0", "-0", "1.00", '{"a":1}', "30 days", "{-0}")]


# -- what a commit finds in place of the table that it left ------------------------------------


def test_new_columns_and_wider_types_do_not_lose_rows(dock: Any) -> None:
    dock.columns = {"id": "int32", "price": "decimal(9,2)", "gone": "string!"}
    from decimal import Decimal

    dock.sync([(1, Decimal("1.50"), "x"), (2, Decimal("2.50"), "y")], mode="upsert")
    file = "select pg_relation_filenode('erp.rows')"
    before = dock.query(file)
    dock.columns = {"id": "int32", "price": "decimal(12,2)", "note": "string"}
    assert dock.sync([(2, Decimal("2.50"), "n"), (3, Decimal(3), None)], mode="upsert") == (
        1, 1, 0, 0,
    )  # fmt: skip
    assert dock.query(file) == before
    rows = dock.rows("id, price::text, note, gone")
    assert rows == [(1, "1.50", None, "x"), (2, "2.50", "n", "y"), (3, "3.00", None, None)]


@pytest.mark.parametrize(
    ("mode", "complete", "ids"),
    [
        ({"mode": "upsert"}, False, [1, 2, 3]),
        (SOFT, True, [1, 2, 3]),
        (HARD, True, [2, 3]),
        (HISTORY, True, [1, 2, 2, 3]),
    ],
    ids=["upsert", "soft", "hard", "history"],
)
def test_a_type_that_has_to_be_written_anew_takes_the_kept_rows_along(
    dock: Any, mode: dict[str, Any], complete: bool, ids: list[int]
) -> None:
    dock.columns = {"id": "int32", "n": "int16", "gone": "string"}
    dock.sync([(1, 1, "x"), (2, 2, "y")], **mode)
    dock.columns = {"id": "int64", "n": "decimal(20,1)"}
    from decimal import Decimal

    changes = dock.sync([(2, Decimal("2.5")), (3, Decimal(3))], complete=complete, **mode)
    assert changes == (1, 1, 0, int(complete))
    assert [row[0] for row in dock.rows("id")] == ids
    assert (1 in ids) is (dock.query("select gone from erp.rows where id = 1") == [("x",)])
    newest = dock.query("select n::text from erp.rows where id = 2 order by 1 desc limit 1")
    assert newest == [("2.5",)]
    assert dock.sync([(3, Decimal(3))], **mode) == (0, 0, 1, 0)
    live = dock.land(**mode).live_rows()
    assert live == 3 - int(complete)


def test_a_keyless_stream_keeps_its_rows_through_a_wider_type(dock: Any) -> None:
    dock.key = ()
    dock.columns = {"id": "int32"}
    dock.sync([(1,), (2,)], mode="append")
    dock.columns = {"id": "int64", "more": "string"}
    assert dock.sync([(3, "x")], mode="append") == (1, 0, 0, 0)
    assert dock.rows("id, more") == [(1, None), (2, None), (3, "x")]


def test_deletions_may_begin_and_end_on_a_table_that_is_there(dock: Any) -> None:
    dock.sync(ABC, mode="upsert")
    assert dock.sync([(1, "a"), (2, "b")], complete=True, **SOFT) == (0, 0, 2, 1)
    assert dock.rows("id, _deleted_at is null") == [(1, True), (2, True), (3, False)]
    assert dock.sync([(3, "c")], mode="upsert") == (1, 0, 0, 0)
    assert dock.sync([(1, "a")], complete=True, **HARD) == (0, 0, 1, 2)
    assert dock.rows("id") == [(1,)]
    assert dock.sync([(1, "a")], mode="replace") == (1, 0, 0, 1)
    assert dock.rows() == [(1, "a")]


@pytest.mark.parametrize(
    ("then", "columns", "words"),
    [
        ({"mode": "history"}, {}, "holds rows without versions"),
        ({"mode": "upsert"}, {"extra": "string!"}, "Column 'extra' is new and takes no NULL"),
    ],
    ids=["history", "not null"],
)
def test_a_table_that_a_mode_cannot_go_on_with_is_left_as_it_is(
    dock: Any, then: dict[str, Any], columns: dict[str, str], words: str
) -> None:
    dock.sync(ABC, mode="upsert")
    dock.columns |= columns
    landing = dock.land(**then)
    with pytest.raises(DestinationFault, match=words):
        landing.match(complete=True)
    landing.discard()
    assert dock.rows() == ABC


@pytest.mark.parametrize("mode", ["replace", "upsert", "append"])
def test_no_mode_throws_the_history_of_a_table_away(dock: Any, mode: str) -> None:
    dock.sync(ABC, **HISTORY)
    with pytest.raises(DestinationFault, match="holds the history of its rows"):
        dock.land(mode=mode).match(complete=True)
    assert len(dock.rows()) == 3


@pytest.mark.parametrize("mode", [SOFT, HISTORY, {"mode": "append"}])
def test_an_empty_table_becomes_what_the_mode_needs(dock: Any, mode: dict[str, Any]) -> None:
    dock.query("create schema erp", "create table erp.rows (id text, other int not null)")
    dock.query("grant select on erp.rows to canary_reader")
    assert dock.sync(ABC, **mode) == (3, 0, 0, 0)
    assert dock.sync(ABC, **mode) == (0, 0, 3, 0)
    grants = (
        "select count(*) from information_schema.role_table_grants where grantee = 'canary_reader'"
    )
    assert dock.query(grants) == [(1,)]


@pytest.mark.parametrize(
    ("columns", "mode", "words"),
    [
        ({"_deleted_at": "timestamptz"}, SOFT, "the name of a column that mode upsert adds"),
        ({"_valid_to": "string"}, HISTORY, "the name of a column that mode history adds"),
        ({"l": "list<list<int32>>"}, {}, "list of lists"),
        ({"": "string"}, {}, "it is empty"),
        ({"ن" * 32: "string"}, {}, "more than 63 bytes"),
        ({"xmin": "string"}, {}, "'xmin': PostgreSQL has a column of its own"),
    ],
)
def test_columns_that_cannot_be_stored_are_refused_before_anything_is_read(
    dock: Any, columns: dict[str, str], mode: dict[str, Any], words: str
) -> None:
    dock.columns |= columns
    with pytest.raises(DestinationFault, match=words):
        dock.land(**mode)


@pytest.mark.parametrize(
    "mode", [{"mode": "replace"}, SOFT, HISTORY], ids=["replace", "soft", "history"]
)
def test_nothing_is_seen_of_a_sync_that_stops_before_its_commit(dock: Any, mode: Any) -> None:
    landing = dock.land(**mode)
    landing.stage(dock.batch(ABC))
    assert landing.duplicates(("id",)) == (0, [])
    landing.match(complete=True)
    assert dock.query("select to_regnamespace('erp')") == [(None,)]
    landing.discard()
    landing.discard()
    assert dock.query("select to_regnamespace('erp')") == [(None,)]
    assert dock.staging() == []


def test_rejected_rows_become_visible_next_to_the_stream_with_the_commit(dock: Any) -> None:
    import pyarrow as pa

    from aiia_pipelines.sync.destinations.base import REJECTED

    for number in (1, 2):
        landing = dock.land(run_key=f"run {number}")
        row = {"row": 7, "place": "line 8", "rules": "id is null", "record": '{"id": "\\u0000"}'}
        landing.reject(pa.RecordBatch.from_pylist([row], schema=REJECTED))
        landing.stage(dock.batch(ABC))
        changes = landing.match(complete=True)
        found = "select to_regclass('erp.rows__quarantine') is not null"
        assert dock.query(found) == [(number == 2,)]
        landing.commit(3, changes, None)
        landing.discard()
    found = (
        'select run_key, "row", place, rules, record::text from erp.rows__quarantine order by at'
    )
    kept = (7, "line 8", "id is null", '{"id": "\\u0000"}')
    assert dock.query(found) == [("run 1", *kept), ("run 2", *kept)]
    same = "select count(*) from erp.rows__quarantine join _aiia.ledger using (run_key) where at = committed_at"
    assert dock.query(same) == [(2,)]
    assert dock.staging() == []
