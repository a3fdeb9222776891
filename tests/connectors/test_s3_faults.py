import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from aiia_pipelines.connectors import _s3_client
from aiia_pipelines.connectors._s3_objects import ObjectStream, objects
from aiia_pipelines.connectors.base import Reading, Source, SourceFault, open_source
from aiia_pipelines.jobs.failures import classify

pytestmark = pytest.mark.integration
BODY = b"id,name\n" + b"".join(b"%d,n%d\n" % (n, n) for n in range(20_000))
ETAG = '"0123456789abcdef0123456789abcdef"'
CANARY = "canary-S3cret/7f3a"
HEAD = b"HTTP/1.1 %d X\r\nConnection: close\r\n"


def listing(size: int = len(BODY), more: str = "") -> bytes:
    return (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>b</Name><IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}<Contents>"
        f"<Key>a.csv</Key><ETag>{ETAG.replace(chr(34), '&quot;')}</ETag><Size>{size}</Size></Contents>"
        "</ListBucketResult>"
    ).encode()


def refusal(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>canary {CANARY}</Message></Error>".encode()


class Store:
    """What looks like an S3 store with one object, until a test makes it misbehave."""

    def __init__(self, web: Any) -> None:
        self.web = web
        self.xml = {"Content-Type": "application/xml"}
        web.answers["/b"] = [web.reply(body=listing(), headers=self.xml)]
        web.answers["/b/a.csv"] = self.whole
        self.sources: list[Source] = []

    def whole(self, asked: Any) -> Any:
        begin, end = 0, len(BODY)
        span = asked.headers.get("Range", "")
        if span:
            first, _, last = span.removeprefix("bytes=").partition("-")
            begin, end = int(first), int(last) + 1 if last else len(BODY)
        headers = {"ETag": ETAG, "Content-Type": "text/csv"}
        if span:
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(BODY)}"
        status = 206 if span else 200
        return self.web.reply(body=BODY[begin:end], status=status, headers=headers)

    def cut(self, asked: Any, sent: int) -> Any:
        """Promise everything that is asked for, and send a part."""
        whole = self.whole(asked)
        head = HEAD % whole.status
        for name, value in (whole.headers | {"Content-Length": str(len(whole.body))}).items():
            head += f"{name}: {value}\r\n".encode()
        return self.web.reply(raw=head + b"\r\n" + whole.body[:sent])

    def source(self, *, connect: bool = True, **more: Any) -> Source:
        given = {
            "kind": "s3",
            "bucket": "b",
            "endpoint_url": self.web.url,
            "addressing": "path",
            "access_key_id": "reader",
            "secret_access_key": CANARY,
            "session_token": f"token-{CANARY}",
            "connect_timeout": 2,
            "read_timeout": 2,
        }
        source = open_source(given | more)
        self.sources.append(source)
        if connect:
            source.connect()
        return source


@pytest.fixture
def store(web: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    # Botocore's own attempts wait for seconds; those of this kind are what is looked at.
    monkeypatch.setattr(_s3_client, "_ATTEMPTS", 1)
    found = Store(web)
    yield found
    for source in found.sources:
        source.close()


def read(source: Source, rows: Any) -> int:
    names = [column.name for column in source.columns(rows)]
    return sum(len(batch) for batch in source.batches(rows, Reading(names=names)))


def refused(source: Source, rows: Any) -> SourceFault:
    with pytest.raises(SourceFault) as caught:
        read(source, rows)
    assert caught.value.place == source.place()
    assert "canary" not in str(caught.value)
    return caught.value


CODES: list[tuple[str, int, str]] = [
    ("InvalidAccessKeyId", 403, "invalid-credentials"),
    ("SignatureDoesNotMatch", 403, "invalid-credentials"),
    ("ExpiredToken", 400, "credentials-expired"),
    ("InvalidToken", 400, "invalid-credentials"),
    ("TokenRefreshRequired", 400, "credentials-expired"),
    ("InvalidSecurity", 403, "invalid-credentials"),
    ("NotSignedUp", 403, "invalid-credentials"),
    ("UnrecognizedClientException", 400, "invalid-credentials"),
    ("AccessDenied", 403, "permission-denied"),
    ("AllAccessDisabled", 403, "permission-denied"),
    ("AccountProblem", 403, "permission-denied"),
    ("InvalidObjectState", 403, "permission-denied"),
    ("NoSuchBucket", 404, "source-not-found"),
    ("SlowDown", 503, "rate-limited"),
    ("Throttling", 400, "rate-limited"),
    ("RequestLimitExceeded", 503, "rate-limited"),
    ("BandwidthLimitExceeded", 509, "rate-limited"),
    ("TooManyRequests", 429, "rate-limited"),
    ("InternalError", 500, "source-unavailable"),
    ("ServiceUnavailable", 503, "source-unavailable"),
    ("OperationAborted", 409, "source-unavailable"),
    ("NewlyInvented", 500, "source-unavailable"),
    ("NewlyInvented", 418, "unclassified"),
    ("RequestTimeTooSkewed", 403, "clock-skew"),
    ("RequestTimeout", 400, "read-timeout"),
    ("TemporaryRedirect", 307, "protocol-error"),
    ("MethodNotAllowed", 405, "protocol-error"),
    ("NotImplemented", 501, "protocol-error"),
    ("IllegalLocationConstraintException", 400, "protocol-error"),
    ("InvalidBucketName", 400, "config-invalid"),
    ("InvalidArgument", 400, "config-invalid"),
    ("InvalidRequest", 400, "config-invalid"),
]


@pytest.mark.parametrize("case", CODES, ids=lambda case: f"{case[0]} {case[1]}")
def test_each_code_of_a_store_has_its_signals(
    store: Store, web: Any, stream: Any, case: Any
) -> None:
    word, status, code = case
    source = store.source()
    web.answers["/b"] = [web.reply(body=refusal(word), status=status, headers=store.xml)]
    fault = refused(source, stream(path="*.csv"))
    assert fault.signals[0] == f"aws:{word}"
    assert classify(fault).code == code
    assert fault.__cause__ is not None


@pytest.mark.parametrize(("code", "status"), [("PreconditionFailed", 412), ("NoSuchKey", 404)])
def test_an_object_that_is_another_one_now_is_not_read(
    store: Store, web: Any, stream: Any, code: str, status: int
) -> None:
    web.answers["/b/a.csv"] = [web.reply(body=refusal(code), status=status, headers=store.xml)]
    assert refused(store.source(), stream(path="a.csv")).signals[0] == "source:changed"
    assert web.asked[-1].headers["If-Match"] == ETAG


def test_a_store_that_ignores_the_condition_is_noticed(store: Store, web: Any, stream: Any) -> None:
    web.answers["/b/a.csv"] = [web.reply(body=BODY, headers={"ETag": '"other"'})]
    assert refused(store.source(), stream(path="a.csv")).signals[0] == "source:changed"


def test_a_store_that_ignores_the_range_is_noticed(store: Store, web: Any, stream: Any) -> None:
    replies = [0]

    def answer(asked: Any) -> Any:
        replies[0] += 1
        return (
            store.cut(asked, 50_000)
            if replies[0] == 1
            else web.reply(body=BODY, headers={"ETag": ETAG})
        )

    web.answers["/b/a.csv"] = answer
    assert classify(refused(store.source(), stream(path="a.csv"))).code == "protocol-error"


@pytest.mark.parametrize("sent", [0, 50_000])
def test_an_object_that_breaks_off_is_read_on_from_there(
    store: Store, web: Any, stream: Any, sent: int
) -> None:
    source, rows = store.source(), stream(path="a.csv")
    source.columns(rows)
    broken = [0]

    def answer(asked: Any) -> Any:
        broken[0] += 1
        return store.cut(asked, sent) if broken[0] in {2, 3} else store.whole(asked)

    web.answers["/b/a.csv"] = answer
    batches = source.batches(rows, Reading(names=["id", "name"]))
    assert sum(len(batch) for batch in batches) == 20_000
    spans = [asked.headers.get("Range") for asked in web.asked if asked.path == "/b/a.csv"]
    assert (f"bytes={sent}-" in spans) == bool(sent)


def test_a_part_that_breaks_off_is_asked_for_again(store: Store, web: Any) -> None:
    client: Any = store.source()._open._client  # type: ignore[attr-defined]
    [found] = objects(client, "a.csv")
    broken = [0]

    def answer(asked: Any) -> Any:
        broken[0] += 1
        return store.cut(asked, 100) if broken[0] < 3 else store.whole(asked)

    web.answers["/b/a.csv"] = answer
    with ObjectStream(client, found) as opened:
        opened.seek(1000)
        assert opened.read(5000) == BODY[1000:6000]
        assert opened.seek(2000, 1) == 8000
        assert opened.read(10) == BODY[8000:8010]
    assert broken == [3], "the second place was in the part that was there"


def test_an_object_that_always_breaks_off_is_a_lost_connection(
    store: Store, web: Any, stream: Any
) -> None:
    web.answers["/b/a.csv"] = lambda asked: store.cut(asked, 0)
    assert classify(refused(store.source(), stream(path="a.csv"))).code == "connection-lost"


def test_a_wrong_checksum_is_a_lost_connection(store: Store, web: Any, stream: Any) -> None:
    headers = {"ETag": ETAG, "x-amz-checksum-crc32": "AAAAAA=="}
    web.answers["/b/a.csv"] = [web.reply(body=BODY, headers=headers)]
    assert classify(refused(store.source(), stream(path="a.csv"))).code == "connection-lost"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "connection-lost"),
        (b"220 ftp.example.com ready\r\n\r\n", "connection-lost"),
        (HEAD % 200 + b"Content-Length: 900\r\n\r\n<a>", "source-unavailable"),
        (HEAD % 200 + b"Content-Length: 5\r\n\r\nhello", "source-unavailable"),
        (
            HEAD % 200 + b"Content-Length: 6\r\nContent-Type: text/html\r\n\r\n<html>",
            "content-type-unexpected",
        ),
    ],
)
def test_what_is_no_store_is_told(
    store: Store, web: Any, stream: Any, raw: bytes, code: str
) -> None:
    source = store.source()
    web.answers["/b"] = [web.reply(raw=raw)]
    assert classify(refused(source, stream(path="*.csv"))).code == code


def test_a_store_that_redirects_for_ever_is_a_protocol_error(
    store: Store, web: Any, stream: Any
) -> None:
    source = store.source()
    headers = store.xml | {"x-amz-bucket-region": "eu-west-1", "Location": "/b"}
    web.answers["/b"] = [web.reply(body=refusal("PermanentRedirect"), status=301, headers=headers)]
    assert classify(refused(source, stream(path="*.csv"))).code == "protocol-error"


def test_a_listing_that_turns_in_circles_ends(store: Store, web: Any, stream: Any) -> None:
    source = store.source()
    more = "<NextContinuationToken>x</NextContinuationToken>"
    web.answers["/b"] = [web.reply(body=listing(more=more), headers=store.xml)]
    assert classify(refused(source, stream(path="*.csv"))).code == "protocol-error"


def test_absent_and_silent_stores_are_told_apart(
    store: Store, stream: Any, full: int, silent: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    for port, code in (
        (closed, "connection-refused"),
        (full, "connection-timeout"),
        (silent, "read-timeout"),
    ):
        url = f"http://127.0.0.1:{port}"
        source = store.source(connect=False, endpoint_url=url, connect_timeout=1, read_timeout=1)
        with pytest.raises(SourceFault) as caught:
            source.connect()
        assert classify(caught.value).code == code
    for host in ("169.254.169.254", "[fe80::1]", "2852039166"):
        source = store.source(connect=False, endpoint_url=f"http://{host}")
        with pytest.raises(SourceFault) as caught:
            source.connect()
        assert classify(caught.value).code == "config-invalid"
    with pytest.raises(SourceFault, match="allow_private is false"):
        store.source(allow_private=False)


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(
    store: Store, secure_web: Any, certificate: Any, tmp_path: Any
) -> None:
    secure_web.answers["/b"] = [secure_web.reply(body=listing(), headers=store.xml)]
    with pytest.raises(SourceFault) as caught:
        store.source(endpoint_url=secure_web.url)
    assert classify(caught.value).code == "tls-failure"
    store.source(endpoint_url=secure_web.url, ca_file=str(certificate))
    with pytest.raises(SourceFault, match="cannot be read as a certificate"):
        store.source(endpoint_url=secure_web.url, ca_file=str(tmp_path / "none.pem"))


@pytest.mark.parametrize("path", ["/b", "/b/a.csv"])
def test_cancel_ends_a_request_in_progress(store: Store, web: Any, stream: Any, path: str) -> None:
    held = threading.Event()
    source = store.source(read_timeout=60)
    web.answers[path] = [web.reply(body=BODY, wait=held)]
    threading.Timer(0.3, source.cancel).start()
    began = time.monotonic()
    fault = refused(source, stream(path="*.csv"))
    assert time.monotonic() - began < 10
    assert classify(fault).badge == "Cancelled"
    held.set()


def test_signatures_and_tokens_are_not_logged(
    store: Store, stream: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert read(store.source(), stream(path="a.csv")) == 20_000
    assert "canary" not in caplog.text
    assert "Signature" not in caplog.text
