from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiia_pipelines.config.faults import ConfigInvalid
from aiia_pipelines.config.secrets import (
    SecretMissing,
    is_secret_key,
    literal_mistake,
    resolve,
    resolve_tree,
)
from aiia_pipelines.jobs.redaction import REDACTOR

unhurried = settings(deadline=None)
HERE = Path()
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
literals = st.text(max_size=20).filter(lambda text: "$" not in text)


@unhurried
@given(st.lists(st.tuples(literals, names, st.text(min_size=1, max_size=20))), literals)
def test_references_are_replaced_once_and_all_else_stays(
    parts: list[tuple[str, str, str]], end: str
) -> None:
    environ = {name: value for _, name, value in parts}
    text = "".join(f"{literal}${{env:{name}}}" for literal, name, _ in parts) + end
    wanted = "".join(literal + environ[name] for literal, name, _ in parts) + end
    assert resolve(text, environ, HERE) == wanted


@unhurried
@given(st.text(alphabet="${}:-envfilA/ab", max_size=40))
def test_any_text_resolves_or_is_told_missing(text: str) -> None:
    try:
        resolved = resolve(text, {}, HERE)
    except SecretMissing as fault:
        assert "write" in str(fault) or "cannot be read" in str(fault) or "set it" in str(fault)  # noqa: PT017
    else:
        assert "${" in text or resolved == text


def test_a_default_stands_in_for_an_unset_or_empty_variable() -> None:
    assert resolve("${env:HOST:-localhost}:${env:PORT:-}", {"HOST": ""}, HERE) == "localhost:"
    assert resolve("${env:HOST:-localhost}", {"HOST": "db"}, HERE) == "db"


def test_a_file_is_read_relative_to_the_project_without_its_last_line_break(tmp_path: Path) -> None:
    (tmp_path / "pw").write_bytes(b"wool-and-thread-4711\r\n")
    assert resolve("x${file:pw}y", {}, tmp_path) == "xwool-and-thread-4711y"
    assert resolve(f"${{file:{tmp_path}/pw}}", {}, HERE) == "wool-and-thread-4711"
    assert "wool-and-thread-4711" not in REDACTOR.clean("it is wool-and-thread-4711")


def test_every_line_of_a_secret_is_concealed(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("first-line-of-the-key\n\nsecond-line-of-the-key\n")
    resolve("${file:key}", {}, tmp_path)
    assert "second-line" not in REDACTOR.clean("second-line-of-the-key")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"\xff\xfe", "UTF-8"), (b"x" * 70_000, "larger"), (None, "cannot be read")],
)
def test_an_unusable_file_is_told(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "pw").write_bytes(content)
    with pytest.raises(SecretMissing, match=said) as caught:
        resolve("${file:pw}", {}, tmp_path)
    assert "${file:pw}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${env:NOPE}", "NOPE is not set"),
        ("${env:BLANK}", "BLANK is empty"),
        ("hunter22${vault:x}", "no known reference"),
        ("${env:A} hunter22 ${", "no known reference"),
    ],
)
def test_a_reference_to_nothing_is_named_without_values(text: str, said: str) -> None:
    with pytest.raises(ConfigInvalid, match=said) as caught:
        resolve(text, {"A": "hunter23", "BLANK": ""}, HERE)
    assert "hunter" not in str(caught.value)


def test_secret_keys_and_url_passwords_are_concealed_and_others_are_not() -> None:
    environ = {
        "PW": "amber-lantern-81",
        "IN_URL": "quiet-harbour-82",
        "IN_QUERY": "green-kettle-83",
        "NEST": "brass-button-84",
        "PLAIN": "open-meadow-85",
    }
    tree = {
        "password": "${env:PW}",
        "url": "https://u:${env:IN_URL}@host:80/?token=${env:IN_QUERY}&q=${env:PLAIN}",
        "credentials": {"deep": ["${env:NEST}"]},
        "list": ["${env:PLAIN}", 3, None],
    }
    resolved = resolve_tree(tree, environ, HERE)
    assert resolved["list"] == ["open-meadow-85", 3, None]
    assert resolved["credentials"] == {"deep": ["brass-button-84"]}
    for name, value in environ.items():
        assert (value in REDACTOR.clean(f"<{value}>")) == (name == "PLAIN")
    assert tree["password"] == "${env:PW}"


@pytest.mark.parametrize(
    "key",
    ["password", "client_secret", "apiKey", "X-Api-Key", "secret_access_key", "Authorization"],
)
def test_keys_of_secrets_are_known(key: str) -> None:
    assert is_secret_key(key)


@pytest.mark.parametrize("key", ["url", "token_url", "user", "access_key_id", "max_tokens", "kind"])
def test_other_keys_hold_no_secrets(key: str) -> None:
    assert not is_secret_key(key)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("hunter22", True),
        ("${env:PW:-hunter22}", True),
        ("${hunter22", False),
        ("postgresql://me:hunter22@db/x", False),
        ("postgresql://me:hunter22/4@db/x", False),
        ("postgresql://me:22@db:5432/x", False),
        ("postgresql://${env:U}:hunter22@db/x", False),
        ("postgresql://me:${env:PW:-hunter22}@db/x", False),
        ("postgresql://me@db/x?sslmode=on&password=hunter22", False),
    ],
)
def test_a_secret_in_the_file_is_refused_without_being_shown(text: str, secret: bool) -> None:
    said = literal_mistake(text, secret=secret)
    assert said is not None
    assert "${env:NAME}" in said
    assert "hunter" not in said


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("", True),
        ("${env:PW}", True),
        ("Bearer ${file:/run/token}", True),
        ("postgresql://me@db:5432/x", False),
        ("postgresql://me:${env:PW}@db:5432/x?a=b&password=${env:PW}", False),
        ("http://db:8080/path@x", False),
        ("select 1", False),
    ],
)
def test_references_and_plain_texts_are_accepted(text: str, secret: bool) -> None:
    assert literal_mistake(text, secret=secret) is None
