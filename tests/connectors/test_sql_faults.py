import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from aiia_pipelines.connectors.base import Reading, Source, SourceFault
from aiia_pipelines.connectors.sql import Options
from aiia_pipelines.jobs.failures import Failure, classify

pytestmark = pytest.mark.integration
CANARY = "canary-Passw0rd-7f3a"
Opened = Callable[..., Source]


def refused(action: Callable[[], object]) -> tuple[SourceFault, Failure]:
    with pytest.raises(SourceFault) as caught:
        action()
    return caught.value, classify(caught.value)


def silent_source(port: int, **more: Any) -> dict[str, Any]:
    url = f"postgresql://sap_read@127.0.0.1:{port}/production"
    return {"kind": "sql", "url": url, "password": CANARY, **more}


@pytest.mark.parametrize("kind", ["silent", "full"])
def test_a_server_that_never_answers_is_a_connection_timeout(
    open_sql: Opened, request: pytest.FixtureRequest, kind: str
) -> None:
    port = request.getfixturevalue(kind)
    began = time.monotonic()
    source = open_sql(silent_source(port, connect_timeout=2), connect=False)
    fault, failure = refused(source.connect)
    assert str(fault) == (f"Connection timeout. Unable to reach 127.0.0.1:{port} after 2 seconds.")
    assert (failure.code, failure.headline) == ("connection-timeout", str(fault))
    assert 1.5 < time.monotonic() - began < 10


def test_the_documented_connect_timeout_is_twenty_seconds() -> None:
    assert Options(kind="sql", url="postgresql://u@h/d", password=None).connect_timeout == 20


def test_a_port_without_server_refuses(open_sql: Opened) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    _, failure = refused(lambda: open_sql(silent_source(port)))
    assert (failure.code, failure.place) == ("connection-refused", f"127.0.0.1:{port}")


def test_an_unknown_host_is_not_found(open_sql: Opened) -> None:
    options = silent_source(1) | {"url": "postgresql://u@no-such-host.invalid/d"}
    _, failure = refused(lambda: open_sql(options))
    assert failure.code in {"host-not-found", "name-server-unavailable"}
    assert failure.place == "no-such-host.invalid:5432"


def test_a_server_of_another_protocol_is_told_as_such(open_sql: Opened) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            # The test may be over before anybody asks a third time.
            with suppress(OSError):
                for _ in range(3):
                    talk, _address = listener.accept()
                    talk.sendall(b"220 ftp.example.com ready\r\n")
                    talk.close()

        threading.Thread(target=greet, daemon=True).start()
        port = listener.getsockname()[1]
        _, failure = refused(lambda: open_sql(silent_source(port, connect_timeout=2)))
    assert failure.badge == "Failed"
    assert CANARY not in failure.headline


def test_a_wrong_password_is_told_without_it(open_sql: Opened, source_db: Any) -> None:
    fault, failure = refused(lambda: open_sql(source_db.options(password=CANARY)))
    assert failure.code == "invalid-credentials"
    assert str(fault) == (
        f"Invalid credentials for user canary_reader at 127.0.0.1:{source_db.port}."
    )


def test_an_unknown_user_has_invalid_credentials(open_sql: Opened, source_db: Any) -> None:
    _, failure = refused(lambda: open_sql(source_db.options("nobody_here", password=CANARY)))
    assert failure.code == "invalid-credentials"


def test_an_unknown_database_is_not_found(open_sql: Opened, source_db: Any) -> None:
    url = source_db.server.url("nope", "canary_reader", "postgresql")
    fault, failure = refused(lambda: open_sql(source_db.options(url=url)))
    assert failure.code == "source-not-found"
    assert str(fault) == f'Database "nope" does not exist. At 127.0.0.1:{source_db.port}.'


def test_a_database_that_may_not_be_entered_is_a_lack_of_permission(
    open_sql: Opened, source_db: Any
) -> None:
    source_db.execute(f"revoke connect on database {source_db.name} from public")
    _, failure = refused(lambda: open_sql(source_db.options()))
    assert failure.code == "permission-denied"


def test_too_many_sessions_of_a_role_are_not_taken_for_a_wrong_login(
    open_sql: Opened, source_db: Any
) -> None:
    source_db.server.ensure_role("narrow")
    source_db.execute("alter role narrow connection limit 1", user="aiia")
    open_sql(source_db.options("narrow"))
    _, failure = refused(lambda: open_sql(source_db.options("narrow")))
    assert failure.code == "too-many-connections"


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ({"table": "public.secret"}, "permission-denied"),
        ({"table": "public.missing"}, "column-mismatch"),
        ({"table": "nowhere.rows"}, "column-mismatch"),
        ({"query": "select nonsense from public.rows"}, "column-mismatch"),
        ({"query": "selekt * from public.rows"}, "query-invalid"),
        ({"query": "select 'a'::int as i"}, "value-invalid"),
        (
            {"query": "with x as (insert into public.rows values (2) returning *) select * from x"},
            "query-invalid",
        ),
        ({"query": "select public.writes() as i"}, "query-invalid"),
        ({"query": "select 1/(id-1) as i from public.rows"}, "value-invalid"),
    ],
)
def test_a_stream_that_cannot_be_read_has_its_code_and_leaves_the_others_readable(
    open_sql: Opened, stream: Any, source_db: Any, place: dict[str, str], code: str
) -> None:
    source_db.execute(
        "create table public.rows (id int); insert into public.rows values (1)",
        "create table public.secret (id int); revoke all on public.secret from canary_reader",
        "create function public.writes() returns int language plpgsql security definer as"
        " $$ begin insert into public.rows values (3); return 1; end $$",
    )
    source = open_sql(source_db.options())
    broken, good = stream(**place), stream(name="good", table="public.rows")

    def read() -> None:
        names = [column.name for column in source.columns(broken)]
        list(source.batches(broken, Reading(names=names)))

    fault, failure = refused(read)
    assert failure.code == code, str(fault)
    assert failure.place == f"127.0.0.1:{source_db.port}"
    assert [column.name for column in source.columns(good)] == ["id"]
    assert [len(batch) for batch in source.batches(good, Reading(names=["id"]))] == [1]
    assert source_db.execute("select count(*) from public.rows") == [(1,)]


def test_a_query_that_runs_too_long_is_stopped_by_the_server(
    open_sql: Opened, stream: Any, source_db: Any
) -> None:
    source = open_sql(source_db.options(statement_timeout=1))
    slow = stream(query="select pg_sleep(30)::text as t")
    source.columns(slow)
    _, failure = refused(lambda: list(source.batches(slow, Reading(names=["t"]))))
    assert failure.code == "query-timeout"


@pytest.mark.parametrize("moment", ["idle", "reading"])
def test_a_session_that_the_server_ends_is_a_lost_connection(
    open_sql: Opened, stream: Any, source_db: Any, moment: str
) -> None:
    source_db.execute("create table public.rows as select generate_series(1, 20000) as id")
    source = open_sql(source_db.options())
    rows = stream(table="public.rows", batch_rows=100)
    source.columns(rows)
    batches = iter(source.batches(rows, Reading(names=["id"])))
    if moment == "reading":
        next(batches)
    source_db.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'canary_reader'",
        user="aiia",
    )
    time.sleep(0.2)
    _, failure = refused(lambda: list(batches))
    assert failure.code == "connection-lost"
    source.close()


def test_cancel_ends_a_long_query_at_once(open_sql: Opened, stream: Any, source_db: Any) -> None:
    source = open_sql(source_db.options())
    slow = stream(query="select pg_sleep(30)::text as t")
    source.columns(slow)
    began = time.monotonic()
    threading.Timer(0.5, source.cancel).start()
    refused(lambda: list(source.batches(slow, Reading(names=["t"]))))
    assert time.monotonic() - began < 10


def test_cancel_and_close_do_no_harm_at_any_time(open_sql: Opened, source_db: Any) -> None:
    source = open_sql(source_db.options(), connect=False)
    source.cancel()
    source.close()
    source.connect()
    source.cancel()
    source.close()
    source.close()
    source.cancel()
    query = "select count(*) from pg_stat_activity where usename = 'canary_reader'"
    assert source_db.execute(query, user="aiia") == [(0,)]


def test_a_missing_sqlite_file_is_not_made(open_sql: Opened, tmp_path: Any) -> None:
    path = tmp_path / "missing.db"
    _, failure = refused(lambda: open_sql({"kind": "sql", "url": f"sqlite:///{path}"}))
    assert failure.code == "source-not-found"
    assert not path.exists()
