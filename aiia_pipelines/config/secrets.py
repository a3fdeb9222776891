"""References to secrets, and what they stand for."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar, cast

from aiia_pipelines.config.faults import ConfigInvalid
from aiia_pipelines.jobs.redaction import REDACTOR

HOW_TO_WRITE = "write a reference: ${env:NAME} or ${file:/path/to/secret}"
_REFERENCE = re.compile(
    r"\$\{(?:env:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?"
    r"|file:(?P<path>[^}\x00-\x1f]+))\}",
    re.ASCII,
)
_SECRET_KEY = re.compile(
    r"(?:password|passwd|passphrase|pwd|pass|secret|token|api[_-]?key|access[_-]?key|account[_-]?key"
    r"|private[_-]?key|secret[_-]?key|credentials?|authorization|cookie)$",
    re.IGNORECASE,
)
_REF = r"\$\{[^}]*\}"
# A password that holds a bare slash makes no valid URL, yet must be noticed; a port must not.
_URL_PASSWORD = re.compile(
    rf"://(?:{_REF}|[^/?#\s@:$])*:(?!\d+(?:[/?#]|$))(?P<password>(?:{_REF}|[^\s@])*)@"
)
_QUERY_SECRET = re.compile(rf"[?&;]([\w-]+)=(?P<password>(?:{_REF}|[^&#;\s])*)")
_MAX_FILE_BYTES = 65536

Tree = TypeVar("Tree")


class SecretMissing(ConfigInvalid):
    """A reference leads to nothing."""


def is_secret_key(key: str) -> bool:
    """Tell whether a key of this name holds a secret."""
    return _SECRET_KEY.search(key) is not None


def resolve(text: str, environ: Mapping[str, str], base: Path, *, secret: bool = False) -> str:
    """Put the values of all references into a text; relative files start at `base`.

    Raises:
        SecretMissing: a reference leads to nothing or is none.
    """
    parts: list[str] = []
    end = 0
    for match in _REFERENCE.finditer(text):
        parts.append(_literal(text[end : match.start()]))
        value = _value(match, environ, base)
        if secret or match["path"] or _is_url_password(text, match):
            _conceal(value)
        parts.append(value)
        end = match.end()
    parts.append(_literal(text[end:]))
    return "".join(parts)


def resolve_tree(
    value: Tree, environ: Mapping[str, str], base: Path, *, secret: bool = False
) -> Tree:
    """Resolve every text in a tree of dicts and lists; secret keys make their values secret.

    Raises:
        SecretMissing: a reference leads to nothing or is none.
    """
    resolved: object = value
    if isinstance(value, str):
        resolved = resolve(value, environ, base, secret=secret)
    elif isinstance(value, dict):
        resolved = {
            key: resolve_tree(item, environ, base, secret=secret or is_secret_key(str(key)))
            for key, item in value.items()
        }
    elif isinstance(value, list):
        resolved = [resolve_tree(item, environ, base, secret=secret) for item in value]
    return cast("Tree", resolved)


def literal_mistake(text: str, *, secret: bool) -> str | None:
    """Say what is wrong with a text that may hold secrets, or None; tells no value."""
    rest = _REFERENCE.sub("", text)
    if "${" in rest:
        return f"'${{' starts no known reference; {HOW_TO_WRITE}"
    if secret and text and (rest == text or _has_default(text)):
        return f"a secret must not stand in the file; {HOW_TO_WRITE}"
    if any(_is_literal(match["password"]) for match in _URL_PASSWORD.finditer(text)):
        return (
            "a password must not stand in the URL; take it out, "
            f"and under 'password' {HOW_TO_WRITE}"
        )
    for match in _QUERY_SECRET.finditer(text):
        if is_secret_key(match[1]) and _is_literal(match["password"]):
            return f"a secret must not stand in the URL; {HOW_TO_WRITE}"
    return None


def reference_mistake(text: str) -> str | None:
    """Say what is wrong with a text that must be one reference and nothing else, or None; tells no value."""
    if _REFERENCE.fullmatch(text) and not _has_default(text):
        return None
    return f"a secret must not stand in the file; {HOW_TO_WRITE}"


def _is_literal(text: str) -> bool:
    """Tell whether a secret is anything but references without defaults."""
    return bool(_REFERENCE.sub("", text)) or _has_default(text)


def _has_default(text: str) -> bool:
    """Tell whether a reference brings a value of its own."""
    return any(match["default"] is not None for match in _REFERENCE.finditer(text))


def _literal(text: str) -> str:
    """Pass on a text between references."""
    if "${" in text:
        raise SecretMissing(f"'${{' starts no known reference; {HOW_TO_WRITE}")
    return text


def _value(match: re.Match[str], environ: Mapping[str, str], base: Path) -> str:
    """Return what one reference stands for."""
    if match["path"]:
        return _file_value(base / match["path"], match[0])
    value = environ.get(match["name"], "")
    if value or match["default"] is not None:
        return value or match["default"]
    fault = "empty" if match["name"] in environ else "not set"
    raise SecretMissing(f"{match[0]}: the variable {match['name']} is {fault}; set it")


def _file_value(path: Path, reference: str) -> str:
    """Return the text of a secret's file without its last line break."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as fault:
        reason = fault.strerror or "no such file"
        raise SecretMissing(f"{reference}: the file cannot be read: {reason}") from None
    if len(data) > _MAX_FILE_BYTES:
        raise SecretMissing(f"{reference}: the file is larger than {_MAX_FILE_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise SecretMissing(f"{reference}: the file is not UTF-8 text") from None
    value = text.removesuffix("\n").removesuffix("\r")
    if not value:
        raise SecretMissing(f"{reference}: the file is empty; write the secret to it")
    return value


def _is_url_password(text: str, match: re.Match[str]) -> bool:
    """Tell whether a reference stands where a URL has its password."""
    return any(
        found.start("password") <= match.start() and match.end() <= found.end("password")
        for found in (*_URL_PASSWORD.finditer(text), *_query_secrets(text))
    )


def _query_secrets(text: str) -> list[re.Match[str]]:
    """Return the secret parameters of a URL's query."""
    return [match for match in _QUERY_SECRET.finditer(text) if is_secret_key(match[1])]


def _conceal(value: str) -> None:
    """Have a value, and each of its lines, never appear in any text."""
    REDACTOR.add(value)
    lines = value.splitlines()
    if len(lines) > 1:
        for line in filter(None, lines):
            REDACTOR.add(line)
