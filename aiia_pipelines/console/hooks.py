"""The doors for other systems: POST /hooks/NAME starts a connector when the call is signed.

Nothing here tells a stranger which connectors there are: a call without the three headers is not found, one
that is signed wrongly is refused, whether the connector exists or not, after the same work.
"""

import asyncio
import json
import logging
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.secrets import SecretMissing, resolve
from aiia_pipelines.config.settings import Settings
from aiia_pipelines.console.doors import Doors
from aiia_pipelines.console.pace import Pace
from aiia_pipelines.jobs.redaction import REDACTOR
from aiia_pipelines.jobs.webhooks import SHORTEST_KEY, Call, WeakSecret, genuine, keys_of

LIMIT = 65_536  # bytes of a body
_BODY_WITHIN = 5  # seconds
_AT_ONCE = 8
_LONGEST_CALLER = 100
_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
_CALLER = "webhook-caller"
_LOG = logging.getLogger("aiia.webhooks")


class NotStarted(Exception):
    """The connector could not be started now; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a genuine call asks for; no stream stands for all of them."""

    connector: str
    call_id: str
    by: str
    streams: Sequence[str] = ()
    full: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """The job run of a call; not `fresh` when an earlier one with the same id had started it."""

    number: int
    fresh: bool


class Launch(Protocol):
    """Starts what a call asks for, once."""

    def __call__(self, wanted: Wanted) -> Started:
        """Start it, or find what the same call has started.

        Raises:
            NotStarted: It cannot be started now.
        """
        ...


class _Answered(Exception):
    """A call that gets no further."""

    def __init__(
        self, status: int, sentence: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(sentence)
        self.response = JSONResponse({"error": sentence}, status, headers=dict(headers or {}))


class Hooks:
    """Answers the calls."""

    def __init__(self, settings: Settings, launch: Launch, prefix: str = "") -> None:
        """Looks at nothing yet; `prefix` is the path below which the web server lives."""
        self._settings = settings
        self._doors = Doors(settings.connectors)
        self._launch = launch
        self._pace = Pace()
        self._prefix = prefix
        # Apart from the threads of Dagster's pages: a flood of calls must not stop those.
        self._limiter = CapacityLimiter(_AT_ONCE)

    async def answer(self, request: Request) -> Response:
        """Answer one call; the event loop never waits for it."""
        try:
            name, call = request.path_params["connector"], await _received(request)
            caller = request.headers.get(_CALLER, "")
            started = await to_thread.run_sync(
                self._carry_out, name, call, caller, limiter=self._limiter
            )
        except _Answered as answered:
            return answered.response
        except ClientDisconnect:
            return Response(status_code=400)
        page = quote(f"tag:aiia/job={started.number}", safe="")
        base = str(request.base_url).rstrip("/")
        told = {
            "number": started.number,
            "url": f"{base}{self._prefix}/runs?q%5B0%5D={page}",
        }
        return JSONResponse(told, 202 if started.fresh else 200)

    def _carry_out(self, name: str, call: Call, caller: str) -> Started:
        connector = self._doors.connector(name)
        # Of a connector that is not there the same is computed, with a key that nobody has.
        keys = self._keys(connector) if connector else []
        known = genuine(call, keys or [secrets.token_bytes(SHORTEST_KEY)], time.time())
        if not known or connector is None:
            raise _Answered(
                401, "The signature does not fit, or the time of the call is too far away."
            )
        self._keep_pace(connector)
        streams, full = _asked(call.body, connector)
        by = _shown(caller)
        wanted = Wanted(
            connector=connector.name,
            call_id=call.id,
            by=f"{by} ({call.id})" if by else call.id,
            streams=streams,
            full=full,
        )
        try:
            return self._launch(wanted)
        except NotStarted as fault:
            reason = REDACTOR.clean(str(fault))
            _LOG.warning("The webhook of %s could not start it: %s", connector.name, reason)
            raise _Answered(503, reason, {"Retry-After": "10"}) from fault

    def _keep_pace(self, connector: Connector) -> None:
        """Refuse what comes too often; calls that are not genuine do not count, or a stranger could stop the others."""
        webhook = connector.triggers.webhook
        most = webhook.per_minute if webhook else 0
        seconds = self._pace.wait(connector.name, most)
        if seconds:
            sentence = (
                f"{connector.name} takes {most:,} calls a minute; there is room in {seconds} s."
            )
            raise _Answered(429, sentence, {"Retry-After": str(seconds)})

    def _keys(self, connector: Connector) -> list[bytes]:
        """Read the secret anew for each call, so that another one holds at once; none when it is unusable."""
        webhook = connector.triggers.webhook
        if webhook is None:
            return []
        try:
            secret = resolve(webhook.secret, os.environ, self._settings.home, secret=True)
            for word in secret.split():
                REDACTOR.add(word)
            return keys_of(secret)
        except (SecretMissing, WeakSecret) as fault:
            sentence = f"The webhook of {connector.name} accepts no call: {webhook.secret}: {fault}"
            _LOG.warning("%s.", REDACTOR.clean(sentence).rstrip("."))
            return []


async def _received(request: Request) -> Call:
    found = [request.headers.getlist(header) for header in _HEADERS]
    if any(len(values) != 1 for values in found):
        raise _Answered(404, "Not found.")
    (call_id,), (timestamp,), (signature,) = found
    try:
        async with asyncio.timeout(_BODY_WITHIN):
            body = await _body(request)
    except TimeoutError:
        raise _Answered(408, f"The body did not arrive within {_BODY_WITHIN} seconds.") from None
    return Call(id=call_id, timestamp=timestamp, signature=signature, body=body)


async def _body(request: Request) -> bytes:
    announced = request.headers.get("content-length", "")
    body = bytearray()
    if not announced.isdigit() or int(announced) <= LIMIT:
        async for chunk in request.stream():
            body += chunk
            if len(body) > LIMIT:
                break
        else:
            return bytes(body)
    # What is left of it is not read, so the connection cannot serve another call.
    raise _Answered(413, f"The body is larger than {LIMIT:,} bytes.", {"Connection": "close"})


def _asked(body: bytes, connector: Connector) -> tuple[tuple[str, ...], bool]:
    """Read what the body asks for; keys that mean nothing here are those of the caller's own events."""
    try:
        given: Any = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise _Answered(400, "The body must be a JSON object, or empty.")
    full = given.get("full", False)
    if not isinstance(full, bool):
        raise _Answered(400, "full must be true or false.")
    if "streams" not in given:
        return (), full
    return _streams(given["streams"], [stream.name for stream in connector.streams]), full


def _streams(given: object, known: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(given, list) or not given or not all(isinstance(one, str) for one in given):
        raise _Answered(400, "streams must be a list of at least one name; leave it out for all.")
    if not set(given) <= set(known):
        raise _Answered(400, f"streams may hold {', '.join(known)}.")
    return tuple(stream for stream in known if stream in given)


def _shown(caller: str) -> str:
    text = "".join(sign for sign in caller if sign.isprintable()).strip()
    return REDACTOR.clean(text)[:_LONGEST_CALLER]
