import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aiia_pipelines.local.cluster import _fault
from aiia_pipelines.local.faults import EmbeddedFault, EmbeddedMissing
from aiia_pipelines.local.files import last_lines, roll, write_whole
from aiia_pipelines.local.passwords import Passwords
from aiia_pipelines.local.ports import free_port, port_taken, postgres_answers
from aiia_pipelines.local.postgres import EmbeddedPostgres
from aiia_pipelines.local.processes import alive, command, started_at


def test_a_password_is_made_once_and_kept(tmp_path: Path) -> None:
    passwords = Passwords(tmp_path)
    assert passwords.known("aiia") is None
    first = passwords.of("aiia")
    assert len(first) >= 40
    assert Passwords(tmp_path).of("aiia") == first
    assert stat.S_IMODE((tmp_path / "secrets" / "aiia").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700


def test_the_file_of_libpq_has_one_line_a_user_and_keeps_foreign_ones(tmp_path: Path) -> None:
    passwords = Passwords(tmp_path)
    passwords.pgpass.write_text("elsewhere:5432:*:me:mine\n127.0.0.1:*:*:aiia:old\n")
    passwords.of("aiia")
    passwords.of("aiia_app")
    passwords.of("aiia")
    assert passwords.pgpass.read_text().splitlines() == [
        "elsewhere:5432:*:me:mine",
        f"127.0.0.1:*:*:aiia:{passwords.known('aiia')}",
        f"127.0.0.1:*:*:aiia_app:{passwords.known('aiia_app')}",
    ]
    assert stat.S_IMODE(passwords.pgpass.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["../aiia", "a/b", "", "Aiia", "a b", "x" * 64, "a:b"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no role name"):
        Passwords(tmp_path).of(name)


def test_a_server_never_started_has_no_port(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    assert server.running() is False
    with pytest.raises(EmbeddedFault, match="never started"):
        server.url("aiia")


def test_a_missing_wheel_is_said_with_both_ways_out() -> None:
    assert "aiia-pipelines[embedded]" in str(EmbeddedMissing())
    assert "AIIA_DATABASE_URL" in str(EmbeddedMissing())


def test_a_python_without_the_wheel_gets_that_sentence(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from aiia_pipelines.local.postgres import EmbeddedMissing, EmbeddedPostgres\n"
        "try:\n    EmbeddedPostgres(Path(sys.argv[2])).start()\n"
        "except EmbeddedMissing as fault:\n    print(fault)\n"
    )
    root = Path(__file__).parents[2]
    # without site-packages there is no wheel
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, root, tmp_path / "home"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip() == str(EmbeddedMissing())
    assert not (tmp_path / "home" / "postgres" / "place").exists()


def test_a_full_disk_is_said_as_such() -> None:
    fault = _fault("It did not start", ("x FATAL:  could not write: No space left on device",))
    assert str(fault) == "It did not start: the disk is full; free some space and start again."


def test_the_worst_line_of_a_log_becomes_the_reason() -> None:
    fault = _fault("It did not start", ("a LOG:  one", "b FATAL:  two is wrong", "c LOG:  three"))
    assert str(fault) == "It did not start: two is wrong."
    assert len(fault.log) == 3


def test_a_port_is_taken_while_somebody_listens() -> None:
    port = free_port()
    assert not port_taken("127.0.0.1", port)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        assert port_taken("127.0.0.1", port)
        assert not postgres_answers("127.0.0.1", port, timeout=0.1)
    assert not postgres_answers("127.0.0.1", port)


def test_a_zombie_is_not_alive() -> None:
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{child.pid}").exists()
        assert not alive(child.pid)


def test_a_process_is_known_by_number_and_start() -> None:
    assert started_at(os.getpid()) == started_at(os.getpid())
    assert command(os.getpid())
    assert started_at(2**22 + 1) is None
    assert command(2**22 + 1) == ()


def test_a_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "note"
    path.write_text("old and much longer")
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["note"]


def test_the_end_of_a_log_is_read_from_where_it_was(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_lines(log) == ()
    log.write_text("one\ntwo\n\nthree\n")
    assert last_lines(log, 2) == ("two", "three")
    assert last_lines(log, since=4) == ("two", "three")


def test_a_long_log_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert roll(log, limit=5) == 0
    log.write_text("1234")
    assert roll(log, limit=5) == 4
    log.write_text("12345")
    assert roll(log, limit=5) == 0
    assert (tmp_path / "log.1").read_text() == "12345"
