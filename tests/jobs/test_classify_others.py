"""Failures of stores, web servers, files and the system as libraries raise them, each with the verdict it must get.

Everything here is raised, or built, by the library itself; what only a server can raise is in tests/failures.
"""

import bz2
import csv
import errno
import gzip
import importlib
import io
import json
import lzma
import socket
import ssl
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from botocore import exceptions as boto
from verdicts import check, raised

from aiia_pipelines.connectors._s3_faults import refused
from aiia_pipelines.connectors.base import SourceFault
from aiia_pipelines.jobs.badge import Badge
from aiia_pipelines.jobs.failures import classify

PLACE = "10.1.2.3:5432"


# -- S3 -----------------------------------------------------------------------------------------

S3 = {
    "NoSuchBucket": "source-not-found", "NoSuchKey": "source-not-found", "404": "source-not-found",
    "InvalidAccessKeyId": "invalid-credentials", "SignatureDoesNotMatch": "invalid-credentials",
    "AccessDenied": "permission-denied", "403": "permission-denied",
    "ExpiredToken": "credentials-expired", "SlowDown": "rate-limited",
    "RequestTimeTooSkewed": "clock-skew", "InternalError": "source-unavailable",
    "InvalidObjectState": "permission-denied", "PreconditionFailed": "source-changed",
    "PermanentRedirect": "protocol-error", "InvalidBucketName": "config-invalid",
}  # fmt: skip


@pytest.mark.parametrize(("answer", "code"), S3.items())
def test_what_an_s3_store_refuses_with(answer: str, code: str) -> None:
    told: Any = {"Error": {"Code": answer}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    fault = boto.ClientError(told, "GetObject")
    check(classify(fault), code)
    check(classify(refused(fault, "key", "s3:443")), code)


@pytest.mark.parametrize(
    ("status", "code"), [(503, "source-unavailable"), (418, "unclassified"), ("x", "unclassified")]
)
def test_a_code_that_no_store_has_sent_before(status: object, code: str) -> None:
    told: Any = {"Error": {"Code": "Invented"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    check(classify(boto.ClientError(told, "GetObject")), code)


BOTO = [
    (boto.ConnectTimeoutError(endpoint_url="https://s3"), "connection-timeout"),
    (boto.ReadTimeoutError(endpoint_url="https://s3"), "read-timeout"),
    (boto.EndpointConnectionError(endpoint_url="https://s3"), "connection-refused"),
    (boto.SSLError(endpoint_url="https://s3", error="certificate verify failed"), "tls-failure"),
    (boto.SSLError(endpoint_url="https://s3", error="certificate has expired"), "tls-certificate-expired"),
    (boto.ResponseStreamingError(error="Connection broken: IncompleteRead"), "connection-lost"),
    (boto.FlexibleChecksumError(error_msg="Expected checksum x did not match"), "connection-lost"),
    (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), "connection-lost"),
    (boto.ProxyConnectionError(proxy_url="http://proxy"), "proxy-failure"),
    (boto.NoCredentialsError(), "invalid-credentials"),
    (boto.PartialCredentialsError(provider="env", cred_var="x"), "invalid-credentials"),
    (boto.UnauthorizedSSOTokenError(), "credentials-expired"),
    (boto.RefreshWithMFAUnsupportedError(), "second-factor-required"),
    (boto.ProfileNotFound(profile="x"), "config-invalid"),
    (boto.InvalidRegionError(region_name="x y"), "config-invalid"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "code"), BOTO, ids=lambda one: type(one).__name__)
def test_what_botocore_raises_by_itself(fault: Exception, code: str) -> None:
    check(classify(fault), code)


# -- HTTP ---------------------------------------------------------------------------------------

STATUSES = {
    400: "query-invalid", 401: "invalid-credentials", 403: "permission-denied",
    404: "source-not-found", 407: "proxy-failure", 408: "read-timeout", 410: "source-not-found",
    418: "query-invalid", 422: "query-invalid", 429: "rate-limited", 426: "protocol-error",
    500: "source-unavailable", 502: "source-unavailable", 503: "source-unavailable",
    504: "source-unavailable", 507: "source-disk-full", 599: "source-unavailable",
}  # fmt: skip


@pytest.mark.parametrize(("status", "code"), STATUSES.items())
def test_a_status_of_a_web_server(status: int, code: str) -> None:
    asked = httpx.Request("GET", "https://erp.example/v1")
    answer = httpx.Response(status, request=asked)
    check(classify(raised(answer.raise_for_status)), code)
    other = requests.Response()
    other.status_code = status
    check(classify(raised(other.raise_for_status)), code)


HTTP = [
    (httpx.ConnectTimeout("timed out"), "connection-timeout"),
    (httpx.ReadTimeout("timed out"), "read-timeout"),
    (httpx.WriteTimeout("timed out"), "read-timeout"),
    (httpx.PoolTimeout(""), "too-many-connections"),
    (httpx.ReadError(""), "connection-lost"),
    (httpx.RemoteProtocolError("Server disconnected without sending a response."), "connection-lost"),
    (httpx.RemoteProtocolError("peer closed connection without sending complete message body"), "connection-lost"),
    (httpx.RemoteProtocolError("illegal status line: bytearray(b'220 ftp ready')"), "protocol-error"),
    (httpx.ProxyError("403 Forbidden"), "proxy-failure"),
    (httpx.TooManyRedirects("Exceeded maximum allowed redirects."), "redirect-loop"),
    (httpx.DecodingError("Error -3 while decompressing data: incorrect header check"), "malformed-data"),
    (httpx.UnsupportedProtocol("Request URL is missing an 'http://' protocol."), "config-invalid"),
    (httpx.InvalidURL("Invalid port: 'x'"), "config-invalid"),
    (requests.exceptions.TooManyRedirects("Exceeded 30 redirects."), "redirect-loop"),
    (requests.exceptions.ChunkedEncodingError("Connection broken"), "connection-lost"),
    (requests.exceptions.ContentDecodingError("failed to decode it"), "malformed-data"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "code"), HTTP, ids=lambda one: str(one)[:40])
def test_what_a_web_client_raises_by_itself(fault: Exception, code: str) -> None:
    check(classify(fault), code)


@pytest.mark.parametrize("get", [httpx.get, requests.get])
def test_a_web_client_at_a_port_where_nobody_listens(
    closed: int, get: Callable[[str], object]
) -> None:
    check(classify(raised(lambda: get(f"http://127.0.0.1:{closed}/"))), "connection-refused")


def _unverified(number: int, words: str) -> ssl.SSLError:
    error = ssl.SSLCertVerificationError(1, f"certificate verify failed: {words} (_ssl.c:1000)")
    error.verify_code, error.verify_message = number, words
    return error


TLS = [
    (_unverified(10, "certificate has expired"), "tls-certificate-expired"),
    (_unverified(9, "certificate is not yet valid"), "tls-certificate-expired"),
    (_unverified(62, "Hostname mismatch, certificate is not valid for 'x'."), "tls-name-mismatch"),
    (_unverified(64, "IP address mismatch, certificate is not valid for '::1'."), "tls-name-mismatch"),
    (_unverified(18, "self-signed certificate"), "tls-failure"),
    (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "tls-protocol"),
    (ssl.SSLError(1, "[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version"), "tls-protocol"),
    (ssl.SSLError(1, "[SSL: NO_SHARED_CIPHER] no shared cipher"), "tls-protocol"),
    (ssl.SSLError(errno.EPERM, "handshake"), "tls-failure"),
    (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "connection-lost"),
    (ssl.SSLZeroReturnError(6, "TLS/SSL connection has been closed"), "connection-lost"),
    (ssl.SSLSyscallError(5, "system error"), "connection-lost"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "code"), TLS, ids=lambda one: str(one)[:50])
@pytest.mark.parametrize("outer", [httpx.ConnectError, requests.exceptions.SSLError])
def test_tls_is_told_by_the_error_of_openssl_whatever_wraps_it(
    outer: type[Exception], error: ssl.SSLError, code: str
) -> None:
    fault = outer("wrapped")
    fault.__cause__ = error
    check(classify(fault), code)
    check(classify(error), code)


def test_a_translated_tls_failure_is_told_more_exactly_by_what_it_came_from() -> None:
    fault = SourceFault("TLS failed.", "tls:failure", place=PLACE)
    assert classify(fault).code == "tls-failure"
    fault.__cause__ = _unverified(10, "certificate has expired")
    failure = classify(fault)
    assert (failure.code, failure.headline) == ("tls-certificate-expired", f"TLS failed. ({PLACE})")
    assert classify(fault, side="destination").code == "destination-tls"


# -- files and data -----------------------------------------------------------------------------


def _parquet(cut: slice, *, junk: bytes = b"") -> Callable[[], object]:
    def read() -> object:
        sink = io.BytesIO()
        table = pa.table({"a": pa.array(["some text " * 9] * 5000)})
        pq.write_table(table, sink, compression="snappy", use_dictionary=False)
        whole = sink.getvalue()
        return pq.read_table(io.BytesIO(whole[:50] + junk + whole[50 + len(junk) :][cut]))

    return read


def _too_long() -> list[list[str]]:
    return list(csv.reader(["x" * 200_000]))


FILES: list[tuple[Callable[[], object], str]] = [
    (b"\xff".decode, "encoding-error"),
    (lambda: "é".encode("ascii"), "encoding-error"),
    (lambda: json.loads("{"), "malformed-data"),
    (lambda: gzip.decompress(b"no gzip at all"), "malformed-data"),
    (lambda: gzip.decompress(gzip.compress(b"x" * 99)[:-9]), "malformed-data"),
    (lambda: zlib.decompress(b"no"), "malformed-data"),
    (lambda: bz2.decompress(b"no bzip2 at all"), "malformed-data"),
    (lambda: lzma.decompress(b"no xz"), "malformed-data"),
    (lambda: zipfile.ZipFile(io.BytesIO(b"no zip")), "malformed-data"),
    (_too_long, "malformed-data"),
    (lambda: pq.read_table(io.BytesIO(b"no parquet")), "malformed-data"),
    (_parquet(slice(0, -20)), "malformed-data"),
    (_parquet(slice(0, None), junk=b"\xff" * 200), "malformed-data"),
    (lambda: pd.read_csv(io.StringIO("")), "malformed-data"),
    (lambda: pd.read_csv(io.StringIO("a\n1,2\n1,2,3\n1,2,3,4\n"), engine="c"), "malformed-data"),
    (lambda: pd.to_datetime("99999-01-01", format="ISO8601"), "unclassified"),
    (Path("/no/such/file").read_bytes, "source-not-found"),
    (Path("/").read_bytes, "source-not-found"),
]  # fmt: skip


@pytest.mark.parametrize(("reading", "code"), FILES)
def test_a_file_that_cannot_be_read(reading: Callable[[], object], code: str) -> None:
    check(classify(raised(reading)), code)


def test_a_workbook_that_is_none(tmp_path: Path) -> None:
    calamine: Any = importlib.import_module("python_calamine")
    book = tmp_path / "book.xlsx"
    book.write_bytes(b"PK\x03\x04 no workbook")
    check(classify(raised(lambda: calamine.load_workbook(book))), "malformed-data")


DUCKDB = {
    "select 'x'::int": "value-invalid",
    "select 300::tinyint": "value-invalid",
    "create table t (i int primary key); insert into t values (1), (1)": "constraint-violation",
    "set memory_limit = '2MB'; select * from range(9000000) a order by hash(a.range)": "out-of-memory",
    "selekt 1": "unclassified",
}


@pytest.mark.parametrize(("statements", "code"), DUCKDB.items())
def test_what_duckdb_raises(tmp_path: Path, statements: str, code: str) -> None:
    with closing(duckdb.connect()) as db:
        db.execute("set temp_directory = ''")
        check(classify(raised(lambda: db.execute(statements).fetchall())), code)


DUCKDB_WORDS = {
    "IO Error: Could not set lock on file '/x.duckdb': Conflicting lock is held": "file-locked",
    "IO Error: Could not write file '/x.duckdb': No space left on device": "worker-disk-full",
}


@pytest.mark.parametrize(("words", "code"), DUCKDB_WORDS.items())
@pytest.mark.parametrize("kind", [duckdb.IOException, duckdb.TransactionException])
def test_what_duckdb_says_of_the_system(kind: type[Exception], words: str, code: str) -> None:
    check(classify(kind(words)), code)


def _broken_rules() -> Iterator[tuple[pandera.DataFrameSchema, pd.DataFrame, str]]:
    frame = pd.DataFrame({"a": [1, 1]})
    yield pandera.DataFrameSchema({"b": pandera.Column(int)}), frame, "column-mismatch"
    yield pandera.DataFrameSchema({}, strict=True), frame, "column-mismatch"
    yield pandera.DataFrameSchema({"a": pandera.Column(str)}), frame, "column-mismatch"
    yield (
        pandera.DataFrameSchema({"a": pandera.Column(int, pandera.Check.gt(5))}),
        frame,
        "value-invalid",
    )
    yield pandera.DataFrameSchema({"a": pandera.Column(int, unique=True)}), frame, "duplicate-key"
    nulls = pd.DataFrame({"a": [1.0, None]})
    yield pandera.DataFrameSchema({"a": pandera.Column(float)}), nulls, "value-invalid"


@pytest.mark.parametrize(("schema", "frame", "code"), list(_broken_rules()))
@pytest.mark.parametrize("lazy", [False, True])
def test_a_contract_of_pandera_that_is_broken(
    lazy: bool, schema: pandera.DataFrameSchema, frame: pd.DataFrame, code: str
) -> None:
    failure = classify(raised(lambda: schema.validate(frame, lazy=lazy)))
    check(failure, code)
    assert failure.badge is Badge.ERROR


# -- the system ---------------------------------------------------------------------------------

SYSTEM = {
    "ENOSPC": "worker-disk-full", "EDQUOT": "worker-disk-full", "EMFILE": "resource-limit",
    "ENFILE": "resource-limit", "EAGAIN": "resource-limit", "ENOMEM": "out-of-memory",
    "EACCES": "permission-denied", "EPERM": "permission-denied", "EROFS": "target-read-only",
    "EIO": "source-disk-full", "ESTALE": "connection-lost", "EISDIR": "source-not-found",
    "ENOENT": "source-not-found", "EBUSY": "file-locked", "ECONNRESET": "connection-lost",
    "EPIPE": "connection-lost", "ETIMEDOUT": "connection-timeout",
    "ECONNREFUSED": "connection-refused", "EHOSTUNREACH": "network-unreachable",
    "ENETUNREACH": "network-unreachable", "EDEADLK": "lock-conflict",
    "ENAMETOOLONG": "config-invalid",
}  # fmt: skip


@pytest.mark.parametrize(("name", "code"), SYSTEM.items())
def test_an_error_of_the_system(name: str, code: str) -> None:
    check(classify(OSError(getattr(errno, name), "odd")), code)


def test_memory_and_names() -> None:
    check(classify(raised(lambda: bytes(1 << 62))), "out-of-memory")
    check(classify(pa.ArrowMemoryError("malloc failed")), "out-of-memory")
    check(classify(socket.gaierror(socket.EAI_NONAME, "x")), "host-not-found")
    check(classify(socket.gaierror(socket.EAI_AGAIN, "x")), "name-server-unavailable")
    check(classify(socket.herror(1, "Unknown host")), "host-not-found")
