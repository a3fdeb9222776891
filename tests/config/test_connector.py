import json
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from aiia_pipelines.config.amounts import Lookback
from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.document import read_document
from aiia_pipelines.config.faults import UnknownStream
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.config.wording import mistakes_of, place


def smallest(**changes: Any) -> dict[str, Any]:
    tree = {
        "name": "crm",
        "title": "CRM",
        "source": {"kind": "sql"},
        "streams": [{"name": "orders", "table": "orders"}],
    }
    return {key: value for key, value in {**tree, **changes}.items() if value != "absent"}


def stream(**changes: Any) -> dict[str, Any]:
    return smallest(streams=[{"name": "orders", "table": "orders", **changes}])


def column(**parts: Any) -> dict[str, Any]:
    return stream(columns={"a": parts})


def check(column_type: str | None, **checks: Any) -> dict[str, Any]:
    return column(type=column_type, checks=checks)


def said(tree: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Connector.model_validate(tree)
    return [f"{place(loc)}: {sentence}" for loc, sentence in mistakes_of(caught.value)]


def test_the_documented_sample_is_read(sample: str) -> None:
    connector = Connector.model_validate(read_document(sample.encode()).value)
    journal = connector.stream("journal_entries")
    assert (connector.name, connector.overlap, connector.reconcile) == (
        "sap_erp",
        "queue",
        "totals",
    )
    assert (journal.key, journal.batch_rows, journal.reconcile) == (
        ["doc_no", "line_no"],
        50_000,
        None,
    )
    assert journal.columns["doc_no"].from_ == "BELNR"
    assert journal.columns["amount"].type == ColumnType("decimal", 18, 2)
    assert journal.columns["currency"].checks["isin"] == ["EUR", "NO", "SAR"]
    assert (journal.checks.row_count.min, journal.checks.row_count.max) == (1, None)


def test_the_public_form_is_what_was_written(sample: str) -> None:
    connector = Connector.model_validate(read_document(sample.encode()).value)
    public = json.loads(json.dumps(connector.public()))
    assert public == yaml.load(sample, Loader=yaml.BaseLoader) | public
    assert public["source"]["password"] == "${env:SAP_PASSWORD}"
    assert Connector.model_validate(public) == connector


def test_the_smallest_file_has_defaults() -> None:
    connector = Connector.model_validate(smallest(schedule=" "))
    assert connector.schedule is None
    assert (connector.destination, connector.timezone, connector.tier) == (
        "warehouse",
        "UTC",
        "normal",
    )
    assert connector.streams[0].mode == "replace"
    assert Connector.model_validate(smallest(schedule="0  2 * * *")).schedule == "0 2 * * *"


def test_an_unknown_stream_is_told_with_the_known() -> None:
    connector = Connector.model_validate(smallest())
    with pytest.raises(UnknownStream, match="did you mean 'orders'"):
        connector.stream("order")


def test_a_ready_column_type_is_taken_as_it_is() -> None:
    tree = column(type=ColumnType("date"))
    assert Connector.model_validate(tree).streams[0].columns["a"].type == ColumnType("date")


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        (smallest(title="absent"), "title: missing key"),
        (smallest(kron=1), "kron: unknown key. Allowed: name, title"),
        (stream(tabel="x"), "streams[0].tabel: unknown key; did you mean 'table'? Allowed: name"),
        (column(frm="x"), "streams[0].columns.a.frm: unknown key; did you mean 'from'?"),
        (check("int64", gee=1), "streams[0].columns.a.checks.gee: unknown key; did you mean 'ge'?"),
        (smallest(name="Crm"), "name: must start with a small letter"),
        (smallest(name="c" * 41), "name: must have at most 40 characters"),
        (smallest(name=3), "name: must be a text"),
        (smallest(title=""), "title: must not be empty"),
        (smallest(title="a\nb"), "title: must be one line"),
        (smallest(title=" a"), "title: must be one line"),
        (smallest(owners="me"), "owners: must be a list"),
        (smallest(tier="urgent"), "tier: must be one of normal, critical"),
        (
            smallest(priority="hihg"),
            "priority: must be one of low, normal, high, critical; did you",
        ),
        (smallest(priority=1), "priority: must be one of low, normal, high, critical"),
        (smallest(schedule="daily"), "schedule: must have five fields"),
        (smallest(timezone="Mars"), "timezone: must be a known time zone"),
        (smallest(streams=[]), "streams: must have at least 1 entry"),
        (smallest(streams=["x"]), "streams[0]: must be a mapping"),
        (smallest(source="x"), "source: must be a mapping"),
        (smallest(source={}), "source: missing key 'kind'"),
        (smallest(source={"kind": " "}), "source.kind: must be the name of a kind"),
        (stream(batch_rows=0), "streams[0].batch_rows: must be at least 1"),
        (stream(batch_rows=10**9), "streams[0].batch_rows: must be at most 10000000"),
        (stream(batch_rows="9"), "streams[0].batch_rows: must be a whole number"),
        (
            stream(query="select 1"),
            "streams[0]: needs exactly one of table, query, path, endpoint;",
        ),
        (smallest(streams=[{"name": "a"}]), "streams[0]: needs exactly one"),
        (stream(mode="upsert"), "streams[0].mode: upsert needs key"),
        (stream(key=["a", "a"]), "streams[0].key: names 'a' twice"),
        (stream(checks={"unique": ["a", "a"]}), "streams[0].checks.unique: names 'a' twice"),
        (stream(columns={"a": {}, "b": {"from": "a"}}), "streams[0].columns: take 'a' twice"),
        (stream(columns={"": {}}), "streams[0].columns.'': must not be empty"),
        (
            stream(checks={"row_count": {"min": 2, "max": 1}}),
            "streams[0].checks.row_count: min must",
        ),
        (column(nullable="no"), "streams[0].columns.a.nullable: must be true or false"),
        (column(type=5), "streams[0].columns.a.type: must be the name of a type"),
        (column(type="strng"), "streams[0].columns.a.type: unknown type 'strng'; did you mean"),
        ([1], ": must be a mapping"),
    ],
)
def test_each_mistake_is_one_plain_sentence(tree: object, sentence: str) -> None:
    found = said(tree)
    assert len(found) == 1
    assert found[0].startswith(sentence)
    assert "\n" not in found[0]


@pytest.mark.parametrize(
    "tree",
    [
        smallest(drift="evolve"),
        smallest(drift="add_only"),
        smallest(on_invalid="quarantine", max_invalid="0.5%"),
        smallest(reconcile="full"),
        stream(reconcile="full"),
        stream(mode="history", key=["id"], delete="soft"),
        stream(mode="append", cursor="id"),
        stream(mode="upsert", key=["id"], cursor="at", lookback="10m"),
        stream(mode="upsert", key=["id"], cursor="id", lookback=100),
        stream(mode="upsert", key=["id"], delete="hard", max_delete=10),
        stream(max_delete="5%"),
        stream(partition={"column": "id", "ranges": 4}),
        stream(partition={"column": "at", "by": "day"}),
        stream(options={"anything": [1]}),
        stream(schema="my_package.schemas:Journal"),
        column(on_lossy="round"),
    ],
)
def test_every_part_of_the_format_is_read_and_written_as_it_was(tree: dict[str, Any]) -> None:
    connector = Connector.model_validate(tree)
    public = json.loads(json.dumps(connector.public()))
    assert public == tree
    assert Connector.model_validate(public) == connector


def test_the_null_of_yaml_is_the_word_that_on_lossy_takes() -> None:
    text = "name: a\ntitle: A\nsource: {kind: sql}\nstreams: [{name: a, table: a, columns: {b: {on_lossy: null}}}]"
    connector = Connector.model_validate(read_document(text.encode()).value)
    assert connector.streams[0].columns["b"].on_lossy == "null"
    assert Connector.model_validate(column()).streams[0].columns["a"].on_lossy is None


def test_a_ready_amount_is_taken_as_it_is() -> None:
    tree = stream(mode="upsert", key=["a"], cursor="a", lookback=Lookback(seconds=60))
    assert Connector.model_validate(tree).streams[0].lookback == Lookback(seconds=60)


def test_a_partition_of_a_known_type_is_accepted() -> None:
    for kind, cut in (("timestamp", {"by": "hour"}), ("int64", {"ranges": 4})):
        tree = stream(columns={"c": {"type": kind}}, partition={"column": "c", **cut})
        assert Connector.model_validate(tree).streams[0].partition


def test_the_columns_that_a_destination_adds_follow_from_mode_and_delete() -> None:
    def added(**facts: Any) -> tuple[str, ...]:
        return Connector.model_validate(stream(**facts)).streams[0].added_columns

    assert added() == ()
    assert added(mode="upsert", key=["a"], delete="hard") == ()
    assert added(mode="upsert", key=["a"], delete="soft") == ("_deleted_at",)
    assert added(mode="history", key=["a"], delete="soft") == ("_valid_from", "_valid_to")


def upsert(**changes: Any) -> dict[str, Any]:
    return stream(mode="upsert", key=["id"], **changes)


def typed(kind: str, **changes: Any) -> dict[str, Any]:
    return upsert(columns={"c": {"type": kind}}, **changes)


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        (smallest(max_invalid=0), "max_invalid: needs on_invalid: quarantine"),
        (smallest(on_invalid="quarantine", max_invalid=-1), "max_invalid: must be a whole number"),
        (smallest(on_invalid="quarantine", max_invalid="101%"), "max_invalid: must be a whole"),
        (smallest(drift="evolv"), "drift: must be one of freeze, add_only, evolve; did you mean"),
        (stream(mode="history"), "streams[0].mode: history needs key"),
        (stream(cursor="a"), "streams[0].cursor: replace reads all rows; take append, upsert or"),
        (upsert(lookback="10m"), "streams[0].lookback: needs cursor"),
        (
            stream(mode="append", cursor="a", lookback="10m"),
            "streams[0].lookback: needs key, on which",
        ),
        (upsert(cursor="a", lookback="10"), "streams[0].lookback: must be a time such as 10m"),
        (upsert(cursor="a", lookback=-1), "streams[0].lookback: must be a time such as 10m"),
        (upsert(cursor="a", lookback=True), "streams[0].lookback: must be a time such as 10m"),
        (upsert(cursor="a", lookback=2**63), "streams[0].lookback: must be a time such as 10m"),
        (upsert(cursor="a", lookback="36501d"), "streams[0].lookback: must be at most 36500d"),
        (
            typed("timestamp", cursor="c", lookback=5),
            "streams[0].lookback: must be a time such as 10m, because the cursor's type is",
        ),
        (
            typed("int64", cursor="c", lookback="5m"),
            "streams[0].lookback: must be a whole number of steps, because the cursor's type is",
        ),
        (typed("json", cursor="c"), "streams[0].cursor: must be a column that grows; one of type"),
        (stream(delete="soft"), "streams[0].delete: replace removes rows by itself"),
        (stream(mode="append", delete="soft"), "streams[0].delete: append never removes rows"),
        (
            stream(mode="history", key=["a"], delete="hard"),
            "streams[0].delete: history keeps every version; take soft",
        ),
        (upsert(delete="sotf"), "streams[0].delete: must be one of none, soft, hard; did you"),
        (upsert(max_delete=5), "streams[0].max_delete: needs delete; without it upsert never"),
        (stream(mode="append", max_delete=5), "streams[0].max_delete: append never removes rows"),
        (upsert(delete="soft", max_delete=0.5), "streams[0].max_delete: must be a whole number"),
        (stream(partition={}), "streams[0].partition.column: missing key"),
        (stream(partition={"column": "a"}), "streams[0].partition: needs exactly one of ranges"),
        (
            stream(partition={"column": "a", "ranges": 4, "by": "day"}),
            "streams[0].partition: needs exactly one of ranges and by",
        ),
        (
            stream(partition={"column": "a", "ranges": 1}),
            "streams[0].partition.ranges: must be at least 2",
        ),
        (
            stream(partition={"column": "a", "range": 4}),
            "streams[0].partition.range: unknown key; did you mean 'ranges'? Allowed: column,",
        ),
        (
            stream(partition={"column": "a", "by": "week"}),
            "streams[0].partition.by: must be one of hour, day, month, year",
        ),
        (
            typed("string", partition={"column": "c", "by": "day"}),
            "streams[0].partition.by: needs a date or a time, but the column's type is string",
        ),
        (
            typed("date", partition={"column": "c", "by": "hour"}),
            "streams[0].partition.by: hour needs a time; the column's type is date",
        ),
        (
            typed("bool", partition={"column": "c", "ranges": 2}),
            "streams[0].partition.column: must have an order; type bool has none",
        ),
        (stream(schema="Journal"), "streams[0].schema: must name a pandera model as package"),
        (stream(schema="a..b:C"), "streams[0].schema: must name a pandera model as package"),
        (stream(schema=5), "streams[0].schema: must be a text"),
        (stream(options=[1]), "streams[0].options: must be a mapping"),
        (column(on_lossy="drop"), "streams[0].columns.a.on_lossy: must be one of null, round, te"),
        (
            column(on_lossy="null", nullable=False),
            "streams[0].columns.a.on_lossy: null needs a column that may be NULL",
        ),
        (
            stream(key=["a"], columns={"a": {"on_lossy": "null"}}),
            "streams[0].columns.a.on_lossy: null needs a column that may be NULL",
        ),
        (
            upsert(columns={"at": {"from": "CHANGED"}}, cursor="CHANGED"),
            "streams[0].cursor: 'CHANGED' is named 'at' here; take that name",
        ),
        (
            stream(columns={"id": {"from": "NR"}}, partition={"column": "NR", "ranges": 2}),
            "streams[0].partition.column: 'NR' is named 'id' here; take that name",
        ),
        (
            stream(columns={"id": {"from": "NR"}}, key=["NR"]),
            "streams[0].key: 'NR' is named 'id' here; take that name",
        ),
        (
            upsert(columns={"_deleted_at": {}}, delete="soft"),
            "streams[0].columns._deleted_at: is a column that the destination adds",
        ),
        (
            smallest(
                on_invalid="quarantine",
                streams=[{"name": n, "table": "t"} for n in ("a", "a__quarantine")],
            ),
            "streams[1].name: is where the invalid rows of 'a' go",
        ),
    ],
)
def test_what_does_not_go_together_is_told_at_its_place(tree: object, sentence: str) -> None:
    found = said(tree)
    assert len(found) == 1
    assert found[0].startswith(sentence)


def test_a_quarantine_takes_no_name_that_another_stream_bears() -> None:
    streams = [{"name": n, "table": "t"} for n in ("a__quarantine", "b")]
    assert Connector.model_validate(smallest(on_invalid="quarantine", streams=streams))
    both = [{"name": n, "table": "t"} for n in ("a", "a__quarantine")]
    assert Connector.model_validate(smallest(streams=both))


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ({"password": "hunter22"}, "source.password"),
        ({"password": 2222}, "source.password"),
        ({"auth": [{"client_secret": "hunter22"}]}, "source.auth[0].client_secret"),
        ({"url": "postgresql://me:hunter22@db/x"}, "source.url"),
        ({"note": "${nope}"}, "source.note"),
    ],
)
def test_a_secret_in_the_file_is_refused_at_its_place(source: dict[str, Any], where: str) -> None:
    found = said(smallest(source={"kind": "sql", **source}))
    assert [line.split(":")[0] for line in found] == [where]
    assert "${env:NAME}" in found[0]
    assert "2222" not in found[0]
    assert "hunter" not in found[0]


def test_references_and_blanks_are_no_secrets() -> None:
    source = {"kind": "sql", "password": "${file:pw}", "token": None, "port": 5, "tags": ["a", 1]}
    assert Connector.model_validate(smallest(source=source)).source == source


def test_two_streams_of_one_name_are_refused() -> None:
    one = {"name": "orders", "table": "a"}
    assert said(smallest(streams=[one, one])) == [
        "streams[1].name: another stream is named 'orders'"
    ]


@pytest.mark.parametrize(
    ("column_type", "checks"),
    [
        ("int64", {"ge": 1, "isin": [1, 2], "unique": True}),
        ("float64", {"lt": 1.5, "ne": 3}),
        ("decimal(18,2)", {"ge": "0.10", "le": 5, "gt": 0.5}),
        ("bool", {"eq": True}),
        ("string", {"str_matches": "^a", "str_length": {"min_value": 1}, "notin": ["x"]}),
        ("date", {"in_range": {"min_value": "2026-01-01", "max_value": "2026-12-31"}}),
        ("time", {"ge": "08:00:00"}),
        ("timestamp", {"ge": "2026-01-01T00:00:00"}),
        ("timestamptz", {"ge": "2026-01-01T00:00:00Z"}),
        ("uuid", {"ne": "00000000-0000-0000-0000-000000000000"}),
        ("json", {"unique": True}),
        (None, {"ge": 1, "in_range": {"min_value": 1, "max_value": 2, "include_max": False}}),
    ],
)
def test_checks_that_go_with_the_type_are_accepted(
    column_type: str | None, checks: dict[str, Any]
) -> None:
    connector = Connector.model_validate(check(column_type, **checks))
    assert connector.streams[0].columns["a"].checks == checks


@pytest.mark.parametrize(
    ("column_type", "checks", "sentence"),
    [
        ("int64", {"ge": "1"}, "ge: must be a whole number, because the column's type is int64"),
        ("int64", {"isin": [1, True]}, "isin: must be a whole number"),
        ("float64", {"ge": True}, "ge: must be a number"),
        ("decimal", {"ge": "ten"}, "ge: must be a number, in quotes"),
        ("decimal", {"ge": "NaN"}, "ge: must be a number, in quotes"),
        ("bool", {"eq": 1}, "eq: must be true or false"),
        ("string", {"eq": 1}, "eq: must be a text"),
        ("int64", {"str_matches": "a"}, "str_matches: needs a column of type string"),
        ("date", {"ge": "soon"}, "ge: must be a date"),
        ("date", {"ge": 5}, "ge: must be a date"),
        ("time", {"ge": "08:00+01:00"}, "ge: must be a time"),
        ("timestamp", {"ge": "2026-01-01T00:00:00Z"}, "ge: must be a time"),
        ("timestamptz", {"ge": "2026-01-01T00:00:00"}, "ge: must be a time with its zone"),
        ("uuid", {"eq": "x"}, "eq: must be a UUID"),
        ("uuid", {"eq": 5}, "eq: must be a UUID"),
        ("json", {"eq": "x"}, "eq: a column of type json cannot be compared"),
        (None, {"ge": [1]}, "ge: must be a number, a text or true/false"),
        (None, {"ge": float("nan")}, "ge: must be a number, a text or true/false"),
        (None, {"isin": []}, "isin: must have at least 1 entry"),
        (None, {"isin": "EUR"}, "isin: must be a list"),
        (None, {"str_matches": "("}, "str_matches: must be a regular expression"),
        (None, {"str_length": {}}, "str_length: needs min_value, max_value or both"),
        (None, {"str_length": {"min_value": 3, "max_value": 2}}, "str_length: min_value must not"),
        (
            None,
            {"str_length": {"max_valu": 2}},
            "str_length.max_valu: unknown key; did you mean 'max_value'?",
        ),
        (None, {"in_range": {"min_value": 3, "max_value": 2}}, "in_range: min_value must not"),
        (None, {"in_range": {"min_value": 3}}, "in_range.max_value: missing key"),
        (None, {"in_range": [1, 2]}, "in_range: must be a mapping"),
        (None, {"unique": "yes"}, "unique: must be true or false"),
    ],
)
def test_a_wrong_check_is_told_at_its_place(
    column_type: str | None, checks: dict[str, Any], sentence: str
) -> None:
    found = said(check(column_type, **checks))
    assert len(found) == 1
    assert found[0].startswith(f"streams[0].columns.a.checks.{sentence}")


def test_a_fault_of_the_model_itself_shows_no_value() -> None:
    with pytest.raises(ValidationError) as caught:
        Connector.model_validate(smallest(source={"kind": "sql", "password": "hunter22"}))
    assert "hunter22" not in str(caught.value)
