import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest
from mounting import may_mount

from aiia_pipelines.jobs.failures import classify
from aiia_pipelines.sync.destinations import open_destination
from aiia_pipelines.sync.faults import DestinationFault

pytestmark = pytest.mark.integration

FIRST = [(1, "a"), (2, "b"), (3, "c")]
NEXT = [(1, "a"), (2, "B"), (4, "d")]
UPSERT = {"key": ["id"], "mode": "upsert"}
COLUMNS = {"id": "int64", "name": "string"}


@pytest.fixture
def shelf(tmp_path: Path, shelf_at: Any) -> Any:
    return shelf_at(f"duckdb://{tmp_path}/warehouse.duckdb")


def code(fault: pytest.ExceptionInfo[DestinationFault]) -> str:
    return classify(fault.value, side="destination").code


def test_the_file_is_named_and_made_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "warehouse.duckdb"
    destination = open_destination(f"duckdb://{str(path).replace(' ', '%20')}")
    assert destination.describe() == f"duckdb://{path}"
    assert not path.parent.exists()
    destination.connect()
    destination.close()
    destination.close()
    assert path.is_file()


@pytest.mark.parametrize("url", ["duckdb://", "duckdb:///", "duckdb://host/file.duckdb"])
def test_a_url_without_the_path_of_a_file_is_refused(url: str) -> None:
    with pytest.raises(DestinationFault, match=r"as in duckdb:///data/warehouse\.duckdb") as told:
        open_destination(url)
    assert code(told) == "config-invalid"


@pytest.mark.parametrize("url", ["", "warehouse", "mysql://u:canary-1@h/d", "DuckDB"])
def test_a_url_of_no_known_destination_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(DestinationFault, match="set AIIA_DESTINATION_<NAME>") as told:
        open_destination(url)
    assert code(told) == "config-invalid"
    assert "canary" not in str(told.value)


def test_a_file_that_another_process_has_open_is_a_passing_fault(shelf: Any) -> None:
    shelf.sync(FIRST)
    path = shelf.url.removeprefix("duckdb://")
    program = f"import duckdb; db = duckdb.connect({path!r}); print('open', flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(DestinationFault, match="Could not set lock on file") as told:
            shelf.open()
        assert classify(told.value, side="destination").transient
        assert told.value.signals[0] == "file:locked"
    finally:
        other.communicate(b"\n")
    assert shelf.sync(NEXT, **UPSERT | {"mode": "replace"}) == (1, 1, 1, 1)


def test_a_file_that_is_no_database_is_told(shelf: Any) -> None:
    Path(shelf.url.removeprefix("duckdb://")).write_bytes(b"id,name\n" * 1000)
    with pytest.raises(DestinationFault, match="not a valid DuckDB database") as told:
        shelf.open()
    assert code(told) == "malformed-data"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DestinationFault, match="cannot be made: File exists"):
        open_destination(f"duckdb://{tmp_path}/file/warehouse.duckdb").connect()


@pytest.mark.parametrize(
    "more", [{}, {"key": ["id"]}, UPSERT, {"key": ["id"], "mode": "history"}, {"mode": "append"}]
)
def test_a_reader_of_the_same_process_keeps_its_version(shelf: Any, more: dict[str, Any]) -> None:
    shelf.sync(FIRST, **more)
    with closing(duckdb.connect(shelf.url.removeprefix("duckdb://"))) as reader:
        reader.execute("create view main.names as select name from sap_erp.rows")
        reader.execute("begin")
        query = "select id, name from sap_erp.rows order by all"
        assert reader.execute(query).fetchall() == FIRST
        shelf.sync(NEXT, **more)
        assert reader.execute(query).fetchall() == FIRST
        reader.execute("commit")
        found = reader.execute(query).fetchall()
        assert {(2, "B"), (4, "d")} <= set(found)
        names = reader.execute("select * from main.names").fetchall()
        assert sorted(names) == sorted((name,) for _, name in found)


def test_no_reader_ever_sees_a_part(shelf: Any) -> None:
    shelf.sync(FIRST, key=["id"])
    seen: set[tuple[Any, ...]] = set()
    ended = threading.Event()

    def watch() -> None:
        with closing(duckdb.connect(shelf.url.removeprefix("duckdb://"))) as reader:
            while not ended.is_set():
                query = "select name from sap_erp.rows order by id"
                seen.add(tuple(name for (name,) in reader.execute(query).fetchall()))

    thread = threading.Thread(target=watch)
    thread.start()
    for rows in (NEXT, FIRST, NEXT):
        shelf.sync(rows, key=["id"])
    ended.set()
    thread.join()
    assert seen <= {("a", "b", "c"), ("a", "B", "d")}


def test_staged_rows_never_get_into_the_file(shelf: Any) -> None:
    shelf.sync(FIRST)
    path = Path(shelf.url.removeprefix("duckdb://"))
    with closing(shelf.open()) as destination:
        rows = [(place, "canary" * 100) for place in range(3000)]
        landing = shelf.stage(rows, shelf.load(COLUMNS), destination=destination)
        landing.match(complete=True)
        files = [file for file in path.parent.iterdir() if file.name != f"{path.name}.spill"]
        assert not any(b"canary" in file.read_bytes() for file in files)
        landing.discard()
    assert shelf.rows() == FIRST
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_table_that_somebody_changed_since_the_match_is_left_alone(shelf: Any) -> None:
    shelf.sync(FIRST, **UPSERT)
    with closing(shelf.open()) as destination:
        landing = shelf.stage(NEXT, shelf.load(COLUMNS, **UPSERT), destination=destination)
        changes = landing.match(complete=True)
        with closing(duckdb.connect(shelf.url.removeprefix("duckdb://"))) as other:
            other.execute("update sap_erp.rows set name = 'x' where id = 1")
        with pytest.raises(DestinationFault, match="somebody else changed its rows") as told:
            landing.commit(3, changes, None)
        assert code(told) == "destination-conflict"
        landing.discard()
    assert shelf.rows() == [(1, "x"), (2, "b"), (3, "c")]


def test_two_commits_at_the_same_moment_do_not_both_happen(shelf: Any) -> None:
    shelf.sync(FIRST, **UPSERT)
    with closing(shelf.open()) as destination:
        landing = shelf.stage(NEXT, shelf.load(COLUMNS, **UPSERT), destination=destination)
        changes = landing.match(complete=True)
        with closing(duckdb.connect(shelf.url.removeprefix("duckdb://"))) as other:
            other.execute("begin")
            other.execute("update _aiia.lease set taken_at = now()")
            with pytest.raises(DestinationFault, match="Conflict on") as told:
                landing.commit(3, changes, None)
            assert code(told) == "destination-conflict"
            other.execute("rollback")
        landing.commit(3, changes, None)
        landing.discard()
    assert (4, "d") in shelf.rows()


def test_what_duckdb_says_about_a_value_is_not_repeated(shelf: Any) -> None:
    with closing(shelf.open()) as destination:
        landing = destination.land(shelf.load({"id": "uuid"}))
        batch = shelf.load({"id": "string"}).contract.parse([("canary-4711",)], 1)
        with pytest.raises(DestinationFault, match="refused: ConversionException") as told:
            landing.stage(batch)
        assert "canary" not in str(told.value)
        landing.discard()


def load_all(landing: Any, batch: Any) -> None:
    landing.stage(batch)
    landing.commit(batch.num_rows, landing.match(complete=True), None)


MAY_MOUNT = may_mount()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A disk of 6 MiB, where this user may make one."""
    if not MAY_MOUNT:
        yield None
        return
    folder = tmp_path / f"small_{time.monotonic_ns()}"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=False)


@pytest.mark.parametrize("scheme", ["duckdb", "parquet"])
def test_a_full_disk_is_told_and_the_old_rows_stay(
    small_disk: Path | None, shelf_at: Any, scheme: str
) -> None:
    if small_disk is None:
        return
    shelf = shelf_at(f"{scheme}://{small_disk}/{scheme}")
    shelf.sync(FIRST, **UPSERT)
    rows = [(place, os.urandom(3000).hex()) for place in range(3000)]
    with closing(shelf.open()) as destination:
        load = shelf.load(COLUMNS, **UPSERT)
        landing = destination.land(load)
        with pytest.raises(DestinationFault, match="No space left on device") as told:
            load_all(landing, load.contract.parse(rows, 1))
        assert code(told) == "destination-disk-full"
        with suppress(DestinationFault):
            landing.discard()
    assert shelf.rows() == FIRST
    assert shelf.sync(NEXT, **UPSERT) == (1, 1, 1, 0)


def violations(line: dict[str, Any]) -> list[str]:
    """Find what must not be after a kill, and after the attempt that follows it."""
    append = line["mode"] == "append"
    before, number = line["before"], line["number"]
    found = []
    for name in ("left", "after"):
        state = line[name]
        if not isinstance(state, dict):
            found.append(f"{name}: {state}")
            continue
        new = state["known"]
        newest = number if new else before
        if state["position"] != newest:
            found.append(f"{name}: the position and the ledger disagree")
        if set(state["names"].values()) != {3000} or f"n{newest}" not in state["names"]:
            found.append(f"{name}: the rows and the ledger disagree")
        if not append and len(state["names"]) != 1:
            found.append(f"{name}: rows of two states")
        if (number in state["aside"]) != new or len(set(state["aside"])) != len(state["aside"]):
            found.append(f"{name}: what was set aside and the ledger disagree")
        if sum(state["names"].values()) != state["live"]:
            found.append(f"{name}: live rows are miscounted")
    if not line["after"]["known"]:
        found.append("the next attempt did not commit")
    return found


@pytest.mark.parametrize("place", ["duckdb://{}/w.duckdb", "parquet://{}/lake"])
def test_a_sync_that_is_killed_at_any_point_leaves_the_old_rows_or_the_new(
    tmp_path: Path, place: str
) -> None:
    program = Path(__file__).with_name("killed_syncs.py")
    url = place.format(tmp_path)
    ended = subprocess.run(
        [sys.executable, str(program), url, "12", "4"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(lines) == 12
    assert {line["number"]: violations(line) for line in lines if violations(line)} == {}
    assert sum(line["killed"] for line in lines) > 6
    # What the killed ones staged is gone with the syncs that followed.
    assert not list(tmp_path.glob("lake/_tmp/*"))
    assert not list(tmp_path.glob("*.spill"))
