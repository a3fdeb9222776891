from typing import Any

import pytest

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors.base import SourceColumn
from aiia_pipelines.jobs.failures import classify
from aiia_pipelines.sync.contract import Contract, agree, as_learned
from aiia_pipelines.sync.faults import ContractBroken


def stream(**facts: Any) -> Stream:
    return Stream.model_validate({"name": "rows", "table": "rows"} | facts)


def found(**columns: str | None) -> list[SourceColumn]:
    return [
        SourceColumn(name, ColumnType.parse(kind) if kind else None, nullable=True, declared="x")
        for name, kind in columns.items()
    ]


def differences(
    wanted: Stream, now: list[SourceColumn], before: list[SourceColumn] | None = None
) -> tuple[str, ...]:
    learned = None if before is None else as_learned(before)
    with pytest.raises(ContractBroken) as broken:
        agree(wanted, now, learned)
    assert classify(broken.value).code == "column-mismatch"
    assert str(broken.value).startswith("Column mismatch in rows: ")
    return broken.value.report


def described(contract: Contract) -> list[tuple[str, str, str, bool]]:
    return [(c.name, c.source, str(c.type), c.nullable) for c in contract.columns]


def test_the_first_sync_learns_what_the_source_has() -> None:
    contract = agree(stream(key=["id"]), found(id="int32", name="string"), None)
    assert described(contract) == [("id", "id", "int32", False), ("name", "name", "string", True)]
    assert contract.unique == (("id",),)


def test_a_column_can_have_another_name_and_a_wider_type_here() -> None:
    columns = {"doc_no": {"from": "BELNR", "type": "int64", "nullable": False}}
    contract = agree(
        stream(columns=columns, key=["doc_no"]), found(BELNR="int32", b="string"), None
    )
    assert described(contract) == [("doc_no", "BELNR", "int64", False), ("b", "b", "string", True)]


def test_a_missing_column_is_named() -> None:
    report = differences(stream(), found(a="int32"), found(a="int32", b="string"))
    assert report == ("column 'b' (string) is missing",)


def test_a_renamed_column_comes_with_the_line_that_maps_it() -> None:
    report = differences(stream(), found(a="int32", c="string"), found(a="int32", b="string"))
    assert report == (
        (
            "column 'b' (string) is missing and seems to be 'c' now (same type, same place):"
            " map it with `b: {from: c}`"
        ),
    )
    mapped = stream(columns={"b": {"from": "c"}})
    learned = as_learned(found(a="int32", b="string"))
    contract = agree(mapped, found(a="int32", c="string"), learned)
    assert [(column.name, column.source) for column in contract.columns] == [("a", "a"), ("b", "c")]
    assert differences(mapped, found(a="int32", c="date"), found(a="int32", b="string")) == (
        "column 'c' expected string but the source has date (x)",
    )


def test_a_retyped_column_is_named_with_both_types() -> None:
    report = differences(stream(), found(a="int64"), found(a="int32"))
    assert report == ("column 'a' expected int32 but the source has int64 (x)",)


def test_a_declared_type_allows_what_fits_it_and_nothing_else() -> None:
    declared = stream(columns={"a": {"type": "int64"}})
    assert (
        described(agree(declared, found(a="int16"), as_learned(found(a="int32"))))[0][2] == "int64"
    )
    assert differences(declared, found(a="decimal(5,0)")) == (
        "column 'a' expected int64 but the source has decimal(5,0) (x)",
    )


def test_a_new_column_is_a_difference_once_columns_are_frozen() -> None:
    report = differences(stream(), found(a="int32", b="date"), found(a="int32"))
    assert report == ("column 'b' (date) is new at the source",)


def test_a_declared_column_that_the_source_lacks_is_missing_at_once() -> None:
    report = differences(stream(columns={"b": {}}), found(a="int32"))
    assert report == ("column 'b' is missing",)


def test_all_differences_are_listed_at_once() -> None:
    with pytest.raises(ContractBroken, match=r"is missing \(and 2 more\)\.$") as broken:
        agree(stream(key=["z"]), found(b="int32"), as_learned(found(a="string")))
    assert len(broken.value.report) == 3


def test_a_key_must_be_a_column() -> None:
    assert differences(stream(key=["z"]), found(a="int32")) == (
        "key column 'z' is not a column of the stream",
    )


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"mode": "append", "cursor": "z"}, "cursor"),
        ({"partition": {"column": "z", "ranges": 2}}, "partition"),
    ],
)
def test_cursor_and_partition_must_be_columns(facts: dict[str, Any], what: str) -> None:
    assert differences(stream(**facts), found(a="int32")) == (
        f"{what} column 'z' is not a column of the stream",
    )


@pytest.mark.parametrize("where", [{"checks": {"unique": ["z"]}}])
def test_columns_that_must_be_unique_must_exist(where: dict[str, Any]) -> None:
    assert differences(stream(**where), found(a="int32")) == (
        "column 'z' that must be unique is not a column of the stream",
    )


def test_a_source_without_types_needs_them_in_the_file() -> None:
    with pytest.raises(ContractBroken, match="declare it under `columns:`") as broken:
        agree(stream(), found(a=None), None)
    assert classify(broken.value).code == "column-mismatch"
    typed = stream(columns={"a": {"type": "date"}})
    assert described(agree(typed, found(a=None), None)) == [("a", "a", "date", True)]
    again = as_learned(found(a=None))
    assert described(agree(typed, found(a=None), again)) == [("a", "a", "date", True)]


def test_two_columns_cannot_end_under_one_name() -> None:
    columns = {"b": {"from": "a"}}
    assert differences(stream(columns=columns), found(a="int32", b="int32")) == (
        "two columns of the source would be named 'b'",
    )
