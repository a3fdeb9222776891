"""CSV text into records under one dialect, to the letter: what the dialect does not allow is a fault."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

MAX_CELL = 16 << 20
TAB, BLANKS = "\t", " \t"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the fields of a file are told apart; a doubled quote always stands for one."""

    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    trim: bool = False
    stray: bool = False  # a quote inside a field that does not begin with one is text
    nulls: frozenset[str] = frozenset({""})

    def __str__(self) -> str:
        """Name it for people."""
        shown = {"\t": "a tab", " ": "a blank"}.get(self.delimiter, f"'{self.delimiter}'")
        return f"separated by {shown}, quoted by {self.quote or 'nothing'}"


@dataclass(slots=True)
class Record:
    """One record: its values, None where NULL, and the line it begins in."""

    values: list[str | None]
    line: int
    blank: bool = False  # a line without anything but blanks


class Broken(Exception):
    """The text is no CSV of the dialect; `line` is where."""

    def __init__(self, line: int, why: str) -> None:
        """Keep the line and the reason."""
        super().__init__(why)
        self.line = line


@dataclass(slots=True)
class Cursor:
    """Where a reading of records has come to."""

    line: int = 1
    position: int = 0
    lone_cr: int | None = None  # the line of the first carriage return without line feed
    line_feed: int | None = None


@cache
def _pattern(dialect: Dialect) -> re.Pattern[str]:
    d = re.escape(dialect.delimiter)
    blank = f"[{' ' if dialect.delimiter == TAB else BLANKS}]*+" if dialect.trim else ""
    q, e = (re.escape(mark or "") for mark in (dialect.quote, dialect.escape))
    escaped = f"|{e}[\\s\\S]" if e else ""
    mid = f"[^{d}{e}{'' if dialect.stray else q}\\r\\n]"
    plain = f"(?:{mid}{escaped})*+" if e else f"{mid}*+"
    end = f"(?P<end>{d}|\\r\\n|\\r|\\n|\\Z)"
    if not q:
        return re.compile(f"(?P<quoted>(?!))?(?P<plain>{plain}){end}")
    body = f"[^{q}{e}]*+(?:(?:{q}{q}{escaped})[^{q}{e}]*+)*+"
    quoted = f"{blank}{q}(?P<quoted>{body}){q}{blank}(?={d}|[\\r\\n]|\\Z)"
    opened = f"{blank}{q}{body}{f'{e}?' if e else ''}\\Z"
    return re.compile(f"(?:{quoted}|(?!{blank}{q})(?P<plain>{plain})){end}|{opened}")


def records(text: str, dialect: Dialect, cursor: Cursor, *, final: bool) -> Iterator[Record]:
    """Yield the complete records of a text; the cursor stops before one that may go on.

    Raises:
        Broken: The text does not follow the dialect.
    """
    match = _pattern(dialect).match
    delimiter, size = dialect.delimiter, len(text)
    values: list[str | None] = []
    line, place, any_quoted = cursor.line, cursor.position, False
    while place < size:
        found = match(text, place)
        if found is None:
            raise Broken(*_why(text, dialect, place, line))
        quoted, plain, end = found.group("quoted", "plain", "end")
        if end is None and final:
            raise Broken(line, "a field begins with a quote that never closes")
        place = found.end()
        if not final and place == size and end != "\n":
            return  # the field, or its line end, may go on in the next block
        if quoted is None:
            values.append(_plain(plain, dialect, line))
        else:
            any_quoted = True
            values.append(_unquoted(quoted, dialect, line))
            line += _line_ends(quoted)
        if end == delimiter:
            if place < size:
                continue
            values.append(_plain("", dialect, line))
        blank = len(values) == 1 and not any_quoted and not plain.strip()
        yield Record(values, cursor.line, blank)
        line += 1
        _note_end(cursor, end)
        cursor.line, cursor.position = line, place
        values, any_quoted = [], False


def _note_end(cursor: Cursor, end: str) -> None:
    if end == "\r":
        cursor.lone_cr = cursor.lone_cr or cursor.line
    elif end in {"\n", "\r\n"}:
        cursor.line_feed = cursor.line_feed or cursor.line


def _line_ends(text: str) -> int:
    if "\n" not in text and "\r" not in text:
        return 0
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _unquoted(body: str, dialect: Dialect, line: int) -> str:
    quote = str(dialect.quote)
    if dialect.escape is not None and dialect.escape in body:
        return _unescaped(body, dialect, line)
    return body.replace(quote + quote, quote) if quote in body else body


def _plain(text: str, dialect: Dialect, line: int) -> str | None:
    if dialect.trim:
        text = text.strip(BLANKS)
    if text in dialect.nulls:
        return None
    if dialect.escape is not None and dialect.escape in text:
        return _unescaped(text, dialect, line)
    return text


def _unescaped(text: str, dialect: Dialect, line: int) -> str:
    escape, quote = str(dialect.escape), dialect.quote
    allowed = {escape, quote, dialect.delimiter, "\r", "\n"}
    pairs = f"({re.escape(escape)}[\\s\\S]"
    pairs += f"|{re.escape(quote)}{re.escape(quote)})" if quote else ")"

    def single(pair: re.Match[str]) -> str:
        first, second = pair[0][0], pair[0][1]
        if first == escape and second not in allowed:
            raise Broken(line, f"'{escape}' before a letter or sign that it does not escape")
        return second

    return re.sub(pairs, single, text)


def _why(text: str, dialect: Dialect, place: int, line: int) -> tuple[int, str]:
    """Explain why no field begins at a place."""
    quote = str(dialect.quote)
    rest = text[place : place + MAX_CELL]
    if rest.lstrip(BLANKS).startswith(quote) and (dialect.trim or rest.startswith(quote)):
        body = re.match(
            f"[ \\t]*{re.escape(quote)}(?:[^{re.escape(quote)}]|{re.escape(quote)}{{2}})*+", rest
        )
        line += _line_ends(body[0]) if body else 0
        return line, "text follows the closing quote of a field"
    if rest.lstrip(BLANKS).startswith(quote):
        return (
            line,
            "a blank stands before an opening quote; state `trim: true` if such blanks mean nothing",
        )
    return line, (
        "a quote stands inside a field that does not begin with one;"
        " state `stray_quotes: keep` if such quotes are text, or another `quote`"
    )


def regular(data: bytes, dialect: Dialect) -> bool:
    """Tell whether every quote of a whole number of lines opens, closes or is doubled, as Arrow assumes.

    A quote anywhere else is one that Arrow and the strict grammar understand differently.
    """
    if dialect.quote is None:
        return True
    pieces = data.split(dialect.quote.encode())
    if len(pieces) == 1:
        return True
    if len(pieces) % 2 == 0:
        return False
    outside = pieces[::2]
    edges = {dialect.delimiter.encode()[0], 10, 13}
    first, last, between = outside[0], outside[-1], outside[1:-1]
    if (first and first[-1] not in edges) or (last and last[0] not in edges):
        return False
    return all(not piece or (piece[0] in edges and piece[-1] in edges) for piece in between)


@cache
def _enclosed(delimiter: bytes) -> re.Pattern[bytes]:
    d = re.escape(delimiter)
    inside = rb"'[^'\r\n]*" + d + rb"[^'\r\n]*'"
    return re.compile(
        rb"(?:^|" + d + rb")(" + inside + rb")(?=" + d + rb"|[\r\n]|\Z)", re.MULTILINE
    )


def in_single_quotes(data: bytes, dialect: Dialect) -> int | None:
    """Find the first delimiter that single quotes seem to enclose, where double ones do so elsewhere."""
    begins = (mark + b"'" for mark in (dialect.delimiter.encode(), b"\n", b"\r"))
    if not data.startswith(b"'") and not any(begin in data for begin in begins):
        return None
    found = _enclosed(dialect.delimiter.encode()).search(_outside(data, b'"'))
    return found.start(1) if found else None


def torn_line_end(data: bytes, dialect: Dialect) -> int | None:
    """Find the first pair of carriage return and line feed with nothing but delimiters in between."""
    delimiter = dialect.delimiter.encode()
    if b"\r" + delimiter not in data:
        return None
    plain = data if dialect.quote is None else _outside(data, dialect.quote.encode())
    found = re.search(rb"\r(?:" + re.escape(delimiter) + rb")+\n", plain)
    return found.start() if found else None


def _outside(data: bytes, quote: bytes) -> bytes:
    """Hide what stands in quotes, which is beyond doubt; its line ends keep their places."""
    q = re.escape(quote)
    return re.sub(q + rb"[^" + q + rb"]*" + q, lambda quoted: quoted[0].translate(_HIDDEN), data)


_HIDDEN = bytes(byte if byte in b"\r\n" else ord("x") for byte in range(256))


def numberlike(value: str | None) -> bool:
    """Tell whether a text looks like a number, a date or a time."""
    return value is not None and _NUMBERLIKE.fullmatch(value.strip()) is not None


_NUMBERLIKE = re.compile(
    r"[-+(]?[$€£]?[0-9][0-9.,:/'\u00a0\u202f -]*(?:[eE][-+]?[0-9]+)?[%€)]?"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.,]+(?:Z|[-+][0-9:]+)?",
    re.ASCII,
)
