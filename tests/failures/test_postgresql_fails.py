"""PostgreSQL as a source that fails, from the login to the last row."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from fronts import Wire, answering, hanging_up, refusing, saying, secured
from hostile import Hostile, serving
from provoked import CANARY, READER, Ended, Provocations, Provoked, Stage, check

from aiia_pipelines.local.ports import free_port

pytestmark = pytest.mark.integration
provokes = Provocations()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    with serving(tmp_path_factory.mktemp("ca")) as found:
        yield found


@pytest.fixture
def theatre(stage: Stage, hostile: Hostile) -> Stage:
    hostile.server.start()
    stage.facts["source"] = f"127.0.0.1:{hostile.server.port}"
    stage.secrets.add(hostile.server.passwords.of(READER))
    return stage


@pytest.mark.parametrize("case", provokes, ids=str)
def test_a_fault_of_postgresql_has_its_code_line_and_retries(
    theatre: Stage, hostile: Hostile, case: Provoked
) -> None:
    check(theatre, case, hostile)


# -- the network ------------------------------------------------------------------------------


def _at(stage: Stage, port: int) -> str:
    stage.facts["source"] = f"127.0.0.1:{port}"
    return f"postgresql://u@127.0.0.1:{port}/d"


@provokes(
    "connection-timeout",
    "Connection timeout. Unable to reach {source} after 1 seconds.",
    retries=5,
)
def a_server_that_says_nothing(stage: Stage, hostile: Hostile) -> Ended:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = _at(stage, listener.getsockname()[1])
        return stage.sync(hostile.options(url=url, connect_timeout=1))


@provokes(
    "connection-refused",
    "Connection refused. Nothing listens on {source}, or a firewall rejects it.",
    retries=5,
)
def a_closed_port(stage: Stage, hostile: Hostile) -> Ended:
    return stage.sync(hostile.options(url=_at(stage, free_port())))


@provokes(
    "network-unreachable",
    "Connection failed. 224.0.0.1:5432 cannot be reached: Network is unreachable.",
    retries=5,
)
def an_address_that_no_route_leads_to(stage: Stage, hostile: Hostile) -> Ended:
    return stage.sync(hostile.options(url="postgresql://u@224.0.0.1/d"))


@provokes(
    "connection-lost",
    "Connection lost. {source} ended it: server closed the connection unexpectedly.",
    retries=5,
)
def a_server_that_hangs_up_at_the_login(stage: Stage, hostile: Hostile) -> Ended:
    with answering(hanging_up()) as port:
        return stage.sync(hostile.options(url=_at(stage, port)))


@provokes(
    "protocol-error",
    "Protocol error. What answers at {source} speaks another protocol:"
    " received invalid response to SSL negotiation: 2.",
)
def a_server_of_another_protocol(stage: Stage, hostile: Hostile) -> Ended:
    with answering(saying(b"220 ftp.example.com ready\r\n")) as port:
        return stage.sync(hostile.options(url=_at(stage, port)))


@provokes("connection-lost", "Connection lost. {source} ended it: *.", retries=5)
def a_wire_that_breaks_among_the_rows(stage: Stage, hostile: Hostile) -> Ended:
    return _through(stage, hostile, Wire(hostile.server.port, after=200_000, how="reset"))


@provokes("read-timeout", "Read timeout. {source}*.", retries=5)
def a_wire_that_falls_silent_among_the_rows(stage: Stage, hostile: Hostile) -> Ended:
    wire = Wire(hostile.server.port, after=200_000, how="stall")
    return _through(stage, hostile, wire, statement_timeout=1)


def _through(stage: Stage, hostile: Hostile, wire: Wire, query: str = "", **more: Any) -> Ended:
    with answering(wire.talk) as port:
        stage.facts["source"] = f"127.0.0.1:{port}"
        url = f"postgresql://{READER}@127.0.0.1:{port}/shop{query}"
        return stage.sync(hostile.options(url=url, **more))


# -- encryption -------------------------------------------------------------------------------


def _verified(
    stage: Stage, hostile: Hostile, certificate: Path, ca: Path | None = None, **how: Any
) -> Ended:
    query = f"?sslmode=verify-full&sslrootcert={ca or hostile.authority.path}"
    return _through(stage, hostile, secured(hostile.server.port, certificate, **how), query)


@provokes(
    "tls-certificate-expired", "TLS failure. {source} cannot be trusted: certificate has expired.*"
)
def a_certificate_that_has_expired(stage: Stage, hostile: Hostile) -> Ended:
    return _verified(stage, hostile, hostile.authority.sign("expired", days=-1))


@provokes(
    "tls-name-mismatch",
    "TLS failure. {source} cannot be trusted: IP address mismatch, *. It is for db.example.com.",
)
def a_certificate_of_another_name(stage: Stage, hostile: Hostile) -> Ended:
    return _verified(stage, hostile, hostile.authority.sign("other", "DNS:db.example.com"))


@provokes(
    "tls-failure",
    "TLS failure. {source} cannot be trusted: unable to get local issuer certificate.*",
)
def a_certificate_that_nobody_here_trusts(stage: Stage, hostile: Hostile) -> Ended:
    folder = hostile.authority.folder / "stranger"
    folder.mkdir(exist_ok=True)
    stranger = Authority(folder).found()
    return _verified(stage, hostile, hostile.authority.sign("good"), stranger.path)


@provokes("tls-protocol", "TLS failure. {source} *: sslv3 alert handshake failure.")
def a_server_without_a_common_cipher(stage: Stage, hostile: Hostile) -> Ended:
    # One for RSA keys, and the certificate has another sort of key.
    certificate = hostile.authority.sign("old")
    return _verified(stage, hostile, certificate, ciphers="AES128-GCM-SHA256")


@provokes(
    "tls-protocol", "TLS failure. {source} offers no encryption, and sslmode=require demands it."
)
def a_server_without_encryption(stage: Stage, hostile: Hostile) -> Ended:
    return stage.sync(hostile.options(query="?sslmode=require"))


# -- the login --------------------------------------------------------------------------------


@provokes("invalid-credentials", "Invalid credentials for user canary_reader at {source}.")
def a_wrong_password(stage: Stage, hostile: Hostile) -> Ended:
    return stage.sync(hostile.options(password=CANARY))


@provokes("invalid-credentials", "Invalid credentials for user nobody_here at {source}.")
def a_user_that_does_not_exist(stage: Stage, hostile: Hostile) -> Ended:
    return stage.sync(hostile.options("nobody_here"))


@provokes(
    "login-not-allowed",
    "Login not allowed. {source} does not let user barred in: pg_hba.conf rejects connection for host *.",
)
def a_user_that_pg_hba_shuts_out(stage: Stage, hostile: Hostile) -> Ended:
    hostile.role("barred")
    hostile.admit("host all barred 127.0.0.1/32 reject")
    return stage.sync(hostile.options("barred"))


@provokes("login-not-allowed", "Login not allowed. {source} does not let user no_login in: *.")
def a_role_that_may_not_log_in(stage: Stage, hostile: Hostile) -> Ended:
    hostile.role("no_login")
    hostile.execute("alter role no_login nologin")
    return stage.sync(hostile.options("no_login"))


@provokes(
    "permission-denied", 'Permission denied. {source}: permission denied for database "shop".'
)
def a_database_that_may_not_be_entered(stage: Stage, hostile: Hostile) -> Ended:
    hostile.execute("revoke connect on database shop from public")
    try:
        return stage.sync(hostile.options())
    finally:
        hostile.execute("grant connect on database shop to public")


@provokes("source-not-found", 'Database "nope" does not exist. At {source}.')
def a_database_that_does_not_exist(stage: Stage, hostile: Hostile) -> Ended:
    url = hostile.server.url("nope", READER, "postgresql")
    return stage.sync(hostile.options(url=url))


@provokes(
    "too-many-connections",
    'Too many connections. {source} takes no more: too many connections for role "narrow".',
    retries=5,
)
def a_role_whose_connections_are_in_use(stage: Stage, hostile: Hostile) -> Ended:
    hostile.role("narrow", "connection limit 0")
    return stage.sync(hostile.options("narrow"))


@provokes(
    "source-unavailable",
    "Source unavailable. {source} takes no work: the database system is starting up.",
    retries=5,
)
def a_server_that_starts_up(stage: Stage, hostile: Hostile) -> Ended:
    # A real one is past it too soon to be met.
    with answering(refusing("57P03", "the database system is starting up")) as port:
        return stage.sync(hostile.options(url=_at(stage, port)))


# -- reading ----------------------------------------------------------------------------------


def _query(text: str, **more: Any) -> dict[str, Any]:
    return {"name": "rows", "query": text} | more


@provokes("permission-denied", "Permission denied. {source}: permission denied for table secret.")
def a_table_without_a_grant(stage: Stage, hostile: Hostile) -> Ended:
    return stage.sync(hostile.options(), {"name": "rows", "table": "public.secret"})


@provokes(
    "column-mismatch", 'Relation "public.missing" does not exist. At {source}.', badge="Error"
)
def a_table_that_is_gone(stage: Stage, hostile: Hostile) -> Ended:
    return stage.sync(hostile.options(), {"name": "rows", "table": "public.missing"})


@provokes("query-invalid", 'Syntax error at or near "from". At {source}.', badge="Error")
def a_query_that_is_no_sql(stage: Stage, hostile: Hostile) -> Ended:
    return stage.sync(hostile.options(), _query("selekt * from public.rows"))


@provokes("value-invalid", "Division by zero. At {source}.", badge="Error")
def a_query_that_divides_by_zero(stage: Stage, hostile: Hostile) -> Ended:
    return stage.sync(hostile.options(), _query("select 1/(id-1) as id from public.rows"))


@provokes(
    "constraint-violation",
    'Value for domain positive violates check constraint "positive_check". At {source}.',
    badge="Error",
)
def a_value_that_its_domain_refuses(stage: Stage, hostile: Hostile) -> Ended:
    text = "select (id - 2)::public.positive as id from public.rows"
    return stage.sync(hostile.options(), _query(text))


@provokes(
    "query-timeout",
    "Query timeout. {source} stopped the query: canceling statement due to statement timeout.",
    retries=1,
)
def a_query_that_runs_longer_than_it_may(stage: Stage, hostile: Hostile) -> Ended:
    return stage.sync(hostile.options(statement_timeout=1), _query("select public.slow() as id"))


READING = "select 1 from pg_stat_activity where usename = 'canary_reader' and query like '%slow()%' and state = 'active' and wait_event = 'PgSleep'"


@provokes(
    "query-cancelled",
    "Query cancelled. Somebody at {source} stopped it: canceling statement due to user request.",
    retries=5,
)
def an_administrator_who_stops_the_query(stage: Stage, hostile: Hostile) -> Ended:
    stop = "select pg_cancel_backend(pid) from pg_stat_activity where usename = 'canary_reader'"
    with hostile.soon(stop, READING):
        return stage.sync(hostile.options(), _query("select public.slow() as id"))


@provokes(
    "connection-lost",
    "Connection lost. {source} ended it: terminating connection due to administrator command.",
    retries=5,
)
def an_administrator_who_ends_the_session(stage: Stage, hostile: Hostile) -> Ended:
    stop = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'canary_reader'"
    with hostile.soon(stop, READING):
        return stage.sync(hostile.options(), _query("select public.slow() as id"))


@provokes(
    "connection-lost",
    "Connection lost. {source} ended it: terminating connection due to administrator command.",
    retries=5,
)
def a_server_that_is_stopped_during_the_read(stage: Stage, hostile: Hostile) -> Ended:
    def stop() -> None:
        while not hostile.execute(READING):
            time.sleep(0.02)
        hostile.server.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        return stage.sync(hostile.options(), _query("select public.slow() as id"))
    finally:
        thread.join()
        hostile.server.start()


@provokes(
    "lock-conflict",
    "Lock conflict. {source}: canceling statement due to lock timeout.",
    retries=5,
)
def a_table_that_somebody_has_locked(stage: Stage, hostile: Hostile) -> Ended:
    hostile.execute("alter role canary_reader set lock_timeout = '300ms'")
    try:
        with closing(hostile.server.connect("shop")) as other:
            other.cursor().execute("lock table public.rows in access exclusive mode")
            return stage.sync(hostile.options())
    finally:
        hostile.execute("alter role canary_reader reset lock_timeout")


@provokes(
    "resource-limit",
    'Resource limit. {source}: temporary file size exceeds "temp_file_limit" (100kB).',
)
def a_sort_that_needs_more_temporary_files_than_it_may(stage: Stage, hostile: Hostile) -> Ended:
    hostile.execute(
        "alter role canary_reader set temp_file_limit = '100kB'",
        "alter role canary_reader set work_mem = '64kB'",
    )
    try:
        return stage.sync(
            hostile.options(), _query("select id, name from public.rows order by name || 'x'")
        )
    finally:
        hostile.execute("alter role canary_reader reset all")


@provokes(
    "encoding-error",
    'Invalid byte sequence for encoding "UTF8": 0xff. At {source}.',
    badge="Error",
)
def bytes_that_are_no_text(stage: Stage, hostile: Hostile) -> Ended:
    return stage.sync(hostile.options(), _query(r"select convert_from('\xff', 'UTF8') as name"))
