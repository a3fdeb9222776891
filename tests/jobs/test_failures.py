import errno
import socket
import ssl
from collections.abc import Callable
from typing import NoReturn, get_args

import pandera
import psycopg
import psycopg2
import psycopg2.errors
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from aiia_pipelines.jobs.badge import Badge
from aiia_pipelines.jobs.failures import (
    CATALOGUE,
    Failure,
    FailureClass,
    Origin,
    badge_of,
    classify,
)
from aiia_pipelines.jobs.redaction import REDACTOR

ROWS = list(CATALOGUE.values())
PLACE = "10.140.2.14:5432"
NAME = f"{__name__}.Told"


class Told(Exception):
    """An exception that was translated where it entered, as sources raise it."""

    def __init__(self, message: str, *signals: str, place: str = "") -> None:
        super().__init__(message)
        self.signals = signals
        self.place = place


class OperationalError(Exception):
    """A driver's error before login: neither SQLSTATE nor errno."""


class Evil(Exception):
    """An exception that breaks whoever reads it."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __getattr__(self, name: str) -> NoReturn:
        raise ZeroDivisionError(name)


def _with_state(state: str) -> Exception:
    exc = Exception("refused")
    exc.sqlstate = state  # type: ignore[attr-defined]
    return exc


def test_the_documented_rows_are_there() -> None:
    documented = {
        "connection-timeout": ("Connection Timeout", Badge.FAILED, True),
        "invalid-credentials": ("Invalid Credentials", Badge.FAILED, False),
        "column-mismatch": ("Column Mismatch", Badge.ERROR, False),
        "out-of-memory": ("Out of Memory (OOM)", Badge.FAILED, True),
    }
    for code, facts in documented.items():
        row = CATALOGUE[code]
        assert (row.title, row.badge, row.transient) == facts


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.code)
def test_a_row_is_complete(row: FailureClass) -> None:
    assert CATALOGUE[row.code] is row
    assert row.code == row.code.lower().replace("_", "-").replace(" ", "-")
    assert row.origin in get_args(Origin)
    assert row.badge in {Badge.FAILED, Badge.ERROR, Badge.CANCELLED}
    assert row.cause.endswith(".")
    assert row.remedy.endswith(".")
    assert row.verify
    assert "{" not in row.title + row.cause
    failure = Failure(row, "")
    assert "{host}" not in failure.verify() + failure.remedy()
    assert "{port}" not in failure.verify() + failure.remedy()
    assert "{place}" not in failure.verify() + failure.remedy()


def test_an_error_never_asks_for_a_retry_and_comes_from_what_people_declare_or_store() -> None:
    errors = [row for row in ROWS if row.badge is Badge.ERROR]
    assert not any(row.transient for row in errors)
    assert {row.origin for row in errors} == {"data", "configuration", "destination"}


def test_no_two_rows_claim_one_signal() -> None:
    signals = [signal for row in ROWS for signal in row.signals]
    assert len(signals) == len(set(signals))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.code)
def test_every_row_is_reached_by_each_of_its_signals(row: FailureClass) -> None:
    if row.code == "unclassified":
        assert not row.signals
        return
    assert row.signals
    for signal in row.signals:
        side = "destination" if signal.startswith("destination:") else "source"
        told = signal.removeprefix("destination:")
        stage = "connect" if told.startswith("connect:") else ""
        fault = Told("It went wrong.", told.removeprefix("connect:"))
        assert classify(fault, side=side, stage=stage).code == row.code
        assert classify(Told("It went wrong.", signal)).code == row.code


SQLSTATES = {
    "connection-lost": "08006 25P03 57P01 57P02 57P05",
    "protocol-error": "08P01",
    "invalid-credentials": "08004 28P01",
    "login-not-allowed": "28000",
    "value-invalid": "21000 22003",
    "encoding-error": "22021 22P05",
    "malformed-data": "22P04 XX001 XX002",
    "constraint-violation": "23505",
    "target-read-only": "25006",
    "source-not-found": "3D000",
    "lock-conflict": "40001 40P01 55P03",
    "permission-denied": "42501",
    "query-invalid": "42601 0A000 P0001",
    "column-mismatch": "42703 42P01 42804 42883 42846 3F000",
    "source-disk-full": "53100 58030",
    "out-of-memory": "53200",
    "too-many-connections": "53300",
    "resource-limit": "54001",
    "query-timeout": "57014",
    "source-unavailable": "57P03",
    "unclassified": "XX000",
}


@pytest.mark.parametrize(("code", "states"), SQLSTATES.items())
def test_every_sqlstate_lands_where_it_should(code: str, states: str) -> None:
    assert {classify(_with_state(state)).code for state in states.split()} == {code}


@pytest.mark.parametrize(
    ("state", "code"),
    {
        "08006": "destination-unreachable",
        "57P01": "destination-unreachable",
        "28P01": "destination-login",
        "3D000": "destination-login",
        "42501": "destination-permission",
        "53100": "destination-disk-full",
        "40P01": "destination-conflict",
        "23505": "destination-rejected",
        "25006": "target-read-only",
        "53200": "out-of-memory",
        "42P01": "column-mismatch",
    }.items(),
)
def test_the_same_sqlstate_at_the_destination_blames_the_destination(state: str, code: str) -> None:
    assert classify(_with_state(state), side="destination").code == code


def test_the_errors_of_both_postgres_drivers_are_read() -> None:
    assert classify(psycopg.errors.UndefinedColumn("x")).code == "column-mismatch"
    assert classify(psycopg.errors.ConnectionTimeout("x")).code == "connection-timeout"
    wrapped = sa.exc.ProgrammingError("select 1", None, psycopg.errors.DiskFull("no space"))
    assert classify(wrapped).code == "source-disk-full"

    class Refused(psycopg2.Error):
        pgcode = "28P01"

    assert classify(Refused("x")).code == "invalid-credentials"


LOGIN_WORDS = {
    'FATAL:  password authentication failed for user "rd"': "invalid-credentials",
    "fe_sendauth: no password supplied": "invalid-credentials",
    'FATAL:  role "rd" does not exist': "invalid-credentials",
    'FATAL:  role "rd" is not permitted to log in': "login-not-allowed",
    'FATAL: no pg_hba.conf entry for host "::1", SSL off': "login-not-allowed",
    'FATAL:  database "nope" does not exist': "source-not-found",
    'FATAL:  too many connections for role "lim"': "too-many-connections",
    "FATAL:  sorry, too many clients already": "too-many-connections",
    "FATAL:  the database system is starting up": "source-unavailable",
    "FATAL:  the database system is shutting down": "source-unavailable",
    "FATAL:  the database system is in recovery mode": "source-unavailable",
    "server does not support SSL, but SSL was required": "tls-protocol",
    "SSL error: certificate verify failed": "tls-failure",
    "consuming input failed: SSL error: unexpected eof": "connection-lost",
    "server closed the connection unexpectedly": "connection-lost",
    "lost synchronization with server": "connection-lost",
    "the connection is closed": "connection-lost",
    "connection timeout expired": "connection-timeout",
    "connection failed: Connection refused": "connection-refused",
    "failed to resolve host 'x': [Errno -2] Name or service not known": "host-not-found",
    'could not translate host name "x" to address': "host-not-found",
    "failed to resolve host 'x': Temporary failure in name resolution": "name-server-unavailable",
    "something new": "unclassified",
}


@pytest.mark.parametrize(("text", "code"), LOGIN_WORDS.items())
def test_login_failures_without_a_code_are_known_by_their_words(text: str, code: str) -> None:
    assert classify(OperationalError(text)).code == code
    assert classify(ValueError(text)).code == "unclassified"


def _open_closed_port() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    socket.create_connection(("127.0.0.1", port), timeout=2).close()


def _wait_for_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.01)
        server.accept()


def _open_missing_file() -> None:
    with open("/no/such/file"):  # noqa: PTH123
        pass


@pytest.mark.parametrize(
    ("doing", "code"),
    [
        (_open_closed_port, "connection-refused"),
        (_wait_for_nothing, "read-timeout"),
        (_open_missing_file, "source-not-found"),
        (b"\xff".decode, "encoding-error"),
        (lambda: bytes(1 << 62), "out-of-memory"),
        ([].pop, "unclassified"),
    ],
)
def test_what_python_raises_is_read_by_errno_or_class(doing: Callable[[], None], code: str) -> None:
    with pytest.raises(Exception) as raised:
        doing()
    assert classify(raised.value).code == code


def test_system_errors_are_read_by_their_names() -> None:
    assert classify(OSError(errno.ENOSPC, "full")).code == "worker-disk-full"
    assert classify(OSError(errno.EMFILE, "files")).code == "resource-limit"
    assert classify(OSError(99999, "odd")).code == "unclassified"
    assert classify(socket.gaierror(socket.EAI_NONAME, "x")).code == "host-not-found"
    assert classify(socket.gaierror(socket.EAI_AGAIN, "x")).code == "name-server-unavailable"
    assert classify(socket.gaierror(99999, "x")).code == "host-not-found"
    assert classify(sa.exc.TimeoutError("QueuePool limit")).code == "too-many-connections"
    assert classify(TimeoutError(), stage="connect").code == "connection-timeout"
    odd = Exception("an errno that is no errno of the system")
    odd.errno = errno.ENOSPC  # type: ignore[attr-defined]
    assert classify(odd).code == "unclassified"


def test_the_number_of_a_tls_error_is_no_errno() -> None:
    assert classify(ssl.SSLError(errno.EPERM, "handshake")).code == "tls-failure"
    assert classify(ssl.SSLEOFError(8, "eof")).code == "connection-lost"


def test_reason_codes_of_pandera_are_read() -> None:
    reason = pandera.errors.SchemaErrorReason.COLUMN_NOT_IN_DATAFRAME
    fault = Exception("column missing")
    fault.reason_code = reason  # type: ignore[attr-defined]
    assert classify(fault).code == "column-mismatch"


def test_causes_contexts_arguments_and_groups_are_walked() -> None:
    inner = _with_state("53100")
    by_cause, by_context = ValueError("a"), ValueError("b")
    by_cause.__cause__ = inner
    by_context.__context__ = inner
    group = ExceptionGroup("several", [ValueError("c"), inner])
    for outer in (by_cause, by_context, ValueError("d", inner), group):
        assert classify(outer).code == "source-disk-full"


def test_a_context_that_was_put_away_does_not_count() -> None:
    outer = ValueError("a")
    outer.__context__ = _with_state("53100")
    outer.__suppress_context__ = True
    assert classify(outer).code == "unclassified"


def test_our_own_cancel_wins_over_the_state_the_server_gives_it() -> None:
    stopped = Told("", "cancelled")
    stopped.__cause__ = _with_state("57014")
    timeout = Told("Canceling statement due to user request.", "sqlstate:57014")
    timeout.__context__ = stopped
    for exc in (stopped, timeout, KeyboardInterrupt()):
        failure = classify(exc)
        assert (failure.code, failure.badge) == ("cancelled", Badge.CANCELLED)


def test_a_translated_fault_speaks_for_itself() -> None:
    sentence = f"Connection timeout. Unable to reach {PLACE} after 20 seconds."
    failure = classify(Told(sentence, "timeout:connect", place=PLACE))
    assert failure.headline == sentence
    assert failure.place == PLACE
    assert failure.transient
    assert failure.origin == "source"
    assert "10.140.2.14:5432" in failure.remedy()
    assert failure.verify() == "nc -vz -w 5 10.140.2.14 5432"


def test_a_translated_fault_speaks_also_for_the_cause_that_gave_the_signal() -> None:
    fault = Told("The table is gone.", place="db:1")
    fault.__cause__ = _with_state("42P01")
    failure = classify(fault)
    assert (failure.code, failure.headline) == ("column-mismatch", "The table is gone. (db:1)")
    assert classify(Told("Odd.", "no:row")).headline == f"Unclassified Failure: {NAME}: Odd."


def test_the_chatter_of_drivers_is_left_out_and_the_place_kept() -> None:
    text = (
        '(psycopg.OperationalError) connection failed: connection to server at "10.1.2.3", '
        'port 5432 failed: FATAL:  password authentication failed for user "rd"\nDETAIL: x'
    )
    failure = classify(OperationalError(text))
    assert failure.headline == (
        'Invalid Credentials: password authentication failed for user "rd" (10.1.2.3:5432)'
    )
    assert failure.place == "10.1.2.3:5432"


def test_a_server_behind_a_socket_file_has_a_place_too() -> None:
    text = 'connection to server on socket "/run/.s.PGSQL.1" failed: No such file or directory'
    failure = classify(OperationalError(text))
    assert failure.code == "connection-refused"
    assert failure.headline == "Connection Refused: No such file or directory (/run/.s.PGSQL.1)"
    assert failure.verify() == "nc -vz /run/.s.PGSQL.1 PORT"


def test_headlines_of_exceptions_without_words() -> None:
    assert classify(MemoryError()).headline == "Out of Memory (OOM)"
    assert classify(KeyError()).headline == "Unclassified Failure: KeyError"
    assert classify(ValueError("odd")).headline == "Unclassified Failure: ValueError: odd"
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    assert classify(refused).headline == "Connection Refused"


def test_placeholders_are_filled_safely() -> None:
    row = CATALOGUE["connection-timeout"]
    assert Failure(row, "").verify() == "nc -vz -w 5 HOST PORT"
    assert "to the server," in Failure(row, "").remedy()
    assert Failure(row, "", "[::1]:5432").verify() == "nc -vz -w 5 ::1 5432"
    assert Failure(row, "", "a").verify("$(reboot):1") == "nc -vz -w 5 '$(reboot)' 1"
    assert "to {port}:1," in Failure(row, "").remedy("{port}:1")


def test_secrets_never_reach_a_headline_or_a_place() -> None:
    REDACTOR.add("opensesame")
    failure = classify(Told("It is opensesame.", "http:400", place="opensesame:1"))
    assert failure.headline == "It is ***. (***:1)"


def test_the_badge_of_a_code() -> None:
    assert badge_of("column-mismatch") is Badge.ERROR
    assert badge_of("from-a-later-version") is Badge.FAILED


TEXTS = st.text(st.characters(), max_size=300)
EXCEPTIONS = st.one_of(
    st.builds(Told, TEXTS, TEXTS, place=TEXTS),
    st.builds(OperationalError, TEXTS),
    st.builds(OSError, st.integers(-20, 200), TEXTS),
    st.builds(ValueError, TEXTS, st.just(Evil())),
    st.builds(Evil),
    st.builds(KeyError),
)


@given(
    st.lists(EXCEPTIONS, min_size=1, max_size=100),
    st.sampled_from(["__cause__", "__context__"]),
    TEXTS,
)
def test_classify_never_raises_and_its_headline_is_one_short_line(
    excs: list[Exception], link: str, stage: str
) -> None:
    for outer, inner in zip(excs, [*excs[1:], excs[0]], strict=True):
        setattr(outer, link, inner)
    for side in ("source", "destination", stage):
        failure = classify(excs[0], side=side, stage=stage)
        assert CATALOGUE[failure.code] is failure.kind
        assert 0 < len(failure.headline) <= 200
        assert len(failure.headline.splitlines()) == 1
        assert len(failure.place.splitlines()) <= 1
        failure.remedy()
        failure.verify()


def test_classify_survives_attributes_of_the_wrong_kind() -> None:
    exc = OSError("odd")
    for name, value in {"signals": (1, None), "place": 7, "sqlstate": 7, "errno": "x"}.items():
        setattr(exc, name, value)
    assert classify(exc).code == "unclassified"
