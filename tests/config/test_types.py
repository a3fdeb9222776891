import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiia_pipelines.config.types import PLAIN_TYPES, ColumnType, widens

unhurried = settings(deadline=None)
decimals = st.integers(1, 1000).flatmap(
    lambda p: st.integers(0, p).map(lambda s: ColumnType("decimal", p, s))
)
plain = st.sampled_from(PLAIN_TYPES).map(ColumnType)
types = st.recursive(
    plain | decimals, lambda inner: inner.map(lambda t: ColumnType("list", item=t)), max_leaves=4
)


@unhurried
@given(types)
def test_every_type_is_read_back_from_its_text(column_type: ColumnType) -> None:
    assert ColumnType.parse(str(column_type)) == column_type


@unhurried
@given(st.text())
def test_any_other_text_is_refused_with_one_line(text: str) -> None:
    try:
        parsed = ColumnType.parse(text)
    except ValueError as fault:
        assert "\n" not in str(fault)  # noqa: PT017 - both ends are fine
    else:
        assert ColumnType.parse(str(parsed)) == parsed


def test_blanks_and_a_lone_precision_are_understood() -> None:
    assert str(ColumnType.parse(" decimal ( 18 , 2 ) ")) == "decimal(18,2)"
    assert str(ColumnType.parse("decimal(18)")) == "decimal(18,0)"
    assert str(ColumnType.parse("list< list<int64> >")) == "list<list<int64>>"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("strng", "did you mean 'string'?"),
        ("zzz", "Allowed: bool"),
        ("list", "list<string>"),
        ("decimal(0,0)", "p from 1"),
        ("decimal(2,3)", "s from 0 to p"),
        ("decimal(1001,3)", "p from 1"),
        ("list<" * 1000, "unknown type"),
    ],
)
def test_a_wrong_type_is_told_with_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        ColumnType.parse(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "parts",
    [("int64", 3, 0, None), ("decimal", 3, None, None), ("string", None, None, ColumnType("date"))],
)
def test_parts_that_do_not_go_together_are_refused(
    parts: tuple[str, int | None, int | None, ColumnType | None],
) -> None:
    with pytest.raises(ValueError, match=r"only decimal|names the type"):
        ColumnType(*parts)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("int16", "int32"),
        ("int16", "int64"),
        ("int32", "int64"),
        ("int16", "float32"),
        ("int32", "float64"),
        ("float32", "float64"),
        ("int16", "decimal(5,0)"),
        ("int64", "decimal(21,2)"),
        ("int64", "decimal"),
        ("decimal(18,2)", "decimal(20,4)"),
        ("decimal(18,2)", "decimal"),
        ("decimal", "decimal"),
        ("uuid", "string"),
        ("json", "string"),
        ("list<int16>", "list<int64>"),
    ],
)
def test_a_wider_type_holds_every_value(source: str, target: str) -> None:
    assert widens(ColumnType.parse(source), ColumnType.parse(target))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("int64", "int32"),
        ("int64", "float64"),
        ("int32", "float32"),
        ("int64", "decimal(20,2)"),
        ("float64", "decimal"),
        ("decimal(18,2)", "decimal(20,1)"),
        ("decimal(18,2)", "decimal(19,4)"),
        ("decimal", "decimal(38,10)"),
        ("string", "json"),
        ("timestamp", "timestamptz"),
        ("list<int64>", "list<int32>"),
        ("list<string>", "string"),
    ],
)
def test_a_type_that_could_lose_a_digit_does_not_widen(source: str, target: str) -> None:
    assert not widens(ColumnType.parse(source), ColumnType.parse(target))


@unhurried
@given(types)
def test_every_type_widens_to_itself(column_type: ColumnType) -> None:
    assert widens(column_type, column_type)


@unhurried
@given(types, types, types)
def test_widening_twice_is_widening(a: ColumnType, b: ColumnType, c: ColumnType) -> None:
    if widens(a, b) and widens(b, c):
        assert widens(a, c)
