"""What the connector file says of a JSON API: where it is, how to log in, and how its pages follow."""

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from aiia_pipelines.config.secrets import is_secret_key
from aiia_pipelines.config.types import ColumnType

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
OPTIONAL = "?"
_PATH = re.compile(r"[^.\s]+(?:\.[^.\s]+)*")
# What this kind writes itself; another value would make two requests of one.
_OWN_HEADERS = {
    "host", "content-length", "transfer-encoding", "connection", "accept-encoding", "te", "upgrade",
}  # fmt: skip


def _url(text: str) -> str:
    if "${" in text:
        return text
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not text.isprintable():
        raise ValueError("not a web address; write https://host/path")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a login must not stand in the URL; put it under auth")
    if parts.query or parts.fragment or " " in text:
        raise ValueError("the URL ends with its path; parameters stand in the streams' options")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("the port of the URL is no port") from None
    return text.rstrip("/")


def _header(name: str) -> str:
    if not _TOKEN.fullmatch(name) or name.lower() in _OWN_HEADERS:
        raise ValueError(f"'{name}' is no header that can be set here")
    return name


def _header_value(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    # What follows a line break would be another header.
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError("must be one line of ASCII text, without blanks around it")
    return secret


def _user(text: str) -> str:
    if "${" not in text and (":" in text or not text.isprintable()):
        raise ValueError("must be one line of text without a colon")
    return text


def _path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise ValueError("must be a path of keys with dots between, such as data.items")
    return text


def _type(text: str) -> str:
    ColumnType.parse(text.removesuffix(OPTIONAL))
    return text


Url = Annotated[str, AfterValidator(_url)]
HeaderName = Annotated[str, AfterValidator(_header)]
HeaderValue = Annotated[SecretStr, AfterValidator(_header_value)]
Path = Annotated[str, AfterValidator(_path)]
TypeName = Annotated[str, AfterValidator(_type)]
ParamName = Annotated[str, Field(min_length=1, max_length=100)]


class _Part(BaseModel):
    """A part of a connector file: closed, unchangeable, and silent about its values."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ApiKey(_Part):
    """A key that every request carries."""

    type: Literal["api_key"] = Field(description="A key that every request carries")
    api_key: HeaderValue = Field(description="A reference such as ${env:SHOP_KEY}")
    in_: Literal["header", "query"] = Field(
        "header", alias="in", description="Where a request carries the key"
    )
    name: HeaderName = Field("X-API-Key", description="Of the header or the parameter")


class Basic(_Part):
    """User and password."""

    type: Literal["basic"] = Field(description="User and password")
    user: Annotated[str, Field(min_length=1), AfterValidator(_user)] = Field(
        description="Name of the user, without a colon"
    )
    password: SecretStr = Field(description="A reference such as ${env:SHOP_PASSWORD}")


class Bearer(_Part):
    """A token that somebody made by hand."""

    type: Literal["bearer"] = Field(description="A token that does not expire")
    token: HeaderValue = Field(description="A reference such as ${env:SHOP_TOKEN}")


class OAuth2(_Part):
    """OAuth 2.0 client credentials: a token is fetched, and fetched again when it expires."""

    type: Literal["oauth2"] = Field(description="OAuth 2.0 client credentials")
    token_url: Url = Field(description="Where tokens are given: https://login.example.com/token")
    client_id: str = Field(min_length=1, description="Name of the client")
    client_secret: SecretStr = Field(description="A reference such as ${env:SHOP_SECRET}")
    client_auth: Literal["basic", "post"] = Field(
        "basic", description="How the client shows its secret: in a header, or in the form"
    )
    scope: str | None = Field(None, description="What the token is for, as the API names it")
    audience: str | None = Field(
        None, description="Which API the token is for, where that is asked"
    )


Auth = Annotated[ApiKey | Basic | Bearer | OAuth2, Field(discriminator="type")]


class Pages(_Part):
    """How one answer leads to the next: only the keys of its type are used."""

    type: Literal["none", "page", "offset", "cursor", "token", "link"] = Field(
        "none", description="What leads to the next page: a number, a value of the answer, or a URL"
    )
    param: ParamName | None = Field(None, description="Parameter that says which page is wanted")
    size_param: ParamName | None = Field(None, description="Parameter that says how many records")
    size: int | None = Field(None, ge=1, le=1_000_000, description="Records wanted in a page")
    start: int | None = Field(None, ge=0, description="Number of the first page or record")
    next: Path | None = Field(
        None, description="Where the answer has the next cursor, token or URL"
    )
    next_header: HeaderName | None = Field(None, description="Header that has the next token")
    last: Path | None = Field(
        None, description="Key of a page's last record that is the next cursor"
    )
    send: Literal["param", "header", "body"] = Field(
        "param", description="Where a request says which page it wants"
    )
    more: Path | None = Field(None, description="Where the answer says true while more follows")
    total: Path | None = Field(None, description="Where the answer has the number of all records")
    total_pages: Path | None = Field(None, description="Where the answer has the number of pages")
    stop: Literal["empty", "short"] = Field(
        "empty",
        description="Which page ends the stream: one without records, or one of fewer than size",
    )

    @model_validator(mode="after")
    def _parts_go_together(self) -> Self:
        if self.type in {"cursor", "token"}:
            if [self.next, self.next_header, self.last].count(None) != 2:
                raise ValueError("needs exactly one of next, next_header and last")
            if self.param is None:
                raise ValueError("needs param, the name under which the next cursor is sent")
        elif self.type != "link" and (self.next or self.next_header or self.last):
            raise ValueError(
                f"{self.type} counts by itself: next, next_header and last are not used"
            )
        if self.type == "link" and (self.next_header or self.last):
            raise ValueError("link takes the Link header, or next: where the body has the URL")
        if self.size_param and not self.size:
            raise ValueError("size_param needs size")
        if self.stop == "short" and not self.size:
            raise ValueError("stop: short needs size, to tell a short page")
        if self.send == "header":
            _header(self.param or "")
        return self


def _no_secret(params: dict[str, Any]) -> dict[str, Any]:
    for key in params:
        if is_secret_key(key):
            raise ValueError(f"'{key}' looks like a secret; put it under auth of the source")
    return params


Params = Annotated[dict[str, str | int | bool | list[str | int]], AfterValidator(_no_secret)]


class StreamOptions(_Part):
    """The `options:` part of a stream of kind rest."""

    method: Literal["GET", "POST"] = Field("GET", description="How the endpoint is asked")
    params: Params = Field(default_factory=dict, description="Parameters of every request")
    body: dict[str, Any] | None = Field(None, description="JSON object that POST sends")
    records: Path | None = Field(
        None, description="Where the list is; absent: the answer is the list"
    )
    pagination: Pages = Field(default_factory=Pages, description="How one answer leads to the next")
    cursor_param: ParamName | None = Field(None, description="Carries the last value of the cursor")
    cursor_format: str = Field("iso", description="iso, date, unix, unix_ms or a strftime pattern")
    newest: Params | None = Field(
        None, description="Parameters that make the first page hold the newest record"
    )
    fields: dict[str, TypeName] | None = Field(
        None,
        description="Keys of a record and their types, with ? when none may have it; others are left out",
    )

    @model_validator(mode="after")
    def _parts_go_together(self) -> Self:
        if self.body is not None and self.method != "POST":
            raise ValueError("body needs method: POST")
        if self.pagination.send == "body" and self.method != "POST":
            raise ValueError("a token in the body needs method: POST")
        return self


class Options(_Part):
    """The `source:` part of a connector file of kind rest."""

    kind: Literal["rest"] = Field(description="JSON APIs")
    url: Url = Field(description="Where the API begins: https://api.example.com/v1")
    auth: Auth | None = Field(None, description="How to log in; absent: not at all")
    headers: dict[HeaderName, HeaderValue] = Field(
        default_factory=dict, description="Headers of every request"
    )
    origins: list[Url] = Field(
        default_factory=list, description="Other servers that a next page may lead to"
    )
    allow_private: bool = Field(
        default=True, description="Whether the API may be on this machine or a private network"
    )
    ca_file: str | None = Field(
        None, description="Certificate authority to trust besides the known"
    )
    max_redirects: int = Field(0, ge=0, le=3, description="Followed within the same server only")
    connect_timeout: int = Field(20, ge=1, le=600, description="Seconds")
    read_timeout: int = Field(60, ge=1, le=3600, description="Seconds without a byte")
    response_timeout: int = Field(600, ge=1, le=86_400, description="Seconds for one whole answer")
    max_response_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, le=1024**3, description="Of one answer, unpacked"
    )
    max_pages: int = Field(100_000, ge=1, description="Of one stream")
    max_wait: int = Field(
        60, ge=0, le=3600, description="Seconds that one request may wait for a busy server"
    )
    requests_per_second: float | None = Field(
        None, gt=0, le=1000, description="At most; absent: as many as the server answers"
    )
