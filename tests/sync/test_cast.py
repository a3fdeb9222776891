import datetime as dt
import math
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync._cast import cast, text_of_decimals
from aiia_pipelines.sync._column import Converted, convert
from aiia_pipelines.sync.contract import ContractColumn
from aiia_pipelines.sync.convert import MISFITS, arrow_type, from_python

UTC = dt.UTC
NAIVE = dt.datetime(2026, 1, 31, 10, 0)  # noqa: DTZ001 - a timestamp without zone
INSTANT = NAIVE.replace(tzinfo=UTC)
D = Decimal


def kind(name: str) -> ColumnType:
    return ColumnType.parse(name)


def converted(name: str, values: Any, how: str | None = None, **more: Any) -> Converted:
    given: dict[str, Any] = {"nullable": True, "checks": {}, "type": kind(name)} | more
    return convert(ContractColumn(name="c", source="c", on_lossy=how, **given), values)


# Texts of CSV files and of databases' own words, and what they are.
READ: dict[str, dict[str, Any]] = {
    "bool": {"true": True, "FALSE": False, "t": True, "f": False, "1": True, "0": False},
    "int16": {"-32768": -32768, "007": 7, "0": 0},
    "int64": {"9223372036854775807": 2**63 - 1, "-9223372036854775808": -(2**63)},
    "float64": {"0.1": 0.1, "1e5": 1e5, "-0": -0.0, "inf": math.inf, "-Infinity": -math.inf,
                "0.30000000000000004": 0.1 + 0.2, "0.10000000000000001": 0.1, "5e-324": 5e-324,
                "1.7976931348623157e308": 1.7976931348623157e308, "9007199254740993.0e0": None},
    "float32": {"0.1": 0.10000000149011612, "3.4028235e38": 3.4028234663852886e38, "16777216": 16777216.0,
                "0.123456791": 0.12345679104328156},
    "decimal(5,2)": {"1": D(1), "1.50": D("1.5"), "1.500": D("1.5"), "1e2": D(100), ".5": D("0.5"), "-999.99": D("-999.99")},
    "decimal(38,10)": {"1234567890123456789012345678.0123456789": D("1234567890123456789012345678.0123456789")},
    "decimal(60,2)": {"9" * 58 + ".99": D("9" * 58 + ".99")},
    "decimal(100,2)": {"1.5": "1.50", "9" * 98: "9" * 98 + ".00"},
    "decimal": {"1.50": "1.50", "NaN": "NaN", "-Infinity": "-Infinity", "1e3": "1000", "-0.00": "0.00", "00.5": "0.5"},
    "date": {"2026-01-31": dt.date(2026, 1, 31), "0001-01-01": dt.date.min, "9999-12-31": dt.date.max},
    "time": {"10:00": dt.time(10), "23:59:59.999999": dt.time.max, "10:00:00.1000000": dt.time(10, 0, 0, 100000)},
    "timestamp": {"2026-01-31 10:00": NAIVE, "2026-01-31T10:00:00.0000000": NAIVE, "0001-01-01 00:00:00": dt.datetime.min},  # noqa: DTZ901
    "timestamptz": {"2026-01-31 10:00:00+00": INSTANT, "2026-01-31T10:00Z": INSTANT, "2026-01-31T15:30:00.000+05:30": INSTANT},
    "uuid": {"00000000-0000-0000-0000-00000000000A": str(UUID(int=10)), "0" * 32: str(UUID(int=0))},
    "json": {"null": "null", '{"a": 1, "a": 2}': '{"a": 1, "a": 2}', "1e400": "1e400"},
    "string": {"": "", "ü😀": "ü😀", "NULL": "NULL"},
    "interval": {"1 mon": "1 mon"},
}  # fmt: skip
REFUSED = {
    "bool": ["yes", "", " true", "2"],
    "int16": ["32768", "1.0", "+1", "0x1F", "1_0", "", " 1", "\u0661", "1e2"],
    "int64": ["9223372036854775808", "NaN"],
    "float64": ["1e400", "1e-400", "x", "", "0.1000000000000000055", "9007199254740993", "1,5"],
    "float32": ["1e39", "16777217", "0.123456789012", "0.1234567912"],
    "decimal(5,2)": ["1000", "1.005", "NaN", "Infinity", "", "1,5", "1e999999999", "--1"],
    "decimal(60,2)": ["9" * 59, "0.001"],
    "decimal(100,2)": ["9" * 99, "0.001", "NaN"],
    "decimal": ["x", "1e999999999", "1e-99999", "sNaN", ""],
    "date": ["2026-02-30", "infinity", "0000-01-01", "2026-1-3", "2026-01-31 00:00:00", "10000-01-01", "31.01.2026"],
    "time": ["24:00", "10", "10:00:00.0000001", "10:60", "10:00+01"],
    "timestamp": ["2026-01-31", "2026-01-31T10", "2026-01-31 10:00Z", "infinity", "0000-12-31 10:00", "2026-01-31 10:00:00.0000001"],
    "timestamptz": ["2026-01-31 10:00", "2026-01-31T10Z", "0001-01-01 00:00+05:00", "2026-01-31T10+01"],
    "uuid": ["{00000000-0000-0000-0000-000000000000}", "0", ""],
    "json": ["{", "NaN", "", "'a'", "[" * 100_000],
    "string": ["a\0b"],
    "binary": ["a"],
    "list<int32>": ["{1}"],
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_a_text_becomes_exactly_what_it_says(name: str) -> None:
    texts = [text for text, value in READ[name].items() if value is not None]
    for stored in (
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
    ):
        found = cast(kind(name), pa.array([*texts, None]).cast(stored))
        assert found.type == arrow_type(kind(name))
        assert found.to_pylist() == [*(READ[name][text] for text in texts), None]
        if name.startswith("float"):  # a zero has a sign
            assert str(found.to_pylist()) == str([*(READ[name][text] for text in texts), None])


@pytest.mark.parametrize("name", REFUSED)
def test_any_other_text_is_refused_by_its_place(name: str) -> None:
    good = next(iter(READ.get(name, {"": None})))
    for text in REFUSED[name]:
        found = converted(name, pa.array([good, None, text, good, text]))
        misfits = [2, 4] if name in READ else [0, 2, 3, 4]
        assert (found.misfits, found.changed) == (misfits, 0), text
        assert found.values[2].as_py() is None


def typed(values: list[Any], form: pa.DataType) -> pa.Array:
    return pa.array(values, form)


# Columns as drivers and Parquet files give them.
BECOMES: list[tuple[str, pa.Array, list[Any]]] = [
    ("int16", typed([1, -1], pa.int64()), [1, -1]),
    ("int64", typed([1], pa.uint64()), [1]),
    ("float64", typed([2**53], pa.int64()), [2.0**53]),
    ("float64", typed([0.5], pa.float32()), [0.5]),
    ("float32", typed([0.5, math.inf], pa.float64()), [0.5, math.inf]),
    ("decimal(10,2)", typed([5], pa.int64()), [D(5)]),
    ("decimal(20,0)", typed([2**64 - 1], pa.uint64()), [D(2**64 - 1)]),
    ("decimal(76,60)", typed([5], pa.int64()), [D(5)]),
    ("decimal(10,2)", typed([D("1.50")], pa.decimal128(20, 6)), [D("1.5")]),
    ("decimal(10,2)", typed([D("1.50")], pa.decimal64(10, 2)), [D("1.5")]),
    ("decimal", typed([D("0.0000001"), D(-12)], pa.decimal128(20, 7)), ["0.0000001", "-12.0000000"]),
    ("decimal", typed([7], pa.int32()), ["7"]),
    ("date", typed([dt.date(2026, 1, 31)], pa.date64()), [dt.date(2026, 1, 31)]),
    ("time", typed([dt.time(10)], pa.time32("s")), [dt.time(10)]),
    ("time", typed([3_600_000_000_000], pa.time64("ns")), [dt.time(1)]),
    ("timestamp", typed([NAIVE], pa.timestamp("ns")), [NAIVE]),
    ("timestamp", typed([NAIVE], pa.timestamp("s")), [NAIVE]),
    ("timestamptz", typed([INSTANT], pa.timestamp("ms", "Asia/Tokyo")), [INSTANT]),
    ("binary", typed([b"a\0"], pa.large_binary()), [b"a\0"]),
    ("binary", typed([b"ab"], pa.binary(2)), [b"ab"]),
    ("uuid", pa.array([UUID(int=5).bytes], pa.uuid()), [str(UUID(int=5))]),
    ("json", pa.array(["{}"], pa.json_()), ["{}"]),
    ("date", pa.nulls(2), [None, None]),
    ("bool", typed([True, False], pa.bool_()), [True, False]),
    ("string", typed([""], pa.string()), [""]),
    ("float32", typed([0.1], pa.float32()), [0.10000000149011612]),
    ("list<int32>", typed([[1, None], None, []], pa.large_list(pa.int64())), [[1, None], None, []]),
    ("list<decimal(5,2)>", typed([["1.5"]], pa.list_(pa.string())), [[D("1.5")]]),
    ("list<list<int16>>", typed([[[1], None]], pa.list_(pa.list_(pa.int32()))), [[[1], None]]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "wanted"), BECOMES, ids=lambda value: str(value)[:20])
def test_a_column_of_another_form_keeps_its_values(
    name: str, given: pa.Array, wanted: list[Any]
) -> None:
    padded = pa.concat_arrays([pa.nulls(1, given.type), given, pa.nulls(1, given.type)])
    for values, expected in (
        (given, wanted),
        (padded, [None, *wanted, None]),
        (padded[1:-1], wanted),
    ):
        found = cast(kind(name), values)
        assert found.type == arrow_type(kind(name))
        assert found.to_pylist() == expected


UNFIT: list[tuple[str, pa.Array]] = [
    ("int16", typed([40_000], pa.int64())),
    ("int64", typed([2**63], pa.uint64())),
    ("int32", typed([1.0], pa.float64())),
    ("int32", typed([True], pa.bool_())),
    ("bool", typed([1], pa.int8())),
    ("float64", typed([2**53 + 1], pa.int64())),
    ("float32", typed([2**24 + 1], pa.int32())),
    ("float32", typed([0.123456789012], pa.float64())),
    ("float64", typed([D("0.1")], pa.decimal128(5, 2))),
    ("decimal(5,2)", typed([1000], pa.int64())),
    ("decimal(5,2)", typed([0.5], pa.float64())),
    ("decimal(5,2)", typed([D("1.005")], pa.decimal128(9, 3))),
    ("date", typed([NAIVE], pa.timestamp("us"))),
    ("date", typed([2_932_897], pa.date32())),
    ("time", typed([86_400_000_000], pa.time64("us"))),
    ("timestamp", typed([1], pa.timestamp("ns"))),
    ("timestamp", typed([INSTANT], pa.timestamp("us", "UTC"))),
    ("timestamptz", typed([NAIVE], pa.timestamp("us"))),
    ("timestamp", typed([2**62], pa.timestamp("s"))),
    ("timestamp", typed([2**62], pa.timestamp("us"))),
    ("timestamp", typed([dt.date(2026, 1, 31)], pa.date32())),
    ("string", typed([5], pa.int32())),
    ("string", pa.array([b"\xff"]).view(pa.string())),
    ("list<int32>", typed([["x"]], pa.list_(pa.string()))),
    ("list<int32>", typed([[[1]]], pa.list_(pa.list_(pa.int32())))),
    ("json", typed([{"a": 1}], pa.struct([("a", pa.int8())]))),
]


@pytest.mark.parametrize(("name", "given"), UNFIT, ids=lambda value: str(value)[:20])
def test_what_another_type_cannot_hold_is_refused(name: str, given: pa.Array) -> None:
    with pytest.raises(MISFITS):
        cast(kind(name), given)
    assert converted(name, given).misfits == [0]


LOSSY: list[tuple[str, Any, Any]] = [
    ("decimal(5,2)", pa.array(["1.005", "1.015"]), [D("1.00"), D("1.02")]),
    ("decimal(5,2)", [0.125, D("2.675")], [D("0.12"), D("2.68")]),
    ("float32", pa.array(["0.123456789012"]), [0.12345679104328156]),
    ("float64", [2**53 + 1, D("0.1")], [2.0**53, 0.1]),
    ("int32", [D("0.5"), 1.5, 2.5], [0, 2, 2]),
    ("time", pa.array(["10:00:00.0000005", "10:00:00.0000015"]), [dt.time(10), dt.time(10, 0, 0, 2)]),
    ("timestamp", pa.array(["2026-01-31 10:00:00.00000051"]), [NAIVE.replace(microsecond=1)]),
    ("timestamptz", ["2026-01-31 10:00:00.0000009+00:00"], [INSTANT.replace(microsecond=1)]),
    ("timestamp", typed([1500, 2500, -500], pa.timestamp("ns")), [2, 2, 0]),
    ("time", typed([1500], pa.time64("ns")), [dt.time(0, 0, 0, 2)]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "wanted"), LOSSY, ids=lambda value: str(value)[:20])
def test_rounding_takes_the_nearest_value_halves_to_even(
    name: str, given: Any, wanted: Any
) -> None:
    found = converted(name, given, "round")
    assert (found.misfits, found.changed) == ([], len(given))
    expected = [
        dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=v) if isinstance(v, int) and name == "timestamp" else v  # noqa: DTZ001
        for v in wanted
    ]  # fmt: skip
    assert found.values.to_pylist() == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("decimal(5,2)", "1000"),
        ("decimal(5,2)", "NaN"),
        ("decimal(5,2)", True),
        ("int16", D("40000.5")),
        ("float32", 1e39),
        ("float64", 10**400),
        ("time", "23:59:59.9999999"),
        ("timestamp", "9999-12-31 23:59:59.9999999"),
        ("timestamp", "infinity"),
        ("date", "2026-02-30"),
        ("string", 5),
    ],
)
def test_what_has_no_value_near_it_is_still_refused(name: str, value: Any) -> None:
    found = converted(name, [value], "round")
    assert (found.misfits, found.changed, found.values.to_pylist()) == ([0], 0, [None])


def test_a_null_is_put_only_where_one_may_be() -> None:
    assert converted("date", ["x", None], "null").changed == 1
    assert converted("date", ["x", None], "null", nullable=False).misfits == [0]


def test_a_column_kept_as_text_keeps_every_digit() -> None:
    text = {"declared": kind("int32")}
    values = [5, D("1E+3"), 1.5, True, dt.date(2026, 1, 31), UUID(int=1), None, "x"]
    found = converted("string", values, "text", **text)
    assert found.values.to_pylist() == [
        "5", "1000", "1.5", "true", "2026-01-31", str(UUID(int=1)), None, "x"
    ]  # fmt: skip
    assert (found.changed, found.misfits) == (6, [])
    many = pa.array([D("0.0000001")], pa.decimal128(20, 7))
    assert converted("string", many, "text", **text).values.to_pylist() == ["0.0000001"]
    assert converted("string", pa.array([1, None]), "text", **text).values.to_pylist() == [
        "1",
        None,
    ]
    assert converted("string", [b"a", [1]], "text", **text).misfits == [0, 1]
    assert converted("string", pa.array([b"a"]), "text", **text).misfits == [0]


def test_a_few_misfits_among_many_rows_are_found_exactly() -> None:
    texts = [str(n) if n % 997 else "x" for n in range(5_000)]
    found = converted("int32", pa.array(texts))
    assert found.misfits == [0, 997, 1994, 2991, 3988, 4985]
    assert found.values.to_pylist() == [n if n % 997 else None for n in range(5_000)]


@settings(max_examples=300, deadline=None)
@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=7).filter(lambda d: abs(d) < 10**13)
)
def test_decimals_are_written_with_all_their_digits(value: Decimal) -> None:
    (text,) = text_of_decimals(pa.array([value], pa.decimal128(20, 7))).to_pylist()
    assert "E" not in text
    assert (Decimal(text), len(text.partition(".")[2])) == (value, 7)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(["decimal(5,2)", "decimal(38,10)", "decimal(60,2)", "decimal"]), st.decimals()
)
@example("decimal(5,2)", Decimal("5.603379845024880706067E-20"))
def test_a_decimal_as_text_is_read_as_it_is_from_python(name: str, value: Decimal) -> None:
    """One lane takes what the other takes, and makes the same of it."""
    try:
        wanted = from_python(kind(name), [value]).to_pylist()
    except MISFITS:
        wanted = None
    found = converted(name, pa.array([str(value)]))
    assert (found.values.to_pylist() if not found.misfits else None) == wanted


@settings(max_examples=300, deadline=None)
@given(st.floats())
def test_a_number_as_text_is_itself_or_refused(value: float) -> None:
    for text in (repr(value), format(value, ".17g"), format(value, ".9g")):
        found = converted("float64", pa.array([text]))
        if found.misfits:
            assert math.isinf(float(text)) != math.isinf(value)
            continue
        (number,) = found.values.to_pylist()
        assert number == float(text) or (math.isnan(number) and text == "nan")
        assert math.copysign(1, number) == math.copysign(1, float(text))


@settings(max_examples=300, deadline=None)
@given(st.floats(width=32) | st.floats())
@example(2.0**-24)
def test_a_number_of_32_bits_is_judged_alike_from_text_column_and_python(value: float) -> None:
    text, column = (converted("float32", pa.array([given])) for given in (repr(value), value))
    python = converted("float32", [value])
    assert text.misfits == column.misfits == python.misfits
    assert str(text.values) == str(column.values) == str(python.values)


@settings(max_examples=300, deadline=None)
@given(
    st.datetimes(timezones=st.none() | st.timezones()),
    st.sampled_from(["timestamp", "timestamptz"]),
)
def test_a_moment_as_text_is_itself_or_refused(value: dt.datetime, name: str) -> None:
    found = converted(name, pa.array([value.isoformat()]))
    if (value.tzinfo is None) != (name == "timestamp"):
        assert found.misfits == [0]
    elif not found.misfits:
        # Python does not compare times of two zones that a clock shows twice.
        assert found.values.to_pylist() == [dt.datetime.fromisoformat(value.isoformat())]


ANY_TEXT = st.text(alphabet="0123456789+-.eExX:TZ NaInfty\0ü", max_size=24) | st.text(max_size=5)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted({*READ} - {"json"})), st.lists(ANY_TEXT | st.none(), max_size=4))
def test_columns_and_single_values_are_judged_alike(name: str, texts: list[str | None]) -> None:
    found = converted(name, pa.array(texts, pa.string()))
    for place, text in enumerate(texts):
        one = converted(name, pa.array([text], pa.string()))
        assert (place in found.misfits) == bool(one.misfits)
        assert str(found.values[place].as_py()) == str(one.values[0].as_py())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text() | st.none(), max_size=5), st.integers(0, 3))
def test_a_text_stays_as_it_is_or_holds_a_nul(texts: list[str | None], start: int) -> None:
    whole = [text for text in texts if text is None or text.isprintable() or "\0" in text]
    values = pa.array(whole, pa.string())[start:]
    found = converted("string", values)
    for place, text in enumerate(whole[start:]):
        assert (place in found.misfits) == (text is not None and "\0" in text)
        assert found.values[place].as_py() == (None if place in found.misfits else text)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("decimal(38,10)", "3028513065899203631413954369285"),
        ("decimal(38,31)", "644455604465510.481"),
        ("decimal(14,9)", "0.000000000542817192782583186251811718557538505184"),
        ("decimal(38,10)", "5.52590066322860147586045082234416430E-34"),
        ("decimal(76,70)", "12345678901234567890.5"),
    ],
)
def test_digits_for_which_there_is_no_place_are_never_dropped(name: str, given: str) -> None:
    digits = D(given).as_tuple()
    wide = arrow_type(kind(f"decimal(76,{-int(digits.exponent)})"))
    with pytest.raises(MISFITS):
        from_python(kind(name), [D(given)])
    with pytest.raises(MISFITS):
        cast(kind(name), pa.array([given]))
    if len(digits.digits) <= 70 and -int(digits.exponent) <= 60:
        with pytest.raises(MISFITS):
            cast(kind(name), pa.array([D(given)], wide))


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 76).flatmap(lambda p: st.tuples(st.just(p), st.integers(0, p))),
    st.integers(-(10**60), 10**60),
    st.integers(0, 60),
)
def test_a_decimal_of_any_form_is_itself_or_refused(
    shape: tuple[int, int], digits: int, scale: int
) -> None:
    value, name = D(digits).scaleb(-scale), f"decimal({shape[0]},{shape[1]})"
    wide = arrow_type(kind(f"decimal(76,{scale})"))
    results = []
    for take in (
        lambda: from_python(kind(name), [value]),
        lambda: cast(kind(name), pa.array([format(value, "f")])),
        lambda: cast(kind(name), pa.array([value], wide)),
    ):
        try:
            results.append(take().to_pylist()[0])
        except MISFITS:
            results.append(None)
    assert len(set(results)) == 1
    assert results[0] in {None, value}
