"""How a data file is to be read, as a connector file states it; what is left out is detected."""

import codecs
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

_GIB = 1 << 30
_EITHER_END = "\r\n\0"
NO_MARK = "none"
# As many as a worksheet can have; more stand in hostile files, and no destination holds them.
MAX_COLUMNS = 16_384
_MODEL = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


def _mark(text: str) -> str:
    if text == NO_MARK:
        return text
    if len(text) != 1 or text in _EITHER_END or text.isalnum():
        raise ValueError("must be one character that is no letter, digit or line end")
    return text


def _delimiter(text: str) -> str:
    if text == NO_MARK:
        raise ValueError("must be one character")
    return _mark(text)


def _encoding(name: str) -> str:
    try:
        codec = codecs.lookup(name)
    except LookupError:
        raise ValueError("is no known encoding; take for example utf-8, cp1252 or utf-16") from None
    # `rot13` and the like turn text into text.
    if not getattr(codec, "_is_text_encoding", True):
        raise ValueError("is no encoding of text")
    return codec.name


Delimiter = Annotated[str, AfterValidator(_delimiter)]
Mark = Annotated[str, AfterValidator(_mark)]
Encoding = Annotated[str, Field(min_length=1, max_length=40), AfterValidator(_encoding)]
Pattern = Annotated[str, Field(min_length=1, max_length=60)]
Word = Annotated[str, Field(max_length=100)]
Format = Literal["csv", "parquet", "jsonl", "json", "excel"]
Compression = Literal["none", "gzip", "zstd", "bz2", "zip"]


class LimitOptions(BaseModel):
    """How much a data file may unfold to."""

    model_config = _MODEL

    max_bytes: int = Field(
        16 * _GIB, ge=1, description="Bytes of one file, uncompressed; more end the sync"
    )
    max_ratio: int = Field(
        250, ge=2, description="How many times larger a file may be than it is compressed"
    )


class FormatOptions(BaseModel):
    """The `options:` of a stream that is read from data files."""

    model_config = _MODEL

    format: Format | None = Field(None, description="Default: by the name of the file")
    compression: Compression | None = Field(None, description="Default: by the name of the file")
    member: Pattern | None = Field(None, description="Which files of a zip archive, as in *.csv")
    empty_ok: bool = Field(default=False, description="No file at all is no error")

    encoding: Encoding | None = Field(None, description="Default: by byte order mark, else UTF-8")
    delimiter: Delimiter | None = Field(None, description="Default: detected among , ; tab | :")
    quote: Mark | None = Field(None, description="Default: detected; none: quotes are text")
    escape: Mark | None = Field(None, description="Default: detected; none: quotes double")
    trim: bool = Field(default=False, description="Remove blanks around fields, outside quotes")
    stray_quotes: Literal["error", "keep"] = Field(
        "error", description="A quote inside a field that does not begin with one"
    )
    header: bool | None = Field(None, description="Whether the first row has the names")
    names: list[Word] | None = Field(None, min_length=1, description="Names of all columns")
    skip_rows: int | None = Field(None, ge=0, description="Lines before the header; 0: none")
    skip_footer: int | None = Field(None, ge=0, le=1000, description="Lines at the end; 0: none")
    blank_lines: Literal["skip", "null", "error"] | None = Field(
        None, description="Blank lines between rows; null: a row without values"
    )

    null_values: list[Word] = Field([""], description="Texts without quotes that mean NULL")
    decimal: Literal[".", ","] = Field(".", description="Decimal separator")
    thousands: Literal[",", ".", "'", " ", "\u00a0", "\u202f"] | None = Field(
        None, description="Separator of groups of three digits"
    )
    date_format: Pattern | None = Field(None, description="As in %d.%m.%Y; default: ISO 8601")
    time_format: Pattern | None = Field(None, description="As in %H:%M; default: ISO 8601")
    timestamp_format: Pattern | None = Field(None, description="As in %d.%m.%Y %H:%M")
    true_values: list[Word] = Field(["true", "t", "1", "yes", "y"], min_length=1)
    false_values: list[Word] = Field(["false", "f", "0", "no", "n"], min_length=1)

    sheet: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="Default: the first"
    )
    records: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="Where the records of a JSON document are, as in data.items"
    )

    @model_validator(mode="after")
    def _marks_differ(self) -> Self:
        if self.delimiter is not None and self.delimiter in {self.quote, self.escape}:
            raise ValueError("delimiter, quote and escape must differ")
        if self.thousands == self.decimal:
            raise ValueError("thousands and decimal must differ")
        if self.names is not None and len(set(self.names)) < len(self.names):
            raise ValueError("names holds a name twice")
        if self.names is not None and self.header is None:
            raise ValueError(
                "names needs header as well: true when they replace a header row, false when there is none"
            )
        if both := sorted(_lowered(self.true_values) & _lowered(self.false_values)):
            raise ValueError(f"'{both[0]}' cannot mean both true and false")
        return self


def _lowered(words: list[str]) -> set[str]:
    return {word.lower() for word in words}
