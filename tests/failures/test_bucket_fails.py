"""A bucket that fails: what the store says, how an object breaks off, and a real store that refuses."""

import ssl
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from provoked import CANARY, Ended, Provocations, Provoked, Stage, check

from aiia_pipelines.connectors import _s3_client
from aiia_pipelines.local.ports import free_port

pytestmark = pytest.mark.integration
provokes = Provocations()
ROWS = {"name": "rows", "path": "a.csv"}
XML = {"Content-Type": "application/xml"}
BODY = b"id,name\n" + b"".join(b"%d,n%d\n" % (n, n) for n in range(5_000))
ETAG = '"0123456789abcdef0123456789abcdef"'


@pytest.mark.parametrize("case", provokes, ids=str)
def test_a_fault_of_a_bucket_has_its_code_line_and_retries(
    stage: Stage,
    web: Any,
    s3_server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: Provoked,
) -> None:
    # Botocore's own attempts wait for seconds.
    monkeypatch.setattr(_s3_client, "_ATTEMPTS", 1)
    stage.facts["source"] = f"127.0.0.1:{web.port}"
    stage.secrets.add(s3_server.secret_key)
    check(stage, case, Store(web, s3_server, tmp_path))


class Store:
    """A store with one object, until a test makes it misbehave; beside it a real one."""

    def __init__(self, web: Any, real: Any, folder: Path) -> None:
        self.web, self.real, self.folder = web, real, folder
        web.answers["/b"] = [web.reply(body=_listing(), headers=XML)]
        web.answers["/b/a.csv"] = [web.reply(body=BODY, headers={"ETag": ETAG})]

    def refuses(self, stage: Stage, code: str, status: int) -> Ended:
        words = f"<Error><Code>{code}</Code><Message>{CANARY}</Message></Error>".encode()
        self.web.answers["/b"] = [self.web.reply(body=words, status=status, headers=XML)]
        return self.read(stage)

    def read(self, stage: Stage, **more: Any) -> Ended:
        given = {
            "kind": "s3", "bucket": "b", "endpoint_url": self.web.url, "addressing": "path",
            "access_key_id": "reader", "secret_access_key": CANARY, "connect_timeout": 2,
            "read_timeout": 1,
        }  # fmt: skip
        return stage.sync(given | more, ROWS)

    def really(self, stage: Stage, **more: Any) -> Ended:
        stage.facts["source"] = self.real.endpoint.removeprefix("http://")
        keys = {"access_key_id": self.real.access_key, "secret_access_key": self.real.secret_key}
        return self.read(stage, endpoint_url=self.real.endpoint, **keys | more)


def _listing() -> bytes:
    etag = ETAG.replace('"', "&quot;")
    return (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>b</Name><IsTruncated>false</IsTruncated><Contents><Key>a.csv</Key><ETag>{etag}</ETag>"
        f"<Size>{len(BODY)}</Size></Contents></ListBucketResult>"
    ).encode()


# -- a real store -----------------------------------------------------------------------------


@provokes("source-not-found", "Not found. Bucket no-such-bucket: NoSuchBucket. ({source})")
def a_bucket_that_does_not_exist(stage: Stage, store: Store) -> Ended:
    return store.really(stage, bucket="no-such-bucket")


@provokes("source-not-found", "Not found. No object of bucket {bucket} matches a.csv. ({source})")
def an_object_that_does_not_exist(stage: Stage, store: Store) -> Ended:
    stage.facts["bucket"] = bucket = store.real.make_bucket()
    return store.really(stage, bucket=bucket)


@provokes("invalid-credentials", "Invalid credentials. Bucket b: InvalidAccessKeyId. ({source})")
def a_key_that_does_not_exist(stage: Stage, store: Store) -> Ended:
    return store.really(stage, access_key_id="nobody")


@provokes("invalid-credentials", "Invalid credentials. Bucket b: SignatureDoesNotMatch. ({source})")
def a_wrong_secret(stage: Stage, store: Store) -> Ended:
    return store.really(stage, secret_access_key=CANARY)


@provokes(
    "malformed-data",
    "a.csv.gz: the compressed data is damaged or in another format than its name says.",
    badge="Error",
)
def an_object_that_is_no_gzip(stage: Stage, store: Store) -> Ended:
    bucket = store.real.make_bucket()
    store.real.client().put_object(Bucket=bucket, Key="a.csv.gz", Body=b"id\n1\n")
    stage.facts["source"] = store.real.endpoint
    keys = {"access_key_id": store.real.access_key, "secret_access_key": store.real.secret_key}
    given = {"kind": "s3", "bucket": bucket, "endpoint_url": store.real.endpoint} | keys
    return stage.sync(given | {"addressing": "path"}, {"name": "rows", "path": "a.csv.gz"})


# -- what a store says ------------------------------------------------------------------------


@provokes("permission-denied", "Permission denied. Bucket b: AccessDenied. ({source})")
def a_key_that_may_not_list(stage: Stage, store: Store) -> Ended:
    return store.refuses(stage, "AccessDenied", 403)


@provokes("credentials-expired", "Credentials expired. Bucket b: ExpiredToken. ({source})")
def a_session_that_is_over(stage: Stage, store: Store) -> Ended:
    return store.refuses(stage, "ExpiredToken", 400)


@provokes(
    "rate-limited",
    "Rate limited: the store wants fewer requests. Bucket b: SlowDown. ({source})",
    retries=5,
)
def a_store_that_wants_fewer_requests(stage: Stage, store: Store) -> Ended:
    return store.refuses(stage, "SlowDown", 503)


@provokes("quota-exceeded", "Quota exceeded. Bucket b: QuotaExceeded. ({source})")
def a_store_whose_quota_is_used_up(stage: Stage, store: Store) -> Ended:
    return store.refuses(stage, "QuotaExceeded", 403)


@provokes(
    "clock-skew",
    "The clock of this worker is wrong: the store refuses requests of another time. Bucket b: RequestTimeTooSkewed. ({source})",
)
def a_clock_that_is_wrong(stage: Stage, store: Store) -> Ended:
    return store.refuses(stage, "RequestTimeTooSkewed", 403)


@provokes(
    "source-unavailable", "The store is unavailable. Bucket b: InternalError. ({source})", retries=5
)
def a_store_that_fails(stage: Stage, store: Store) -> Ended:
    return store.refuses(stage, "InternalError", 500)


@provokes(
    "read-timeout",
    "Read timeout: the store gave up waiting. Bucket b: RequestTimeout. ({source})",
    retries=5,
)
def a_store_that_gives_up_waiting(stage: Stage, store: Store) -> Ended:
    return store.refuses(stage, "RequestTimeout", 400)


@provokes(
    "config-invalid",
    "The store does not accept the request; check bucket, prefix and region. Bucket b: InvalidBucketName. ({source})",
)
def a_bucket_of_an_impossible_name(stage: Stage, store: Store) -> Ended:
    return store.refuses(stage, "InvalidBucketName", 400)


@provokes(
    "content-type-unexpected",
    "Unexpected content type. {source} answered with a web page; it is no S3 store.",
)
def a_web_page(stage: Stage, store: Store) -> Ended:
    html = {"Content-Type": "text/html"}
    store.web.answers["/b"] = [store.web.reply(body=b"<html></html>", headers=html)]
    return store.read(stage)


@provokes(
    "protocol-error",
    "Protocol error: the store refers to another place; check endpoint_url and region. Bucket b: *. ({source})",
)
def a_bucket_that_has_moved(stage: Stage, store: Store) -> Ended:
    return store.refuses(stage, "TemporaryRedirect", 307)


# -- how it breaks off ------------------------------------------------------------------------


@provokes(
    "source-changed",
    "a.csv was overwritten or removed while it was read; sync again. ({source})",
    retries=5,
)
def an_object_that_is_overwritten(stage: Stage, store: Store) -> Ended:
    words = b"<Error><Code>PreconditionFailed</Code></Error>"
    store.web.answers["/b/a.csv"] = [store.web.reply(body=words, status=412, headers=XML)]
    return store.read(stage)


@provokes(
    "connection-lost",
    "Connection lost. {source} ended it before the answer was complete. *.",
    retries=5,
)
def an_object_that_breaks_off(stage: Stage, store: Store) -> Ended:
    head = f"HTTP/1.1 200 OK\r\nETag: {ETAG}\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    store.web.answers["/b/a.csv"] = [store.web.reply(raw=head)]
    return store.read(stage)


@provokes(
    "connection-refused",
    "Connection refused. Nothing listens on {source}, or a firewall rejects it.",
    retries=5,
)
def a_store_that_is_down(stage: Stage, store: Store) -> Ended:
    port = free_port()
    stage.facts["source"] = f"127.0.0.1:{port}"
    return store.read(stage, endpoint_url=f"http://127.0.0.1:{port}")


def _secure(stage: Stage, store: Store, host: str, days: int) -> Ended:
    authority = Authority(store.folder).found()
    certificate = authority.sign("store", host, days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    server = type(store.web)(context)
    stage.facts["source"] = f"127.0.0.1:{server.port}"
    try:
        return store.read(stage, endpoint_url=server.url, ca_file=str(authority.path))
    finally:
        server.close()


@provokes(
    "tls-certificate-expired", "TLS failure. {source} cannot be trusted: certificate has expired."
)
def a_store_whose_certificate_has_expired(stage: Stage, store: Store) -> Ended:
    return _secure(stage, store, "IP:127.0.0.1", -1)


@provokes("tls-name-mismatch", "TLS failure. {source} cannot be trusted: *127.0.0.1*.")
def a_store_of_another_name(stage: Stage, store: Store) -> Ended:
    return _secure(stage, store, "DNS:s3.example.com", 2)
