"""What holds for every destination that is made of files: DuckDB, Parquet in a folder, Parquet in a bucket."""

import datetime as dt
import hashlib
import json
import struct
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal, localcontext
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from aiia_pipelines.jobs.failures import classify
from aiia_pipelines.sync.faults import DestinationFault
from aiia_pipelines.sync.totals import figures_of

pytestmark = pytest.mark.integration

FIRST = [(1, "a"), (2, "b"), (3, "c")]
NEXT = [(1, "a"), (2, "B"), (4, "d")]
KEYED = {"key": ["id"]}
UPSERT = KEYED | {"mode": "upsert"}
SOFT = UPSERT | {"delete": "soft"}
HISTORY = KEYED | {"mode": "history"}
ENDED = HISTORY | {"delete": "soft"}


# -- modes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "changes", "rows"),
    [
        (KEYED, (1, 1, 1, 1), NEXT),
        ({}, (3, 0, 0, 3), NEXT),
        (UPSERT, (1, 1, 1, 0), [(1, "a"), (2, "B"), (3, "c"), (4, "d")]),
        (UPSERT | {"delete": "hard"}, (1, 1, 1, 1), NEXT),
        ({"mode": "append"}, (3, 0, 0, 0), sorted(FIRST + NEXT)),
        (KEYED | {"mode": "append"}, (1, 1, 1, 0), [(1, "a"), (2, "B"), (3, "c"), (4, "d")]),
    ],
    ids=["replace by key", "replace", "upsert", "upsert, delete", "append", "append by key"],
)
def test_each_mode_counts_exactly_what_it_changes(
    shelf: Any, more: dict[str, Any], changes: tuple[int, ...], rows: list[Any]
) -> None:
    assert shelf.sync(FIRST, **more) == (3, 0, 0, 0)
    assert shelf.sync(NEXT, **more) == changes
    assert shelf.rows() == rows
    if "key" in more:
        assert shelf.sync(NEXT, **more) == (0, 0, 3, 0)
        assert shelf.rows() == rows


@pytest.mark.parametrize("more", [KEYED, UPSERT, HISTORY, {}, {"mode": "append"}])
def test_a_stream_without_rows_is_there_all_the_same(shelf: Any, more: dict[str, Any]) -> None:
    assert shelf.sync([], **more) == (0, 0, 0, 0)
    assert shelf.table().num_rows == 0
    assert {"id", "name"} <= set(shelf.table().schema.names)
    assert shelf.sync(FIRST, **more) == (3, 0, 0, 0)
    assert shelf.rows() == FIRST


def test_softly_deleted_rows_stay_marked_until_they_come_back(shelf: Any) -> None:
    shelf.sync(FIRST, **SOFT)
    assert shelf.sync(NEXT, **SOFT) == (1, 1, 1, 1)
    marked = shelf.rows("id", "_deleted_at")
    assert [key for key, at in marked if at is not None] == [3]
    assert live_rows(shelf, **SOFT) == 3
    assert shelf.sync(NEXT, **SOFT) == (0, 0, 3, 0)
    assert shelf.rows("id", "_deleted_at") == marked
    # What comes back counts as new: it was not among the live rows.
    assert shelf.sync([*NEXT, (3, "c")], **SOFT) == (1, 0, 3, 0)
    assert shelf.rows("id", "name", "_deleted_at")[2] == (3, "c", None)
    assert live_rows(shelf, **SOFT) == 4


@pytest.mark.parametrize("delete", ["soft", "hard"])
def test_staged_keys_tell_what_is_gone_after_an_incremental_sync(shelf: Any, delete: str) -> None:
    facts = UPSERT | {"delete": delete}
    shelf.sync(FIRST, **facts)
    changed = shelf.sync([(2, "B")], keys=[(1,), (2,)], complete=False, **facts)
    assert changed == (0, 1, 0, 1)
    live = shelf.rows("id") if delete == "hard" else [
        (key,) for key, at in shelf.rows("id", "_deleted_at") if at is None
    ]  # fmt: skip
    assert live == [(1,), (2,)]
    # Keys that were asked for and are none say that everything is gone.
    assert shelf.sync([], keys=[], complete=False, **facts) == (0, 0, 0, 2)
    assert shelf.sync([], complete=False, **facts) == (0, 0, 0, 0)


def test_history_keeps_every_version_with_its_time(shelf: Any) -> None:
    shelf.sync(FIRST, **ENDED)
    assert shelf.sync(NEXT, **ENDED) == (1, 1, 1, 1)
    versions = shelf.rows("id", "name", "_valid_from", "_valid_to")
    first, second = sorted({version[2] for version in versions})
    assert versions == [
        (1, "a", first, None),
        (2, "B", second, None),
        (2, "b", first, second),
        (3, "c", first, second),
        (4, "d", second, None),
    ]
    assert first.tzinfo is not None
    assert live_rows(shelf, **ENDED) == 3
    assert shelf.sync(NEXT, **ENDED) == (0, 0, 3, 0)
    assert shelf.sync([(3, "c")], complete=False, **ENDED) == (1, 0, 0, 0)
    ends = {at for key, at in shelf.rows("id", "_valid_to") if key == 3}
    assert ends == {second, None}
    assert live_rows(shelf, **ENDED) == 4


def live_rows(shelf: Any, **facts: Any) -> int:
    with closing(shelf.open()) as destination:
        load = shelf.load({"id": "int64", "name": "string"}, **facts)
        landing = destination.land(load)
        found: int = landing.live_rows()
        landing.discard()
        return found


def test_a_soft_delete_that_is_switched_off_still_lets_rows_come_back(shelf: Any) -> None:
    shelf.sync(FIRST, **SOFT)
    shelf.sync(FIRST[:2], **SOFT)
    assert shelf.sync(FIRST, **UPSERT) == (1, 0, 2, 0)
    assert shelf.rows("id", "_deleted_at") == [(1, None), (2, None), (3, None)]


# -- one attempt and another ----------------------------------------------------------------


def test_the_position_moves_with_the_rows_and_the_task_is_known_afterwards(shelf: Any) -> None:
    facts = UPSERT | {"run_key": "run-a/rows"}
    assert seen(shelf, **facts) == (None, None)
    shelf.sync(FIRST, position={"cursor": "2026-01-31"}, **facts)
    before, position = seen(shelf, **facts)
    assert before[0] == 3
    assert (before[1].inserted, before[1].updated) == (3, 0)
    assert position == {"cursor": "2026-01-31"}
    assert seen(shelf, **UPSERT) == (None, {"cursor": "2026-01-31"})
    shelf.sync(NEXT, **UPSERT)
    assert seen(shelf, **facts)[0] == before
    assert seen(shelf, **facts)[1] is None


def seen(shelf: Any, **facts: Any) -> tuple[Any, Any]:
    with closing(shelf.open()) as destination:
        landing = destination.land(shelf.load({"id": "int64", "name": "string"}, **facts))
        found = landing.committed_before(), landing.position()
        assert landing.resume() is None
        landing.discard()
        landing.discard(keep=True)
        return found


@pytest.mark.parametrize(
    "more", [UPSERT, {"mode": "append"}, KEYED], ids=["upsert", "append", "replace"]
)
def test_of_two_runs_at_the_same_time_exactly_one_commits(shelf: Any, more: dict[str, Any]) -> None:
    shelf.sync(FIRST, **more)
    columns = {"id": "int64", "name": "string"}
    results = []
    with closing(shelf.open()) as one, closing(shelf.open()) as other:
        early = shelf.stage([(5, "e")], shelf.load(columns, **more), destination=one)
        late = shelf.stage([(6, "f")], shelf.load(columns, **more), destination=other)
        for landing in (early, late):
            changes = landing.match(complete=False)
            try:
                landing.commit(1, changes, None)
                results.append("done")
            except DestinationFault as fault:
                results.append(classify(fault, side="destination").code)
            landing.discard()
    assert sorted(results) == ["destination-conflict", "done"]
    news = {(5, "e"), (6, "f")} & set(shelf.rows())
    assert len(news) == 1
    assert shelf.sync([(7, "g")], **more)[0] == 1


def test_nothing_is_visible_of_an_attempt_that_does_not_commit(shelf: Any) -> None:
    with closing(shelf.open()) as destination:
        load = shelf.load({"id": "int64", "name": "string"})
        rejected = [(1, "line 1", "ge(0)", "{}")]
        landing = shelf.stage(FIRST, load, destination=destination, rejected=rejected)
        assert landing.figures([("", "rows")]) == {("", "rows"): 3}
        landing.match(complete=True)
        assert landing.live_rows() == 0
        landing.discard()
    if shelf.kind == "duckdb":
        with pytest.raises(Exception, match="does not exist"):
            shelf.table()
    else:
        assert shelf.table().num_rows == 0
        assert shelf.table().schema.names == []
    assert shelf.sync(FIRST) == (3, 0, 0, 0)


def test_rows_that_were_set_aside_become_visible_with_the_others(shelf: Any) -> None:
    rejected = [(2, "line 3", "amount: ge(0)", json.dumps({"id": 2})), (4, "", "id: null", "{}")]
    shelf.sync(FIRST, rejected=rejected, run_key="run-q/rows", mode="append")
    shelf.sync(NEXT, rejected=[(9, "", "x", "{}")], mode="append")
    shelf.sync(NEXT, mode="append")
    found = shelf.rows("row", "place", "rules", "record", "run_key", stream="rows__quarantine")
    assert [row[:4] for row in found] == [*rejected, (9, "", "x", "{}")]
    assert found[0][4] == "run-q/rows"
    times = {at for (at,) in shelf.rows("at", stream="rows__quarantine")}
    assert len(times) == 2
    assert len(shelf.rows()) == 9


def test_streams_and_connectors_do_not_touch_each_other(shelf: Any) -> None:
    shelf.sync(FIRST)
    shelf.sync(NEXT, stream="others")
    shelf.sync([(9, "z")], connector="crm")
    assert shelf.rows() == FIRST
    assert shelf.rows(stream="others") == NEXT


# -- what is wrong with the rows ------------------------------------------------------------


def test_duplicates_are_counted_and_shown_masked(shelf: Any) -> None:
    with closing(shelf.open()) as destination:
        load = shelf.load({"id": "int64", "name": "string"})
        rows = [(1, "ab"), (1, "ab"), (2, "c"), (None, "d"), (None, "d"), (3, "x")]
        landing = shelf.stage(rows, load, destination=destination)
        assert landing.duplicates(["id"]) == (2, ["(#) 2 times"])
        assert landing.duplicates(["id", "name"]) == (2, ["(#, xx) 2 times"])
        landing.discard()


def test_a_row_without_key_is_refused(shelf: Any) -> None:
    with pytest.raises(DestinationFault, match="1 rows of rows have no value in the key") as told:
        shelf.sync([(1, "a"), (None, "b")], **UPSERT)
    assert classify(told.value, side="destination").code == "destination-rejected"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"id": "int64", "amount": "decimal(60,2)"}, "column 'amount' of rows.*on_lossy: text"),
        ({"id": "int64", "amount": "decimal"}, "column 'amount' of rows"),
        ({"id": "int64", "amounts": "list<decimal(39,0)>"}, "column 'amounts' of rows"),
        ({"id": "int64", "ID": "int64"}, "differ in case only"),
    ],
)
def test_columns_that_cannot_be_held_are_refused_before_a_row_is_read(
    shelf: Any, columns: dict[str, str], words: str
) -> None:
    with closing(shelf.open()) as destination, pytest.raises(DestinationFault, match=words) as told:
        destination.land(shelf.load(columns))
    assert classify(told.value, side="destination").code == "column-mismatch"


def test_a_column_of_the_contract_may_not_have_the_name_of_a_mark(shelf: Any) -> None:
    columns = {"id": "int64", "_deleted_at": "timestamptz"}
    with closing(shelf.open()) as destination, pytest.raises(DestinationFault, match="_deleted_at"):
        destination.land(shelf.load(columns, **SOFT))


def test_a_column_without_a_name_is_refused(shelf: Any) -> None:
    with closing(shelf.open()) as destination, pytest.raises(DestinationFault, match="empty name"):
        destination.land(shelf.load({"id": "int64", "": "string"}))


# -- columns that change --------------------------------------------------------------------

WIDE = {"id": "int64", "name": "string", "amount": "decimal(18,2)", "tags": "list<string>"}


@pytest.mark.parametrize("more", [UPSERT, HISTORY, {"mode": "append"}])
def test_new_columns_are_empty_in_old_rows(local_shelf: Any, more: dict[str, Any]) -> None:
    local_shelf.sync(FIRST, **more)
    local_shelf.sync(
        [(3, "c", Decimal("1.50"), ["x"]), (4, "d", None, None)], WIDE, complete=False, **more
    )
    found = local_shelf.rows("id", "amount", "tags")
    assert (1, None, None) in found
    assert (3, Decimal("1.50"), ["x"]) in found
    # A column that the contract has no more stays, and is empty in new rows.
    local_shelf.sync([(5, "e")], complete=False, **more)
    assert (5, None, None) in local_shelf.rows("id", "amount", "tags")
    assert (3, Decimal("1.50"), ["x"]) in local_shelf.rows("id", "amount", "tags")


@pytest.mark.parametrize(
    ("columns", "more"),
    [
        ({"id": "int64", "name": "int64"}, UPSERT),
        ({"id": "int64", "name": "string"}, HISTORY),
        ({"code": "int64", "name": "string"}, {"mode": "upsert", "key": ["code"]}),
    ],
    ids=["another type", "a history", "another key"],
)
def test_rows_that_stay_do_not_take_columns_that_need_values(
    local_shelf: Any, columns: dict[str, str], more: dict[str, Any]
) -> None:
    local_shelf.sync(FIRST, **UPSERT)
    with pytest.raises(DestinationFault, match="other columns than the contract") as told:
        local_shelf.sync([], columns, **more)
    assert classify(told.value, side="destination").code == "destination-rejected"
    assert local_shelf.rows() == FIRST


def test_replace_takes_any_new_columns_and_counts_every_row(local_shelf: Any) -> None:
    local_shelf.sync(FIRST, **HISTORY)
    assert local_shelf.sync([(1, 7)], {"id": "int64", "code": "int16"}, **KEYED) == (1, 0, 0, 3)
    assert local_shelf.table().schema.names == ["id", "code"]
    assert local_shelf.rows() == [(1, 7)]


# -- values ---------------------------------------------------------------------------------

UTC = dt.UTC
NAIVE = dt.datetime.fromisoformat
VALUES: dict[str, list[Any]] = {
    "bool": [True, False],
    "int16": [-32768, 32767],
    "int32": [-(2**31), 2**31 - 1],
    "int64": [-(2**63), 2**63 - 1],
    "float32": [float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 3.4028234663852886e38],
    "float64": [float("nan"), float("-inf"), -0.0, 0.1, 5e-324, 1.7976931348623157e308],
    "decimal(38,10)": [Decimal("1234567890123456789012345678.0123456789"), Decimal("-1E-10"), Decimal(0)],
    "decimal(38,0)": [Decimal(10**38 - 1), Decimal(-(10**38) + 1)],
    "decimal(38,38)": [Decimal("0." + "9" * 38), Decimal("-0." + "0" * 37 + "1")],
    "decimal(5,5)": [Decimal("0.12345"), Decimal("-0.00001")],
    "decimal(18,2)": [Decimal("9999999999999999.99"), Decimal("-0.01")],
    "string": ["", "NULL", "a\r\nb\tc\"d,e'f\\", "\U0001f600", "\u202e\x85", " ", "e\u0301"],
    "binary": [b"", b'\x00\xff"\\'],
    "date": [dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(1969, 12, 31)],
    "time": [dt.time(0), dt.time(23, 59, 59, 999999)],
    "timestamp": [NAIVE("0001-01-01"), NAIVE("9999-12-31T23:59:59.999999")],
    "timestamptz": [dt.datetime(1, 1, 1, tzinfo=UTC), dt.datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)],
    "interval": ["1 mon -30 days", "P1Y2M", "24:00:00"],
    "uuid": ["00000000-0000-0000-0000-000000000007", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
    "json": ["null", '{"a": 1, "a": 2}', "  12345678901234567890.123456789e400 ", '"\\u0000"', '"\\ud800"'],
    "list<int64>": [[], [1, None, -1]],
    "list<string>": [['a"b', "c\\d", None, "", "NULL", "\U0001f600", "1:a"], [""], []],
    "list<float64>": [[float("nan"), float("inf"), -0.0, 0.1, None], [0.0]],
    "list<date>": [[dt.date(2026, 1, 31), None]],
    "list<timestamptz>": [[dt.datetime(2026, 1, 31, tzinfo=UTC)]],
    "list<json>": [['{"a":  1}', "null", None]],
    "list<uuid>": [["00000000-0000-0000-0000-000000000007"]],
    "list<decimal(38,38)>": [[Decimal("0." + "9" * 38)]],
    "list<bool>": [[True, False, None]],
    "list<list<int64>>": [[[1], None, []], []],
}  # fmt: skip


PLAIN: dict[str, Callable[[Any, Any], Any]] = {
    "bool": lambda _, value: "t" if value else "f",
    "decimal": lambda kind, value: format(value, f".{kind.scale}f"),
    "binary": lambda _, value: bytes(value).hex(),
    "date": lambda _, value: (value - dt.date(1970, 1, 1)).days,
}


def canonical(kind: Any, value: Any) -> str:
    """Write a value as the protocol of the reconciliation says."""
    if kind.item is not None:
        texts = [None if item is None else canonical(kind.item, item) for item in value]
        return "".join("-" if text is None else f"{len(text)}:{text}" for text in texts)
    if kind.name in {"float32", "float64"}:
        return "7ff8000000000000" if value != value else struct.pack(">d", value).hex()  # noqa: PLR0124
    if kind.name in PLAIN:
        return str(PLAIN[kind.name](kind, value))
    if kind.name == "time":
        value = dt.datetime.combine(dt.date(1970, 1, 1), value)
    if isinstance(value, dt.datetime):
        start = dt.datetime(1970, 1, 1, tzinfo=value.tzinfo and UTC)
        return str((value - start) // dt.timedelta(microseconds=1))
    return str(value)


def expected(kind: Any, values: list[Any], figure: str) -> Any:
    there = [value for value in values if value is not None]
    if figure == "nulls":
        return len(values) - len(there)
    if figure == "hash":
        texts = [canonical(kind, value).encode() for value in there]
        return sum(int(hashlib.md5(text).hexdigest()[:15], 16) for text in texts)
    if figure == "sum":
        with localcontext(prec=200):
            return sum(map(Decimal, there), Decimal(0)) if there else None
    known = [value for value in there if value == value]  # noqa: PLR0124
    return {"min": min, "max": max}[figure](known) if known else None


@pytest.mark.parametrize("kind", VALUES)
def test_every_value_arrives_to_the_bit_and_every_figure_agrees(
    local_shelf: Any, kind: str
) -> None:
    values = [*VALUES[kind], None]
    columns = {"id": "int64", "v": kind}
    rows = list(enumerate(values))
    load = local_shelf.load(columns, **UPSERT)
    column = load.contract.columns[1].type
    with closing(local_shelf.open()) as destination:
        landing = local_shelf.stage(rows, load, destination=destination)
        wanted = [("v", figure) for figure in figures_of(column, "full")]
        found = landing.figures([("", "rows"), *wanted])
        assert found == {("", "rows"): len(rows)} | {
            key: expected(column, values, key[1]) for key in wanted
        }
        landing.commit(len(rows), landing.match(complete=True), None)
        landing.discard()
    as_told = [None if value is None else canonical(column, value) for value in values]
    assert arrived(local_shelf, column) == as_told
    # Once more, so that the rows go through a comparison and a merge as well.
    assert local_shelf.sync([*rows, (99, None)], columns, **UPSERT) == (1, 0, len(rows), 0)
    assert local_shelf.sync([(0, None)], columns, **UPSERT, complete=False) == (0, 1, 0, 0)
    assert arrived(local_shelf, column) == [None, *as_told[1:], None]


def arrived(shelf: Any, kind: Any) -> list[str | None]:
    found = sorted(shelf.table().select(["id", "v"]).to_pylist(), key=lambda row: row["id"])
    return [None if row["v"] is None else canonical(kind, row["v"]) for row in found]


@pytest.mark.parametrize("kind", ["float64", "list<float64>"])
def test_a_zero_that_becomes_negative_is_a_change(local_shelf: Any, kind: str) -> None:
    columns = {"id": "int64", "v": kind}
    zero, negative = (0.0, -0.0) if kind == "float64" else ([0.0], [-0.0])
    local_shelf.sync([(1, zero)], columns, **UPSERT)
    assert local_shelf.sync([(1, negative)], columns, **UPSERT) == (0, 1, 0, 0)
    assert str(local_shelf.rows("v")[0][0]).strip("[]") == "-0.0"


def test_sums_have_every_digit_however_many_rows(local_shelf: Any) -> None:
    most = Decimal("9" * 20 + "." + "9" * 18)
    rows = [(place, most if place % 3 else -most / 2) for place in range(1, 60)]
    with localcontext(prec=60):
        rows = [(key, value.quantize(Decimal("1e-18"))) for key, value in rows]
    load = local_shelf.load({"id": "int64", "v": "decimal(38,18)"})
    with closing(local_shelf.open()) as destination:
        landing = local_shelf.stage(rows, load, destination=destination)
        found = landing.figures([("v", "sum"), ("id", "sum")])
        landing.discard()
    with localcontext(prec=100):
        assert found == {("v", "sum"): sum(v for _, v in rows), ("id", "sum"): 59 * 30}


def test_a_table_with_very_many_columns_is_reconciled(local_shelf: Any) -> None:
    columns = {f"c{place}": "int64" for place in range(600)}
    with closing(local_shelf.open()) as destination:
        landing = local_shelf.stage(
            [tuple(range(600))], local_shelf.load(columns), destination=destination
        )
        found = landing.figures([(name, figure) for name in columns for figure in ("sum", "nulls")])
        landing.discard()
    assert found["c599", "sum"] == 599


KINDS = {"id": "int64", "d": "decimal(38,4)", "t": "string", "f": "float64", "l": "list<string>"}
TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=5)
ROWS = st.dictionaries(
    st.integers(0, 9),
    st.tuples(
        st.one_of(st.none(), st.integers(-(10**37), 10**37).map(lambda n: Decimal(n).scaleb(-4))),
        st.one_of(st.none(), TEXTS),
        st.one_of(st.none(), st.floats()),
        st.one_of(st.none(), st.lists(st.one_of(st.none(), TEXTS), max_size=3)),
    ),
    max_size=8,
)


def bits(rows: Any) -> list[tuple[Any, ...]]:
    pack = struct.pack
    return sorted(
        (key, d, t, None if f is None else "nan" if f != f else pack(">d", f), l) for key, d, t, f, l in rows  # noqa: E741, PLR0124
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["upsert", "history", "replace"])
@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(syncs=st.lists(ROWS, min_size=2, max_size=4))
def test_after_any_syncs_the_destination_has_what_a_dictionary_would(
    local_shelf: Any, mode: str, syncs: list[dict[int, tuple[Any, ...]]]
) -> None:
    local_shelf.keys += 1
    stream = f"s{local_shelf.keys}"
    facts: dict[str, Any] = {"mode": mode, "key": ["id"], "stream": stream}
    if mode != "replace":
        facts["delete"] = "soft"
    held: dict[int, tuple[Any, ...]] = {}
    for rows in syncs:
        mine = {key: bits([(key, *row)])[0] for key, row in rows.items()}
        changed = sum(key in held and held[key] != row for key, row in mine.items())
        new, gone = len(mine.keys() - held.keys()), len(held.keys() - mine.keys())
        done = local_shelf.sync([(key, *row) for key, row in rows.items()], KINDS, **facts)
        assert done == (new, changed, len(mine) - new - changed, gone)
        held = mine
        mark = {"upsert": "_deleted_at", "history": "_valid_to"}.get(mode)
        table = local_shelf.table(stream)
        names = [*KINDS, *([mark] if mark else [])]
        live = [row for row in table.select(names).to_pylist() if mark is None or row[mark] is None]
        assert bits([tuple(row[name] for name in KINDS) for row in live]) == sorted(mine.values())


def test_arrow_types_of_what_is_read_are_those_of_the_contract(local_shelf: Any) -> None:
    columns = {
        "id": "int64",
        "at": "timestamptz",
        "t": "time",
        "d": "decimal(18,2)",
        "f": "float32",
    }
    local_shelf.sync([(1, None, None, None, None)], columns)
    kinds = {entry.name: entry.type for entry in local_shelf.table().schema}
    assert kinds == {
        "id": pa.int64(), "at": pa.timestamp("us", "UTC"), "t": pa.time64("us"),
        "d": pa.decimal128(18, 2), "f": pa.float32(),
    }  # fmt: skip


# -- whole syncs ----------------------------------------------------------------------------


def test_a_whole_sync_from_a_database_arrives_and_agrees(bench: Any, local_shelf: Any) -> None:
    columns = (
        "id int primary key, name text, amount numeric(18,2), doc json, at timestamptz, tags text[]"
    )
    bench.fill(
        columns,
        "select n, 'n' || n, n / 7.0, '{}', now(), array['x'] from generate_series(1, 500) n",
    )
    stream = {
        "name": "rows",
        "table": "public.rows",
        "key": ["id"],
        "batch_rows": 100,
        "reconcile": "full",
    }
    stream |= {"mode": "upsert", "delete": "hard"}
    first = bench.sync(stream, destination=local_shelf.open())
    assert first.state == "Completed", first.log
    bench.source.execute(
        "delete from rows where id = 500", "update rows set name = 'B' where id = 1"
    )
    again = bench.sync(stream, destination=local_shelf.open())
    assert again.changes == (0, 1, 498, 1), again.log
    assert max(local_shelf.rows("id")) == (499,)
    with closing(local_shelf.open()) as destination:
        assert destination.describe().startswith(local_shelf.kind)
        destination.cancel()
