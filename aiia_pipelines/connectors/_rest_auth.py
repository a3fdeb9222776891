"""What a request carries to be let in."""

import base64
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus, urlencode

from pydantic import SecretStr

from aiia_pipelines.connectors import _rest_json as exact
from aiia_pipelines.connectors._rest_client import Client
from aiia_pipelines.connectors._rest_faults import refused, unusable, words_of
from aiia_pipelines.connectors._rest_message import Answer, Ask
from aiia_pipelines.connectors._rest_options import ApiKey, Basic, Bearer, OAuth2, Options
from aiia_pipelines.connectors._web_address import Origin
from aiia_pipelines.connectors.base import SourceFault
from aiia_pipelines.jobs.redaction import REDACTOR

_EARLY = 30.0  # seconds before its end that a token is no longer used
_REFUSALS = {"invalid_client", "invalid_grant", "unauthorized_client", "access_denied"}


class Login:
    """The credentials of a connector, as headers and parameters of its requests."""

    def __init__(self, options: Options, client: Client) -> None:
        """Keep the credentials, and keep them out of every log."""
        self._auth = options.auth
        self._client = client
        self._headers = {name: _told(value) for name, value in options.headers.items()}
        self._token = ""
        self._ends = 0.0

    @property
    def renewable(self) -> bool:
        """Whether a refusal may mean that the token is too old."""
        return isinstance(self._auth, OAuth2)

    def headers(self) -> dict[str, str]:
        """Give the headers of a request, with a token that is still good."""
        auth, found = self._auth, dict(self._headers)
        if isinstance(auth, ApiKey) and auth.in_ == "header":
            found[auth.name] = _told(auth.api_key)
        elif isinstance(auth, Basic):
            found["Authorization"] = f"Basic {_pair(auth.user, _told(auth.password))}"
        elif isinstance(auth, Bearer):
            found["Authorization"] = f"Bearer {_told(auth.token)}"
        elif isinstance(auth, OAuth2):
            found["Authorization"] = f"Bearer {self._fresh(auth)}"
        return found

    def params(self) -> dict[str, str]:
        """Give the parameters of a request."""
        auth = self._auth
        if isinstance(auth, ApiKey) and auth.in_ == "query":
            return {auth.name: _told(auth.api_key)}
        return {}

    def forget(self) -> None:
        """Drop the token, so that the next request fetches another."""
        self._token = ""

    def _fresh(self, auth: OAuth2) -> str:
        if not self._token or time.monotonic() >= self._ends:
            self._fetch(auth)
        return self._token

    def _fetch(self, auth: OAuth2) -> None:
        secret = _told(auth.client_secret)
        form = {"grant_type": "client_credentials"}
        form |= {"scope": auth.scope} if auth.scope else {}
        form |= {"audience": auth.audience} if auth.audience else {}
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        if auth.client_auth == "basic":
            # RFC 6749 wants both written as in a form before they are joined.
            pair = _pair(quote_plus(auth.client_id), quote_plus(secret))
            headers["Authorization"] = f"Basic {pair}"
        else:
            form |= {"client_id": auth.client_id, "client_secret": secret}
        ask = Ask(
            url=auth.token_url, method="POST", headers=headers, content=urlencode(form).encode()
        )
        answer = self._client.ask(ask, taken=lambda status: status in {400, 401, 403})
        self._take(_granted(answer, ask))

    def _take(self, granted: Mapping[str, Any]) -> None:
        self._token = str(granted["access_token"])
        REDACTOR.add(self._token)
        lasts = str(granted.get("expires_in"))
        seconds = float(lasts) if lasts.isdecimal() else float("inf")
        # A token of a minute is still used for most of it.
        self._ends = time.monotonic() + max(seconds - _EARLY, seconds * 0.8)


def _granted(answer: Answer, ask: Ask) -> Mapping[str, Any]:
    place = Origin.of(ask.url).place
    try:
        told = exact.read(answer.body)
    except (exact.Unreadable, UnicodeDecodeError):
        told = None
    if answer.status // 100 != 2:
        error = told.get("error") if isinstance(told, dict) else None
        if error in _REFUSALS or answer.status == 401:
            raise SourceFault(
                f"Invalid credentials. {ask.shown} refused the client ({answer.status}).",
                "login:credentials",
                place=place,
            )
        words = words_of(answer.body)
        raise refused(answer.status, ask.shown, place, words=words, challenge=str(error))
    token = told.get("access_token") if isinstance(told, dict) else None
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise unusable(f"Protocol error. {ask.shown} answered without an access_token.", place)
    if str(told.get("token_type", "bearer")).lower() != "bearer":
        raise unusable(f"Protocol error. {ask.shown} gave a token that is no bearer token.", place)
    return dict(told)


def _told(secret: SecretStr) -> str:
    text = secret.get_secret_value()
    REDACTOR.add(text)
    return text


def _pair(user: str, password: str) -> str:
    found = base64.b64encode(f"{user}:{password}".encode()).decode()
    REDACTOR.add(found)
    return found
