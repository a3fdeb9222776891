import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aiia_pipelines.jobs.failures import classify
from aiia_pipelines.sync.destinations import _parquet_commit as commits
from aiia_pipelines.sync.destinations import _parquet_log as logs
from aiia_pipelines.sync.destinations import open_destination
from aiia_pipelines.sync.destinations._parquet_files import Parts, schema_of
from aiia_pipelines.sync.destinations._parquet_log import Log, Version
from aiia_pipelines.sync.destinations._parquet_s3 import S3Store
from aiia_pipelines.sync.destinations._parquet_store import (
    LocalStore,
    Store,
    _maker,
    scratch_folder,
)
from aiia_pipelines.sync.destinations.parquet import read
from aiia_pipelines.sync.faults import DestinationFault

pytestmark = pytest.mark.integration

FIRST = [(1, "a"), (2, "b"), (3, "c")]
NEXT = [(1, "a"), (2, "B"), (4, "d")]
UPSERT = {"key": ["id"], "mode": "upsert"}
COLUMNS = {"id": "int64", "name": "string"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def shelf(root: Path, shelf_at: Any) -> Any:
    return shelf_at(f"parquet://{root}")


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        opened: Store = LocalStore(tmp_path / "lake")
    else:
        opened = S3Store(request.getfixturevalue("s3_shelf").url)
    opened.connect(writes=True)
    return opened


def code(fault: pytest.ExceptionInfo[DestinationFault]) -> str:
    return classify(fault.value, side="destination").code


def latest(root: Path, stream: str = "rows") -> Any:
    path = max((root / "sap_erp" / stream / "_log").glob("*.json"))
    return json.loads(path.read_text(encoding="utf-8"))


def data(root: Path) -> set[str]:
    return {path.name for path in (root / "sap_erp" / "rows" / "data").iterdir()}


# -- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["parquet://", "parquet:///", "file://host/lake", "parquet:///l?x=1"]
)
def test_a_url_without_the_path_of_a_folder_is_refused(url: str) -> None:
    with pytest.raises(DestinationFault, match=r"as in parquet:///data/lake") as told:
        open_destination(url)
    assert code(told) == "config-invalid"


@pytest.mark.parametrize(
    "url", ["s3://", "s3://AKIA:canary@bucket/x", "s3://bucket/x?secret=canary", "s3:///x"]
)
def test_credentials_in_the_url_of_a_bucket_are_refused(url: str) -> None:
    with pytest.raises(DestinationFault, match="without credentials") as told:
        open_destination(url)
    assert code(told) == "config-invalid"
    assert "canary" not in str(told.value)


def test_a_destination_is_named_by_its_place(tmp_path: Path) -> None:
    assert open_destination("file:///data/a%20b").describe() == "parquet:///data/a b"
    named = open_destination(
        "s3://bucket/lake/?endpoint_url=http://127.0.0.1:1&region=x"
    ).describe()
    assert named == "s3://bucket/lake"
    (tmp_path / "file").write_text("")
    with pytest.raises(DestinationFault, match="cannot be written: File exists"):
        open_destination(f"parquet://{tmp_path}/file").connect()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"AWS_ACCESS_KEY_ID": "WRONG"}, "destination-login"),
        ({"AWS_SECRET_ACCESS_KEY": "canary-wrong"}, "destination-login"),
        ({"bucket": "no-such-bucket"}, "destination-login"),
        ({"endpoint": "http://127.0.0.1:1"}, "destination-unreachable"),
    ],
)
def test_a_bucket_that_refuses_has_a_code_of_its_own(
    s3_server: Any,
    s3_shelf: Any,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    expected: str,
) -> None:
    url = s3_shelf.url
    for name, value in change.items():
        if name == "bucket":
            url = f"s3://{value}/x?{url.partition('?')[2]}"
        elif name == "endpoint":
            url = url.replace(s3_server.endpoint, value)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(DestinationFault) as told:
        open_destination(url).connect()
    assert code(told) == expected, (told.value, told.value.signals)
    assert "canary" not in str(told.value)


def test_without_credentials_that_is_what_is_told(
    s3_shelf: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(DestinationFault, match="boto3 finds no credentials") as told:
        open_destination(s3_shelf.url).connect()
    assert code(told) == "destination-login"


# -- stores ---------------------------------------------------------------------------------


def test_of_many_who_take_a_name_exactly_one_gets_it(store: Store) -> None:
    for race in range(3):
        name = f"c/s/_log/{race:020}.json"
        with ThreadPoolExecutor(8) as threads:
            made = list(
                threads.map(lambda n, name=name: store.put_new(name, f"{n}".encode()), range(8))
            )
        assert sum(made) == 1
        assert store.read(name) == str(made.index(True)).encode()
    assert len(store.names("c/s/_log")) == 3
    assert store.names("c/s/nothing") == []
    assert store.read("c/s/_log/none") is None


def test_an_answer_that_was_lost_is_no_lost_race(s3_shelf: Any) -> None:
    store = S3Store(s3_shelf.url)
    store.connect(writes=True)
    assert store.put_new("x", b"mine")
    assert store.put_new("x", b"mine")
    assert not store.put_new("x", b"another's")


def test_a_listing_has_every_name_however_many(s3_shelf: Any) -> None:
    store = S3Store(s3_shelf.url)
    store.connect(writes=True)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: store.put_new(f"f/{n}", b"x"), range(1005)))
    assert len(store.names("f")) == 1005


def test_a_listing_has_what_is_there_while_other_files_come_and_go(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert store.put_new("log/1.json", b"{}")
    ended = threading.Event()

    def others() -> None:
        while not ended.is_set():
            made = [tmp_path / "log" / f".{n}.tmp" for n in range(20)]
            for path in made:
                path.touch()
            for path in made:
                path.unlink()

    busy = threading.Thread(target=others)
    busy.start()
    try:
        for _ in range(3000):
            assert "log/1.json" in {entry.name for entry in store.names("log")}
    finally:
        ended.set()
        busy.join()


def test_folders_of_processes_that_died_while_making_them_are_removed(tmp_path: Path) -> None:
    program = (
        "import os, sys, signal\nfrom pathlib import Path\n"
        "from aiia_pipelines.sync.destinations import _parquet_store as store\n"
        "store.fcntl.flock = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "store.scratch_folder(Path(sys.argv[1])).__enter__()\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    here = left.name.rpartition("-")[0]
    elsewhere = tmp_path / here.replace(socket.gethostname(), "other-host")
    recent, old = Path(f"{elsewhere}-recent"), Path(f"{elsewhere}-old")
    for folder in (recent, old):
        folder.mkdir()
    os.utime(old, (0, 0))
    mine = tmp_path / f"aiia-new-{_maker(os.getpid())}-abc"
    mine.mkdir()
    with scratch_folder(tmp_path) as made:
        assert sorted(tmp_path.iterdir()) == sorted([made, mine, recent])


def test_what_is_published_has_its_name_with_all_its_content(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "part"
    content = os.urandom(200_000)
    path.write_bytes(content)
    store.publish(path, "c/s/data/x.parquet")
    assert store.read("c/s/data/x.parquet") == content
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert store.local("c/s/data/x.parquet", scratch).read_bytes() == content
    store.remove("c/s/data/x.parquet")
    store.remove("c/s/data/x.parquet")
    assert store.read("c/s/data/x.parquet") is None


def test_a_file_is_on_the_disk_before_its_name_is(
    root: Path, shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def told(name: str, real: Callable[..., Any], show: Callable[..., str]) -> None:
        def spy(*given: Any, **more: Any) -> Any:
            done.append(f"{name} {show(*given)}")
            return real(*given, **more)

        monkeypatch.setattr(os, name, spy)

    def kind(path: Any) -> str:
        suffix = Path(os.fspath(path)).suffix
        return suffix.removeprefix(".") or Path(os.fspath(path)).name

    told("fsync", os.fsync, lambda number: kind(Path(f"/proc/self/fd/{number}").readlink()))
    told("link", os.link, lambda _, target: kind(target))
    told("rename", os.rename, lambda _, target: kind(target))
    shelf.sync(FIRST, rejected=[(1, "", "r", "{}")])
    wanted = [
        "fsync parquet", "rename parquet", "fsync data",  # the rows
        "fsync parquet", "rename parquet", "fsync data",  # the quarantine
        "fsync tmp", "link json", "fsync _log",
    ]  # fmt: skip
    # Besides, every new folder is made to last in its parent.
    folders = {"fsync lake", "fsync sap_erp", "fsync rows", "fsync rows__quarantine"}
    assert [step for step in done if step not in folders and "aiia-parquet" not in step] == wanted
    assert folders <= set(done)


# -- commits --------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_of_many_commits_at_the_same_moment_exactly_one_wins(
    place: str, root: Path, shelf_at: Any, request: pytest.FixtureRequest
) -> None:
    url = f"parquet://{root}" if place == "folder" else request.getfixturevalue("s3_shelf").url
    shelf = shelf_at(url)
    shelf.sync(FIRST, mode="append")
    start = threading.Barrier(6)

    def race(number: int) -> bool:
        with closing(shelf.open()) as destination:
            load = shelf.load(COLUMNS, mode="append", run_key=f"racer-{number}/rows")
            landing = shelf.stage([(number, "racer")], load, destination=destination)
            changes = landing.match(complete=False)
            start.wait()
            try:
                landing.commit(1, changes, None)
            except DestinationFault:
                return False
            finally:
                landing.discard()
        return True

    with ThreadPoolExecutor(6) as threads:
        won = list(threads.map(race, range(10, 16)))
    assert sum(won) == 1
    assert sorted(shelf.rows()) == [*FIRST, (10 + won.index(True), "racer")]


def test_a_run_that_slept_while_its_number_was_used_and_removed_does_not_commit(
    shelf: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "KEPT_VERSIONS", 2)
    shelf.sync(FIRST, mode="append")
    with closing(shelf.open()) as destination:
        load = shelf.load(COLUMNS, mode="append", run_key="sleeper/rows")
        landing = shelf.stage([(9, "sleeper")], load, destination=destination)
        changes = landing.match(complete=False)
        for number in range(10, 15):
            shelf.sync([(number, "awake")], mode="append")
        assert not (root / f"sap_erp/rows/_log/{2:020}.json").exists()
        with pytest.raises(DestinationFault, match="Another run committed") as told:
            landing.commit(1, changes, None)
        assert code(told) == "destination-conflict"
        assert landing.committed_before() is None
        landing.discard()
    assert [name for _, name in shelf.rows()].count("awake") == 5
    assert (9, "sleeper") not in shelf.rows()


def test_what_is_told_when_sealing_undoes_the_commit(shelf: Any, root: Path) -> None:
    shelf.sync(FIRST)
    before = data(root)

    def refuse() -> None:
        raise RuntimeError("somebody cancelled")

    with closing(shelf.open()) as destination:
        landing = shelf.stage(NEXT, shelf.load(COLUMNS), destination=destination)
        changes = landing.match(complete=True)
        with pytest.raises(RuntimeError, match="somebody cancelled"):
            landing.commit(3, changes, None, seal=refuse)
        landing.discard()
    assert shelf.rows() == FIRST
    assert data(root) == before


def test_readers_see_whole_versions_only(shelf: Any) -> None:
    shelf.sync(FIRST, key=["id"])
    seen: set[tuple[Any, ...]] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            seen.add(tuple(shelf.rows("name")))

    thread = threading.Thread(target=watch)
    thread.start()
    for rows in (NEXT, FIRST, NEXT, FIRST):
        shelf.sync(rows, key=["id"])
    ended.set()
    thread.join()
    assert seen <= {tuple((name,) for _, name in rows) for rows in (FIRST, [(1, "B"), (1, "a"), (1, "d")])} | {
        tuple(sorted(((name,) for _, name in rows), key=str)) for rows in (FIRST, NEXT)
    }  # fmt: skip


def test_files_that_no_log_names_are_invisible(shelf: Any, root: Path) -> None:
    shelf.sync(FIRST, **UPSERT)
    folder = root / "sap_erp" / "rows"
    (folder / "data" / "torn.parquet").write_bytes(b"PAR1torn")
    (folder / "_log" / ".0123.tmp").write_bytes(b'{"version": 99')
    (folder / "_log" / "notes.json").write_bytes(b"[]")
    assert shelf.rows() == FIRST
    assert shelf.sync(NEXT, **UPSERT) == (1, 1, 1, 0)


def test_only_files_with_changed_rows_are_written_anew(shelf: Any, root: Path) -> None:
    for start in (0, 10, 20):
        rows = [(number, "a") for number in range(start, start + 10)]
        shelf.sync(rows, mode="append", key=[])
    old = {file["path"]: file["rows"] for file in latest(root)["files"]}
    assert sorted(old.values()) == [10, 10, 10]
    assert shelf.sync([(15, "b"), (99, "new")], complete=False, **UPSERT) == (1, 1, 0, 0)
    new = {file["path"]: file["rows"] for file in latest(root)["files"]}
    assert len(old.keys() & new.keys()) == 2
    assert sum(new.values()) == 31
    assert shelf.sync([(15, "b")], complete=False, **UPSERT) == (0, 0, 1, 0)
    assert {file["path"] for file in latest(root)["files"]} == new.keys()
    assert len(shelf.rows()) == 31


def test_appending_writes_no_file_of_before_again(shelf: Any, root: Path) -> None:
    shelf.sync(FIRST, mode="append")
    before = data(root)
    shelf.sync(NEXT, mode="append")
    assert before < data(root)
    assert len(data(root)) == 2


def test_what_readers_may_need_stays(shelf: Any, root: Path) -> None:
    shelf.sync(FIRST)
    folder = root / "sap_erp" / "rows" / "data"
    for name, age in (("dead", 100_000), ("under-way", 10)):
        path = folder / f"{name}.parquet"
        path.write_bytes(b"PAR1")
        os.utime(path, (time.time() - age, time.time() - age))
    for _ in range(4):
        shelf.sync(NEXT)
    # Five versions within the hour, and the file of an attempt under way.
    assert len(data(root)) == 6
    assert "dead.parquet" not in data(root)


def test_files_go_when_readers_had_their_time(
    shelf: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "READERS_HAVE", 0.0)
    for _ in range(4):
        shelf.sync(FIRST)
        shelf.sync(NEXT)
    # This version and the two before it.
    assert len(data(root)) == 3
    assert {Path(file["path"]).name for file in latest(root)["files"]} < data(root)
    assert len(latest(root)["retired"]) <= 4
    assert shelf.rows() == NEXT


def test_a_stream_remembers_its_last_commits_only_so_far(
    shelf: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "KEPT_VERSIONS", 3)
    monkeypatch.setattr(commits, "KEPT_VERSIONS", 3)
    for number in range(6):
        shelf.sync(FIRST, run_key=f"run-{number}/rows", key=["id"])
    assert sorted(latest(root)["runs"]) == ["run-3/rows", "run-4/rows", "run-5/rows"]
    assert len(list((root / "sap_erp/rows/_log").glob("*.json"))) == 3


def test_a_clock_that_goes_back_does_not_take_history_with_it(shelf: Any, root: Path) -> None:
    history = {"key": ["id"], "mode": "history"}
    shelf.sync(FIRST, **history)
    path = root / f"sap_erp/rows/_log/{1:020}.json"
    entry = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(entry | {"at": "2099-01-01T00:00:00+00:00"}), encoding="utf-8")
    shelf.sync(NEXT, **history)
    assert latest(root)["at"] == "2099-01-01T00:00:00.000001+00:00"


def test_a_version_is_read_as_it_was_written() -> None:
    told = Version(
        version=3, attempt="a", run_key="r", mode="append", at="2026-01-31T00:00:00+00:00", rows=1,
        changes={"inserted": 1, "updated": 0, "unchanged": 0, "deleted": 0}, position={"c": [1, None]},
        columns={"id": "int64"}, files=[logs.DataFile("x", 1)], quarantine=[logs.DataFile("q", 2)],
        retired=[logs.Retired("y", 2, 1.5)], runs={"r": 3},
    )  # fmt: skip
    assert Version.load(told.dump()) == told
    assert Version.load(replace(told, position=None).dump()).position is None


def test_a_log_without_entries_has_no_version(root: Path) -> None:
    log = Log(LocalStore(root), "c/s")
    assert log.latest() is None
    assert log.version(7) is None
    assert read(f"parquet://{root}", "c", "s").num_columns == 0


def test_a_version_whose_files_are_gone_is_told(shelf: Any, root: Path) -> None:
    shelf.sync(FIRST)
    for name in data(root):
        (root / "sap_erp/rows/data" / name).unlink()
    with pytest.raises(DestinationFault, match=r"Files of sap_erp\.rows are missing") as told:
        shelf.rows()
    assert code(told) == "malformed-data"


# -- files ----------------------------------------------------------------------------------


def test_row_groups_and_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiia_pipelines.sync.destinations._parquet_files._PART_BYTES", 100_000)
    parts = Parts(tmp_path, "x", schema_of({"id": "int64", "v": "binary"}))
    ids = pa.array(range(50_000), pa.int64())
    for _ in range(4):
        noise = pa.array([os.urandom(6) for _ in range(50_000)], pa.binary())
        parts.write(pa.record_batch([ids, noise], names=["id", "v"]))
    done = parts.finish()
    assert sum(rows for _, rows in done) == parts.rows == 200_000
    assert len(done) == 2
    for path, rows in done:
        meta = pq.ParquetFile(path).metadata
        assert meta.num_rows == rows
        assert max(meta.row_group(n).num_rows for n in range(meta.num_row_groups)) <= 131_072


def test_files_say_what_their_columns_are(shelf: Any, root: Path) -> None:
    columns = {
        "id": "int64",
        "doc": "json",
        "key": "uuid",
        "took": "interval",
        "d": "decimal(18,2)",
    }
    shelf.sync([(1, "{}", "00000000-0000-0000-0000-000000000007", "1 mon", None)], columns)
    (name,) = data(root)
    schema = pq.read_schema(root / "sap_erp/rows/data" / name)
    kinds = {entry.name: entry.metadata[b"aiia:type"].decode() for entry in schema}
    assert kinds == columns
    assert schema.field("d").type == pa.decimal128(18, 2)
    assert shelf.table().schema.field("doc").metadata == {b"aiia:type": b"json"}
