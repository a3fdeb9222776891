from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from aiia_pipelines.jobs.log import Level

pytestmark = pytest.mark.integration

# Type and literals; each must arrive as what it is by the database's own judgement.
SURVIVE = {
    "boolean": ["true", "false"],
    "smallint": ["-32768", "32767"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "real": ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "0.1", "3.4028235e38", "1e-45"],
    "double precision": ["'NaN'", "'-Infinity'", "'-0'", "0.1", "5e-324", "1.7976931348623157e308"],
    "numeric": ["'NaN'", "'Infinity'", "1e-30", "1e60", "12345678901234567890123456789012345678.9", "-0.10"],
    "numeric(38,10)": ["1234567890123456789012345678.0123456789", "-0.0000000001", "0"],
    "numeric(60,2)": ["9999999999999999999999999999999999999999999999999999999999.99", "0.01"],
    "numeric(100,0)": ["1e99"],
    "numeric(3,-2)": ["12300"],
    "text": [
        "''", "'NULL'", "'\\N'", "'\\.'", "E'a\\r\\nb\\tc\"d,e''f'", "U&'\\+01F600'", "E'\\n\\\\.\\n'", "' '",
        "U&'\\202E\\0085'",
    ],
    "bytea": ["''", "'\\x00ff0a22'"],
    "date": ["'0001-01-01'", "'9999-12-31'"],
    "time": ["'00:00'", "'23:59:59.999999'"],
    "timestamp": ["'0001-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'", "'2026-03-29 02:30'"],
    "timestamptz": ["'2026-03-29 02:30:00.000001+05:30'", "'0001-01-01 00:00+00'", "'1900-01-01 00:00-11:30'"],
    "interval": ["'1 year 2 mons -3 days 04:05:06.789'", "'-00:00:01'", "'1 mon -30 days'", "'0'"],
    "uuid": ["'00000000-0000-0000-0000-000000000007'"],
    "json": ["'null'", "'{\"a\": 1, \"a\": 2}'", "'  12345678901234567890.123456789e400 '", "'\"\\u0000\"'"],
    "jsonb": ["'null'", "'{\"b\": 1.10, \"a\": [null]}'"],
    "integer[]": ["'{}'", "'{1,NULL,-1}'"],
    "text[]": ["array['a\"b', E'c\\\\d', null, '', 'NULL', E'e\\nf', '{', ',']"],
    "float8[]": ["'{NaN,Infinity,-0,0.1}'"],
    "date[]": ["'{2026-01-31,NULL}'"],
    "timestamptz[]": ["array['2026-01-31 10:00+05:30'::timestamptz]"],
    "bool[]": ["'{t,f,NULL}'"],
}  # fmt: skip

REFUSED = {
    "date": ["'infinity'", "'-infinity'", "'0044-03-15 BC'", "'10000-01-01'"],
    "timestamp": ["'infinity'", "'0044-03-15 BC'", "'10000-01-01'"],
    "timestamptz": ["'-infinity'", "'10000-01-01'"],
    "time": ["'24:00'"],
    "date[]": ["'{infinity}'"],
    "integer[]": ["'{{1,2},{3,4}}'", "'[2:3]={1,2}'"],
}


@pytest.mark.parametrize("kind", SURVIVE)
def test_every_value_arrives_exactly_as_it_was(bench: Any, kind: str) -> None:
    values = [*SURVIVE[kind], "null"]
    rows = ", ".join(f"({place}, {value})" for place, value in enumerate(values))
    bench.fill(f"id int primary key, v {kind}", f"values {rows}")
    ended = bench.sync({"name": "rows", "table": "public.rows", "key": ["id"]})
    assert ended.state == "Completed", ended.log
    text = "id, v is null, v::text"
    assert bench.arrived(text) == bench.source.execute(f"select {text} from rows order by 1")
    again = bench.sync({"name": "rows", "table": "public.rows", "key": ["id"]})
    assert again.changes == (0, 0, len(values), 0)


@pytest.mark.parametrize(
    ("kind", "value"), [(kind, value) for kind, values in REFUSED.items() for value in values]
)
def test_what_cannot_arrive_is_named_by_column_and_row(bench: Any, kind: str, value: str) -> None:
    bench.fill(f"id int, v {kind}", f"values (1, null), (2, {value})")
    ended = bench.sync()
    assert (ended.state, ended.code) == ("Error", "value-invalid"), ended.log
    error = next(line for line in ended.lines if line.level is Level.ERROR)
    assert error.message.startswith("Value does not fit. Column 'v', row 2: ")
    assert bench.staging() == []


def test_a_month_that_became_thirty_days_is_a_change(bench: Any) -> None:
    stream = {"name": "rows", "table": "public.rows", "key": ["id"]}
    bench.fill("id int, v interval", "values (1, '1 mon')")
    bench.sync(stream)
    bench.fill("id int, v interval", "values (1, '30 days')")
    assert bench.sync(stream).changes == (0, 1, 0, 0)
    assert bench.arrived("v::text") == [("30 days",)]


def test_a_table_with_very_many_columns_is_reconciled(bench: Any) -> None:
    columns = ", ".join(f"c{place} int default {place}" for place in range(600))
    bench.fill(columns, "default values")
    assert bench.sync().state == "Completed"


NUMBERS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
DIGITS = st.one_of(st.none(), st.decimals(allow_nan=False, allow_infinity=False, places=4))
TEXTS = st.one_of(st.none(), st.text(st.characters(exclude_characters="\0", codec="utf-8")))
FLOATS = st.one_of(st.none(), st.floats())
TIMES = st.one_of(st.none(), st.datetimes())


@settings(
    max_examples=12,
    deadline=None,
    # Each example is a whole sync: a failure is told as it is, not made smaller.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    rows=st.lists(st.tuples(NUMBERS, DIGITS, TEXTS, FLOATS, TIMES), max_size=20),
    batch_rows=st.integers(1, 7),
)
def test_the_figures_of_both_sides_agree_for_any_rows(
    bench: Any, rows: list[tuple[Any, ...]], batch_rows: int
) -> None:
    bench.fill("i bigint, d numeric(38,4), t text, f float8, at timestamp", "")
    connection = bench.source.connect()
    fits = [row for row in rows if row[1] is None or abs(row[1]) < 10**33]
    with connection, connection.cursor() as cursor:
        for row in fits:
            cursor.execute("insert into rows values (%s, %s, %s, %s, %s)", row)
    connection.close()
    checks = {"row_count": {"min": 0}}
    stream = {"name": "rows", "table": "rows", "batch_rows": batch_rows, "checks": checks}
    ended = bench.sync(stream)
    assert ended.state == "Completed", ended.log
    text = "i, d::text, t, f::text, at::text"
    order = 'order by i, rows.d, rows.t collate "C", f, rows.at'
    assert bench.warehouse.execute(f"select {text} from sap_erp.rows {order}") == (
        bench.source.execute(f"select {text} from rows {order}")
    )
