import gzip
import json
import logging
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from aiia_pipelines.connectors.base import Reading, SourceFault
from aiia_pipelines.jobs.failures import classify

pytestmark = pytest.mark.integration
ROWS = [{"id": 1}, {"id": 2}]
TEXT = json.dumps(ROWS).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def read(source: Any, rows: Any) -> list[int]:
    names = [column.name for column in source.columns(rows)]
    return [row[0] for batch in source.batches(rows, Reading(names=names)) for row in batch.rows]


def refused(source: Any, stream: Any) -> SourceFault:
    with pytest.raises(SourceFault) as caught:
        source.columns(stream(endpoint="/rows"))
    assert caught.value.place == source.place()
    return caught.value


# -- statuses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "query-invalid"), (401, "invalid-credentials"), (402, "permission-denied"),
        (403, "permission-denied"), (404, "source-not-found"), (405, "query-invalid"),
        (408, "read-timeout"), (409, "query-invalid"), (410, "source-not-found"),
        (418, "query-invalid"), (422, "query-invalid"), (451, "permission-denied"),
        (500, "source-unavailable"), (501, "protocol-error"), (505, "protocol-error"),
        (507, "source-disk-full"), (304, "protocol-error"),
    ],
)  # fmt: skip
def test_a_refusal_is_told_once_and_not_repeated(
    open_rest: Any, web: Any, stream: Any, status: int, code: str
) -> None:
    body = b"" if status == 304 else b'{"message": "Nothing  here"}'
    web.answers["/rows"] = [web.reply(status=status, body=body)]
    fault = refused(open_rest(), stream)
    assert classify(fault).code == code
    assert f"answered {status}." in str(fault)
    assert ("Nothing here" in str(fault)) == (status not in {401, 403, 304})
    assert len(web.asked) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            b'{"error": {"message": "limit must be at most 500"}}',
            "It says: limit must be at most 500.",
        ),
        (b'{"errors": ["a"]}', "answered 422."),
        (b"[1]", "answered 422."),
        (b'{"detail": "' + b"x" * 500 + b'"}', "x" * 120 + "."),
        (b"\xff", "answered 422."),
    ],
)
def test_the_explanation_of_an_api_is_told_in_short(
    open_rest: Any, web: Any, stream: Any, body: bytes, words: str
) -> None:
    web.answers["/rows"] = [web.reply(body=body, status=422)]
    assert str(refused(open_rest(), stream)).endswith(words)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_server_that_fails_for_a_moment_is_asked_again(
    open_rest: Any, web: Any, stream: Any, status: int
) -> None:
    broken = web.reply(status=status, body=b"<h1>Bad</h1>", headers={"Content-Type": "text/html"})
    web.answers["/rows"] = [broken, broken, web.reply(ROWS)]
    source = open_rest()
    assert read(source, stream(endpoint="/rows")) == [1, 2]
    assert len(source.waits) == 2
    assert all(0 < wait <= 1 for wait in source.waits)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_server_that_keeps_failing_is_given_up(
    open_rest: Any, web: Any, stream: Any, status: int
) -> None:
    web.answers["/rows"] = [web.reply(status=status, json={})]
    source = open_rest()
    fault = refused(source, stream)
    assert {f"http:{status}", "source:unavailable"} <= set(fault.signals)
    assert classify(fault).transient
    assert (len(web.asked), len(source.waits)) == (4, 3)


def test_a_post_is_not_sent_twice_unless_the_server_says_it_did_nothing(
    open_rest: Any, web: Any, stream: Any
) -> None:
    post = stream(endpoint="/rows", options={"method": "POST"})
    web.answers["/rows"] = [web.reply(status=502, json={})]
    with pytest.raises(SourceFault):
        open_rest().columns(post)
    assert len(web.asked) == 1
    web.answers["/rows"] = [web.reply(raw=HEAD)]
    with pytest.raises(SourceFault):
        open_rest().columns(post)
    assert len(web.asked) == 2
    web.answers["/rows"] = [web.reply(status=429, json={}), web.reply(ROWS)]
    assert len(open_rest().columns(post)) == 1


# -- waiting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date", "date by the clock of the server", "past"])
def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(
    open_rest: Any, web: Any, stream: Any, status: int, form: str
) -> None:
    now = datetime.now(UTC)
    theirs = now - timedelta(days=3)
    headers = {
        "seconds": {"Retry-After": "7"},
        "date": {"Retry-After": format_datetime(now + timedelta(seconds=8), usegmt=True)},
        "date by the clock of the server": {
            "Retry-After": format_datetime(theirs + timedelta(seconds=7), usegmt=True),
            "X-Date": format_datetime(theirs, usegmt=True),
        },
        "past": {"Retry-After": format_datetime(theirs, usegmt=True)},
    }[form]
    raw = b"HTTP/1.1 %d Busy\r\nConnection: close\r\nContent-Length: 2\r\n" % status
    for name, value in headers.items():
        raw += f"{name.removeprefix('X-')}: {value}\r\n".encode()
    web.answers["/rows"] = [web.reply(raw=raw + b"\r\n{}"), web.reply(ROWS)]
    source = open_rest()
    assert read(source, stream(endpoint="/rows")) == [1, 2]
    [wait] = source.waits
    assert wait < 1 if form == "past" else 5.5 < wait <= 8


@pytest.mark.parametrize("seconds", [3600, 61])
def test_a_long_wait_is_left_to_the_schedule_and_told(
    open_rest: Any, web: Any, stream: Any, seconds: int
) -> None:
    web.answers["/rows"] = [web.reply(status=429, json={}, headers={"Retry-After": str(seconds)})]
    source = open_rest()
    fault: Any = refused(source, stream)
    assert (fault.retry_after, source.waits, len(web.asked)) == (seconds, [], 1)
    assert f"asks to wait {seconds:,} seconds" in str(fault)
    assert classify(fault).code == "rate-limited"


def test_many_short_waits_end_together(open_rest: Any, web: Any, stream: Any) -> None:
    web.answers["/rows"] = [web.reply(status=429, json={}, headers={"Retry-After": "20"})]
    source = open_rest()
    fault: Any = refused(source, stream)
    assert source.waits == [20, 20, 20]
    assert fault.retry_after == 20


@pytest.mark.parametrize("text", ["soon", "-5", "1e9", "", "٣", "99999999999"])
def test_a_wait_that_cannot_be_read_is_our_own(
    open_rest: Any, web: Any, stream: Any, text: str
) -> None:
    raw = f"HTTP/1.1 429 Busy\r\nConnection: close\r\nContent-Length: 2\r\nRetry-After: {text}\r\n\r\n{{}}".encode()
    web.answers["/rows"] = [web.reply(raw=raw), web.reply(ROWS)]
    source = open_rest()
    assert read(source, stream(endpoint="/rows")) == [1, 2]
    assert 0 < source.waits[0] <= 0.5


def test_no_more_requests_a_second_than_allowed(open_rest: Any, web: Any, stream: Any) -> None:
    web.answers["/rows"] = lambda asked: web.reply(ROWS if asked.query["page"] == "1" else [])
    source = open_rest({"requests_per_second": 2})
    read(source, stream(endpoint="/rows", options={"pagination": {"type": "page"}}))
    assert len(web.asked) == 3
    assert [round(wait, 1) for wait in source.waits] == pytest.approx([0.5, 1.0], abs=0.2)


# -- broken answers -----------------------------------------------------------------------------

CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LOST = {
    "shorter than its length": HEAD + b"Content-Length: 500\r\n\r\n" + TEXT,
    "a chunk that is cut": CHUNKED + b"ff\r\n[{",
    "chunks without an end": CHUNKED + b"2\r\n[]\r\n",
    "no answer": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Ty",
}
GARBLED = {
    "bad chunk size": CHUNKED + b"zz\r\n[]\r\n0\r\n\r\n",
    "bad header": b"HTTP/1.1 200 OK\r\n\x00\x01\r\n\r\n",
    "random": b"\x16\x03\x01\x02\x00\x01\x00" * 9,
}


@pytest.mark.parametrize("why", LOST)
def test_an_answer_that_breaks_off_is_asked_for_again_and_then_lost(
    open_rest: Any, web: Any, stream: Any, why: str
) -> None:
    web.answers["/rows"] = [web.reply(raw=LOST[why]), web.reply(ROWS)]
    assert read(open_rest(), stream(endpoint="/rows")) == [1, 2]
    web.answers["/rows"] = [web.reply(raw=LOST[why])]
    fault = refused(open_rest(), stream)
    assert classify(fault).code == "connection-lost", str(fault)


def test_a_connection_that_is_reset_is_lost(open_rest: Any, web: Any, stream: Any) -> None:
    web.answers["/rows"] = [web.reply(raw=HEAD + b"Content-Length: 500\r\n\r\n[", reset=True)]
    assert classify(refused(open_rest(), stream)).code == "connection-lost"
    assert len(web.asked) == 4


@pytest.mark.parametrize("why", GARBLED)
def test_what_is_no_web_server_is_a_protocol_error(
    open_rest: Any, web: Any, stream: Any, why: str
) -> None:
    web.answers["/rows"] = [web.reply(raw=GARBLED[why])]
    assert classify(refused(open_rest(), stream)).code == "protocol-error"
    assert len(web.asked) == 1


def test_a_server_that_greets_first_is_no_web_server(
    open_rest: Any, stream: Any, greeting: int
) -> None:
    fault = refused(open_rest({"url": f"http://127.0.0.1:{greeting}"}), stream)
    assert classify(fault).code == "protocol-error"


@pytest.fixture
def greeting() -> Iterator[int]:
    """A port that greets as a file server does, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            while True:
                try:
                    talk, _ = listener.accept()
                except OSError:
                    return
                with suppress(OSError):
                    talk.sendall(b"220 ftp.example.com ready\r\n")
                talk.close()

        thread = threading.Thread(target=greet)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


DEEP = b"[" * 100_000
UNUSABLE: list[tuple[str, bytes, dict[str, str], str]] = [
    ("a web page", b"<html>login</html>", {"Content-Type": "text/html; charset=utf-8"}, "content-type-unexpected"),
    ("no JSON", b"hello", {}, "protocol-error"),
    ("nothing", b"", {}, "protocol-error"),
    ("blanks", b" \n", {}, "protocol-error"),
    ("cut JSON", b'[{"id": 1}', {}, "protocol-error"),
    ("two documents", b"[] []", {}, "protocol-error"),
    ("a key twice", b'[{"id": 1, "id": 2}]', {}, "protocol-error"),
    ("NaN", b'[{"id": NaN}]', {}, "protocol-error"),
    ("Infinity", b'[{"id": -Infinity}]', {}, "protocol-error"),
    ("too deep", DEEP, {}, "protocol-error"),
    ("deep objects", b'{"a":' * 100_000, {}, "protocol-error"),
    ("a number for ever", b'[{"id": ' + b"9" * 10_000 + b"}]", {}, "protocol-error"),
    ("a number beyond", b'[{"id": 1e999999999}]', {}, "protocol-error"),
    ("not UTF-8", b'[{"id": "\xff"}]', {}, "encoding-error"),
    ("unknown characters", b"[]", {"Content-Type": "application/json; charset=none"}, "protocol-error"),
    ("bad gzip", b"\x1f\x8bnot gzip at all", {"Content-Encoding": "gzip"}, "protocol-error"),
    ("cut gzip", gzip.compress(TEXT)[:-9], {"Content-Encoding": "gzip"}, "protocol-error"),
    ("gzip and more", gzip.compress(TEXT) + b"x", {"Content-Encoding": "gzip"}, "protocol-error"),
    ("brotli", b"\x0b", {"Content-Encoding": "br"}, "protocol-error"),
]  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE, ids=lambda case: case[0])
def test_an_answer_that_is_no_json_says_what_came(
    open_rest: Any, web: Any, stream: Any, case: Any
) -> None:
    _, body, headers, code = case
    web.answers["/rows"] = [web.reply(body=body, headers=headers)]
    fault = refused(open_rest(), stream)
    assert classify(fault).code == code, str(fault)
    assert len(web.asked) == 1


USABLE: list[tuple[str, bytes, dict[str, str]]] = [
    ("a byte order mark", b"\xef\xbb\xbf" + TEXT, {}),
    ("gzip", gzip.compress(TEXT), {"Content-Encoding": "gzip"}),
    ("deflate", zlib.compress(TEXT), {"Content-Encoding": "deflate"}),
    ("a kind of JSON", TEXT, {"Content-Type": "application/vnd.api+json"}),
    ("plain text", TEXT, {"Content-Type": "text/plain"}),
    ("latin-1", TEXT, {"Content-Type": 'application/json; charset="iso-8859-1"'}),
    (
        "utf-16",
        TEXT.decode().encode("utf-16"),
        {"Content-Type": "application/json; charset=utf-16"},
    ),
]


@pytest.mark.parametrize("case", USABLE, ids=lambda case: case[0])
def test_what_is_json_after_all_is_read(open_rest: Any, web: Any, stream: Any, case: Any) -> None:
    why, body, headers = case
    web.answers["/rows"] = [web.reply(body=body, headers=headers)]
    assert read(open_rest(), stream(endpoint="/rows")) == [1, 2], why


@pytest.mark.parametrize("packed", [True, False])
def test_a_huge_answer_is_stopped_at_its_limit(
    open_rest: Any, web: Any, stream: Any, packed: bool
) -> None:
    body = b"[" + b" " * 30_000_000 + b"]"
    headers = {"Content-Encoding": "gzip"} if packed else {}
    web.answers["/rows"] = [
        web.reply(body=gzip.compress(body) if packed else body, headers=headers)
    ]
    fault = refused(open_rest({"max_response_bytes": 100_000}), stream)
    assert classify(fault).code == "resource-limit"
    assert "max_response_bytes (100,000)" in str(fault)
    assert len(web.asked) == 1


def test_a_large_packed_answer_within_the_limit_is_whole(
    open_rest: Any, web: Any, stream: Any
) -> None:
    body = json.dumps([{"id": n} for n in range(200_000)]).encode()
    web.answers["/rows"] = [
        web.reply(body=gzip.compress(body), headers={"Content-Encoding": "gzip"})
    ]
    rows = stream(endpoint="/rows", batch_rows=50_000)
    source = open_rest()
    source.columns(rows)
    batches = list(source.batches(rows, Reading(names=["id"])))
    assert [len(batch) for batch in batches] == [50_000] * 4
    assert [batch.checkpoint is None for batch in batches] == [True, True, True, False]
    assert batches[1].where(9) == "page 1, record 50,010"  # type: ignore[misc]


# -- slow and absent servers --------------------------------------------------------------------


def test_a_silent_server_is_a_read_timeout(open_rest: Any, silent: int, stream: Any) -> None:
    options = {"url": f"http://127.0.0.1:{silent}", "read_timeout": 1, "max_wait": 0}
    source = open_rest(options)
    assert classify(refused(source, stream)).code == "read-timeout"


def test_a_server_that_drips_is_given_up_as_a_whole(
    open_rest: Any, stream: Any, dripping: int
) -> None:
    options = {"url": f"http://127.0.0.1:{dripping}", "response_timeout": 1}
    fault = refused(open_rest(options), stream)
    assert classify(fault).code == "read-timeout"
    assert "whole answer after 1 seconds" in str(fault)


def test_a_server_that_does_not_accept_is_a_connection_timeout(open_rest: Any, full: int) -> None:
    source = open_rest({"url": f"http://127.0.0.1:{full}", "connect_timeout": 1}, connect=False)
    with pytest.raises(SourceFault) as caught:
        source.connect()
    assert classify(caught.value).code == "connection-timeout"


def test_a_closed_port_and_an_unknown_host_are_told(open_rest: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    source = open_rest({"url": f"http://127.0.0.1:{port}"}, connect=False)
    with pytest.raises(SourceFault) as caught:
        source.connect()
    assert classify(caught.value).code == "connection-refused"
    source = open_rest({"url": "http://no-such-host.invalid"}, connect=False)
    with pytest.raises(SourceFault) as caught:
        source.connect()
    assert classify(caught.value).code in {"host-not-found", "name-server-unavailable"}


def test_a_server_that_goes_away_between_two_pages_is_refused(
    open_rest: Any, web: Any, stream: Any
) -> None:
    web.answers["/rows"] = [web.reply(ROWS, headers={"Connection": "close"})]
    source, rows = open_rest(), stream(endpoint="/rows", options={"pagination": {"type": "page"}})
    source.columns(rows)
    batches = source.batches(rows, Reading(names=["id"]))
    next(batches)
    web._server.socket.close()
    with pytest.raises(SourceFault) as caught:
        next(batches)
    assert classify(caught.value).code in {"connection-refused", "connection-lost"}


@pytest.fixture
def dripping() -> Iterator[int]:
    """A port that sends one byte of its head every tenth of a second."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def drip() -> None:
            while not over.is_set():
                try:
                    talk, _ = listener.accept()
                except OSError:
                    return
                try:
                    talk.recv(100)
                    talk.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                    while not over.wait(0.1):
                        talk.sendall(b"x")
                except OSError:
                    continue
                finally:
                    talk.close()

        thread = threading.Thread(target=drip)
        thread.start()
        yield listener.getsockname()[1]
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


# -- stopping -----------------------------------------------------------------------------------


def test_cancel_ends_a_request_in_progress(open_rest: Any, web: Any, stream: Any) -> None:
    held = threading.Event()
    web.answers["/rows"] = [web.reply(ROWS, wait=held)]
    source = open_rest({"read_timeout": 60})
    threading.Timer(0.2, source.cancel).start()
    began = time.monotonic()
    fault = refused(source, stream)
    assert time.monotonic() - began < 10
    assert classify(fault).badge == "Cancelled"
    held.set()
    web.answers["/rows"] = [web.reply(ROWS)]
    assert read(source, stream(endpoint="/rows")) == [1, 2], "another read is not cancelled"


def test_cancel_ends_an_answer_in_the_middle(
    open_rest: Any, secure_web: Any, stream: Any, certificate: Any
) -> None:
    over = threading.Event()
    secure_web.answers["/rows"] = [secure_web.reply(ROWS, wait=over)]
    options = {"url": secure_web.url, "ca_file": str(certificate), "read_timeout": 60}
    source = open_rest(options)
    threading.Timer(0.3, source.cancel).start()
    began = time.monotonic()
    assert classify(refused(source, stream)).badge == "Cancelled"
    assert time.monotonic() - began < 10
    over.set()


def test_cancel_ends_a_wait(web: Any, stream: Any, open_rest: Any) -> None:
    from aiia_pipelines.connectors.rest import Options, RestSource

    web.answers["/rows"] = [web.reply(status=429, json={}, headers={"Retry-After": "50"})]
    source = RestSource(Options.model_validate({"kind": "rest", "url": web.url}))
    source.connect()
    threading.Timer(0.3, source.cancel).start()
    began = time.monotonic()
    assert classify(refused(source, stream)).badge == "Cancelled"
    assert time.monotonic() - began < 10
    source.close()


def test_cancel_and_close_do_no_harm_at_any_time(open_rest: Any, web: Any, stream: Any) -> None:
    source = open_rest(connect=False)
    source.cancel()
    source.close()
    source.connect()
    source.cancel()
    web.answers["/rows"] = [web.reply(ROWS)]
    assert read(source, stream(endpoint="/rows")) == [1, 2]
    source.close()
    source.close()
    source.cancel()


def test_a_reading_that_is_given_up_leaves_no_connection(
    open_rest: Any, web: Any, stream: Any
) -> None:
    web.answers["/rows"] = lambda _: web.reply(ROWS)
    source, rows = open_rest(), stream(endpoint="/rows", options={"pagination": {"type": "page"}})
    source.columns(rows)
    batches = source.batches(rows, Reading(names=["id"]))
    next(batches)
    sockets = source._reader._client._sockets._open
    assert [s.fileno() >= 0 for s in sockets] == [True]
    source.close()
    assert [s.fileno() for s in sockets] == [-1]


# -- encryption ---------------------------------------------------------------------------------


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(
    open_rest: Any, secure_web: Any, stream: Any, certificate: Any
) -> None:
    secure_web.answers["/rows"] = [secure_web.reply(ROWS)]
    fault = refused(open_rest({"url": secure_web.url}), stream)
    assert classify(fault).code == "tls-failure"
    assert "self-signed" in str(fault)
    trusted = {"url": secure_web.url, "ca_file": str(certificate)}
    assert read(open_rest(trusted), stream(endpoint="/rows")) == [1, 2]
    named = trusted | {"url": secure_web.url.replace("127.0.0.1", "localhost")}
    assert classify(refused(open_rest(named), stream)).code == "tls-name-mismatch"


def test_a_server_without_encryption_is_no_https_server(
    open_rest: Any, web: Any, stream: Any
) -> None:
    source = open_rest({"url": web.url.replace("http:", "https:")})
    assert classify(refused(source, stream)).code == "tls-protocol"


def test_a_missing_authority_is_a_mistake_of_the_file(
    open_rest: Any, web: Any, tmp_path: Any
) -> None:
    for path in (tmp_path / "none.pem", tmp_path / "empty.pem"):
        if path.name == "empty.pem":
            path.write_text("nothing")
        source = open_rest({"url": "https://127.0.0.1:1", "ca_file": str(path)}, connect=False)
        with pytest.raises(SourceFault) as caught:
            source.connect()
        assert classify(caught.value).code == "config-invalid"


# -- redirects and addresses --------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_only_when_allowed_and_within_the_server(
    open_rest: Any, web: Any, stream: Any, status: int
) -> None:
    web.answers["/rows"] = [web.reply(status=status, json={}, headers={"Location": "/there"})]
    web.answers["/there"] = [web.reply(ROWS)]
    fault = refused(open_rest(), stream)
    assert classify(fault).code == "protocol-error"
    assert "redirects" in str(fault)
    assert read(open_rest({"max_redirects": 1}), stream(endpoint="/rows")) == [1, 2]


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest", "http://example.com/", "https://127.0.0.1/rows",
        "http://127.0.0.1:1/", "//localhost/rows", "", "gopher://x",
    ],
)  # fmt: skip
def test_a_redirect_to_elsewhere_is_never_followed(
    open_rest: Any, web: Any, stream: Any, target: str
) -> None:
    web.answers["/rows"] = [web.reply(status=302, json={}, headers={"Location": target})]
    fault = refused(open_rest({"max_redirects": 3}), stream)
    # An empty target is the same address again.
    assert classify(fault).code == ("protocol-error" if target else "redirect-loop")
    assert len(web.asked) <= 4


def test_a_redirect_loop_ends(open_rest: Any, web: Any, stream: Any) -> None:
    web.answers["/rows"] = [web.reply(status=302, json={}, headers={"Location": "/rows"})]
    assert "again and again" in str(refused(open_rest({"max_redirects": 3}), stream))
    assert len(web.asked) == 4


NEVER = [
    "http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "http://2852039166/",
    "http://0xa9fea9fe/", "http://0251.0376.0251.0376/", "http://[::ffff:169.254.169.254]/",
    "http://[64:ff9b::a9fe:a9fe]/", "http://[2002:a9fe:a9fe::1]/", "http://100.100.100.200/",
    "http://168.63.129.16/", "http://[fd00:ec2::254]/", "http://0.0.0.0/", "http://0/", "http://[::]/",
    "http://224.0.0.1/", "http://[ff02::1]/", "http://255.255.255.255/", "http://240.0.0.1/",
    "http://169.254.0.1:8080/", "http://192.0.0.192/",
]  # fmt: skip
PRIVATE = [
    "http://127.0.0.1:1/", "http://localhost:1/", "http://10.1.2.3/", "http://192.168.0.1/",
    "http://172.16.0.1/", "http://[::1]:1/", "http://[fc00::1]/", "http://100.64.0.1/",
    "http://2130706433:1/", "http://127.1:1/", "http://0x7f.1:1/", "http://[::ffff:10.0.0.1]/",
]  # fmt: skip


@pytest.mark.parametrize("url", NEVER)
def test_metadata_and_nobodys_addresses_are_never_asked(open_rest: Any, url: str) -> None:
    _never_asked(open_rest, {"url": url})


@pytest.mark.parametrize("url", [*NEVER, *PRIVATE])
def test_private_addresses_can_be_shut_out(open_rest: Any, url: str) -> None:
    _never_asked(open_rest, {"url": url, "allow_private": False})


def _never_asked(open_rest: Any, options: dict[str, Any]) -> None:
    source = open_rest(options, connect=False)
    with pytest.raises(SourceFault) as caught:
        source.connect()
    assert "address:refused" in caught.value.signals, str(caught.value)
    assert classify(caught.value).code == "config-invalid"


def test_the_address_that_was_checked_is_the_one_that_is_asked(
    open_rest: Any, web: Any, stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.answers["/rows"] = [web.reply(ROWS)]
    source = open_rest({"url": f"http://localhost:{web.port}"})

    def rebound(*_: Any, **__: Any) -> Any:
        raise AssertionError("the name is looked up again")

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    host = web.asked
    # An address needs no name server, and httpcore asks for its own kind of lookup.
    monkeypatch.setattr(socket, "getaddrinfo", _only_addresses(socket.SOCK_STREAM))
    assert read(source, stream(endpoint="/rows")) == [1, 2]
    assert host[-1].headers["Host"] == f"localhost:{web.port}"


def _only_addresses(kind: Any) -> Callable[..., Any]:
    def look_up(host: str, port: int, *_: Any, **__: Any) -> Any:
        assert host in {"127.0.0.1", "::1"}, "the name is looked up again"
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return [(family, kind, 0, "", (host, port))]

    return look_up


# -- what logs see ------------------------------------------------------------------------------


def test_urls_and_headers_are_not_logged(
    open_rest: Any, web: Any, stream: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    web.answers["/rows"] = [web.reply(ROWS)]
    auth = {"type": "api_key", "api_key": "canary-4f2", "in": "query", "name": "key"}
    read(open_rest({"auth": auth, "headers": {"X-Other": "canary-77"}}), stream(endpoint="/rows"))
    assert web.asked[-1].query == {"key": "canary-4f2"}
    assert "canary" not in caplog.text
