"""The stages of a Connection Test, kind by kind, at real servers."""

import gzip
import socket
import sqlite3
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from tls_servers import Authority, asked_as_by_postgresql, tls_before

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.secrets import is_secret_key
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.local.ports import free_port
from aiia_pipelines.sync.probe import Probed, Watch, run_stages

pytestmark = pytest.mark.integration

TRIED = ["dns", "tcp", "tls", "login", "permission rows", "query rows"]
NOWHERE = "no-such-host.invalid"
Try = Callable[..., Probed]


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Try:
    def referred(options: dict[str, Any]) -> dict[str, Any]:
        """Put references where the secrets stand, as in a connector file."""
        found = dict(options)
        for key, value in options.items():
            if isinstance(value, dict):
                found[key] = referred(value)
            elif is_secret_key(key):
                monkeypatch.setenv(f"PROBE_{key}", value)
                found[key] = f"${{env:PROBE_{key}}}"
        return found

    def run(source: dict[str, Any], *streams: dict[str, Any], within: float = 20) -> Probed:
        facts = {"name": "probed", "title": "Probed", "streams": list(streams)}
        connector = Connector.model_validate(facts | {"source": referred(source)})
        tested = Probed("probed", "Probed", within)
        run_stages(connector, tmp_path, tested, Watch())
        return tested

    return run


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.founded(tmp_path_factory.mktemp("authority"))


def passed(tested: Probed) -> dict[str, bool | None]:
    return {stage.name: stage.passed for stage in tested.stages}


def notes(tested: Probed) -> dict[str, str]:
    assert tested.failure is None, f"{tested.failed_stage}: {tested.failure}"
    assert tested.state is JobState.COMPLETED
    return {stage.name: stage.note for stage in tested.stages}


def failed(tested: Probed) -> tuple[str, str]:
    """Give the stage that failed first and its code; what comes after it was not reached."""
    assert tested.failure is not None
    return tested.failed_stage, tested.failure.code


ROWS = {"name": "rows", "table": "rows"}
MORE = {"name": "more", "table": "more"}


# -- PostgreSQL -------------------------------------------------------------------------------


def test_postgresql_passes_every_stage(tried: Try, source_db: Any) -> None:
    source_db.execute("create table rows (i int, t text)", "insert into rows values (1, 'x')")
    source_db.execute("create table more (i int)")
    tested = tried(source_db.options(), ROWS, MORE)
    assert notes(tested) == {
        "dns": "127.0.0.1",
        "tcp": f"127.0.0.1:{source_db.port} from 127.0.0.1",
        "tls": "not encrypted: the server offers no TLS, which sslmode=prefer accepts",
        "login": "as canary_reader",
        "permission rows": "2 columns",
        "permission more": "1 column",
        "query rows": "one row read",
        "query more": "no rows yet",
    }
    assert tested.firewall is not None
    assert tested.firewall.observed == "Connected; the way is open."


def test_a_stage_that_does_not_apply_is_left_out(tried: Try, source_db: Any) -> None:
    source_db.execute("create table rows (i int)")
    url = f"{source_db.url('canary_reader')}?sslmode=disable"
    assert list(notes(tried(source_db.options(url=url), ROWS))) == [n for n in TRIED if n != "tls"]


def at(db: Any, port: int, query: str = "", host: str = "127.0.0.1") -> dict[str, Any]:
    """Give the options of a database that is reached by another way."""
    name = "canary_reader"
    scheme = db.url(name).partition(":")[0]
    found: dict[str, Any] = db.options(url=f"{scheme}://{name}@{host}:{port}/{db.name}{query}")
    return found


def test_a_name_without_address_fails_at_dns(tried: Try, source_db: Any) -> None:
    tested = tried(at(source_db, 5432, host=NOWHERE), ROWS)
    assert failed(tested) == ("dns", "host-not-found")
    assert passed(tested) == dict.fromkeys(TRIED) | {"dns": False}
    assert tested.firewall is not None
    assert (tested.firewall.destination, tested.firewall.addresses) == (NOWHERE, ())
    assert tested.firewall.source_ip


def test_a_closed_port_fails_at_tcp(tried: Try, source_db: Any) -> None:
    tested = tried(at(source_db, free_port()), ROWS)
    assert failed(tested) == ("tcp", "connection-refused")
    assert [stage.passed for stage in tested.stages] == [True, False, *[None] * 4]


def test_packets_that_are_dropped_fail_at_tcp(tried: Try, source_db: Any, full: int) -> None:
    tested = tried(at(source_db, full), ROWS)
    assert failed(tested) == ("tcp", "connection-timeout")
    words = f"Connection timeout. Unable to reach 127.0.0.1:{full} after 2 seconds."
    assert tested.stages[1].note == words
    assert tested.firewall is not None
    assert tested.firewall.observed == words


def test_a_server_that_says_nothing_fails_at_tls(tried: Try, source_db: Any, silent: int) -> None:
    tested = tried(at(source_db, silent), ROWS)
    assert failed(tested) == ("tls", "connection-timeout")
    assert "did not answer the TLS handshake within 2 seconds" in tested.stages[2].note
    without = tried(at(source_db, silent, "?sslmode=disable"), ROWS)
    assert failed(without) == ("login", "connection-timeout")


@pytest.fixture
def secured(source_db: Any, authority: Authority) -> Iterator[Callable[..., Any]]:
    """The test's PostgreSQL behind TLS, with a certificate that the test names."""
    source_db.execute("create table rows (i int)")
    opened: list[Any] = []

    def open_before(name: str = "good", mode: str = "verify-full", **how: Any) -> dict[str, Any]:
        latest = how.pop("latest", ssl.TLSVersion.TLSv1_3)
        file = authority.certificate(name, **how)
        front = tls_before(source_db.port, file, asked_as_by_postgresql, latest=latest)
        opened.append(front)
        root = f"&sslrootcert={authority.path}" if mode.startswith("verify") else ""
        return at(source_db, front.__enter__(), f"?sslmode={mode}{root}") | {"connect_timeout": 20}

    yield open_before
    for front in opened:
        front.__exit__(None, None, None)


def test_the_tls_stage_tells_about_the_certificate(tried: Try, secured: Any) -> None:
    assert notes(tried(secured(), ROWS))["tls"].startswith(
        "TLSv1.3, certificate CN=good issued by CN=ours, O=Ours, expires in 299 days (20"
    )
    # As the driver: this mode looks at no certificate.
    loose = notes(tried(secured("far", "require", host="DNS:elsewhere"), ROWS))["tls"]
    assert loose.endswith(", not checked")
    assert "expires in" in notes(tried(secured("named", "verify-ca", host="DNS:x"), ROWS))["tls"]


def test_a_certificate_that_ends_soon_is_warned_of(tried: Try, secured: Any) -> None:
    tested = tried(secured("soon", days=9), ROWS)
    assert notes(tested)["tls"].startswith("Warning: TLSv1.3, certificate CN=soon")
    assert "expires in 8 days" in notes(tested)["tls"]
    assert [stage.name for stage in tested.stages if stage.warns] == ["tls"]


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ({"name": "over", "days": -1}, "tls-certificate-expired", "It ends on 20"),
        ({"name": "other", "host": "DNS:db.example.com"}, "tls-name-mismatch",
         "It is for db.example.com."),
    ],
)  # fmt: skip
def test_a_wrong_certificate_fails_at_tls(
    tried: Try, secured: Any, how: dict[str, Any], code: str, words: str
) -> None:
    tested = tried(secured(**how), ROWS)
    assert failed(tested) == ("tls", code)
    assert [stage.passed for stage in tested.stages] == [True, True, False, None, None, None]
    assert words in tested.stages[2].note
    assert tested.wants_firewall


def test_an_untrusted_certificate_fails_at_tls(tried: Try, secured: Any, certificate: Path) -> None:
    options = secured()
    options["url"] = (
        f"{options['url'].partition('?')[0]}?sslmode=verify-ca&sslrootcert={certificate}"
    )
    tested = tried(options, ROWS)
    assert failed(tested) == ("tls", "tls-failure")
    assert "It is CN=good, issued by CN=ours, O=Ours." in tested.stages[2].note


def test_an_authority_that_is_not_there_fails_at_tls(tried: Try, secured: Any) -> None:
    options = secured()
    options["url"] = f"{options['url'].partition('&')[0]}&sslrootcert=/nope/ca.pem"
    tested = tried(options, ROWS)
    assert failed(tested) == ("tls", "tls-failure")
    assert "The root certificate /nope/ca.pem cannot be read" in tested.stages[2].note


def test_a_protocol_that_is_too_old_fails_at_tls(tried: Try, secured: Any) -> None:
    options = secured(latest=ssl.TLSVersion.TLSv1_2)
    options["url"] += "&ssl_min_protocol_version=TLSv1.3"
    assert failed(tried(options, ROWS)) == ("tls", "tls-protocol")


def test_the_url_decides_how_encryption_is_agreed_on(
    tried: Try, secured: Any, source_db: Any, authority: Authority
) -> None:
    own = authority.certificate("client")
    options = secured()
    options["url"] += f"&sslcert={own}&sslkey={own.with_suffix('.key')}"
    assert "CN=good" in notes(tried(options, ROWS))["tls"]
    with tls_before(source_db.port, authority.certificate("good")) as front:
        direct = f"?sslmode=verify-full&sslnegotiation=direct&sslrootcert={authority.path}"
        assert "CN=good" in notes(tried(at(source_db, front, direct), ROWS))["tls"]
    options["url"] = f"{options['url'].partition('?')[0]}?sslmode=verify-full&sslrootcert=system"
    assert failed(tried(options, ROWS)) == ("tls", "tls-failure")


def test_encryption_that_fails_is_no_fault_where_none_is_demanded(
    tried: Try, secured: Any, certificate: Path
) -> None:
    options = secured()
    options["url"] = f"{options['url'].partition('?')[0]}?sslmode=prefer&sslrootcert={certificate}"
    stage = tried(options, ROWS).stages[2]
    assert stage.passed
    assert stage.note.startswith("not encrypted, which sslmode=prefer accepts: TLS failure. ")


@pytest.mark.parametrize("words", [b"", b"S", b"S\x15\x03\x03\x00\x02\x02\x28"])
def test_a_server_that_hangs_up_fails_at_tls(tried: Try, source_db: Any, words: bytes) -> None:
    def hang_up(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                # The first one only looks whether anybody answers.
                with client, suppress(OSError):
                    client.recv(8)
                    client.sendall(words)
                    # Without what the client says next, the end would be a reset.
                    client.shutdown(socket.SHUT_WR)
                    client.settimeout(5)
                    while client.recv(4096):
                        pass

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=hang_up, args=(listener,))
        thread.start()
        tested = tried(at(source_db, listener.getsockname()[1], "?sslmode=require"), ROWS)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    stage, code = failed(tested)
    assert stage == "tls"
    assert code == ("tls-protocol" if len(words) > 1 else "connection-lost")


def test_a_server_without_encryption_fails_where_it_is_demanded(tried: Try, source_db: Any) -> None:
    tested = tried(at(source_db, source_db.port, "?sslmode=require"), ROWS)
    assert failed(tested) == ("tls", "tls-failure")
    assert "offers no encryption, and sslmode=require demands it." in tested.stages[2].note


def test_a_refused_login_fails_at_login(tried: Try, source_db: Any) -> None:
    tested = tried(source_db.options() | {"password": "wrong-canary-1"}, ROWS)
    assert failed(tested) == ("login", "invalid-credentials")
    assert not tested.wants_firewall
    assert "wrong-canary-1" not in str(tested)


def test_a_stream_that_may_not_be_read_does_not_hide_the_others(tried: Try, source_db: Any) -> None:
    source_db.execute(
        "create table rows (i int)", "create table more (i int)", "revoke select on rows from public",
        "revoke select on rows from canary_reader",
    )  # fmt: skip
    tested = tried(source_db.options(), ROWS, MORE)
    assert failed(tested) == ("permission rows", "permission-denied")
    assert tested.state is JobState.FAILED
    assert {name: went for name, went in passed(tested).items() if " " in name} == {
        "permission rows": False,
        "permission more": True,
        "query rows": None,
        "query more": True,
    }
    assert tested.failure is not None
    assert tested.failure.place == f"127.0.0.1:{source_db.port}"


def test_a_query_that_breaks_at_its_first_row_fails_at_query(tried: Try, source_db: Any) -> None:
    query = {"name": "rows", "query": "select 1 / (n - 1) as i from generate_series(1, 2) n"}
    tested = tried(source_db.options(), query)
    assert failed(tested) == ("query rows", "value-invalid")
    assert tested.state is JobState.ERROR


# -- MySQL and MariaDB ------------------------------------------------------------------------


def test_mariadb_passes_every_stage(tried: Try, maria: Any) -> None:
    maria.execute("create table `rows` (i int)", "insert into `rows` values (1)")
    told = notes(tried(maria.options(), ROWS))
    assert list(told) == TRIED
    assert told["tls"] == "not encrypted: the server offers no TLS, and the URL demands none"
    assert told["query rows"] == "one row read"
    assert "tls" not in notes(tried(at(maria, maria.port, "?ssl_disabled=true"), ROWS))


def test_mariadb_fails_where_it_fails(tried: Try, maria: Any, full: int, silent: int) -> None:
    maria.execute("create table `rows` (i int)")
    assert failed(tried(at(maria, 3306, host=NOWHERE), ROWS)) == ("dns", "host-not-found")
    assert failed(tried(at(maria, free_port()), ROWS)) == ("tcp", "connection-refused")
    assert failed(tried(at(maria, full), ROWS)) == ("tcp", "connection-timeout")
    assert failed(tried(at(maria, silent), ROWS)) == ("tls", "connection-timeout")
    demanded = at(maria, maria.port, "?ssl_verify_cert=true")
    assert failed(tried(demanded, ROWS)) == ("tls", "tls-failure")
    missing = at(maria, maria.port, "?ssl_ca=/nope/ca.pem")
    assert failed(tried(missing, ROWS)) == ("tls", "tls-failure")
    assert failed(tried(maria.options() | {"password": "wrong"}, ROWS)) == (
        "login",
        "invalid-credentials",
    )
    assert failed(tried(maria.options(), MORE)) == ("permission more", "column-mismatch")
    broken = {"name": "rows", "query": "select exp(1000 + n) as i from (select 1 as n) as t"}
    assert failed(tried(maria.options(), broken)) == ("query rows", "value-invalid")


def test_mariadb_does_not_hide_the_stream_that_may_be_read(tried: Try, maria: Any) -> None:
    maria.execute("create table `rows` (i int)", "create table more (i int)")
    maria.execute("create user if not exists few identified by 'canary-few-1'")
    maria.execute("grant select on more to few")
    try:
        options = maria.options("few") | {"password": "canary-few-1"}
        tested = tried(options, ROWS, MORE)
    finally:
        maria.execute("drop user few")
    assert failed(tested) == ("permission rows", "permission-denied")
    assert passed(tested)["permission more"]
    assert passed(tested)["query more"]


@pytest.mark.slow
def test_mariadb_agrees_on_encryption_after_its_greeting(
    tried: Try, mariadb: Any, authority: Authority, tmp_path: Path
) -> None:
    good, over = authority.certificate("good"), authority.certificate("over", days=-1)
    with mariadb.secured(good) as port:
        told = tls_note(tried, port, f"?ssl_ca={authority.path}")
        assert told.startswith("TLSv1.3, certificate CN=good issued by CN=ours, O=Ours, expires in")
        assert tls_note(tried, port).endswith(", not checked")
    with mariadb.secured(over) as port:
        options = maria_at(port, f"?ssl_ca={authority.path}")
        assert failed(tried(options, ROWS)) == ("tls", "tls-certificate-expired")


def maria_at(port: int, query: str = "") -> dict[str, Any]:
    return {"kind": "sql", "url": f"mysql://nobody@127.0.0.1:{port}/x{query}", "connect_timeout": 2}


def tls_note(tried: Try, port: int, query: str = "") -> str:
    found = {stage.name: stage for stage in tried(maria_at(port, query), ROWS).stages}
    assert found["tls"].passed
    return found["tls"].note


# -- databases that only their clients are here of ----------------------------------------------


@pytest.mark.parametrize("database", ["oracle", "mssql", "hana"])
# What oracledb leaves behind in its thread is an open socket.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_other_databases_are_tried_as_far_as_a_client_goes(
    tried: Try, database: str, silent: int
) -> None:
    def options(host: str, port: int) -> dict[str, Any]:
        url = f"{database}://rd@{host}:{port}/shop"
        return {"kind": "sql", "url": url, "password": "x", "connect_timeout": 2}

    names = [name for name in TRIED if name != "tls"]
    assert failed(tried(options(NOWHERE, 1), ROWS)) == ("dns", "host-not-found")
    assert failed(tried(options("127.0.0.1", free_port()), ROWS)) == ("tcp", "connection-refused")
    hanging = tried(options("127.0.0.1", silent), ROWS)
    assert [stage.name for stage in hanging.stages] == names
    assert failed(hanging) == ("login", "connection-timeout")


# -- SQLite -----------------------------------------------------------------------------------


def test_sqlite_has_no_network_stages(tried: Try, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as db:
        db.execute("create table rows (i integer)")
        db.execute("insert into rows values (7)")
        db.commit()
    options = {"kind": "sql", "url": f"sqlite:///{tmp_path}/a.db"}
    tested = tried(options, ROWS)
    assert notes(tested) == {
        "login": "",
        "permission rows": "1 column",
        "query rows": "one row read",
    }
    assert tested.firewall is None
    assert failed(tried(options, MORE)) == ("permission more", "column-mismatch")
    absent = {"kind": "sql", "url": f"sqlite:///{tmp_path}/b.db"}
    assert failed(tried(absent, ROWS)) == ("login", "source-not-found")
    broken = {
        "name": "rows",
        "query": "select abs(i - 7 - 9223372036854775807 - 1) as i from rows",
    }
    assert failed(tried(options, broken))[0] == "query rows"


# -- files ------------------------------------------------------------------------------------


def test_files_are_tried_by_folder_file_and_row(tried: Try, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"i,t\n1,x\n")
    (tmp_path / "bad.csv").write_bytes(b"i,t\n1\n")
    rows, options = {"name": "rows", "path": "a*.csv"}, {"kind": "files", "root": str(tmp_path)}
    assert notes(tried(options, rows)) == {
        "folder": str(tmp_path),
        "permission rows": "1 file",
        "query rows": "one row read",
    }
    gone = {"kind": "files", "root": str(tmp_path / "gone")}
    assert failed(tried(gone, rows)) == ("folder", "source-not-found")
    tested = tried(options, {"name": "more", "path": "b.csv"}, rows)
    assert failed(tested) == ("permission more", "source-not-found")
    assert passed(tested)["query rows"]
    dirty = tried(options, {"name": "bad", "path": "bad.csv"})
    assert failed(dirty) == ("query bad", "malformed-data")


# -- S3 ---------------------------------------------------------------------------------------


@pytest.fixture
def bucket(s3_server: Any) -> Any:
    name = s3_server.make_bucket()
    s3_server.client().put_object(Bucket=name, Key="a.csv", Body=b"i,t\n1,x\n")
    broken = gzip.compress(b"i,t\n1,x\n" * 1000)[:-9]
    s3_server.client().put_object(Bucket=name, Key="bad.csv.gz", Body=broken)

    def options(**more: Any) -> dict[str, Any]:
        return {
            "kind": "s3",
            "bucket": name,
            "endpoint_url": s3_server.endpoint,
            "access_key_id": s3_server.access_key,
            "secret_access_key": s3_server.secret_key,
            "connect_timeout": 2,
            "read_timeout": 5,
        } | more

    return options


OBJECTS = {"name": "rows", "path": "a.csv"}


def test_s3_passes_every_stage_also_encrypted(
    tried: Try, bucket: Any, s3_server: Any, authority: Authority
) -> None:
    told = notes(tried(bucket(), OBJECTS))
    assert list(told) == [name for name in TRIED if name != "tls"]
    assert (told["permission rows"], told["query rows"]) == ("1 object", "one row read")
    port = int(s3_server.endpoint.rpartition(":")[2])
    with tls_before(port, authority.certificate("good")) as front:
        secure = {"endpoint_url": f"https://127.0.0.1:{front}", "ca_file": str(authority.path)}
        told = notes(tried(bucket(**secure), OBJECTS))
        assert list(told) == TRIED
        assert told["tls"].startswith("TLSv1.3, certificate CN=good issued by CN=ours, O=Ours")
        del secure["ca_file"]
        tested = tried(bucket(**secure), OBJECTS)
        assert failed(tested) == ("tls", "tls-failure")
        assert tested.firewall is not None
        assert tested.firewall.protocol == "TCP (HTTPS)"


def test_s3_fails_where_it_fails(tried: Try, bucket: Any, full: int, silent: int) -> None:
    def endpoint(host: str, port: int) -> dict[str, Any]:
        found: dict[str, Any] = bucket(endpoint_url=f"http://{host}:{port}", read_timeout=1)
        return found

    assert failed(tried(endpoint(NOWHERE, 80), OBJECTS)) == ("dns", "host-not-found")
    assert failed(tried(endpoint("127.0.0.1", free_port()), OBJECTS))[1] == "connection-refused"
    assert failed(tried(endpoint("127.0.0.1", full), OBJECTS)) == ("tcp", "connection-timeout")
    assert failed(tried(endpoint("127.0.0.1", silent), OBJECTS)) == ("login", "read-timeout")
    wrong = bucket(secret_access_key="canary-wrong")
    assert failed(tried(wrong, OBJECTS)) == ("login", "invalid-credentials")
    assert failed(tried(bucket(bucket="nobodys"), OBJECTS)) == ("login", "source-not-found")
    tested = tried(bucket(), {"name": "more", "path": "b.csv"}, OBJECTS)
    assert failed(tested) == ("permission more", "source-not-found")
    assert passed(tested)["query rows"]
    broken = tried(bucket(), {"name": "bad", "path": "bad.csv.gz"})
    assert failed(broken)[0] == "query bad"


# -- REST -------------------------------------------------------------------------------------


PAGE, OTHER = {"name": "rows", "endpoint": "/rows"}, {"name": "more", "endpoint": "/more"}


def api(web: Any, **more: Any) -> dict[str, Any]:
    return {"kind": "rest", "url": web.url, "connect_timeout": 2, "read_timeout": 2} | more


def test_rest_passes_every_stage(tried: Try, web: Any, secure_web: Any, certificate: Path) -> None:
    for server in (web, secure_web):
        server.answers["/rows"] = [server.reply([{"id": 1}, {"id": 2}])]
        server.answers["/more"] = [server.reply([])]
    assert notes(tried(api(web), PAGE)) == {
        "dns": "127.0.0.1",
        "tcp": f"127.0.0.1:{web.port} from 127.0.0.1",
        "login": "without credentials",
        "permission rows": "2 records in the first page",
        "query rows": "2 records of 1 column read",
    }
    assert len(web.asked) == 1
    declared = OTHER | {"options": {"fields": {"id": "int64"}}}
    told = notes(tried(api(secure_web, ca_file=str(certificate)), PAGE, declared))
    assert told["tls"].startswith("Warning: TLSv1.3, certificate CN=127.0.0.1")
    assert told["query more"] == "no records yet"


def test_rest_fails_where_it_fails(
    tried: Try, web: Any, secure_web: Any, full: int, silent: int
) -> None:
    def url(host: str, port: int, scheme: str = "http") -> dict[str, Any]:
        return api(web, url=f"{scheme}://{host}:{port}")

    assert failed(tried(url(NOWHERE, 80), PAGE)) == ("dns", "host-not-found")
    assert failed(tried(url("127.0.0.1", free_port()), PAGE)) == ("tcp", "connection-refused")
    assert failed(tried(url("127.0.0.1", full), PAGE)) == ("tcp", "connection-timeout")
    assert failed(tried(url("127.0.0.1", silent, "https"), PAGE)) == ("tls", "connection-timeout")
    assert failed(tried(url("127.0.0.1", web.port, "https"), PAGE)) == ("tls", "tls-protocol")
    assert failed(tried(api(secure_web), PAGE)) == ("tls", "tls-failure")
    web.answers["/rows"] = [web.reply({}, status=401)]
    assert failed(tried(api(web), PAGE)) == ("login", "invalid-credentials")


def test_rest_does_not_hide_the_stream_that_may_be_read(tried: Try, web: Any) -> None:
    web.answers["/rows"] = [web.reply({}, status=403)]
    web.answers["/more"] = [web.reply([{"id": 1}])]
    tested = tried(api(web), PAGE, OTHER)
    assert failed(tested) == ("permission rows", "permission-denied")
    assert passed(tested)["query more"]
    web.answers["/rows"] = [web.reply([{"id": "x"}])]
    followed = {
        "cursor": "id",
        "key": ["id"],
        "mode": "upsert",
        "columns": {"id": {"type": "int64"}},
    }
    tested = tried(api(web), PAGE | followed, OTHER)
    assert failed(tested) == ("query rows", "value-invalid")


def test_rest_waits_for_nobody_during_a_test(tried: Try, web: Any) -> None:
    busy = web.reply({}, status=429, headers={"Retry-After": "60"})
    web.answers["/rows"] = [busy]
    assert failed(tried(api(web), PAGE)) == ("permission rows", "rate-limited")


def test_a_server_of_tokens_that_cannot_be_reached_is_the_one_to_open(tried: Try, web: Any) -> None:
    place = f"127.0.0.1:{free_port()}"
    auth = {
        "type": "oauth2",
        "token_url": f"http://{place}/token",
        "client_id": "me",
        "client_secret": "canary-secret",
    }
    tested = tried(api(web, auth=auth), PAGE)
    assert failed(tested) == ("login", "connection-refused")
    assert tested.wants_firewall
    assert tested.firewall is not None
    assert f"{tested.firewall.destination}:{tested.firewall.port}" == place
