"""One polite, stoppable and bounded web client: every request of the kind `rest` goes through it."""

import logging
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from itertools import count
from typing import Any
from urllib.parse import urljoin

import certifi
import httpx

from aiia_pipelines.connectors import _rest_body
from aiia_pipelines.connectors import _rest_faults as faults
from aiia_pipelines.connectors._reach import Reached
from aiia_pipelines.connectors._rest_message import Answer, Ask, retry_after
from aiia_pipelines.connectors._rest_options import OAuth2, Options
from aiia_pipelines.connectors._sockets import OpenSockets
from aiia_pipelines.connectors._web_address import Origin, reach_allowed
from aiia_pipelines.connectors.base import SourceFault

_ATTEMPTS = 4
_FIRST_PAUSE = 0.5  # seconds; doubled at each attempt
_KEPT_METHOD = {307, 308}
_REDIRECTS = {301, 302, 303, *_KEPT_METHOD}


class Client:
    """Connections to the servers of one connector; one thread asks, any thread may cancel."""

    def __init__(self, options: Options, pause: Callable[[float], None] | None = None) -> None:
        """Keep the options; nothing is opened yet. `pause` waits so many seconds."""
        self._options = options
        self._stopped = threading.Event()
        self._pause = pause or self._stopped.wait
        self._http: httpx.Client | None = None
        self._reached: dict[Origin, Reached] = {}
        self._sockets = OpenSockets()
        self._due = 0.0
        self.patience = options.max_wait
        self._late = False

    def open(self) -> None:
        """Prepare the connections."""
        for name in ("httpx", "httpcore"):
            # They write whole URLs and headers, secrets and all.
            logging.getLogger(name).setLevel(logging.WARNING)
        read, connect = self._options.read_timeout, self._options.connect_timeout
        self._http = httpx.Client(
            # An API without encryption needs no authorities, and loading them takes a while.
            verify=self.tls() if self._encrypted() else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            trust_env=False,
            timeout=httpx.Timeout(read, connect=connect),
            headers={"User-Agent": "aiia-pipelines", "Accept-Encoding": "gzip"},
        )

    def _encrypted(self) -> bool:
        options = self._options
        token = options.auth.token_url if isinstance(options.auth, OAuth2) else ""
        urls = (options.url, token, *options.origins)
        return any(url.startswith("https:") for url in urls)

    def tls(self) -> ssl.SSLContext:
        """Trust the authorities of this machine, the usual ones, and the one of the connector file."""
        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())
        if self._options.ca_file:
            try:
                context.load_verify_locations(self._options.ca_file)
            except OSError as fault:
                raise SourceFault(
                    f"The ca_file {self._options.ca_file} cannot be read as a certificate.",
                    "config:invalid",
                ) from fault
        return context

    def reach(self, origin: Origin) -> Reached:
        """Find the one address of a server that this client keeps to."""
        if origin not in self._reached:
            self._reached[origin] = reach_allowed(
                origin, self._options.connect_timeout, private=self._options.allow_private
            )
        return self._reached[origin]

    def ask(self, ask: Ask, *, taken: Callable[[int], bool] = lambda _: False) -> Answer:
        """Ask until there is an answer of status 2xx, or one whose status is `taken`.

        Raises:
            SourceFault: There is none, or it is too large, too slow or damaged.
        """
        waited = 0.0
        for attempt in count(1):
            try:
                return self._followed(ask, taken)
            except (faults.RateLimited, faults.Passing, _Broken) as fault:
                pause = self._pause_after(fault, ask, attempt)
                if pause is None or waited + pause > self.patience:
                    raise self._told(fault, Origin.of(ask.url)) from fault.__cause__
                if isinstance(fault, faults.Passing) and not fault.sent:
                    # The host may have moved: its address is looked up, and checked, once more.
                    self._reached.pop(Origin.of(ask.url), None)
            waited += pause
            self._wait(pause, Origin.of(ask.url).place)
        raise AssertionError("the loop returns or raises")

    def _told(self, fault: SourceFault, origin: Origin) -> SourceFault:
        """Say what a fault that stays is: a server that greets first only seems to break off."""
        if isinstance(fault, _Broken):
            return fault.told
        if "connection:lost" in fault.signals and origin.scheme == "http" and self._greets(origin):
            return faults.unusable(
                f"Protocol error. What answers at {origin.place} is no web server.", origin.place
            )
        return fault

    def _greets(self, origin: Origin) -> bool:
        address = (self.reach(origin).address, origin.port)
        with suppress(OSError), socket.create_connection(address, timeout=1) as plain:
            return bool(plain.recv(1))
        return False

    def _pause_after(self, fault: SourceFault, ask: Ask, attempt: int) -> float | None:
        """Tell how many seconds to wait before another attempt; None when there is to be none."""
        # A server that is only busy is bounded by `max_wait`.
        if attempt >= _ATTEMPTS and not isinstance(fault, faults.RateLimited):
            return None
        pause = _FIRST_PAUSE * float(2 ** min(attempt - 1, 6))
        # Others that were turned away at the same moment should not come back at the same moment.
        pause *= random.uniform(0.5, 1)  # noqa: S311 - no secret
        if isinstance(fault, faults.RateLimited):
            return max(pause, fault.retry_after or 0)
        late = not isinstance(fault, faults.Passing) or fault.sent
        return None if late and not ask.repeatable else pause

    def _wait(self, seconds: float, place: str) -> None:
        if seconds > 0:
            self._pause(seconds)
        if self._stopped.is_set():
            raise faults.cancelled(place)

    def _followed(self, ask: Ask, taken: Callable[[int], bool]) -> Answer:
        """Ask, and follow the redirects that are allowed."""
        for _ in range(self._options.max_redirects + 1):
            answer = self._once(ask)
            if answer.status // 100 == 2 or taken(answer.status):
                return answer
            place = Origin.of(ask.url).place
            if answer.status not in _REDIRECTS:
                raise _refusal(answer, ask, place)
            ask = self._redirected(ask, answer, place)
        raise SourceFault(
            f"Redirect loop. {ask.shown} redirects again and again.",
            "http:redirect-loop",
            "protocol:error",
            place=place,
        )

    def _redirected(self, ask: Ask, answer: Answer, place: str) -> Ask:
        target = urljoin(ask.url, answer.headers.get("location", ""))
        try:
            origin = Origin.of(target)
        except ValueError:
            origin = None
        kept = answer.status in _KEPT_METHOD or ask.method == "GET"
        if not self._options.max_redirects or origin != Origin.of(ask.url) or not kept:
            raise SourceFault(
                f"Protocol error. {ask.shown} redirects ({answer.status}) to"
                f" {origin.host if origin else 'no web address'}, which is not followed;"
                " correct the URL of the connector.",
                f"http:{answer.status}",
                "protocol:error",
                place=place,
            )
        return Ask(
            url=target, method=ask.method, headers=ask.headers, content=ask.content, repeatable=ask.repeatable
        )  # fmt: skip

    def _once(self, ask: Ask) -> Answer:
        origin = Origin.of(ask.url)
        self._keep_pace(origin.place)
        reached, options = self.reach(origin), self._options
        self._late = False
        deadline = threading.Timer(options.response_timeout, self._give_up)
        deadline.daemon = True
        deadline.start()
        try:
            with faults.translated(origin.place, options.connect_timeout, options.read_timeout):
                response = self._opened.send(self._request(ask, origin, reached), stream=True)
                with closing(response):
                    body = _rest_body.whole(response, options.max_response_bytes, origin.place)
        except SourceFault as fault:
            self._stop_if_asked(origin.place)
            if self._late:
                raise faults.too_late(origin.place, options.response_timeout) from fault
            raise
        finally:
            deadline.cancel()
        self._stop_if_asked(origin.place)
        return Answer(response.status_code, response.headers, body, ask.url)

    def _give_up(self) -> None:
        """End an answer that drips: each of its bytes is in time, the whole never comes."""
        self._late = True
        self._sockets.end()

    @property
    def _opened(self) -> httpx.Client:
        if self._http is None:
            raise AssertionError("open() comes first")
        return self._http

    def _request(self, ask: Ask, origin: Origin, reached: Reached) -> httpx.Request:
        url = httpx.URL(ask.url).copy_with(host=reached.address)
        if ask.params:
            url = url.copy_merge_params(dict(ask.params))
        return self._opened.build_request(
            ask.method,
            url,
            headers={**ask.headers, "Host": origin.authority},
            content=ask.content,
            # The address is fixed, the certificate is still that of the name.
            extensions={"sni_hostname": origin.host, "trace": self._traced},
        )

    def _traced(self, event: str, info: Mapping[str, Any]) -> None:
        """Keep hold of each connection, so that another thread can end it."""
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            opened = info["return_value"].get_extra_info("socket")
            self._sockets.keep(opened)
            if self._stopped.is_set():
                self._sockets.end()

    def _keep_pace(self, place: str) -> None:
        self._stop_if_asked(place)
        rate = self._options.requests_per_second
        if rate is None:
            return
        now = time.monotonic()
        self._wait(self._due - now, place)
        self._due = max(now, self._due) + 1 / rate

    def _stop_if_asked(self, place: str) -> None:
        if self._stopped.is_set():
            raise faults.cancelled(place)

    def resume(self) -> None:
        """Forget a cancel: it was meant for an earlier read."""
        self._stopped.clear()

    def cancel(self) -> None:
        """End waiting and every connection; may be called from another thread."""
        self._stopped.set()
        self._sockets.end()

    def close(self) -> None:
        """Close all connections; may be called twice."""
        http, self._http = self._http, None
        if http is not None:
            http.close()
        self._sockets.forget()
        self._reached = {}


class _Broken(SourceFault):
    """A server failed in a way that may pass; `told` is what to say if it does not."""

    def __init__(self, told: SourceFault) -> None:
        super().__init__(str(told), *told.signals, place=told.place)
        self.told = told


def _refusal(answer: Answer, ask: Ask, place: str) -> SourceFault:
    wait = retry_after(answer.headers) if answer.status in faults.BUSY else None
    fault = faults.refused(
        answer.status,
        ask.shown,
        place,
        words=faults.words_of(answer.body),
        challenge=answer.headers.get("www-authenticate", ""),
        retry_after=wait,
    )
    return _Broken(fault) if answer.status in faults.BROKEN and wait is None else fault
