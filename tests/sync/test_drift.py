"""What each drift policy takes up, and what it refuses."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aiia_pipelines.config.connector import Connector, Stream
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors.base import SourceColumn
from aiia_pipelines.jobs.contracts import LearnedColumn, Profile
from aiia_pipelines.sync.contract import Contract, agree, as_learned
from aiia_pipelines.sync.drift import settle
from aiia_pipelines.sync.faults import ContractBroken
from aiia_pipelines.sync.profiles import profile_of, profiled


def stream(**facts: Any) -> Stream:
    return Stream.model_validate({"name": "rows", "table": "rows"} | facts)


def found(**columns: str | None) -> list[SourceColumn]:
    return [
        SourceColumn(name, ColumnType.parse(kind) if kind else None, nullable=False, declared="x")
        for name, kind in columns.items()
    ]


def learned(**columns: str) -> list[LearnedColumn]:
    return as_learned(found(**columns))


def shown(contract: Contract) -> list[tuple[str, str, bool, bool]]:
    return [(c.name, str(c.type), c.nullable, c.absent) for c in contract.columns]


def refused(
    drift: Any, now: list[SourceColumn], before: list[LearnedColumn], **facts: Any
) -> tuple[str, ...]:
    with pytest.raises(ContractBroken, match=r"^Column mismatch in rows: ") as broken:
        agree(stream(**facts), now, before, drift=drift)
    return broken.value.report


# -- new columns ----------------------------------------------------------------------------


@pytest.mark.parametrize("drift", ["add_only", "evolve"])
def test_a_new_column_is_taken_up_and_may_be_null(drift: Any) -> None:
    contract = agree(stream(), found(a="int32", b="date"), learned(a="int32"), drift=drift)
    assert shown(contract) == [("a", "int32", False, False), ("b", "date", True, False)]
    assert contract.changes == ("column 'b' (date) is new at the source and taken up",)
    assert contract.learned == [
        {"name": "a", "type": "int32", "nullable": False},
        {"name": "b", "type": "date", "nullable": True},
    ]
    # Rows that came before the column stay without it, whatever the source says of itself.
    again = agree(stream(), found(a="int32", b="date"), contract.learned, drift=drift)
    assert shown(again) == shown(contract)
    assert (again.changes, again.learned) == ((), None)


def test_under_freeze_a_new_column_is_refused() -> None:
    report = refused("freeze", found(a="int32", b="date"), learned(a="int32"))
    assert report == ("column 'b' (date) is new at the source",)


def test_a_new_column_without_a_type_must_be_declared() -> None:
    with pytest.raises(ContractBroken, match="declare it under `columns:`"):
        agree(stream(), found(a="int32", b=None), learned(a="int32"), drift="add_only")


def test_a_new_column_cannot_take_a_name_that_is_in_use() -> None:
    columns = {"b": {"from": "a"}}
    report = refused("evolve", found(a="int32", b="date"), learned(a="int32"), columns=columns)
    assert report == ("two columns of the source would be named 'b'",)


def test_a_column_of_the_source_cannot_bear_the_name_of_one_that_is_added() -> None:
    report = refused(
        "add_only",
        found(a="int32", _valid_from="timestamptz"),
        learned(a="int32"),
        mode="history",
        key=["a"],
    )
    assert report == (
        "column '_valid_from' is one that mode and delete add; rename it with `from:`",
    )


# -- columns that are gone ------------------------------------------------------------------


@pytest.mark.parametrize("drift", ["freeze", "add_only"])
def test_a_column_that_is_gone_is_refused(drift: Any) -> None:
    report = refused(drift, found(a="int32"), learned(a="int32", b="date"))
    assert report == ("column 'b' (date) is missing",)


def test_under_evolve_a_column_that_is_gone_stays_and_is_null() -> None:
    contract = agree(stream(), found(a="int32"), learned(b="date", a="int32"), drift="evolve")
    assert shown(contract) == [("b", "date", True, True), ("a", "int32", False, False)]
    assert contract.changes == ("column 'b' (date) is gone and becomes NULL",)
    assert [column.source for column in contract.read_columns] == ["a"]
    batch = contract.parse([(1,), (2,)], first_row=1)
    assert batch.schema == contract.schema
    assert batch.to_pydict() == {"b": [None, None], "a": [1, 2]}


def test_a_column_that_was_gone_before_is_not_told_again() -> None:
    first = agree(stream(), found(a="int32"), learned(b="date", a="int32"), drift="evolve")
    assert first.learned is not None
    assert first.learned[1] == {"name": "b", "type": "date", "nullable": True, "absent": True}
    for drift in ("freeze", "add_only", "evolve"):
        again = agree(stream(), found(a="int32"), first.learned, drift=drift)  # type: ignore[arg-type]
        assert sorted(shown(again)) == sorted(shown(first))
        assert (again.changes, again.learned) == ((), None)


def test_a_column_that_is_back_is_taken_up_again() -> None:
    gone = agree(stream(), found(a="int32"), learned(a="int32", b="int32"), drift="evolve").learned
    assert gone is not None
    back = found(a="int32", b="int64")
    contract = agree(stream(), back, gone, drift="evolve")
    assert shown(contract) == [("a", "int32", False, False), ("b", "int64", True, False)]
    assert contract.changes == (
        "column 'b' is now int64 (was int32)",
        "column 'b' (int64) is back at the source and taken up",
    )
    assert contract.learned is not None
    assert "absent" not in contract.learned[1]
    assert refused("freeze", found(a="int32", b="int32"), gone) == (
        "column 'b' (int32) is new at the source",
    )
    assert refused("add_only", found(a="int32", b="date"), gone) == (
        "column 'b' expected int32 but the source has date (x)",
    )


@pytest.mark.parametrize(
    "facts",
    [
        {"columns": {"b": {}}},
        {"columns": {"b": {"checks": {"gt": 0}}}},
        {"checks": {"unique": ["b"]}},
        {"mode": "append", "cursor": "b"},
        {"partition": {"column": "b", "ranges": 2}},
    ],
)
def test_what_the_file_asks_for_never_goes_silently(facts: dict[str, Any]) -> None:
    report = refused("evolve", found(a="int32"), learned(a="int32", b="int32"), **facts)
    assert report[0] == "column 'b' (int32) is missing"


def test_a_key_never_goes_silently() -> None:
    report = refused("evolve", found(a="int32"), learned(a="int32", b="int32"), key=["b"])
    assert report[0] == "column 'b' (int32) is missing"


def test_another_table_is_no_evolution_of_this_one() -> None:
    report = refused("evolve", found(c="int32", d="date"), learned(a="string", b="bool"))
    assert report == ("column 'a' (string) is missing", "column 'b' (bool) is missing")


# -- other types ----------------------------------------------------------------------------


def test_under_evolve_a_wider_type_is_taken_up() -> None:
    contract = agree(stream(), found(a="int64"), learned(a="int32"), drift="evolve")
    assert shown(contract) == [("a", "int64", False, False)]
    assert contract.changes == ("column 'a' is now int64 (was int32)",)
    assert contract.learned == learned(a="int64")


@pytest.mark.parametrize(
    ("before", "now"), [("int64", "int32"), ("string", "date"), ("decimal(9,2)", "decimal(9,3)")]
)
def test_a_narrower_or_another_type_is_refused(before: str, now: str) -> None:
    report = refused("evolve", found(a=now), learned(a=before))
    assert report == (f"column 'a' expected {before} but the source has {now} (x)",)


@pytest.mark.parametrize("drift", ["freeze", "add_only"])
def test_only_evolve_widens(drift: Any) -> None:
    assert refused(drift, found(a="int64"), learned(a="int32"))


def test_a_declared_type_is_not_widened_by_the_source() -> None:
    typed = {"columns": {"a": {"type": "int32"}}}
    assert refused("evolve", found(a="int64"), learned(a="int32"), **typed) == (
        "column 'a' expected int32 but the source has int64 (x)",
    )
    untyped = stream(columns={"a": {"checks": {"ge": 0}}})
    contract = agree(untyped, found(a="int64"), learned(a="int32"), drift="evolve")
    assert shown(contract) == [("a", "int64", False, False)]


@pytest.mark.parametrize(
    ("now", "declared", "how", "fits"),
    [
        ("decimal(18,4)", "decimal(18,2)", "round", True),
        ("int64", "int32", "null", True),
        ("timestamp", "date", "round", True),
        ("bool", "date", "text", True),
        ("string", "int32", "null", False),
        ("decimal(18,4)", "decimal(18,2)", None, False),
    ],
)
def test_values_that_may_be_changed_may_come_in_a_related_type(
    now: str, declared: str, how: str | None, fits: bool
) -> None:
    column = {"type": declared} | ({"on_lossy": how} if how else {})
    settled = settle(stream(columns={"a": column}), found(a=now), None)
    assert (settled.refused == ()) is fits


# -- columns with another name --------------------------------------------------------------


def test_a_rename_is_one_difference_and_comes_with_its_mapping() -> None:
    report = refused("freeze", found(a="int32", c="string"), learned(a="int32", b="string"))
    assert len(report) == 1
    assert report[0].endswith("map it with `b: {from: c}`")


def test_a_rename_to_another_type_comes_with_the_type() -> None:
    (difference,) = settle(stream(), found(b="int64"), learned(a="int32")).refused
    assert difference.mapping == "a: {from: b, type: int64}"
    assert (difference.kind, difference.was, difference.now) == ("renamed", "int32", "b (int64)")
    assert "seems to be 'b' (int64) now" in str(difference)
    mapped = stream(columns={"a": {"from": "b", "type": "int64"}})
    assert shown(agree(mapped, found(b="int64"), learned(a="int32"))) == [
        ("a", "int64", False, False)
    ]


def test_add_only_takes_up_what_is_new_and_not_what_was_renamed() -> None:
    now = found(a="int32", c="string", d="date")
    settled = settle(stream(), now, learned(a="int32", b="string"), drift="add_only")
    assert [difference.kind for difference in settled.refused] == ["renamed"]
    assert settled.changes == ("column 'd' (date) is new at the source and taken up",)


def test_evolve_tells_what_a_column_may_be_called_now() -> None:
    contract = agree(
        stream(), found(a="int32", c="string"), learned(a="int32", b="string"), drift="evolve"
    )
    assert contract.changes == (
        (
            "column 'b' (string) is gone and becomes NULL;"
            " if 'c' is what it is now, map it with `b: {from: c}`"
        ),
        "column 'c' (string) is new at the source and taken up",
    )


def test_a_mapping_in_the_file_takes_over_a_column_that_was_gone() -> None:
    gone = agree(
        stream(), found(a="int32", c="string"), learned(a="int32", b="string"), drift="evolve"
    ).learned
    mapped = stream(columns={"b": {"from": "c"}})
    contract = agree(mapped, found(a="int32", c="string"), gone, drift="evolve")
    assert shown(contract) == [("a", "int32", False, False), ("b", "string", True, False)]


def test_a_declared_column_that_was_renamed_keeps_its_name_here() -> None:
    mapped = stream(columns={"doc_no": {"from": "BELNR", "checks": {"gt": 0}}})
    before = learned(BELNR="int32", x="date")
    (difference,) = settle(mapped, found(BELEG="int32", x="date"), before).refused
    assert difference.mapping == "doc_no: {from: BELEG}"


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20)
)
def test_a_mapping_is_read_back_by_the_reader_of_connector_files(name: str) -> None:
    now = [SourceColumn(name, ColumnType("decimal", 18, 2), nullable=True, declared="n")]
    before = [LearnedColumn(name="old", type="decimal(9,2)", nullable=True)]
    if name == "old":
        return
    (difference,) = settle(stream(), now, before).refused
    columns = yaml.safe_load(difference.mapping)
    assert columns == {"old": {"from": name, "type": "decimal(18,2)"}}


# -- values ---------------------------------------------------------------------------------


def profiles(values: Mapping[str, Sequence[Any]]) -> dict[str, Profile]:
    return {name: profile_of(each) for name, each in values.items()}


def test_values_decide_between_columns_that_swapped_places() -> None:
    given_names, families = [f"n{i}" for i in range(60)], [f"FAM-{i}" for i in range(60)]
    ids = list(range(60))
    before = learned(id="int64", first="string", last="string")
    for column, values in zip(before, (ids, given_names, families), strict=True):
        column["profile"] = profile_of(values)
    now = found(id="int64", surname="string", given="string")
    sample = profiles({"id": ids, "surname": families, "given": given_names})
    asked: list[Sequence[str]] = []

    def ask(names: Sequence[str]) -> Mapping[str, Profile]:
        asked.append(names)
        return sample

    settled = settle(stream(), now, before, sample=ask)
    assert [d.mapping for d in settled.refused] == ["first: {from: given}", "last: {from: surname}"]
    assert asked == [["id", "surname", "given"]]


def test_values_are_only_asked_for_when_they_can_help() -> None:
    def never(_: Sequence[str]) -> Mapping[str, Profile]:
        raise AssertionError("nobody should ask")

    before = learned(a="int32", b="string")
    before[1]["profile"] = profile_of(["x"] * 9)
    agree(stream(), found(a="int32", b="string"), before, sample=never)
    settle(stream(), found(a="int32"), before, sample=never)
    settle(stream(), found(a="int32", b="string", c="date"), before, sample=never)
    settle(stream(), found(a="int32", c="string"), learned(a="int32", b="string"), sample=never)


def test_what_a_sync_learns_holds_how_its_first_rows_look() -> None:
    contract = agree(stream(columns={"b": {"from": "a"}}), found(a="int32"), None)
    rows = pa.RecordBatch.from_pydict({"b": [1, 2, None]}, schema=contract.schema)
    (column,) = profiled(contract, rows)
    assert column["profile"] == profile_of([1, 2, None])
    assert profiled(contract, None) == learned(a="int32")
    assert contract.learned == learned(a="int32")
    gone = agree(stream(), found(a="int32"), learned(a="int32", b="date"), drift="evolve")
    empty = pa.RecordBatch.from_pydict({"a": [], "b": []}, schema=gone.schema)
    assert ["profile" in column for column in profiled(gone, empty)] == [True, False]


# -- whatever happens -----------------------------------------------------------------------

kinds = st.sampled_from(["int16", "int32", "int64", "string", "date", "decimal(9,2)", "bool"])
tables = st.dictionaries(st.sampled_from("abcdef"), kinds, min_size=1, max_size=5)


@given(tables, tables, st.sampled_from(["freeze", "add_only", "evolve"]))
def test_every_policy_either_agrees_with_all_columns_or_says_why_not(
    before: dict[str, str], now: dict[str, str], drift: Any
) -> None:
    first = settle(stream(), found(**now), learned(**before), drift=drift)
    assert before != now or not first.refused
    if first.refused:
        return
    contract = agree(stream(), found(**now), learned(**before), drift=drift)
    read = {column.source: str(column.type) for column in contract.read_columns}
    assert read == now
    assert set(before) <= {column.name for column in contract.columns}
    if drift != "evolve":
        assert {name: now[name] for name in before} == before
    assert bool(contract.changes) == (before != now)
    # What was taken up is agreed from now on, under the strictest policy as well.
    settled = agree(stream(), found(**now), contract.learned or learned(**before))
    assert settled.changes == ()
    assert {c.name for c in settled.columns} == {c.name for c in contract.columns}


def test_the_contract_of_some_columns_has_no_rules_over_all_rows() -> None:
    whole = stream(key=["a"], checks={"unique": ["b"], "row_count": {"min": 1}})
    keys = agree(whole, found(a="int32", b="date"), None).only(["a"])
    assert [column.name for column in keys.columns] == ["a"]
    assert (keys.key, keys.unique, keys.min_rows) == (("a",), (), None)


def test_the_policies_are_those_of_connector_files() -> None:
    text = str(Connector.model_json_schema()["properties"]["drift"]["enum"])
    assert text == "['freeze', 'add_only', 'evolve']"
