"""MariaDB as a source that fails."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from fronts import Wire, answering, hanging_up, saying
from machine import Meddled
from provoked import CANARY, READER, Ended, Provocations, Provoked, Stage, check

from aiia_pipelines.connectors.base import open_source
from aiia_pipelines.local.ports import free_port

pytestmark = pytest.mark.integration
provokes = Provocations()
SLOW = {
    "name": "rows",
    "query": "select count(*) as n from t a, t b, t c where a.i + b.i + c.i = 0",
}
T = {"name": "rows", "table": "t"}


@pytest.mark.parametrize("case", provokes, ids=str)
def test_a_fault_of_mariadb_has_its_code_line_and_retries(
    stage: Stage, maria: Any, case: Provoked
) -> None:
    maria.execute("create table t as select seq as i, repeat('x', 200) as x from seq_1_to_5000")
    stage.facts |= {"source": f"127.0.0.1:{maria.port}"}
    stage.secrets.add(maria.password)
    check(stage, case, maria)


@contextmanager
def _user(maria: Any, name: str, how: str = "", host: str = "%") -> Iterator[str]:
    maria.execute(
        f"create user '{name}'@'{host}' identified by '{maria.password}' {how}",
        f"grant select on {maria.name}.* to '{name}'@'{host}'",
    )
    yield name
    maria.execute(f"drop user '{name}'@'{host}'")


def _as(stage: Stage, maria: Any, name: str, how: str = "", host: str = "%", **more: Any) -> Ended:
    with _user(maria, name, how, host):
        return stage.sync(maria.options(name, **more), T)


# -- the login --------------------------------------------------------------------------------


@provokes("invalid-credentials", "Invalid credentials for user canary_reader at {source}.")
def a_wrong_password(stage: Stage, maria: Any) -> Ended:
    return stage.sync(maria.options(password=CANARY), T)


@provokes("login-not-allowed", "Login not allowed. {source} does not let user locked in: *.")
def an_account_that_is_locked(stage: Stage, maria: Any) -> Ended:
    return _as(stage, maria, "locked", "account lock")


@provokes("credentials-expired", "Credentials expired. {source} wants a new password of user old.")
def a_password_that_has_expired(stage: Stage, maria: Any) -> Ended:
    return _as(stage, maria, "old", "password expire")


@provokes("invalid-credentials", "Invalid credentials for user elsewhere at {source}.")
def a_user_of_another_host(stage: Stage, maria: Any) -> Ended:
    return _as(stage, maria, "elsewhere", host="10.1.2.3")


@provokes("source-not-found", "Unknown database 'nope'. At {source}.")
def a_database_that_does_not_exist(stage: Stage, maria: Any) -> Ended:
    url = f"mysql://root@127.0.0.1:{maria.port}/nope"
    return stage.sync(maria.options(url=url), T)


@provokes("permission-denied", "Permission denied. {source}: *'mysql'*.")
def a_database_that_may_not_be_entered(stage: Stage, maria: Any) -> Ended:
    url = f"mysql://{READER}@127.0.0.1:{maria.port}/mysql"
    return stage.sync(maria.options(url=url), T)


@provokes(
    "too-many-connections",
    "Too many connections. {source} takes no more: *'max_user_connections'*.",
    retries=5,
)
def a_user_whose_connections_are_in_use(stage: Stage, maria: Any) -> Ended:
    with (
        _user(maria, "narrow", "with max_user_connections 1"),
        closing(maria.server.connect(user="narrow")),
    ):
        return stage.sync(maria.options("narrow"), T)


@provokes(
    "quota-exceeded", "Quota exceeded. {source} grants no more for now: *'max_queries_per_hour'*."
)
def a_user_whose_queries_of_this_hour_are_used_up(stage: Stage, maria: Any) -> Ended:
    return _as(stage, maria, "frugal", "with max_queries_per_hour 2")


# -- reading ----------------------------------------------------------------------------------


@provokes("column-mismatch", "Table '*.missing' doesn't exist. At {source}.", badge="Error")
def a_table_that_is_gone(stage: Stage, maria: Any) -> Ended:
    return stage.sync(maria.options(), {"name": "rows", "table": "missing"})


@provokes("query-invalid", "You have an error in your SQL syntax*", badge="Error")
def a_query_that_is_no_sql(stage: Stage, maria: Any) -> Ended:
    return stage.sync(maria.options(), {"name": "rows", "query": "selekt * from t"})


@provokes(
    "query-timeout", "Query timeout. {source} stopped the query: *max_statement_time*.", retries=1
)
def a_query_that_runs_longer_than_it_may(stage: Stage, maria: Any) -> Ended:
    return stage.sync(maria.options(statement_timeout=1), SLOW)


@contextmanager
def _once_it_reads(maria: Any, what: str) -> Iterator[None]:
    """Do something to the session that reads, as soon as it does."""
    find = f"select id from information_schema.processlist where user = '{READER}' and info like '%count(%'"

    def act() -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for (session,) in maria.execute(find):
                maria.execute(f"kill {what} {session}")
                return
            time.sleep(0.05)

    thread = threading.Thread(target=act)
    thread.start()
    yield
    thread.join()


@provokes("query-cancelled", "Query cancelled. Somebody at {source} stopped it: *.", retries=5)
def an_administrator_who_stops_the_query(stage: Stage, maria: Any) -> Ended:
    with _once_it_reads(maria, "query"):
        return stage.sync(maria.options(), SLOW)


@provokes("connection-lost", "Connection lost. {source} ended it.", retries=5)
def an_administrator_who_ends_the_session(stage: Stage, maria: Any) -> Ended:
    with _once_it_reads(maria, "connection"):
        return stage.sync(maria.options(), SLOW)


@provokes("lock-conflict", "Lock conflict. {source}: *.", retries=5)
def a_table_that_changes_shape_meanwhile(stage: Stage, maria: Any) -> Ended:
    def change() -> None:
        maria.execute("alter table t add column more int, algorithm=copy")

    return stage.sync(lambda: Meddled(open_source(maria.options()), change), T)


# -- the way there ----------------------------------------------------------------------------


@provokes(
    "connection-refused",
    "Connection refused. Nothing listens on {source}, or a firewall rejects it.",
    retries=5,
)
def a_closed_port(stage: Stage, maria: Any) -> Ended:
    return _at(stage, maria, free_port())


def _at(stage: Stage, maria: Any, port: int, **more: Any) -> Ended:
    stage.facts["source"] = f"127.0.0.1:{port}"
    url = f"mysql://{READER}@127.0.0.1:{port}/{maria.name}"
    return stage.sync(maria.options(url=url, **more), T)


@provokes("protocol-error", "Protocol error. What answers at {source} speaks another protocol.")
def a_server_of_another_protocol(stage: Stage, maria: Any) -> Ended:
    with answering(saying(b"220 ftp.example.com ready\r\n")) as port:
        return _at(stage, maria, port)


@provokes("connection-lost", "Connection lost. {source} ended it.", retries=5)
def a_server_that_hangs_up_at_the_login(stage: Stage, maria: Any) -> Ended:
    with answering(hanging_up(0)) as port:
        return _at(stage, maria, port)


@provokes("connection-lost", "Connection lost. {source} ended it.", retries=5)
def a_wire_that_breaks_among_the_rows(stage: Stage, maria: Any) -> Ended:
    with answering(Wire(maria.port, after=300_000, how="reset").talk) as port:
        return _at(stage, maria, port)


@provokes("tls-failure", "SSL is required but the server doesn't support it. At {source}.")
def a_server_whose_certificate_nobody_trusts(stage: Stage, maria: Any) -> Ended:
    return stage.sync(maria.options(url=f"{maria.url()}?ssl_verify_cert=true"), T)
