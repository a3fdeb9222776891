"""One JSON API: requests that are let in, answers that are JSON."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from aiia_pipelines.connectors import _rest_json as exact
from aiia_pipelines.connectors._rest_auth import Login
from aiia_pipelines.connectors._rest_client import Client
from aiia_pipelines.connectors._rest_message import Answer, Ask
from aiia_pipelines.connectors._rest_options import StreamOptions
from aiia_pipelines.connectors._web_address import Origin
from aiia_pipelines.connectors.base import SourceFault

_JSON = re.compile(r"(?:application|text)/(?:[\w.+-]+\+)?(?:json|javascript)|text/plain|", re.ASCII)
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([\w.:-]{1,40})", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for one page of a stream."""

    url: str
    options: StreamOptions
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)


class Api:
    """A client that is logged in."""

    def __init__(self, client: Client, login: Login) -> None:
        """Keep both."""
        self._client = client
        self._login = login

    def get(self, wanted: Wanted) -> tuple[exact.Json, Answer]:
        """Ask for one page, and read it as JSON.

        Raises:
            SourceFault: There is none, or it is no JSON.
        """
        ask = self._asked(wanted)
        try:
            answer = self._client.ask(ask)
        except SourceFault as fault:
            if "http:401" not in fault.signals or not self._login.renewable:
                raise
            # The token was revoked before its time; another one is refused only once.
            self._login.forget()
            answer = self._client.ask(self._asked(wanted))
        return _document(answer, ask.shown), answer

    def without_secrets(self, url: str) -> str:
        """Take the credentials out of a URL that the API gave; every request adds them anyway."""
        found = httpx.URL(url)
        for name in self._login.params():
            found = found.copy_remove_param(name)
        return str(found)

    def _asked(self, wanted: Wanted) -> Ask:
        post = wanted.options.method == "POST"
        ask = Ask(
            url=wanted.url,
            method=wanted.options.method,
            params={**wanted.params, **self._login.params()},
            headers={"Accept": "application/json", **wanted.headers, **self._login.headers()},
            repeatable=not post,
        )
        if not post:
            return ask
        content = exact.compact({**(wanted.options.body or {}), **wanted.body}).encode()
        return replace(
            ask, content=content, headers={**ask.headers, "Content-Type": "application/json"}
        )


def _document(answer: Answer, url: str) -> exact.Json:
    place = Origin.of(url).place
    kind = answer.headers.get("content-type", "")
    name = kind.partition(";")[0].strip().lower()
    if not _JSON.fullmatch(name):
        raise SourceFault(
            f"Unexpected content type. {url} answered {name[:60] or 'nothing named'} where JSON was"
            " expected.",
            "protocol:content-type",
            "protocol:error",
            place=place,
        )
    charset = _CHARSET.search(kind)
    try:
        return exact.read(answer.body, charset[1] if charset else None)
    except exact.Unreadable as fault:
        raise SourceFault(
            f"Protocol error. The answer of {url} {fault}.", "protocol:error", place=place
        ) from None
    except UnicodeDecodeError as fault:
        raise SourceFault(
            f"Encoding error. The answer of {url} is not {fault.encoding} at byte {fault.start:,}.",
            "contract:encoding",
            place=place,
        ) from None
