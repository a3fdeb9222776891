"""Failures of databases as their drivers raise them, each with the verdict it must get.

Everything here is raised, or built, by the driver itself; what only a server can raise is in tests/failures.
"""

import importlib
import struct
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from verdicts import check, raised

from aiia_pipelines.connectors._sql_dialects import dialect_of
from aiia_pipelines.connectors._sql_wanted import Limits
from aiia_pipelines.connectors.base import SourceFault
from aiia_pipelines.jobs.badge import Badge
from aiia_pipelines.jobs.failures import Failure, classify

PLACE = "10.1.2.3:5432"
TOLD = 'connection failed: connection to server at "10.1.2.3", port 5432 failed: '


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
