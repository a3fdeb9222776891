"""Failures as drivers and libraries raise them, each with the verdict it must get.

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
import struct
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
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
import sqlalchemy as sa
from botocore import exceptions as boto

from aiia_pipelines.connectors._s3_faults import refused
from aiia_pipelines.connectors._sql_dialects import dialect_of
from aiia_pipelines.connectors._sql_wanted import Limits
from aiia_pipelines.connectors.base import SourceFault
from aiia_pipelines.jobs.badge import Badge
from aiia_pipelines.jobs.failures import Failure, classify

PLACE = "10.1.2.3:5432"
TOLD = 'connection failed: connection to server at "10.1.2.3", port 5432 failed: '


def check(failure: Failure, code: str) -> None:
    assert failure.code == code, failure.headline
    assert 0 < len(failure.headline) <= 200
    assert "(psycopg" not in failure.headline
    assert "sqlalche.me" not in failure.headline


def raised(action: Callable[[], object]) -> BaseException:
    """Have a library raise its exception, with the chain that it gives it."""
    with pytest.raises(Exception) as caught:
        action()
    return caught.value


@pytest.fixture
def closed() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as door:
        return int(door.getsockname()[1])


# -- PostgreSQL: a login without any code, a statement with its SQLSTATE ------------------------

LOGINS = {
    'FATAL:  password authentication failed for user "rd"': "invalid-credentials",
    'FATAL:  role "rd" does not exist': "invalid-credentials",
    "fe_sendauth: no password supplied": "invalid-credentials",
    'FATAL:  role "rd" is not permitted to log in': "login-not-allowed",
    'FATAL:  no pg_hba.conf entry for host "10.9.9.9", user "rd", database "erp", SSL encryption': "login-not-allowed",
    'FATAL:  pg_hba.conf rejects connection for host "10.9.9.9", user "rd", database "erp", SSL on': "login-not-allowed",
    'FATAL:  database "nope" does not exist': "source-not-found",
    'FATAL:  permission denied for database "erp"': "permission-denied",
    'FATAL:  too many connections for role "lim"': "too-many-connections",
    "FATAL:  remaining connection slots are reserved for roles with SUPERUSER": "too-many-connections",
    "FATAL:  the database system is in recovery mode": "source-unavailable",
    "FATAL:  the database system is starting up": "source-unavailable",
    "server does not support SSL, but SSL was required": "tls-protocol",
    "SSL error: certificate verify failed": "tls-failure",
    "SSL error: sslv3 alert certificate expired": "tls-certificate-expired",
    'server certificate for "erp" does not match host name "10.1.2.3"': "tls-name-mismatch",
    "SSL error: tlsv1 alert protocol version": "tls-protocol",
    "SSL error: wrong version number": "tls-protocol",
    "SSL error: unexpected eof while reading\nserver closed the connection unexpectedly": "connection-lost",
    "Connection refused\n\tIs the server running on that host?": "connection-refused",
    "timeout expired": "connection-timeout",
}  # fmt: skip


@pytest.mark.parametrize(("words", "code"), LOGINS.items())
def test_a_login_that_postgresql_refuses(words: str, code: str) -> None:
    driver = psycopg.OperationalError(TOLD + words)
    assert driver.sqlstate is None
    outer = sa.exc.OperationalError(None, None, driver)
    failure = classify(outer)
    check(failure, code)
    assert failure.badge is Badge.FAILED
    assert failure.place == PLACE


IN_USE = [
    (psycopg.errors.ConnectionTimeout("connection timeout expired"), "connection-timeout"),
    (psycopg.OperationalError("consuming input failed: SSL error: unexpected eof"), "connection-lost"),
    (psycopg.OperationalError("lost synchronization with server: got message type"), "connection-lost"),
    (psycopg.OperationalError("the connection is closed"), "connection-lost"),
    (psycopg.OperationalError("failed to resolve host 'x': [Errno -2] Name or service not known"), "host-not-found"),
    (psycopg.OperationalError("failed to resolve host 'x': [Errno -3] Temporary failure in name resolution"), "name-server-unavailable"),
    (psycopg.errors.InsufficientPrivilege("permission denied for table t"), "permission-denied"),
    (psycopg.errors.QueryCanceled("canceling statement due to statement timeout"), "query-timeout"),
    (psycopg.errors.QueryCanceled("canceling statement due to user request"), "query-cancelled"),
    (psycopg.errors.AdminShutdown("terminating connection due to administrator command"), "connection-lost"),
    (psycopg.errors.LockNotAvailable("canceling statement due to lock timeout"), "lock-conflict"),
    (psycopg.errors.SerializationFailure("could not serialize access"), "lock-conflict"),
    (psycopg.errors.DeadlockDetected("deadlock detected"), "lock-conflict"),
    (psycopg.errors.IdleInTransactionSessionTimeout("terminating connection"), "connection-lost"),
    (psycopg.errors.TransactionTimeout("terminating connection"), "query-timeout"),
    (psycopg.errors.UndefinedColumn('column "x" does not exist'), "column-mismatch"),
    (psycopg.errors.UndefinedTable('relation "x" does not exist'), "column-mismatch"),
    (psycopg.errors.DatatypeMismatch("x"), "column-mismatch"),
    (psycopg.errors.SyntaxError("syntax error"), "query-invalid"),
    (psycopg.errors.InvalidTextRepresentation("x"), "value-invalid"),
    (psycopg.errors.NumericValueOutOfRange("x"), "value-invalid"),
    (psycopg.errors.StringDataRightTruncation("x"), "value-invalid"),
    (psycopg.errors.DatetimeFieldOverflow("x"), "value-invalid"),
    (psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"), "value-invalid"),
    (psycopg.errors.UniqueViolation("x"), "constraint-violation"),
    (psycopg.errors.NotNullViolation("x"), "constraint-violation"),
    (psycopg.errors.CheckViolation("x"), "constraint-violation"),
    (psycopg.errors.ForeignKeyViolation("x"), "constraint-violation"),
    (psycopg.errors.DiskFull("could not extend file"), "source-disk-full"),
    (psycopg.errors.IoError("could not read block"), "source-disk-full"),
    (psycopg.errors.OutOfMemory("out of memory"), "out-of-memory"),
    (psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT"), "target-read-only"),
    (psycopg.errors.ProtocolViolation("x"), "protocol-error"),
    (psycopg.errors.InvalidSqlStatementName("prepared statement does not exist"), "protocol-error"),
    (psycopg.errors.CharacterNotInRepertoire("x"), "encoding-error"),
    (psycopg.errors.DataCorrupted("invalid page in block 0"), "malformed-data"),
    (psycopg.errors.RaiseException("not on Sundays"), "query-invalid"),
    (psycopg.errors.FdwUnableToEstablishConnection("could not connect to server"), "source-unavailable"),
]  # fmt: skip


@pytest.mark.parametrize(("driver", "code"), IN_USE, ids=lambda one: str(one)[:40])
@pytest.mark.parametrize("outer", [sa.exc.OperationalError, sa.exc.InternalError])
def test_what_postgresql_ends_a_statement_with_whatever_the_outer_class(
    outer: Callable[..., sa.exc.DBAPIError], driver: Exception, code: str
) -> None:
    check(classify(outer("select 1", None, driver)), code)
    check(classify(driver), code)


def test_a_pool_without_a_free_connection() -> None:
    engine = sa.create_engine(
        "sqlite://", poolclass=sa.QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.01
    )
    with closing(engine.connect()):
        check(classify(raised(engine.connect)), "too-many-connections")
    engine.dispose()


def test_a_read_without_end_that_a_watch_ended() -> None:
    watch = TimeoutError("nothing came")
    watch.__cause__ = psycopg.OperationalError("odd")
    check(classify(watch, stage="read"), "read-timeout")
    check(classify(watch, stage="connect"), "connection-timeout")


# -- MySQL and MariaDB: the number decides, not the SQLSTATE that many share ---------------------

MARIADB = {
    1045: ("28000", "Access denied for user 'rd'@'::1' (using password: YES)", "invalid-credentials"),
    1044: ("42000", "Access denied for user 'rd'@'%' to database 'erp'", "permission-denied"),
    1049: ("42000", "Unknown database 'nope'", "source-not-found"),
    1142: ("42000", "SELECT command denied to user 'rd'@'::1' for table 't'", "permission-denied"),
    1054: ("42S22", "Unknown column 'x' in 'SELECT'", "column-mismatch"),
    1146: ("42S02", "Table 'erp.x' doesn't exist", "column-mismatch"),
    1064: ("42000", "You have an error in your SQL syntax", "query-invalid"),
    1226: ("42000", "User 'rd' has exceeded the 'max_user_connections' resource", "too-many-connections"),
    1040: ("08004", "Too many connections", "too-many-connections"),
    1205: ("HY000", "Lock wait timeout exceeded; try restarting transaction", "lock-conflict"),
    1213: ("40001", "Deadlock found when trying to get lock", "lock-conflict"),
    1406: ("22001", "Data too long for column 'c' at row 1", "value-invalid"),
    1264: ("22003", "Out of range value for column 'c' at row 1", "value-invalid"),
    1062: ("23000", "Duplicate entry '1' for key 'PRIMARY'", "constraint-violation"),
    1969: ("70100", "Query execution was interrupted (max_statement_time exceeded)", "query-timeout"),
    1317: ("70100", "Query execution was interrupted", "query-cancelled"),
    1927: ("70100", "Connection was killed", "connection-lost"),
    1053: ("08S01", "Server shutdown in progress", "connection-lost"),
    1114: ("HY000", "The table 't' is full", "source-disk-full"),
    1130: ("HY000", "Host '10.9.9.9' is not allowed to connect to this MariaDB server", "login-not-allowed"),
}  # fmt: skip


@pytest.mark.parametrize("number", MARIADB)
def test_what_a_mariadb_server_refuses_with(number: int) -> None:
    state, words, code = MARIADB[number]
    packet = b"\xff" + struct.pack("<H", number) + f"#{state}{words}".encode()
    err: Any = importlib.import_module("pymysql.err")
    driver = raised(lambda: err.raise_mysql_exception(packet))
    assert driver.args == (number, words)
    check(_told("mysql://rd@10.1.2.3/erp", driver, login=False), code)


def _told(url: str, driver: BaseException, *, login: bool) -> Failure:
    """Let the kind `sql` translate what a driver raised."""
    found = dialect_of(sa.make_url(url), Limits(20, 3600)).fault(driver, login=login)
    assert found is not None
    return classify(SourceFault(found.sentence or "Odd.", *found.signals, place=PLACE))


@pytest.mark.parametrize(
    ("module", "url", "asked"),
    [
        ("pymysql", "mysql", {"host": "127.0.0.1", "user": "rd", "connect_timeout": 2}),
        ("oracledb", "oracle", {"user": "rd", "password": "x", "host": "127.0.0.1",
                                "service_name": "x", "retry_count": 0}),
        ("hdbcli.dbapi", "hana", {"address": "127.0.0.1", "user": "rd", "password": "x"}),
    ],
)  # fmt: skip
def test_a_port_where_nobody_listens(
    closed: int, module: str, url: str, asked: dict[str, Any]
) -> None:
    driver: Any = importlib.import_module(module)
    fault = raised(lambda: driver.connect(port=closed, **asked))
    check(_told(f"{url}://rd@127.0.0.1/x", fault, login=True), "connection-refused")


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
