import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiia_pipelines.local.services import AlreadyUp, Running
from aiia_pipelines.local.warden import MARK

URL = "http://127.0.0.1:3000"


def test_a_home_without_a_note_is_not_up(tmp_path: Path) -> None:
    assert Running.read(tmp_path) is None


def test_a_claimed_home_says_who_serves_it_and_where(tmp_path: Path) -> None:
    claimed = Running.claim(tmp_path / "home", URL, "mark")
    assert Running.read(tmp_path / "home") == claimed
    assert (claimed.pid, claimed.url) == (os.getpid(), URL)
    claimed.release(tmp_path / "home")
    assert Running.read(tmp_path / "home") is None


def test_a_note_of_an_ended_process_does_not_count(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    Running.claim(tmp_path, URL, "mark")
    note = tmp_path / "up.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "pid": ended.pid}))
    assert Running.read(tmp_path) is None


def test_a_number_given_to_another_process_does_not_count(tmp_path: Path) -> None:
    Running.claim(tmp_path, URL, "mark")
    note = tmp_path / "up.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "ticks": 1}))
    assert Running.read(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "null"])
def test_a_broken_note_does_not_count(tmp_path: Path, text: str) -> None:
    (tmp_path / "up.json").write_text(text)
    assert Running.read(tmp_path) is None
    assert Running.claim(tmp_path, URL, "mark").pid == os.getpid()


def test_a_home_is_served_once(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from aiia_pipelines.local.services import Running\n"
        "Running.claim(Path(sys.argv[1]), 'http://127.0.0.1:3999', 'mark')\n"
        "print('up', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "up\n"
        with pytest.raises(AlreadyUp, match=f"already up at .*3999 .process {other.pid}."):
            Running.claim(tmp_path, URL, "mine")
        other.kill()
        other.wait()
        assert Running.claim(tmp_path, URL, "mine").pid == os.getpid()


def test_what_a_dead_predecessor_left_is_ended(tmp_path: Path) -> None:
    Running.claim(tmp_path, URL, "former")
    note = tmp_path / "up.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "ticks": 1}))
    with subprocess.Popen(["sleep", "300"], env={MARK: "former", "PATH": "/bin"}) as left:
        try:
            # Until the program is loaded, the process still shows the environment of this one.
            environment = Path(f"/proc/{left.pid}/environ")
            while f"{MARK}=former".encode() not in environment.read_bytes():
                time.sleep(0.01)
            Running.claim(tmp_path, URL, "mine")
            assert left.wait(timeout=5) < 0
        finally:
            left.kill()


def test_a_note_of_somebody_else_is_not_taken_away(tmp_path: Path) -> None:
    mine = Running.claim(tmp_path, URL, "mine")
    later = Running.claim(tmp_path, URL, "later")
    mine.release(tmp_path)
    assert Running.read(tmp_path) == later
