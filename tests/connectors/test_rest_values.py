import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiia_pipelines.connectors._rest_json import Unreadable, compact, read
from aiia_pipelines.connectors.base import Reading, SourceFault

pytestmark = pytest.mark.integration


def arrived(source: Any, rows: Any) -> list[Any]:
    names = [column.name for column in source.columns(rows)]
    batches = source.batches(rows, Reading(names=names))
    return [tuple(row) for batch in batches for row in batch.rows]


def told(source: Any, rows: Any) -> dict[str, str]:
    return {column.name: str(column.type) for column in source.columns(rows)}


FOUND: list[tuple[str, list[str], str, list[Any]]] = [
    ("truth", ["true", "false", "null"], "bool", [True, False, None]),
    (
        "whole",
        ["1", "-9223372036854775808", "9223372036854775807"],
        "int64",
        [1, -(2**63), 2**63 - 1],
    ),
    ("beyond 64 bits", ["1", "9223372036854775808"], "decimal", [1, 2**63]),
    ("huge", ["1" + "0" * 60], "decimal", [10**60]),
    ("point", ["1.10", "2"], "decimal", [Decimal("1.10"), 2]),
    ("exponent", ["1e5", "-1.5E-7"], "decimal", [Decimal("1E+5"), Decimal("-1.5E-7")]),
    (
        "38 digits",
        ["12345678901234567890123456789012345678.90"],
        "decimal",
        [Decimal("12345678901234567890123456789012345678.90")],
    ),
    ("text", ['"a"', '""', '"\\u0000\\ud83d\\ude00"'], "string", ["a", "", "\0😀"]),
    ("a date stays text", ['"2026-01-01"'], "string", ["2026-01-01"]),
    ("object", ['{"a": 1.10, "b": [true, null]}'], "json", ['{"a":1.10,"b":[true,null]}']),
    ("array", ['[1, "ä"]', "[]"], "json", ['[1,"ä"]', "[]"]),
    ("text and number", ['"a"', "1.50"], "json", ['"a"', "1.50"]),
    ("truth and number", ["true", "1"], "json", ["true", "1"]),
    ("nothing", ["null", "null"], "None", [None, None]),
]


@pytest.mark.parametrize("case", FOUND, ids=lambda case: case[0])
def test_types_are_as_narrow_as_all_values_allow_and_keep_every_digit(
    open_rest: Any, web: Any, stream: Any, case: Any
) -> None:
    _, values, kind, expected = case
    body = ",".join(f'{{"v": {value}}}' for value in values)
    web.answers["/rows"] = [web.reply(body=f"[{body}]".encode())]
    source, rows = open_rest(), stream(endpoint="/rows")
    assert told(source, rows) == {"v": kind}
    found = [row[0] for row in arrived(source, rows)]
    assert list(map(repr, found)) == list(map(repr, expected))


UTC = dt.UTC
DECLARED: list[tuple[str, str, Any]] = [
    ("date", '"2026-02-28"', dt.date(2026, 2, 28)),
    ("date", '"2026-02-30"', "2026-02-30"),
    ("date", '"2026-02-28T00:00:00"', "2026-02-28T00:00:00"),
    ("date", "20260228", 20260228),
    ("timestamp", '"2026-02-28T10:00:00.5"', dt.datetime.fromisoformat("2026-02-28T10:00:00.5")),
    ("timestamp", '"2026-02-28T10:00:00Z"', "2026-02-28T10:00:00Z"),
    ("timestamptz", '"2026-02-28T10:00:00+02:00"', dt.datetime(2026, 2, 28, 8, tzinfo=UTC)),
    ("timestamptz", '"2026-02-28T10:00:00"', "2026-02-28T10:00:00"),
    ("timestamptz", '"2026-02-28T10:00:00.1234567Z"', "2026-02-28T10:00:00.1234567Z"),
    ("time", '"10:30"', dt.time(10, 30)),
    ("decimal(9,2)", '"12.50"', Decimal("12.50")),
    ("decimal(9,2)", '"12,50"', "12,50"),
    ("decimal(9,2)", '""', ""),
    ("decimal(9,2)", "7", 7),
    ("int64", '"42"', 42),
    ("int64", "5.0", 5),
    ("int64", "5.5", Decimal("5.5")),
    ("int64", "true", True),
    ("float64", "0.1", 0.1),
    ("float64", "1e-400", Decimal("1e-400")),
    ("float64", "0.1000000000000000055", Decimal("0.1000000000000000055")),
    ("float64", "3", 3),
    ("bool", '"true"', True),
    ("bool", '"1"', "1"),
    ("bool", "1", 1),
    ("string", "12", 12),
    ("string", '{"a": 1}', '{"a":1}'),
    ("json", '"text"', '"text"'),
    ("json", "1.0", "1.0"),
    ("uuid", '"6f9619ff-8b86-d011-b42d-00cf4fc964ff"', "6f9619ff-8b86-d011-b42d-00cf4fc964ff"),
    ("list<int64>", "[1, 2.0, null]", [1, 2, None]),
    ("list<date>", '["2026-01-01"]', [dt.date(2026, 1, 1)]),
]


@pytest.mark.parametrize("case", DECLARED, ids=lambda case: f"{case[0]} {case[1]}")
def test_a_declared_type_is_read_strictly_and_what_is_none_stays_as_it_came(
    open_rest: Any, web: Any, stream: Any, case: Any
) -> None:
    kind, text, expected = case
    web.answers["/rows"] = [web.reply(body=f'[{{"v": {text}}}]'.encode())]
    for more in (
        {"columns": {"w": {"from": "v", "type": kind}}},
        {"options": {"fields": {"v": kind}}},
    ):
        source, rows = open_rest(), stream(endpoint="/rows", **more)
        assert told(source, rows) == {"v": kind}
        [[found]] = arrived(source, rows)
        assert repr(found) == repr(expected)


def test_a_missing_key_is_null_and_a_new_one_is_a_mismatch(
    open_rest: Any, web: Any, stream: Any
) -> None:
    pages = {"1": [{"a": 1, "b": 2}, {"a": 2}], "2": [{"b": 3}, {"b": 4, "c": 5}], "3": []}
    web.answers["/rows"] = lambda asked: web.reply(pages[asked.query["page"]])
    rows = stream(endpoint="/rows", options={"pagination": {"type": "page"}})
    source = open_rest()
    names = [column.name for column in source.columns(rows)]
    batches = source.batches(rows, Reading(names=names))
    assert next(batches).rows == [[1, 2], [2, None]]
    with pytest.raises(SourceFault, match="Page 2, record 2 has the key 'c'") as caught:
        next(batches)
    assert caught.value.signals == ("contract:column",)


def test_named_fields_leave_out_the_others_and_may_be_missing_only_if_they_say_so(
    open_rest: Any, web: Any, stream: Any
) -> None:
    web.answers["/rows"] = [web.reply([{"a": 1, "x": 2}])]
    fields = {"a": "int64", "b": "string?", "gone": "string"}
    rows = stream(endpoint="/rows", options={"fields": fields})
    source = open_rest()
    assert told(source, rows) == {"a": "int64", "b": "string"}
    assert arrived(source, rows) == [(1, None)]


def test_an_empty_endpoint_has_the_columns_that_are_declared(
    open_rest: Any, web: Any, stream: Any
) -> None:
    web.answers["/rows"] = [web.reply([])]
    source = open_rest()
    columns = {"n": {"from": "a", "type": "int64"}}
    assert told(source, stream(endpoint="/rows", columns=columns)) == {"a": "int64"}
    assert told(
        source, stream(name="two", endpoint="/rows", options={"fields": {"a": "date"}})
    ) == {"a": "date"}
    assert told(source, stream(name="three", endpoint="/rows")) == {}


def test_json_text_keeps_its_numbers_and_is_bounded_in_depth() -> None:
    text = '{"a":[1.0,-0.0,12345678901234567890123.450,true,null,"\\u0007\\n\\"é"]}'
    assert compact(read(text.encode())) == text.replace("\\u00e9", "é")
    with pytest.raises(Unreadable, match="64 levels"):
        compact(read(b"[" * 70 + b"]" * 70))


NUMBERS = st.integers() | st.decimals(allow_nan=False, allow_infinity=False, places=6)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)


@given(JSON)
def test_what_is_written_as_json_text_reads_back_as_it_was(value: Any) -> None:
    text = compact(value)
    assert read(text.encode("utf-8", "surrogatepass")) == value
    assert compact(read(text.encode("utf-8", "surrogatepass"))) == text


# -- incremental --------------------------------------------------------------------------------

DAYS = [{"id": n, "at": f"2026-01-0{n}T00:00:00Z"} for n in range(1, 8)]
KEYED = {"mode": "upsert", "key": ["id"]}


def incremental(stream: Any, *, cursor: str = "at", **more: Any) -> Any:
    options = {"cursor_param": "since"} | more.pop("options", {})
    columns = {"at": {"type": "timestamptz"}}
    given = {"endpoint": "/rows", "cursor": cursor, "columns": columns, "options": options}
    return stream(**given | {"mode": "append"} | more)


def synced(source: Any, rows: Any, since: Any = None) -> tuple[list[int], Any]:
    source.columns(rows)
    reading = Reading(names=["id"], cursor=rows.cursor, since=since)
    until = source.position(rows, reading)
    assert source.rows_until(rows, reading) is None
    reading = Reading(names=["id"], cursor=rows.cursor, since=since, until=until)
    found = [row[0] for batch in source.batches(rows, reading) for row in batch.rows]
    return found, until


def test_only_what_is_new_is_read_whatever_the_server_makes_of_the_parameter(
    open_rest: Any, web: Any, stream: Any
) -> None:
    served = DAYS[:3]
    web.answers["/rows"] = lambda _: web.reply(served)
    rows, source = incremental(stream), open_rest()
    found, until = synced(source, rows)
    assert (found, until) == ([1, 2, 3], {"column": "at", "cursor": "2026-01-03T00:00:00Z"})
    assert "since" not in web.asked[-1].query
    served = DAYS[:5]
    found, until = synced(source, rows, until)
    assert found == [4, 5]
    assert web.asked[-1].query == {"since": "2026-01-03T00:00:00Z"}
    assert synced(source, rows, until) == ([], until)
    served = []
    assert synced(
        source, incremental(stream, options={"fields": {"id": "int64", "at": "timestamptz"}}), until
    ) == ([], until)


def test_with_a_key_equal_cursors_and_those_within_the_lookback_are_read_again(
    open_rest: Any, web: Any, stream: Any
) -> None:
    web.answers["/rows"] = lambda _: web.reply([*DAYS, {"id": 9, "at": None}])
    since = {"column": "at", "cursor": "2026-01-06T00:00:00Z"}
    source = open_rest()
    assert synced(source, incremental(stream, **KEYED), since)[0] == [6, 7, 9]
    assert synced(source, incremental(stream, lookback="2d", **KEYED), since)[0] == [4, 5, 6, 7, 9]
    assert web.asked[-1].query == {"since": "2026-01-04T00:00:00Z"}
    assert synced(source, incremental(stream), since)[0] == [7]
    assert synced(source, incremental(stream), None)[0] == [1, 2, 3, 4, 5, 6, 7, 9]


def test_what_arrives_while_a_position_is_taken_waits_for_the_next_sync(
    open_rest: Any, web: Any, stream: Any
) -> None:
    served = DAYS[:2]
    web.answers["/rows"] = lambda _: web.reply(served)
    newest = incremental(stream, options={"newest": {"sort": "-at", "limit": 1}})
    source = open_rest()
    source.columns(newest)
    reading = Reading(names=["id"], cursor="at")
    until = source.position(newest, reading)
    assert web.asked[-1].query == {"sort": "-at", "limit": "1"}
    served = DAYS[:4]
    reading = Reading(names=["id"], cursor="at", until=until)
    [batch] = source.batches(newest, reading)
    assert (batch.rows, batch.checkpoint) == ([[1], [2]], {"after": "done"})
    plain = incremental(stream)
    until = source.position(plain, Reading(names=["id"], cursor="at"))
    served = []
    [batch] = source.batches(plain, Reading(names=["id"], cursor="at", until=until))
    assert (batch.rows, batch.checkpoint) == ([[1], [2], [3], [4]], None)


FORMS: list[tuple[str, str, str]] = [
    ("iso", "2026-01-03T00:00:00.25Z", "2026-01-03T00:00:00.250000Z"),
    ("date", "2026-01-03T12:00:00Z", "2026-01-03"),
    ("unix", "2026-01-03T00:00:00.999Z", "1767398400"),
    ("unix_ms", "2026-01-03T00:00:00.9999Z", "1767398400999"),
    ("%d.%m.%Y %H:%M", "2026-01-03T12:30:00Z", "03.01.2026 12:30"),
]


@pytest.mark.parametrize(("form", "cursor", "sent"), FORMS)
def test_the_cursor_is_sent_as_the_api_wants_it(
    open_rest: Any, web: Any, stream: Any, form: str, cursor: str, sent: str
) -> None:
    web.answers["/rows"] = [web.reply(DAYS)]
    rows = incremental(stream, options={"cursor_format": form})
    synced(open_rest(), rows, {"column": "at", "cursor": cursor})
    assert web.asked[-1].query == {"since": sent}


def test_a_post_sends_the_cursor_in_its_body(open_rest: Any, web: Any, stream: Any) -> None:
    web.answers["/rows"] = [web.reply(DAYS)]
    rows = incremental(stream, cursor="id", options={"method": "POST", "params": {"v": 2}})
    found, until = synced(open_rest(), rows, {"column": "id", "cursor": "5"})
    assert (found, until) == ([6, 7], {"column": "id", "cursor": "7"})
    assert (web.asked[-1].body, web.asked[-1].query) == (b'{"since":5}', {"v": "2"})


@pytest.mark.parametrize(
    ("facts", "signal"),
    [
        ({"columns": {"at": {"type": "string"}}}, "config:invalid"),
        ({"columns": {}}, "config:invalid"),
        ({"columns": {"at": {"type": "date"}}}, "contract:value"),
        (
            {
                "lookback": 5,
                "columns": {},
                "options": {"fields": {"id": "int64", "at": "timestamptz"}},
                **KEYED,
            },
            "config:invalid",
        ),
    ],
)
def test_a_cursor_that_cannot_be_put_in_order_is_refused(
    open_rest: Any, web: Any, stream: Any, facts: dict[str, Any], signal: str
) -> None:
    web.answers["/rows"] = [web.reply(DAYS)]
    source, rows = open_rest(), incremental(stream, **facts)
    since = {"column": "at", "cursor": "2026-01-03T00:00:00Z"} if "lookback" in facts else None
    with pytest.raises(SourceFault) as caught:
        synced(source, rows, since)
    assert signal in caught.value.signals


def test_another_cursor_than_last_time_reads_all_where_rows_have_a_key(
    open_rest: Any, web: Any, stream: Any
) -> None:
    web.answers["/rows"] = [web.reply(DAYS)]
    since = {"column": "id", "cursor": "5"}
    assert len(synced(open_rest(), incremental(stream, **KEYED), since)[0]) == 7
    with pytest.raises(SourceFault, match="another column was its cursor"):
        synced(open_rest(), incremental(stream), since)


LOOKBACKS: list[tuple[str, Any, Any, str, Any]] = [
    ("date", "2026-03-01", "1d", "2026-02-28", "2026-02-28"),
    ("date", "2026-03-01", "25h", "2026-02-27", "2026-02-27"),
    ("timestamp", "2026-03-01T10:00:00", "90s", "2026-03-01T09:58:30", "2026-03-01T09:58:30"),
    ("timestamptz", "0001-01-01T00:00:00Z", "2d", "everything", None),
    ("int64", 100, 7, "93", 93),
    ("decimal(9,2)", "100.50", 7, "93.50", "93.50"),
]


@pytest.mark.parametrize("case", LOOKBACKS, ids=lambda case: f"{case[0]} {case[2]}")
def test_a_lookback_goes_back_in_the_units_of_the_cursor(
    open_rest: Any, web: Any, stream: Any, case: Any
) -> None:
    kind, last, lookback, _, sent = case
    web.answers["/rows"] = [web.reply([{"id": 1, "at": last}])]
    rows = incremental(stream, columns={"at": {"type": kind}}, lookback=lookback, **KEYED)
    found, until = synced(open_rest(), rows)
    assert (found, until) == ([1], {"column": "at", "cursor": str(last)})
    assert synced(open_rest(), rows, until) == ([1], until)
    assert web.asked[-1].query.get("since") == (None if sent is None else str(sent))


def test_a_day_can_be_sent_as_seconds(open_rest: Any, web: Any, stream: Any) -> None:
    web.answers["/rows"] = [web.reply([{"id": 1, "at": "2026-03-02"}])]
    rows = incremental(
        stream, columns={"at": {"type": "date"}}, options={"cursor_format": "unix"}, **KEYED
    )
    synced(open_rest(), rows, {"column": "at", "cursor": "2026-03-01"})
    assert web.asked[-1].query == {"since": "1772323200"}
