"""Keep secrets out of every text that is stored, shown or sent."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

MASK = "***"
_SHORTEST = 4
# A key file is often printed line by line; shorter lines of it are too ordinary to hide.
_SHORTEST_LINE = 16

_NAMES = (
    r"password|passwd|passphrase|pwd|token|api[_-]?key|private[_-]?key|secret[_-]?key"
    r"|secret[_-]?access[_-]?key|account[_-]?key|client[_-]?secret|secret"
)
# Quantifiers are bounded and start at fixed text, so hostile text cannot make them slow.
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"(://[^\s/:@?#]{0,256}:)(?:[^\s/?#]{0,512}|[^\s@]{0,512})@"),
        rf"\g<1>{MASK}@",
    ),
    (
        re.compile(
            r"(?i)(authorization\\?[\"']?\s{0,4}[:=]\s{0,4}\\?[\"']?"
            r"(?:(?:bearer|basic|digest|negotiate|token|apikey)\s{1,4})?)[^\s\"',\\]{1,8192}"
        ),
        rf"\g<1>{MASK}",
    ),
    (
        # References such as ${env:NAME} say where a secret is, not what it is: they stay.
        re.compile(
            rf"(?i)((?:{_NAMES})\\?[\"']?\s{{0,4}}[:=]\s{{0,4}})(?![\"']?\$\{{)"
            r"(?:\"(?:[^\"\\\r\n]|\\.)*\"?|'(?:[^'\\\r\n]|\\.|'')*'?|[^\s,;&]+)"
        ),
        rf"\g<1>{MASK}",
    ),
    (re.compile(r"(?i)\b(bearer\s{1,4})(?=[^\s\d]{0,256}\d)[\w.~+/=-]{12,}"), rf"\g<1>{MASK}"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), MASK),
    (re.compile(r"\bgh[pousr]_[A-Za-z0-9]{20,}"), MASK),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{0,}"), MASK),
    (
        re.compile(r"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----).*?(?:-----END|\Z)", re.DOTALL),
        rf"\g<1>{MASK}",
    ),
)


class Redactor:
    """Replaces known secrets, and text that looks like one, by a mask."""

    def __init__(self) -> None:
        """Start without any known secret."""
        self._lock = threading.Lock()
        self._forms: set[str] = set()
        self._known: re.Pattern[str] | None = None

    def add(self, secret: str) -> None:
        """Remember a secret in all the forms drivers and encoders print it in."""
        forms = {form for form in _forms(secret) if len(form) >= _SHORTEST}
        with self._lock:
            if forms <= self._forms:
                return
            self._forms |= forms
            # The longest first: a secret that contains another one must go as a whole.
            longest_first = sorted(self._forms, key=len, reverse=True)
            self._known = re.compile("|".join(map(re.escape, longest_first)))

    def clean(self, text: str) -> str:
        """Return the text with every secret replaced by the mask."""
        known = self._known
        if known is not None:
            text = known.sub(MASK, text)
        for shape, replacement in _SHAPES:
            text = shape.sub(replacement, text)
        return text


def _forms(secret: str) -> Iterator[str]:
    if len(secret) < _SHORTEST:
        return
    raw = secret.encode(errors="surrogatepass")
    yield secret
    yield quote(raw)
    yield quote(raw, safe="")
    yield quote_plus(raw)
    for encoded in (base64.b64encode(raw), base64.urlsafe_b64encode(raw)):
        yield encoded.decode()
        yield encoded.decode().rstrip("=")
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    lines = [line.strip() for line in secret.splitlines()]
    yield from (line for line in lines if len(line) >= _SHORTEST_LINE)


REDACTOR = Redactor()
