"""A JSON API that fails: what the server says, how it breaks off, and what is no web server at all."""

import gzip
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from fronts import answering, saying
from provoked import CANARY, Ended, Provocations, Provoked, Stage, check

from aiia_pipelines.local.ports import free_port

pytestmark = pytest.mark.integration
provokes = Provocations()
ROWS = {"name": "rows", "endpoint": "/rows"}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
HTML = {"Content-Type": "text/html; charset=utf-8"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca")).found()


@pytest.mark.parametrize("case", provokes, ids=str)
def test_a_fault_of_an_api_has_its_code_line_and_retries(
    stage: Stage, web: Any, authority: Authority, case: Provoked
) -> None:
    stage.facts |= {"url": f"{web.url}/rows", "source": f"127.0.0.1:{web.port}"}
    web.authority = authority
    check(stage, case, web)


def options(web: Any, **more: Any) -> dict[str, Any]:
    auth = {"type": "bearer", "token": CANARY}
    given = {"kind": "rest", "url": web.url, "auth": auth, "connect_timeout": 2}
    return given | {"read_timeout": 2, "max_wait": 0} | more


def _told(stage: Stage, web: Any, **reply: Any) -> Ended:
    web.answers["/rows"] = [web.reply(**reply)]
    return stage.sync(options(web), ROWS)


# -- statuses ---------------------------------------------------------------------------------


@provokes(
    "query-invalid",
    "The server does not understand the request. {url} answered 400. It says: *.",
    badge="Error",
)
def a_request_that_is_not_understood(stage: Stage, web: Any) -> Ended:
    return _told(stage, web, status=400, json={"message": "limit must be at most 500"})


@provokes("invalid-credentials", "Invalid credentials. {url} answered 401.")
def a_token_that_is_wrong(stage: Stage, web: Any) -> Ended:
    return _told(stage, web, status=401, json={"message": f"no such token: {CANARY}"})


@provokes("credentials-expired", "Credentials expired. {url} answered 401.")
def a_token_whose_time_is_over(stage: Stage, web: Any) -> Ended:
    words = 'Bearer error="invalid_token", error_description="The token has expired"'
    return _told(stage, web, status=401, json={}, headers={"WWW-Authenticate": words})


@provokes("second-factor-required", "Second factor required. {url} answered 401.")
def an_api_that_wants_a_second_factor(stage: Stage, web: Any) -> Ended:
    words = 'Bearer error="insufficient_user_authentication", acr_values="mfa"'
    return _told(stage, web, status=401, json={}, headers={"WWW-Authenticate": words})


@provokes("second-factor-required", "Second factor required. {source}/token answered 403.")
def a_token_that_is_given_to_those_with_a_second_factor_only(stage: Stage, web: Any) -> Ended:
    web.answers["/token"] = [web.reply(status=403, json={"error": "mfa_required"})]
    stage.facts["source"] = web.url
    auth = {
        "type": "oauth2", "token_url": f"{web.url}/token", "client_id": "c",
        "client_secret": CANARY,
    }  # fmt: skip
    return stage.sync(options(web, auth=auth), ROWS)


@provokes("permission-denied", "Permission denied. {url} answered 403.")
def an_endpoint_that_is_not_for_us(stage: Stage, web: Any) -> Ended:
    return _told(stage, web, status=403, json={"message": f"{CANARY} may not"})


@provokes("quota-exceeded", "Quota exceeded. {url} answered 403.")
def a_quota_that_is_used_up(stage: Stage, web: Any) -> Ended:
    return _told(stage, web, status=403, json={"error": {"message": "Quota exceeded for today"}})


@provokes("source-not-found", "Not found. {url} answered 404.")
def an_endpoint_that_does_not_exist(stage: Stage, web: Any) -> Ended:
    return _told(stage, web, status=404, json={})


@provokes(
    "proxy-failure",
    "Proxy failure: a proxy on the way wants a login of its own. {url} answered 407.",
)
def a_proxy_that_wants_a_login(stage: Stage, web: Any) -> Ended:
    return _told(stage, web, status=407, json={}, headers={"Proxy-Authenticate": "Basic"})


@provokes(
    "rate-limited", "Rate limited. {url} answered 429. It asks to wait 3,600 seconds.", retries=5
)
def too_many_requests(stage: Stage, web: Any) -> Ended:
    return _told(stage, web, status=429, json={}, headers={"Retry-After": "3600"})


@provokes("source-unavailable", "The server failed. {url} answered 500. It says: oh.", retries=5)
def a_server_that_fails(stage: Stage, web: Any) -> Ended:
    return _told(stage, web, status=500, json={"message": "oh."})


@provokes("source-unavailable", "The server is unavailable. {url} answered 503.", retries=5)
def a_server_under_maintenance(stage: Stage, web: Any) -> Ended:
    return _told(stage, web, status=503, body=b"<h1>Back soon</h1>", headers=HTML)


@provokes("source-disk-full", "The disk of the server is full. {url} answered 507.")
def a_server_whose_disk_is_full(stage: Stage, web: Any) -> Ended:
    return _told(stage, web, status=507, json={})


# -- answers ----------------------------------------------------------------------------------


@provokes(
    "content-type-unexpected",
    "Unexpected content type. {url} answered text/html where JSON was expected.",
)
def a_page_for_people(stage: Stage, web: Any) -> Ended:
    return _told(stage, web, body=b"<html>log in</html>", headers=HTML)


@provokes("redirect-loop", "Redirect loop. {url} redirects again and again.")
def redirects_without_end(stage: Stage, web: Any) -> Ended:
    web.answers["/rows"] = [web.reply(status=302, json={}, headers={"Location": "/rows"})]
    return stage.sync(options(web, max_redirects=3), ROWS)


@provokes(
    "protocol-error",
    "Protocol error. {url} redirects (301) to other.example, which is not followed; *.",
)
def a_redirect_to_another_host(stage: Stage, web: Any) -> Ended:
    target = {"Location": "https://other.example/rows"}
    return _told(stage, web, status=301, json={}, headers=target)


@provokes("protocol-error", "Protocol error. The answer of {url} is no JSON: *.")
def json_that_is_cut(stage: Stage, web: Any) -> Ended:
    return _told(stage, web, body=b'[{"id": 1}')


@provokes(
    "encoding-error", "Encoding error. The answer of {url} is not utf-8 at byte 9.", badge="Error"
)
def json_that_is_no_text(stage: Stage, web: Any) -> Ended:
    return _told(stage, web, body=b'[{"id": "\xff"}]')


@provokes("protocol-error", "Protocol error. {source} sent a damaged gzip answer.")
def gzip_that_is_none(stage: Stage, web: Any) -> Ended:
    return _told(stage, web, body=b"not gzip at all", headers={"Content-Encoding": "gzip"})


@provokes("protocol-error", "Protocol error. {source} sent a gzip answer without its end.")
def gzip_that_is_cut(stage: Stage, web: Any) -> Ended:
    packed = gzip.compress(b'[{"id": 1}]')[:-9]
    return _told(stage, web, body=packed, headers={"Content-Encoding": "gzip"})


@provokes(
    "connection-lost",
    "Connection lost. {source} closed it before the answer was complete.",
    retries=5,
)
def an_answer_shorter_than_its_length(stage: Stage, web: Any) -> Ended:
    return _told(stage, web, raw=HEAD + b"Content-Length: 500\r\n\r\n[]")


@provokes(
    "connection-lost",
    "Connection lost. {source} closed it before the answer was complete.",
    retries=5,
)
def a_connection_that_is_reset(stage: Stage, web: Any) -> Ended:
    return _told(stage, web, raw=HEAD + b"Content-Length: 500\r\n\r\n[", reset=True)


@provokes(
    "protocol-error", "Protocol error. What answers at {source} is no web server, or breaks off."
)
def a_chunk_without_a_size(stage: Stage, web: Any) -> Ended:
    return _told(stage, web, raw=CHUNKED + b"zz\r\n[]\r\n0\r\n\r\n")


@provokes(
    "resource-limit",
    "Answer too large. {source} sent more than max_response_bytes (100,000) in one answer; *.",
)
def an_answer_larger_than_it_may_be(stage: Stage, web: Any) -> Ended:
    web.answers["/rows"] = [web.reply(body=b"[" + b" " * 300_000 + b"]")]
    return stage.sync(options(web, max_response_bytes=100_000), ROWS)


@provokes("read-timeout", "Read timeout. {source} sent nothing for 1 seconds.", retries=5)
def a_server_that_falls_silent(stage: Stage, web: Any) -> Ended:
    never = threading.Event()
    web.answers["/rows"] = [web.reply(json=[], wait=never)]
    ended = stage.sync(options(web, read_timeout=1), ROWS)
    never.set()
    return ended


# -- the way there ----------------------------------------------------------------------------


@provokes("protocol-error", "Protocol error. What answers at {source} is no web server*.")
def a_file_server(stage: Stage, web: Any) -> Ended:
    with answering(saying(b"220 ftp.example.com ready\r\n")) as port:
        stage.facts["source"] = f"127.0.0.1:{port}"
        return stage.sync(options(web, url=f"http://127.0.0.1:{port}"), ROWS)


@provokes(
    "connection-refused",
    "Connection refused. Nothing listens on {source}, or a firewall rejects it.",
    retries=5,
)
def a_port_that_is_closed(stage: Stage, web: Any) -> Ended:
    port = free_port()
    stage.facts["source"] = f"127.0.0.1:{port}"
    return stage.sync(options(web, url=f"http://127.0.0.1:{port}"), ROWS)


@provokes(
    "config-invalid",
    "169.254.169.254 may not be asked: its address 169.254.169.254 is link-local, *",
)
def an_address_that_is_never_asked(stage: Stage, web: Any) -> Ended:
    return stage.sync(options(web, url="http://169.254.169.254"), ROWS)


def _secure(stage: Stage, web: Any, certificate: Path, ca: Path | None, ciphers: str = "") -> Ended:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    if ciphers:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
    server = type(web)(context)
    stage.facts["source"] = f"127.0.0.1:{server.port}"
    more = {"ca_file": str(ca)} if ca else {}
    try:
        return stage.sync(options(web, url=server.url, **more), ROWS)
    finally:
        server.close()


@provokes("tls-failure", "TLS failure. {source} cannot be trusted: *.")
def a_web_server_that_nobody_trusts(stage: Stage, web: Any) -> Ended:
    return _secure(stage, web, web.authority.sign("good"), None)


@provokes(
    "tls-certificate-expired", "TLS failure. {source} cannot be trusted: certificate has expired."
)
def a_web_server_whose_certificate_has_expired(stage: Stage, web: Any) -> Ended:
    return _secure(stage, web, web.authority.sign("expired", days=-1), web.authority.path)


@provokes(
    "tls-name-mismatch",
    "TLS failure. {source} cannot be trusted: IP address mismatch, certificate is not valid for '127.0.0.1'.",
)
def a_web_server_of_another_name(stage: Stage, web: Any) -> Ended:
    other = web.authority.sign("other", "DNS:api.example.com")
    return _secure(stage, web, other, web.authority.path)


@provokes("tls-protocol", "TLS failure. {source} speaks no TLS that this worker takes: *.")
def a_web_server_without_a_common_cipher(stage: Stage, web: Any) -> Ended:
    old = web.authority.sign("old")
    return _secure(stage, web, old, web.authority.path, "AES128-GCM-SHA256")


@provokes("tls-protocol", "TLS failure. {source} speaks no TLS that this worker takes: *.")
def a_web_server_without_encryption(stage: Stage, web: Any) -> Ended:
    return stage.sync(options(web, url=f"https://127.0.0.1:{web.port}"), ROWS)


# -- the records ------------------------------------------------------------------------------


@provokes("column-mismatch", "Column mismatch in rows. *the key 'extra'*.", badge="Error")
def a_key_that_comes_up_on_a_later_page(stage: Stage, web: Any) -> Ended:
    web.answers["/rows"] = lambda asked: web.reply(
        [{"id": 1}] if asked.query["page"] == "1" else [{"id": 2, "extra": 3}]
    )
    paged = {"options": {"pagination": {"type": "page"}}}
    return stage.sync(options(web), ROWS | paged)
