from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiia_pipelines.config.document import MAX_BYTES, read_document

unhurried = settings(deadline=None)


@unhurried
@given(st.binary(max_size=200) | st.text(alphabet="ab:-[]{}&*!|>#'\"\n ,?%\t", max_size=60))
def test_any_bytes_give_a_value_or_a_mistake(data: bytes | str) -> None:
    read = read_document(data.encode() if isinstance(data, str) else data)
    assert all("\n" not in said for _, said in read.mistakes)
    assert read.mistakes or read.line(()) is not None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("true", True),
        ("FALSE", False),
        ("010", "010"),
        ("22:30", "22:30"),
        ("2026-01-31", "2026-01-31"),
        ("1_000", "1_000"),
        ("-12", -12),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("! 010", "010"),
        ("-.inf", float("-inf")),
        (".NaN", None),
        ("~", None),
        ("'~'", "~"),
        ('! "5"', "5"),
        ("9" * 40, 1e40),
        ("[1, {a: b}]", [1, {"a": "b"}]),
    ],
)
def test_plain_values_are_read_as_written(text: str, value: Any) -> None:
    read = read_document(f"a: {text}\n".encode())
    assert not read.mistakes
    if text == ".NaN":
        assert str(read.value["a"]) == "nan"
    else:
        assert read.value == {"a": value}
        assert type(read.value["a"]) is type(value)


def test_every_value_has_its_line_and_missing_ones_that_of_their_parent() -> None:
    read = read_document(b"\xef\xbb\xbf# note\na:\n  - b: 1\n\n    c: 2\n")
    assert read.line(("a", 0, "c")) == 5
    assert read.line(("a", 0, "nope", "deeper")) == 3
    assert read.line(("a",)) == 2
    assert read.line(("zzz",)) == 2


@pytest.mark.parametrize(
    ("data", "line", "said"),
    [
        (b"", 1, "is empty"),
        (b"a: 1\nb: \xff\n", 2, "UTF-8"),
        (b"a: 1\nb: \x01", 2, "not valid YAML"),
        (b"a: 1\nb: [1\n", 3, "not valid YAML"),
        (b"a: 1\n---\nb: 1\n", 2, "second document"),
        (b"a: 1\nb: *x\n", 2, "alias"),
        (b"a: &x [*x]\n", 1, "alias"),
        (b"a: 1\na: 2\n", 2, "'a' stands twice; first in line 1"),
        (b"a: 1\n? [b]\n: 2\n", 2, "a key must be a text"),
        (b"7: 1\n", 1, "write '7' in quotes"),
        (b"a: &x {b: 1}\nc:\n  <<: *x\n", 3, "merge keys"),
        (b"a: !!python/object:os.system x\n", 1, "tags"),
        (b"x" * (MAX_BYTES + 1), None, "larger than"),
        (b"[" * 100_000, 1, "nested too deeply"),
        (b"- " * 100_000, 1, "nested too deeply"),
    ],
)
def test_what_is_not_allowed_is_told_with_its_line(
    data: bytes, line: int | None, said: str
) -> None:
    mistakes = read_document(data).mistakes
    assert [at for at, _ in mistakes] == [line]
    assert said in mistakes[0][1]


def test_a_long_key_is_cut_in_a_mistake() -> None:
    key = "k" * 100
    assert "k" * 61 not in read_document(f"{key}: 1\n{key}: 2\n".encode()).mistakes[0][1]


def test_an_alias_repeats_a_value() -> None:
    assert read_document(b"a: &x [1, 2]\nb: *x\n").value == {"a": [1, 2], "b": [1, 2]}


def test_aliases_of_aliases_cannot_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    mistakes = read_document("\n".join(lines).encode()).mistakes
    assert len(mistakes) == 1
    assert "aliases counted" in mistakes[0][1]
