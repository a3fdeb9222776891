"""A PostgreSQL server that refuses in another language than English: libpq keeps only its words."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import psycopg
import pytest

from aiia_pipelines.connectors import _libpq_refusal as refusal
from aiia_pipelines.connectors.base import Source, SourceFault
from aiia_pipelines.jobs.failures import classify
from aiia_pipelines.sync.destinations._postgres_faults import translated
from aiia_pipelines.sync.destinations._postgres_session import Session
from aiia_pipelines.sync.faults import DestinationFault

pytestmark = pytest.mark.integration
CANARY = "canary-Fremd-6d1b"
Opened = Callable[..., Source]
_WISHES = (80877103, 80877104)  # for TLS, for GSS encryption


class German:
    """A server that asks for a password and refuses every login in German."""

    def __init__(self) -> None:
        self.state, self.words = "28P01", "»rd«: Anmeldung fehlgeschlagen"
        self.logins = 0

    def talk(self, client: socket.socket) -> None:
        (length,) = struct.unpack("!I", client.recv(4))
        while struct.unpack("!I", client.recv(4))[0] in _WISHES:
            client.sendall(b"N")
            (length,) = struct.unpack("!I", client.recv(4))
        client.recv(length)
        self.logins += 1
        client.sendall(b"R" + struct.pack("!II", 8, 3))
        client.recv(1024)
        fields = f"SFATAL\0VFATAL\0C{self.state}\0M{self.words}\0\0".encode()
        client.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)

    def serve(self, door: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = door.accept()
                with closing(client), suppress(OSError, struct.error):
                    self.talk(client)


@pytest.fixture
def german() -> Iterator[tuple[German, int]]:
    found = German()
    with closing(socket.create_server(("127.0.0.1", 0))) as door:
        thread = threading.Thread(target=found.serve, args=(door,), daemon=True)
        thread.start()
        yield found, int(door.getsockname()[1])
        door.shutdown(socket.SHUT_RDWR)
    thread.join()


def _refused(open_sql: Opened, port: int) -> SourceFault:
    url = f"postgresql://rd@127.0.0.1:{port}/erp"
    with pytest.raises(SourceFault) as caught:
        open_sql({"kind": "sql", "url": url, "password": CANARY, "connect_timeout": 5})
    return caught.value


@pytest.mark.parametrize(
    ("state", "words", "code"),
    [
        ("28P01", "Passwort-Authentifizierung für Benutzer »rd« fehlgeschlagen", "invalid-credentials"),
        ("28000", "Rolle »rd« hat keine Berechtigung zum Einloggen", "login-not-allowed"),
        ("3D000", "Datenbank »erp« existiert nicht", "source-not-found"),
        ("42501", "keine Berechtigung für Datenbank »erp«", "permission-denied"),
        ("53300", "zu viele Verbindungen von Rolle »rd«", "too-many-connections"),
        ("57P03", "das Datenbanksystem startet", "source-unavailable"),
        ("28P01", "فشل التحقق من كلمة المرور للمستخدم", "invalid-credentials"),
    ],
)  # fmt: skip
def test_a_refusal_in_any_language_leads_to_its_row(
    open_sql: Opened, german: tuple[German, int], state: str, words: str, code: str
) -> None:
    server, port = german
    server.state, server.words = state, words
    failure = classify(_refused(open_sql, port))
    assert (failure.code, failure.place) == (code, f"127.0.0.1:{port}")
    assert CANARY not in failure.headline


def test_a_refusal_in_english_is_understood_at_the_first_look(
    open_sql: Opened, german: tuple[German, int]
) -> None:
    server, port = german
    server.words = 'password authentication failed for user "rd"'
    assert classify(_refused(open_sql, port)).code == "invalid-credentials"
    assert server.logins == 1


def test_a_destination_that_refuses_in_german_is_understood_too(german: tuple[German, int]) -> None:
    _, port = german
    session = Session(f"postgresql://rd:{CANARY}@127.0.0.1:{port}/erp")
    with pytest.raises(DestinationFault) as caught, translated(session.place(), login=True):
        session.reconnect()
    failure = classify(caught.value, side="destination")
    assert failure.code == "destination-login"
    assert CANARY not in failure.headline


def test_a_server_that_says_nothing_at_the_second_look_has_no_state(silent: int) -> None:
    conninfo = f"host=127.0.0.1 port={silent} user=rd"
    assert refusal.refusal(conninfo, patience=0.1) is None


def test_a_connection_that_cannot_be_made_has_no_state() -> None:
    assert refusal.refusal("host=127.0.0.1 port=1 user=rd") is None
    assert refusal.refusal("no such word") is None


def test_only_linux_has_a_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    fault = psycopg.OperationalError("Anmeldung fehlgeschlagen")
    refusal.tell_state(fault, "host=127.0.0.1 port=1")
    assert fault.sqlstate is None
    known: Any = psycopg.errors.DiskFull("voll")
    refusal.tell_state(known, "host=127.0.0.1 port=1")
    assert known.sqlstate == "53100"
