"""MariaDB as a source, on a real server: every fault by its number, and every way to end."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.connectors.base import Reading, Source, SourceFault
from aiia_pipelines.jobs.failures import Failure, classify

pytestmark = pytest.mark.integration
Opened = Callable[..., Source]
CANARY = "canary-Wrong-9c2d"


def refused(action: Callable[[], object]) -> tuple[SourceFault, Failure]:
    with pytest.raises(SourceFault) as caught:
        action()
    return caught.value, classify(caught.value)


def rows_of(source: Source, stream: Any, **reading: Any) -> list[tuple[Any, ...]]:
    names = [column.name for column in source.columns(stream)]
    asked = Reading(names=names, **reading)
    return [tuple(row) for batch in source.batches(stream, asked) for row in batch.rows]


def sessions(maria: Any) -> int:
    query = "select count(*) from information_schema.processlist where user = 'canary_reader'"
    deadline = time.monotonic() + 5
    while maria.execute(query)[0][0] and time.monotonic() < deadline:
        time.sleep(0.05)
    found: int = maria.execute(query)[0][0]
    return found


# -- faults ------------------------------------------------------------------------------------


def test_a_wrong_password_is_told_without_it(open_sql: Opened, maria: Any) -> None:
    fault, failure = refused(lambda: open_sql(maria.options(password=CANARY)))
    assert failure.code == "invalid-credentials"
    assert str(fault) == f"Invalid credentials for user canary_reader at 127.0.0.1:{maria.port}."


def test_an_unknown_user_has_invalid_credentials(open_sql: Opened, maria: Any) -> None:
    _, failure = refused(lambda: open_sql(maria.options("nobody_here")))
    assert failure.code == "invalid-credentials"


def test_a_password_of_any_script_is_sent_as_it_is(open_sql: Opened, maria: Any) -> None:
    maria.execute("create user cyril identified by 'пароль😀'")
    url = f"mysql://cyril@127.0.0.1:{maria.port}/"
    open_sql(maria.options(url=url, password="пароль😀"))
    maria.execute("drop user cyril")


def test_an_unknown_database_is_not_found(open_sql: Opened, maria: Any) -> None:
    url = f"mysql://root@127.0.0.1:{maria.port}/nope"
    fault, failure = refused(lambda: open_sql(maria.options(url=url)))
    assert failure.code == "source-not-found"
    assert str(fault) == f"Unknown database 'nope'. At 127.0.0.1:{maria.port}."


def test_a_database_that_may_not_be_entered_is_a_lack_of_permission(
    open_sql: Opened, maria: Any
) -> None:
    url = f"mysql://canary_reader@127.0.0.1:{maria.port}/mysql"
    _, failure = refused(lambda: open_sql(maria.options(url=url)))
    assert failure.code == "permission-denied"


def test_too_many_sessions_of_a_user_are_not_taken_for_a_wrong_login(
    open_sql: Opened, maria: Any
) -> None:
    maria.execute(
        f"create user narrow identified by '{maria.password}' with max_user_connections 1",
        f"grant select on {maria.name}.* to narrow",
    )
    first = open_sql(maria.options("narrow"))
    _, failure = refused(lambda: open_sql(maria.options("narrow")))
    assert failure.code == "too-many-connections"
    first.close()
    maria.execute("drop user narrow")


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ({"table": "secret"}, "permission-denied"),
        ({"table": "mysql.user"}, "permission-denied"),
        ({"table": "missing"}, "column-mismatch"),
        ({"query": "select nonsense from t"}, "column-mismatch"),
        ({"query": "selekt * from t"}, "query-invalid"),
        ({"query": "select 1 as a, 2 as a"}, "query-invalid"),
        ({"query": "select (select id from t union select 2) as i"}, "value-invalid"),
        ({"query": "select 18446744073709551615 + id as i from t"}, "value-invalid"),
        ({"query": "select * from t into outfile '/tmp/never'"}, "query-invalid"),
    ],
)
def test_a_stream_that_cannot_be_read_has_its_code_and_leaves_the_others_readable(
    open_sql: Opened, stream: Any, maria: Any, place: dict[str, str], code: str
) -> None:
    maria.execute(
        "create table t (id int)",
        "insert into t values (1)",
        "create database if not exists elsewhere",
        "create table if not exists elsewhere.secret (id int)",
    )
    if place.get("table") == "secret":
        place = {"table": "elsewhere.secret"}
    source = open_sql(maria.options())
    fault, failure = refused(lambda: rows_of(source, stream(**place)))
    assert failure.code == code, str(fault)
    assert failure.place == f"127.0.0.1:{maria.port}"
    assert rows_of(source, stream(name="good", table="t")) == [(1,)]


def test_a_message_does_not_show_values(open_sql: Opened, stream: Any, maria: Any) -> None:
    maria.execute("create table t (c varchar(99))", "insert into t values ('POINT(secret-4711)')")
    source = open_sql(maria.options())
    query = "select st_geomfromtext(c) + 18446744073709551615 + c as g from t"
    with suppress(SourceFault):
        rows_of(source, stream(query=query))
    query = "select extractvalue(concat('<', c), '//[') as g from t"
    fault, _ = refused(lambda: rows_of(source, stream(query=query)))
    assert "4711" not in str(fault)


def test_a_query_that_runs_too_long_is_stopped_by_the_server(
    open_sql: Opened, stream: Any, maria: Any
) -> None:
    maria.execute("create table t as select seq as i from seq_1_to_5000")
    source = open_sql(maria.options(statement_timeout=1))
    slow = stream(query="select count(*) as n from t a, t b, t c where a.i + b.i + c.i = 0")
    _, failure = refused(lambda: rows_of(source, slow))
    assert failure.code == "query-timeout"


def test_a_table_that_another_session_has_locked_is_a_lock_conflict(
    open_sql: Opened, stream: Any, maria: Any
) -> None:
    maria.execute("create table t (id int)")
    source = open_sql(maria.options())
    source._open.exec_driver_sql("set session lock_wait_timeout = 1")  # type: ignore[attr-defined]
    with closing(maria.server.connect(database=maria.name)) as other:
        other.cursor().execute("lock tables t write")
        _, failure = refused(lambda: source.columns(stream(table="t")))
    assert failure.code == "lock-conflict"


def test_a_table_that_changes_shape_after_the_snapshot_is_a_lock_conflict_to_retry(
    open_sql: Opened, stream: Any, maria: Any
) -> None:
    maria.execute("create table t (id int)")
    source = open_sql(maria.options())
    maria.execute("alter table t add column more int, algorithm=copy")
    _, failure = refused(lambda: rows_of(source, stream(table="t")))
    assert (failure.code, failure.transient) == ("lock-conflict", True)


@pytest.mark.parametrize("moment", ["idle", "reading"])
def test_a_session_that_the_server_ends_is_a_lost_connection(
    open_sql: Opened, stream: Any, maria: Any, moment: str
) -> None:
    maria.execute("create table t as select seq as i, repeat('x', 500) as t from seq_1_to_50000")
    source = open_sql(maria.options())
    asked = stream(table="t", batch_rows=100)
    source.columns(asked)
    batches = iter(source.batches(asked, Reading(names=["i", "t"])))
    if moment == "reading":
        next(batches)
    query = "select id from information_schema.processlist where user = 'canary_reader'"
    maria.execute(f"kill connection {maria.execute(query)[0][0]}")
    fault, failure = refused(lambda: list(batches))
    assert failure.code == "connection-lost", str(fault)
    source.close()


def test_cancel_ends_a_long_query_at_once(open_sql: Opened, stream: Any, maria: Any) -> None:
    maria.execute("create table t as select seq as i from seq_1_to_5000")
    source = open_sql(maria.options())
    slow = stream(query="select count(*) as n from t a, t b, t c where a.i + b.i + c.i = 0")
    source.columns(slow)
    began = time.monotonic()
    threading.Timer(0.3, source.cancel).start()
    refused(lambda: list(source.batches(slow, Reading(names=["n"]))))
    assert time.monotonic() - began < 10


def test_cancel_and_close_do_no_harm_at_any_time(open_sql: Opened, maria: Any) -> None:
    source = open_sql(maria.options(), connect=False)
    source.cancel()
    source.close()
    source.connect()
    source.cancel()
    source.close()
    source.close()
    source.cancel()
    assert sessions(maria) == 0


@pytest.mark.parametrize("kind", ["silent", "full"])
def test_a_server_that_never_answers_is_a_connection_timeout(
    open_sql: Opened, request: pytest.FixtureRequest, kind: str
) -> None:
    port = request.getfixturevalue(kind)
    options = {"kind": "sql", "url": f"mysql://u@127.0.0.1:{port}/d", "connect_timeout": 1}
    source = open_sql(options | {"password": CANARY}, connect=False)
    fault, failure = refused(source.connect)
    assert failure.code == "connection-timeout"
    assert str(fault) == f"Connection timeout. Unable to reach 127.0.0.1:{port} after 1 seconds."


@pytest.mark.parametrize(
    "greeting",
    [
        b"220 ftp.example.com ready\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\0" * 64,
        b"\x4a\0\0\0\x0a5.5.5\0", b"\xff" * 200, b"\x03\0\0\0\xff\x10\x04", bytes(range(256)),
        b"\x05\0\0\0\x0a8.0\0",
    ],
)  # fmt: skip
def test_a_server_of_another_protocol_is_told_without_secrets(
    open_sql: Opened, greeting: bytes
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def greet() -> None:
            with suppress(OSError):
                while True:
                    talk, _address = listener.accept()
                    with closing(talk), suppress(OSError):
                        talk.sendall(greeting)
                        talk.shutdown(socket.SHUT_WR)
                        talk.recv(10_000)

        threading.Thread(target=greet, daemon=True).start()
        url = f"mysql://u@127.0.0.1:{listener.getsockname()[1]}/d"
        options = {"kind": "sql", "url": url, "password": CANARY, "connect_timeout": 2}
        fault, failure = refused(lambda: open_sql(options))
    assert failure.code in {"protocol-error", "connection-lost", "too-many-connections"}
    assert CANARY not in f"{fault}{failure.headline}"


def test_a_url_of_any_driver_leads_to_the_one_we_know(open_sql: Opened) -> None:
    for driver in (
        "mysql",
        "mariadb",
        "mysql+pymysql",
        "mysql+mysqldb",
        "mariadb+mariadbconnector",
    ):
        options = {"kind": "sql", "url": f"{driver}://u@db.example/shop?charset=latin1"}
        source = open_sql(options, connect=False)
        assert (source.describe(), source.place()) == (
            "mysql://u@db.example/shop",
            "db.example:3306",
        )


@pytest.mark.parametrize("more", ["ssl_verify_cert=true", "ssl_ca=/nowhere/ca.pem", "ssl_ca={}"])
def test_tls_that_cannot_be_had_is_told_as_such(
    open_sql: Opened, maria: Any, tmp_path: Path, more: str
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    url = f"{maria.url()}?{more.format(tmp_path / 'ca.pem')}"
    fault, failure = refused(lambda: open_sql(maria.options(url=url)))
    assert failure.code == "tls-failure", str(fault)
    assert maria.password not in str(fault)
