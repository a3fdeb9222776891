"""Oracle, SQL Server and SAP HANA without their servers: URLs, limits, faults of the driver, and what a column is.

What only a server can show (snapshots, values, cancelling) is not tested for them.
"""

import gc
import importlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from aiia_pipelines.connectors._sql_dialects import dialect_of, needs
from aiia_pipelines.connectors._sql_wanted import Limits
from aiia_pipelines.connectors.base import Source, SourceFault
from aiia_pipelines.jobs.failures import Failure, classify

Opened = Callable[..., Source]
CANARY = "canary-Far-3b8e"
DATABASES = ["oracle", "mssql", "hana"]


def refused(action: Callable[[], object]) -> tuple[SourceFault, Failure]:
    with pytest.raises(SourceFault) as caught:
        action()
    return caught.value, classify(caught.value)


def options(database: str, port: int, **more: Any) -> dict[str, Any]:
    url = f"{database}://sap_read@127.0.0.1:{port}/production"
    return {"kind": "sql", "url": url, "password": CANARY, "connect_timeout": 1} | more


def dialect(url: str) -> Any:
    return dialect_of(sa.make_url(url), Limits(20, 3600))


@pytest.mark.parametrize(
    ("url", "described", "place", "arguments"),
    [
        (
            "oracle://rd@db.example/?service_name=ERP", "oracle://rd@db.example/", "db.example:1521",
            {"dsn": "(DESCRIPTION=(ADDRESS=(PROTOCOL=TCP)(HOST=db.example)(PORT=1521))"
                    "(CONNECT_DATA=(SERVICE_NAME=ERP)))",
             "user": "rd", "password": CANARY, "tcp_connect_timeout": 7.0, "retry_count": 0,
             "expire_time": 1},
        ),
        (
            "oracle+cx_oracle://rd@db.example:1600/SID1", "oracle://rd@db.example:1600/SID1",
            "db.example:1600",
            {"dsn": "(DESCRIPTION=(ADDRESS=(PROTOCOL=TCP)(HOST=db.example)(PORT=1600))"
                    "(CONNECT_DATA=(SID=SID1)))",
             "user": "rd", "password": CANARY, "tcp_connect_timeout": 7.0, "retry_count": 0,
             "expire_time": 1},
        ),
        (
            "mssql://rd@db.example:1444/shop", "mssql://rd@db.example:1444/shop", "db.example:1444",
            {"host": "db.example:1444", "database": "shop", "user": "rd", "password": CANARY,
             "login_timeout": 7, "timeout": 3600, "appname": "aiia_pipelines",
             "tds_version": "7.4", "charset": "UTF-8"},
        ),
        (
            "mssql+pyodbc://rd@db.example/shop", "mssql://rd@db.example/shop", "db.example:1433",
            {"host": "db.example", "database": "shop", "user": "rd", "password": CANARY,
             "login_timeout": 7, "timeout": 3600, "appname": "aiia_pipelines",
             "tds_version": "7.4", "charset": "UTF-8"},
        ),
        (
            "hana://rd@db.example", "hana://rd@db.example", "db.example:30015",
            {"address": "db.example", "port": 30015, "user": "rd", "password": CANARY,
             "vectoroutputtype": "list", "connectTimeout": 7000, "communicationTimeout": 3600000,
             "reconnect": "false", "sessionVariable:APPLICATION": "aiia_pipelines"},
        ),
        (
            "hana+hdbcli://rd@db.example:39041/HXE?encrypt=true", "hana://rd@db.example:39041/HXE",
            "db.example:39041",
            {"address": "db.example", "port": 39041, "databaseName": "HXE", "encrypt": "true",
             "user": "rd", "password": CANARY, "vectoroutputtype": "list", "connectTimeout": 7000,
             "communicationTimeout": 3600000, "reconnect": "false",
             "sessionVariable:APPLICATION": "aiia_pipelines"},
        ),
    ],
)  # fmt: skip
def test_a_url_gives_the_driver_its_arguments(
    open_sql: Opened, url: str, described: str, place: str, arguments: dict[str, Any]
) -> None:
    source = open_sql({"kind": "sql", "url": url, "password": CANARY}, connect=False)
    assert (source.describe(), source.place()) == (described, place)
    found = dialect(url)
    found.check()
    engine = sa.create_engine(found.url.set(password=CANARY), poolclass=sa.NullPool)
    _, named = engine.dialect.create_connect_args(engine.url)
    assert named | found.connect_args(None, 7.0) == arguments


def test_a_missing_driver_is_named_with_its_extra() -> None:
    fault, failure = refused(lambda: needs("no_such_driver", "Oracle", "oracle"))
    assert failure.code == "config-invalid"
    assert str(fault) == (
        "The driver of Oracle is not installed here: pip install 'aiia-pipelines[oracle]'."
    )


def test_a_database_that_sqlalchemy_does_not_know_is_a_mistake_of_the_file(
    open_sql: Opened,
) -> None:
    url = "nosuch://u@127.0.0.1:1/d"
    fault, failure = refused(lambda: open_sql({"kind": "sql", "url": url, "password": CANARY}))
    assert failure.code == "config-invalid"
    assert "nosuch" in str(fault)


# -- before a login ----------------------------------------------------------------------------


@pytest.mark.parametrize("database", DATABASES)
def test_a_port_without_server_refuses(open_sql: Opened, database: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    fault, failure = refused(lambda: open_sql(options(database, port)))
    assert (failure.code, failure.place) == ("connection-refused", f"127.0.0.1:{port}")
    assert CANARY not in f"{fault}{failure.headline}"


@pytest.mark.parametrize("database", DATABASES)
def test_an_unknown_host_is_not_found(open_sql: Opened, database: str) -> None:
    url = f"{database}://u@no-such-host.invalid/d"
    _, failure = refused(lambda: open_sql(options(database, 1, url=url)))
    assert failure.code in {"host-not-found", "name-server-unavailable"}


def timed_out(open_sql: Opened, database: str, port: int) -> None:
    source = open_sql(options(database, port), connect=False)
    fault, failure = refused(source.connect)
    assert failure.code == "connection-timeout"
    assert str(fault) == f"Connection timeout. Unable to reach 127.0.0.1:{port} after 1 seconds."
    source.cancel()
    source.close()


@pytest.mark.slow
# What oracledb leaves behind in its thread is an open socket.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("database", DATABASES)
def test_a_server_that_never_answers_is_a_connection_timeout(
    open_sql: Opened, database: str
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        timed_out(open_sql, database, listener.getsockname()[1])
    for thread in threading.enumerate():
        if thread.name == "login":
            thread.join(20)
    gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize("database", DATABASES)
def test_a_port_that_drops_everything_is_a_connection_timeout(
    open_sql: Opened, database: str, full: int
) -> None:
    timed_out(open_sql, database, full)


@pytest.fixture
def babbling() -> Iterator[Callable[[bytes], int]]:
    """A server that says one thing to everybody and hangs up."""
    listeners: list[socket.socket] = []

    def start(greeting: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def greet() -> None:
            with suppress(OSError):
                while True:
                    talk, _address = listener.accept()
                    with closing(talk), suppress(OSError):
                        talk.sendall(greeting)
                        talk.shutdown(socket.SHUT_WR)
                        talk.recv(10_000)

        threading.Thread(target=greet, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize(
    "greeting",
    [b"220 ftp.example.com ready\r\n", b"", b"\0" * 64, b"\xff" * 300, bytes(range(256)) * 2],
)
@pytest.mark.parametrize("database", DATABASES)
def test_a_server_of_another_protocol_fails_without_secrets(
    open_sql: Opened, babbling: Callable[[bytes], int], database: str, greeting: bytes
) -> None:
    port = babbling(greeting)
    fault, failure = refused(lambda: open_sql(options(database, port, connect_timeout=2)))
    assert failure.badge == "Failed"
    assert failure.code in {
        "protocol-error", "connection-lost", "connection-timeout", "unclassified",
    }, str(fault)  # fmt: skip
    assert failure.place == f"127.0.0.1:{port}"
    assert CANARY not in f"{fault}{failure.headline}"


# -- what the numbers mean ---------------------------------------------------------------------


def oracle_error(words: str) -> BaseException:
    oracledb: Any = importlib.import_module("oracledb")
    told = SimpleNamespace(full_code=words.partition(":")[0], message=words)
    return oracledb.DatabaseError(told)  # type: ignore[no-any-return]


def mssql_error(number: int, words: str) -> BaseException:
    pymssql: Any = importlib.import_module("pymssql")
    driver = b"DB-Lib error message 20018, severity 16:\nGeneral SQL Server error\n"
    return pymssql.OperationalError((number, words.encode() + driver))  # type: ignore[no-any-return]


def hana_error(number: int, words: str) -> BaseException:
    dbapi: Any = importlib.import_module("hdbcli.dbapi")
    return dbapi.Error(number, words)  # type: ignore[no-any-return]


ERRORS = [
    ("oracle", ("ORA-01017: invalid username/password; logon denied",), True, "invalid-credentials"),
    ("oracle", ("ORA-28000: the account is locked",), True, "login-not-allowed"),
    ("oracle", ("ORA-12514: TNS:listener does not know of service",), True, "source-not-found"),
    ("oracle", ("DPY-6001: cannot connect to database. Service X is not registered",), True, "source-not-found"),
    ("oracle", ("DPY-6005: cannot connect to database (CONNECTION_ID=x). [Errno 111] Connection refused",), True, "connection-refused"),
    ("oracle", ("DPY-6005: cannot connect to database. timed out",), True, "connection-timeout"),
    ("oracle", ("DPY-4011: the database or network closed the connection",), False, "connection-lost"),
    ("oracle", ("ORA-03113: end-of-file on communication channel",), False, "connection-lost"),
    ("oracle", ("DPY-4024: call timeout of 1000 ms exceeded",), False, "query-timeout"),
    ("oracle", ("ORA-01013: user requested cancel",), False, "query-cancelled"),
    ("oracle", ("ORA-00942: table or view does not exist",), False, "column-mismatch"),
    ("oracle", ('ORA-00904: "X": invalid identifier',), False, "column-mismatch"),
    ("oracle", ("ORA-01031: insufficient privileges",), False, "permission-denied"),
    ("oracle", ("ORA-01045: user lacks CREATE SESSION privilege",), True, "permission-denied"),
    ("oracle", ("ORA-00933: SQL command not properly ended",), False, "query-invalid"),
    ("oracle", ("ORA-01456: may not perform insert/delete/update",), False, "query-invalid"),
    ("oracle", ("ORA-01722: invalid number",), False, "value-invalid"),
    ("oracle", ("ORA-01555: snapshot too old",), False, "lock-conflict"),
    ("oracle", ("ORA-00060: deadlock detected",), False, "lock-conflict"),
    ("oracle", ("ORA-00018: maximum number of sessions exceeded",), True, "too-many-connections"),
    ("oracle", ("ORA-01033: ORACLE initialization or shutdown in progress",), True, "source-unavailable"),
    ("oracle", ("ORA-01652: unable to extend temp segment",), False, "source-disk-full"),
    ("oracle", ("ORA-04031: unable to allocate shared memory",), False, "out-of-memory"),
    ("oracle", ("ORA-01578: ORACLE data block corrupted",), False, "malformed-data"),
    ("mssql", (18456, "Login failed for user 'rd'."), True, "invalid-credentials"),
    ("mssql", (4060, 'Cannot open database "x" requested by the login.'), True, "source-not-found"),
    ("mssql", (208, "Invalid object name 'x'."), False, "column-mismatch"),
    ("mssql", (207, "Invalid column name 'x'."), False, "column-mismatch"),
    ("mssql", (229, "The SELECT permission was denied"), False, "permission-denied"),
    ("mssql", (1205, "Transaction was deadlocked"), False, "lock-conflict"),
    ("mssql", (1222, "Lock request time out period exceeded."), False, "lock-conflict"),
    ("mssql", (3960, "Snapshot isolation transaction aborted"), False, "lock-conflict"),
    ("mssql", (102, "Incorrect syntax near 'x'."), False, "query-invalid"),
    ("mssql", (8134, "Divide by zero error encountered."), False, "value-invalid"),
    ("mssql", (245, "Conversion failed when converting the varchar value 'secret-4711' to int."), False, "value-invalid"),
    ("mssql", (20003, "Adaptive Server connection timed out"), False, "query-timeout"),
    ("mssql", (20047, "DBPROCESS is dead or not enabled"), False, "connection-lost"),
    ("mssql", (20002, "TDS server connection failed: timed out"), True, "connection-timeout"),
    ("mssql", (701, "There is insufficient system memory"), False, "out-of-memory"),
    ("mssql", (824, "SQL Server detected a logical consistency-based I/O error"), False, "malformed-data"),
    ("hana", (10, "authentication failed"), True, "invalid-credentials"),
    ("hana", (258, "insufficient privilege"), False, "permission-denied"),
    ("hana", (259, "invalid table name: X"), False, "column-mismatch"),
    ("hana", (260, "invalid column name: X"), False, "column-mismatch"),
    ("hana", (257, "sql syntax error"), False, "query-invalid"),
    ("hana", (131, "transaction rolled back by lock wait timeout"), False, "lock-conflict"),
    ("hana", (133, "transaction rolled back by detected deadlock"), False, "lock-conflict"),
    ("hana", (139, "current operation cancelled by request"), False, "query-cancelled"),
    ("hana", (4, "cannot allocate enough memory"), False, "out-of-memory"),
    ("hana", (304, "division by zero undefined"), False, "value-invalid"),
    ("hana", (-10807, "Connection down: [89006] System call 'recv' failed"), False, "connection-lost"),
    ("hana", (-10709, "Connection failed (RTE:[89006] Connection refused (host:30015))"), True, "connection-refused"),
    ("hana", (-10709, "Connect failed (connect timeout expired)"), True, "connection-timeout"),
    ("hana", (-10709, "Cannot resolve host name 'x' rc=-2"), True, "host-not-found"),
    ("hana", (-10709, "SSL certificate validation failed"), True, "tls-failure"),
]  # fmt: skip
MAKERS: dict[str, Callable[..., BaseException]] = {
    "oracle": oracle_error,
    "mssql": mssql_error,
    "hana": hana_error,
}


@pytest.mark.parametrize(("database", "told", "login", "code"), ERRORS)
def test_a_number_of_the_driver_leads_to_its_row_of_the_catalogue(
    database: str, told: tuple[Any, ...], login: bool, code: str
) -> None:
    found = dialect(f"{database}://u@h/d").fault(MAKERS[database](*told), login=login)
    assert classify(SourceFault(found.sentence, *found.signals)).code == code
    assert "4711" not in found.sentence
    assert "DB-Lib" not in found.sentence


def test_no_number_means_two_things() -> None:
    from aiia_pipelines.connectors import _sql_far_faults as faults

    for table in (faults._ORACLE, faults._MSSQL, faults._HANA):
        for signal in set(table.values()):
            assert classify(SourceFault("x", signal)).code != "unclassified", signal


def test_a_login_that_hangs_is_left_behind_in_time() -> None:
    from aiia_pipelines.connectors._sql_deadline import within
    from aiia_pipelines.connectors._sql_wanted import DriverFault

    ended = threading.Event()
    began = time.monotonic()
    with pytest.raises(DriverFault):
        within(0.1, ended.wait)
    assert time.monotonic() - began < 5
    ended.set()
    assert within(5, lambda: 42) == 42
    with pytest.raises(DriverFault) as caught:
        within(5, lambda: {}["missing"])
    assert isinstance(caught.value.orig, KeyError)
