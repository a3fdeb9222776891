"""Hostile files end with a clear verdict, within bounds of time and memory."""

import bz2
import gzip
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aiia_pipelines.connectors._tabular_pages import page_sizes
from aiia_pipelines.connectors.base import SourceFault
from aiia_pipelines.jobs.failures import classify

pytestmark = pytest.mark.slow

MIB = 1 << 20
VERDICTS = {"malformed-data", "resource-limit", "value-invalid"}
Read = Callable[..., list[tuple[Any, ...]]]

# Reads every file of a folder in a process of its own, and tells the verdicts and its peak of memory.
READER = """
import json, sys
from pathlib import Path
from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors.base import Reading, SourceFault, open_source
from aiia_pipelines.jobs.failures import classify

source = open_source({"kind": "files", "root": sys.argv[1]})
source.connect()
found = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    stream = Stream(name="rows", path=path.name)
    try:
        names = [column.name for column in source.columns(stream)]
        rows = sum(len(batch) for batch in source.batches(stream, Reading(names=names)))
        found[path.name] = [f"{rows} rows", ""]
    except SourceFault as fault:
        found[path.name] = [classify(fault).code, str(fault)]
# Not ru_maxrss, which begins with the size of the process that started this one.
peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
print(json.dumps([found, peak]))
"""


def squeezed(path: Path, pattern: bytes, pack: Callable[[bytes], bytes]) -> None:
    """Write 200 MiB of a pattern, after a header, as one compressed MiB over and over."""
    path.write_bytes(pack(b"h,i\n") + pack(pattern * (MIB // len(pattern))) * 200)


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


def archived(path: Path, members: dict[str, tuple[bytes, int]]) -> None:
    """Write members that repeat a pattern up to a size."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (pattern, size) in members.items():
            with archive.open(name, "w") as out:
                left = size
                while left > 0:
                    block = pattern * max(1, min(MIB, left) // len(pattern))
                    out.write(block)
                    left -= len(block)


def workbook(path: Path, sheet: tuple[bytes, int], texts: bytes = b"") -> None:
    """Write a workbook around the XML of a sheet."""
    book = openpyxl.Workbook()
    book.active["A1"] = "text"
    book.save(path)
    with zipfile.ZipFile(path) as plain:
        parts = {name: (plain.read(name), 1) for name in plain.namelist()}
    space = b' xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    head, size = sheet
    parts["xl/worksheets/sheet1.xml"] = (head.replace(b"<worksheet>", b"<worksheet" + space), size)
    if texts:
        parts["xl/sharedStrings.xml"] = (b"<sst" + space + texts + b"</sst>", 1)
    archived(path, parts)


def stored(path: Path, column: pa.Array, **how: Any) -> None:
    pq.write_table(pa.table({"a": column}), path, compression="zstd", **how)


def parquet_bombs(folder: Path) -> None:
    once = pa.array([0] * 200_000, pa.int32())
    stored(folder / "repeated.parquet", pa.DictionaryArray.from_arrays(once, ["x" * MIB]))
    stored(folder / "cell.parquet", pa.array([["y" * 1000] * 100_000]))
    stored(folder / "page.parquet", pa.array(["z" * MIB] * 300), use_dictionary=False)
    wide = pa.table([pa.array([1])] * 20_000, names=[f"c{n}" for n in range(20_000)])
    pq.write_table(wide, folder / "wide.parquet")
    # The footer of a small file after the pages of a large one.
    pages = (folder / "page.parquet").read_bytes()
    stored(folder / "small.parquet", pa.array(["z"]), use_dictionary=False)
    footer = (folder / "small.parquet").read_bytes()
    size = int.from_bytes(footer[-8:-4], "little") + 8
    (folder / "small.parquet").unlink()
    (folder / "lying.parquet").write_bytes(pages[:-1000] + footer[-size:])


def bombs(folder: Path) -> None:
    parquet_bombs(folder)
    squeezed(folder / "rows.csv.gz", b"a,b\n", gzip.compress)
    squeezed(folder / "line.csv.gz", b"a", gzip.compress)
    squeezed(folder / "quote.csv.gz", b'"\n', gzip.compress)
    squeezed(folder / "rows.csv.bz2", b"a,b\n", bz2.compress)
    (folder / "line.jsonl.gz").write_bytes(gzip.compress(b" " * MIB + b"{") * 200)
    (folder / "array.json.gz").write_bytes(gzip.compress(b'[{"a":1},' * (MIB // 9)) * 200)
    squeezed(folder / "rows.csv.zst", b"a,b\n", zstd)
    archived(folder / "bomb.zip", {"in.csv": (b"a,b\n", 100 * MIB)})
    archived(folder / "members.zip", {f"{n}.csv": (b"a\n", 1) for n in range(12_000)})
    deep = '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"
    (folder / "deep.json").write_text(deep)
    (folder / "deep.jsonl").write_text(deep)
    workbook(folder / "large.xlsx", (b"<worksheet>    </worksheet>", 100 * MIB))
    far = b'<worksheet><sheetData><row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData></worksheet>'
    workbook(folder / "far.xlsx", (far, 1))
    row = b"<row>" + b'<c t="s"><v>0</v></c>' * 100 + b"</row>"
    repeated = b"<worksheet><sheetData>" + row * 300 + b"</sheetData></worksheet>"
    workbook(folder / "repeat.xlsx", (repeated, 1), b"<si><t>" + b"x" * 32_000 + b"</t></si>")
    workbook(folder / "open.xlsx", (b"<c <c ><c r='A1'>", 8 * MIB))


def test_bombs_end_with_a_verdict_in_little_memory(tmp_path: Path) -> None:
    bombs(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path)], capture_output=True, check=True, timeout=300
    )
    found, peak = json.loads(done.stdout)
    assert {name: code for name, (code, _) in found.items() if code not in VERDICTS} == {}
    assert len(found) == len(list(tmp_path.iterdir()))
    assert peak < 512 * 1024


def test_texts_that_are_stored_once_arrive_as_often_as_they_stand(
    read_files: Read, tmp_path: Path
) -> None:
    texts = ["x" * 100_000, None, "y" * 100_000]
    lists = [[text, None, text] if text else [] for text in texts]
    table = {
        "a": pa.array(texts * 200).dictionary_encode(),
        "b": pa.array(lists * 200, pa.list_(pa.string())),
        "c": pa.array([{"k": text} for text in texts] * 200),
    }
    pq.write_table(pa.table(table), tmp_path / "in.parquet", row_group_size=450)
    names, *rows = read_files("in.parquet")
    assert names == ("a", "b", "c")
    wanted = [
        (text, many, json.dumps({"k": text})) for text, many in zip(texts, lists, strict=True)
    ]
    assert rows == wanted * 200


def test_texts_that_begin_alike_arrive_whole(read_files: Read, tmp_path: Path) -> None:
    texts = [f"{'p' * 50_000}{number}" for number in range(900)]
    stored(
        tmp_path / "in.parquet", pa.array(texts), use_dictionary=False,
        column_encoding={"a": "DELTA_BYTE_ARRAY"},
    )  # fmt: skip
    assert read_files("in.parquet")[1:] == [(text,) for text in texts]


def test_every_page_of_a_parquet_file_is_seen_before_it_is_unpacked(tmp_path: Path) -> None:
    numbers = list(range(100_000))
    table = pa.table({"n": numbers, "t": [str(n) * 3 for n in numbers], "b": [n % 2 == 0 for n in numbers]})  # fmt: skip
    for version, index in (("1.0", False), ("2.0", True)):
        pq.write_table(
            table, tmp_path / "in.parquet", row_group_size=40_000, data_page_version=version,
            write_page_index=index, write_page_checksum=True,
        )  # fmt: skip
        with (tmp_path / "in.parquet").open("rb") as stream:
            about = pq.ParquetFile(stream).metadata
            for group in range(about.num_row_groups):
                for place in range(about.num_columns):
                    chunk = about.row_group(group).column(place)
                    sizes = list(page_sizes(stream, chunk))
                    # What the footer tells has the headers as well.
                    headers = chunk.total_uncompressed_size - sum(sizes)
                    assert 0 < headers < 300 * len(sizes)


def test_a_file_of_more_bytes_than_allowed_is_refused(read_files: Read, tmp_path: Path) -> None:
    plain = b"a,b\n" + b"1,2\n" * 1000
    (tmp_path / "in.csv").write_bytes(plain)
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(plain))
    pq.write_table(pa.table({"a": [str(n) for n in range(10_000)]}), tmp_path / "in.parquet")
    for name in ("in.csv", "in.csv.gz", "in.parquet"):
        with pytest.raises(SourceFault, match="max_bytes") as caught:
            read_files(name, {"max_bytes": 3000})
        assert classify(caught.value).code in VERDICTS
    assert len(read_files("in.csv.gz", {"max_bytes": 5000})) == 1001


def test_a_cell_of_more_than_16_mib_is_refused_at_its_line(
    read_files: Read, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_bytes(b'a,b\n1,2\n3,"' + b"x\n" * (17 * MIB // 2) + b'"\n')
    with pytest.raises(SourceFault, match=r"in.csv, line 3: a field of more than 16 MiB") as caught:
        read_files("in.csv")
    assert classify(caught.value).code == "value-invalid"
    (tmp_path / "in.csv").write_bytes(b'a,b\n1,2\n3,"' + b"x" * (15 * MIB) + b'"\n')
    assert len(read_files("in.csv")[2][1]) == 15 * MIB


def test_a_quote_that_never_closes_in_a_large_file_is_refused_at_its_line(
    read_files: Read, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_bytes(b'a,b\n1,2\n3,"4\n' + b"5,6\n" * (10 * MIB))
    with pytest.raises(SourceFault, match=r"in.csv, line 3: ") as caught:
        read_files("in.csv")
    assert classify(caught.value).badge.name == "ERROR"
