"""The folder: what is found in it, what is kept out, and what is new since the last sync."""

import gzip
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors.base import (
    Position,
    Reading,
    Source,
    SourceFault,
    source_problems,
    stream_problems,
)
from aiia_pipelines.jobs.failures import classify

Opened = Callable[..., Source]
Streams = Callable[..., Stream]
Read = Callable[..., list[tuple[Any, ...]]]
CHANGED = classify(SourceFault("", "source:changed", "source:unavailable")).code


def refused(action: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(SourceFault) as caught:
        action()
    return classify(caught.value).code, str(caught.value)


# -- what may stand in a connector file -----------------------------------------------------


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"root": "data/in"}, ("root",)),
        ({}, ("root",)),
        ({"root": "/data", "max_bytes": 0}, ("max_bytes",)),
        ({"root": "/data", "folder": "x"}, ("folder",)),
    ],
)
def test_mistakes_of_the_source_are_told_at_their_key(
    options: dict[str, Any], path: tuple[str, ...]
) -> None:
    assert [loc for loc, _ in source_problems("files", {"kind": "files"} | options)] == [path]


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"delimiter": ",,"}, ("delimiter",)),
        ({"delimiter": "a"}, ("delimiter",)),
        ({"quote": "\n"}, ("quote",)),
        ({"delimiter": ";", "quote": ";"}, ()),
        ({"encoding": "utf-9"}, ("encoding",)),
        ({"encoding": "rot13"}, ("encoding",)),
        ({"names": ["a", "a"], "header": True}, ()),
        ({"names": ["a"]}, ()),
        ({"decimal": ",", "thousands": ","}, ()),
        ({"true_values": ["x"], "false_values": ["X"]}, ()),
        ({"skip_rows": "2"}, ("skip_rows",)),
        ({"format": "xml"}, ("format",)),
        ({"seperator": ";"}, ("seperator",)),
    ],
)
def test_mistakes_of_a_stream_are_told_at_their_key(
    options: dict[str, Any], path: tuple[str, ...]
) -> None:
    assert [loc for loc, _ in stream_problems("files", options)] == [path]


def test_the_kind_is_loaded_without_arrow_or_the_readers() -> None:
    script = "import sys, aiia_pipelines.connectors.files as f; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    heavy = {"pyarrow", "pandas", "python_calamine", "duckdb"}
    assert heavy.isdisjoint(done.stdout.split())


# -- finding --------------------------------------------------------------------------------


def test_a_folder_that_is_missing_is_source_not_found(open_files: Opened, tmp_path: Path) -> None:
    source = open_files({"root": str(tmp_path / "gone")}, connect=False)
    code, text = refused(source.connect)
    assert (code, str(tmp_path / "gone") in text) == ("source-not-found", True)


def test_a_path_that_finds_no_file_is_source_not_found_unless_stated(
    read_files: Read, tmp_path: Path
) -> None:
    (tmp_path / "folder.csv").mkdir()
    code, text = refused(lambda: read_files("*.csv"))
    assert (code, "'*.csv'" in text) == ("source-not-found", True)
    columns = {"a": {"type": "int64"}}
    assert read_files("*.csv", options={"empty_ok": True}, columns=columns) == [("a",)]


def test_an_empty_file_among_others_is_left_out_when_stated(
    read_files: Read, tmp_path: Path
) -> None:
    (tmp_path / "1.csv").write_bytes(b"")
    (tmp_path / "2.csv").write_bytes(b"a\n1\n")
    assert read_files("*.csv", options={"empty_ok": True}) == [("a",), ("1",)]


def test_names_with_signs_of_patterns_are_found(read_files: Read, tmp_path: Path) -> None:
    (tmp_path / "in [1].csv").write_bytes(b"a\n1\n")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "x.csv").write_bytes(b"a\n2\n")
    assert read_files("in [1].csv") == [("a",), ("1",)]
    assert read_files("**/*.csv") == [("a",), ("2",), ("1",)]


def test_a_file_whose_name_does_not_tell_its_format_needs_it_stated(
    read_files: Read, tmp_path: Path
) -> None:
    (tmp_path / "in.dat").write_bytes(b"a\n1\n")
    code, text = refused(lambda: read_files("in.dat"))
    assert (code, "state `format`" in text) == ("config-invalid", True)
    assert read_files("in.dat", options={"format": "csv"}) == [("a",), ("1",)]


# -- keeping out ----------------------------------------------------------------------------


WAYS_OUT = {
    "absolute": "{base}/secret.csv",
    "up": "../secret.csv",
    "up and down": "../secrets/x.csv",
    "down and up": "sub/../../secret.csv",
    "up by pattern": "../*.csv",
    "link": "link.csv",
    "link by pattern": "li*.csv",
    "linked folder": "up/secret.csv",
    "linked folder by pattern": "up/*.csv",
    "linked folders": "up/secrets/*.csv",
    "chain": "chain.csv",
    "passwords": "passwd.csv",
    "root": "root/etc/passwd",
    "root by pattern": "root/etc/host*",
    "environment": "proc.csv",
    "pipe": "pipe.csv",
    "pipe by pattern": "pi*.csv",
    "socket": "socket.csv",
    "loop": "loop.csv",
    "link to nothing": "gone.csv",
    "device": "null.csv",
    "device in a linked folder": "root/dev/zero",
    "home": "~/secret.csv",
    "variable": "$HOME/secret.csv",
    "address": "file:///etc/passwd",
    "a name that is too long": "x" * 190 + "/" + "*",
}


@pytest.fixture
def fenced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder full of what leads out of it."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secrets").mkdir()
    for secret in (tmp_path / "secret.csv", tmp_path / "secrets" / "x.csv"):
        secret.write_bytes(b"secret\n1\n")
    links = {
        "link.csv": tmp_path / "secret.csv",
        "up": tmp_path,
        "chain.csv": folder / "link.csv",
        "passwd.csv": "/etc/passwd",
        "root": "/",
        "proc.csv": "/proc/self/environ",
        "loop.csv": folder / "loop.csv",
        "gone.csv": folder / "nowhere.csv",
        "null.csv": "/dev/null",
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "pipe.csv")
    monkeypatch.chdir(folder)  # the name of a socket may not be long
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.csv")
    return folder


@pytest.mark.parametrize("way", WAYS_OUT)
def test_nothing_outside_the_root_is_read(
    open_files: Opened, stream: Streams, fenced: Path, way: str
) -> None:
    path = WAYS_OUT[way].format(base=fenced.parent)
    source = open_files({"root": str(fenced)})
    code, _ = refused(lambda: source.columns(stream(path=path, options={"format": "csv"})))
    assert code in {"config-invalid", "source-not-found"}


def test_links_within_the_root_are_followed(read_files: Read, tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "in.csv").write_bytes(b"a\n1\n")
    (tmp_path / "current").symlink_to("v1")
    assert read_files("current/in.csv") == [("a",), ("1",)]


def test_a_file_that_became_a_link_between_listing_and_reading_is_refused(
    open_files: Opened, stream: Streams, fenced: Path
) -> None:
    (fenced / "in.csv").write_bytes(b"secret\n1\n")
    source: Any = open_files({"root": str(fenced)})
    files = source._folder.files(source._listed(stream(path="in.csv")))
    (fenced / "in.csv").unlink()
    (fenced / "in.csv").symlink_to(fenced.parent / "secret.csv")
    assert refused(files[0].open)[0] == "config-invalid"
    (fenced / "in.csv").unlink()
    os.mkfifo(fenced / "in.csv")
    assert refused(files[0].open)[0] == "config-invalid"


# -- changes --------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["append", "rewrite", "replace", "truncate", "remove"])
def test_a_file_that_changes_while_it_is_read_is_a_fault(
    open_files: Opened, stream: Streams, tmp_path: Path, change: str
) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"a\n" + b"1\n" * 3_000_000)
    changes: dict[str, Callable[[], object]] = {
        "append": lambda: path.write_bytes(path.read_bytes() + b"2\n"),
        "rewrite": lambda: path.write_bytes(b"a\n" + b"2\n" * 3_000_000),
        "replace": lambda: (path.unlink(), path.write_bytes(b"a\n" + b"1\n" * 3_000_000)),
        "truncate": lambda: os.truncate(path, 5_000_000),
        "remove": path.unlink,
    }
    batches = open_files().batches(stream(path="in.csv"), Reading(names=["a"]))
    next(batches)
    changes[change]()
    code, text = refused(lambda: list(batches))
    assert (code, "in.csv" in text) == (
        "source-not-found" if change == "remove" else CHANGED, True,
    )  # fmt: skip


def ready(source: Source, wanted: Stream, since: Position | None) -> tuple[list[Any], Position]:
    names = [column.name for column in source.columns(wanted)]
    until = source.position(wanted, Reading(names=names, since=since))
    assert until is not None
    batches = list(source.batches(wanted, Reading(names=names, since=since, until=until)))
    return [row for b in batches for row in b.rows.to_pylist()], until  # type: ignore[union-attr]  # Arrow


def test_only_files_that_are_new_or_changed_are_read(
    open_files: Opened, stream: Streams, tmp_path: Path
) -> None:
    wanted = stream(path="*.csv", mode="append", options={"only_new": True})
    source = open_files()
    (tmp_path / "1.csv").write_bytes(b"a\n1\n")
    (tmp_path / "2.csv").write_bytes(b"a\n2\n")
    first, position = ready(source, wanted, None)
    assert first == [{"0": "1"}, {"0": "2"}]
    assert ready(source, wanted, position) == ([], position)
    (tmp_path / "2.csv").write_bytes(b"a\n22\n")
    (tmp_path / "0.csv").write_bytes(b"a\n0\n")
    second, later = ready(source, wanted, position)
    assert second == [{"0": "0"}, {"0": "22"}]
    assert ready(source, wanted, later)[0] == []
    assert source.rows_until(wanted, Reading(names=["a"])) is None


def test_files_that_come_after_the_position_wait_for_the_next_sync(
    open_files: Opened, stream: Streams, tmp_path: Path
) -> None:
    wanted = stream(path="*.csv", mode="append", options={"only_new": True})
    source = open_files()
    (tmp_path / "1.csv").write_bytes(b"a\n1\n")
    until = source.position(wanted, Reading(names=["a"]))
    (tmp_path / "2.csv").write_bytes(b"a\n2\n")
    reading = Reading(names=["a"], until=until)
    assert sum(map(len, source.batches(wanted, reading))) == 1
    (tmp_path / "1.csv").write_bytes(b"a\n11\n")
    assert "changed" in refused(lambda: list(source.batches(wanted, reading)))[1]


def test_a_broken_reading_goes_on_after_the_last_whole_file(
    open_files: Opened, stream: Streams, tmp_path: Path
) -> None:
    wanted = stream(path="*.csv", mode="append", batch_rows=2, options={"only_new": True})
    source = open_files()
    for n in range(3):
        (tmp_path / f"{n}.csv").write_bytes(b"a\n" + b"%d\n" % n * 3)
    until = source.position(wanted, Reading(names=["a"]))
    batches = list(source.batches(wanted, Reading(names=["a"], until=until)))
    assert [bool(batch.checkpoint) for batch in batches] == [False, True] * 3
    after = batches[3].checkpoint
    rest = source.batches(wanted, Reading(names=["a"], until=until, after=after))
    assert [row for b in rest for row in b.rows.to_pylist()] == [{"0": "2"}] * 3  # type: ignore[union-attr]  # Arrow


def test_new_files_only_do_not_go_with_replace(
    open_files: Opened, stream: Streams, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_bytes(b"a\n1\n")
    wanted = stream(path="in.csv", options={"only_new": True})
    assert refused(lambda: open_files().columns(wanted))[0] == "config-invalid"


# -- Connection Test, and ending ------------------------------------------------------------


def test_the_stages_tell_folder_files_and_a_sample(
    open_files: Opened, stream: Streams, tmp_path: Path
) -> None:
    (tmp_path / "1.csv").write_bytes(b"a\n1\n")
    (tmp_path / "2.csv").write_bytes(b"a\n1\n")
    stages = list(open_files(connect=False).stages([stream(path="*.csv")]))
    assert [(name, run()) for name, run in stages] == [
        ("folder", str(tmp_path)),
        ("permission rows", "2 files"),
        ("query rows", "one row read"),
    ]


def test_the_sample_stage_finds_a_dirty_file(
    open_files: Opened, stream: Streams, tmp_path: Path
) -> None:
    (tmp_path / "1.csv").write_bytes(b"a,b\n1\n")
    *_, (_, sample) = open_files().stages([stream(path="*.csv")])
    assert refused(sample)[0] == "malformed-data"


def open_below(folder: Path) -> list[str]:
    names = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return [name for name in names if name.startswith(str(folder))]


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "in.csv.gz"])
def test_a_reading_that_is_abandoned_leaves_no_file_open(
    open_files: Opened, stream: Streams, tmp_path: Path, name: str
) -> None:
    data = b'{"a": 1}\n' if name == "in.jsonl" else b"a\n"
    plain = data + (b'{"a": 1}\n' if name == "in.jsonl" else b"1\n") * 1000
    (tmp_path / name).write_bytes(gzip.compress(plain) if name.endswith("gz") else plain)
    source, wanted = open_files(), stream(path=name, batch_rows=10)
    source.columns(wanted)
    assert open_below(tmp_path) == []
    batches: Any = source.batches(wanted, Reading(names=["a"]))
    next(batches)
    assert open_below(tmp_path) == [str(tmp_path / name)]
    batches.close()
    assert open_below(tmp_path) == []


def test_a_reading_that_is_cancelled_stops(
    open_files: Opened, stream: Streams, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_bytes(b"a\n" + b"1\n" * 1000)
    source = open_files()
    batches = source.batches(stream(path="in.csv", batch_rows=10), Reading(names=["a"]))
    next(batches)
    source.cancel()
    assert refused(lambda: list(batches))[0] == "cancelled"
    source.close()
    source.close()
