"""Files that fail: missing, forbidden, damaged, in another encoding, swollen, or changed meanwhile."""

import gzip
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from machine import Meddled
from provoked import Ended, Provocations, Provoked, Stage, check

from aiia_pipelines.connectors.base import open_source

pytestmark = pytest.mark.integration
provokes = Provocations()


@pytest.mark.parametrize("case", provokes, ids=str)
def test_a_fault_of_a_file_has_its_code_line_and_retries(
    stage: Stage, tmp_path: Path, case: Provoked
) -> None:
    stage.facts["folder"] = tmp_path
    check(stage, case, tmp_path)


def _read(stage: Stage, folder: Path, path: str = "rows.csv", **options: Any) -> Ended:
    rows = {"name": "rows", "path": path, "options": options}
    return stage.sync({"kind": "files", "root": str(folder)}, rows)


@provokes("source-not-found", "No file in {folder} is named 'rows.csv'.")
def a_file_that_is_missing(stage: Stage, folder: Path) -> Ended:
    return _read(stage, folder)


@provokes("source-not-found", "{folder}/none: No such file or directory.")
def a_folder_that_is_missing(stage: Stage, folder: Path) -> Ended:
    return _read(stage, folder / "none")


@provokes("config-invalid", "The path '../rows.csv' leads out of the root. ({folder})")
def a_path_that_leads_out_of_the_folder(stage: Stage, folder: Path) -> Ended:
    return _read(stage, folder, "../rows.csv")


@provokes("encoding-error", "rows.csv, line 2: byte 0xe9 is no text in utf-8; *.", badge="Error")
def text_in_another_encoding(stage: Stage, folder: Path) -> Ended:
    (folder / "rows.csv").write_bytes("id,name\n1,café\n".encode("latin-1"))
    return _read(stage, folder)


@provokes("malformed-data", "rows.csv, line 3: *.", badge="Error")
def a_line_with_more_fields_than_the_others(stage: Stage, folder: Path) -> Ended:
    (folder / "rows.csv").write_text("id,name\n1,a\n2,b,c\n")
    return _read(stage, folder)


@provokes(
    "malformed-data",
    "rows.csv.gz: the compressed data ends too early; the file is cut off.",
    badge="Error",
)
def a_gzip_that_is_cut(stage: Stage, folder: Path) -> Ended:
    text = "".join(f"{n},n{n}\n" for n in range(1000))
    (folder / "rows.csv.gz").write_bytes(gzip.compress(f"id,name\n{text}".encode())[:-20])
    return _read(stage, folder, "rows.csv.gz")


@provokes("malformed-data", "rows.parquet: *.", badge="Error")
def a_parquet_file_that_is_none(stage: Stage, folder: Path) -> Ended:
    (folder / "rows.parquet").write_bytes(b"PAR1 no more than that PAR1")
    return _read(stage, folder, "rows.parquet")


@provokes(
    "malformed-data",
    "rows.xlsx: is no complete zip archive; the file is cut off or something else.",
    badge="Error",
)
def a_workbook_that_is_none(stage: Stage, folder: Path) -> Ended:
    (folder / "rows.xlsx").write_bytes(b"<html>log in</html>")
    return _read(stage, folder, "rows.xlsx")


@provokes("malformed-data", "rows.json, line 1: is no JSON: *.", badge="Error")
def json_that_is_cut(stage: Stage, folder: Path) -> Ended:
    (folder / "rows.json").write_text('[{"id": 1}, {"id":')
    return _read(stage, folder, "rows.json")


@provokes("resource-limit", "rows.zip: unfolds to * times its size, like a compression bomb; *.")
def a_compression_bomb(stage: Stage, folder: Path) -> Ended:
    with zipfile.ZipFile(folder / "rows.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.csv", b"0" * (64 << 20))
    return _read(stage, folder, "rows.zip", format="csv")


@provokes(
    "source-changed",
    "rows.csv changed while it was read; write it under another name and rename it. ({folder})",
    retries=5,
)
def a_file_that_is_written_meanwhile(stage: Stage, folder: Path) -> Ended:
    path = folder / "rows.csv"
    path.write_text("id,name\n" + "".join(f"{n},name {n}\n" for n in range(200_000)))
    rows = {"name": "rows", "path": "rows.csv", "batch_rows": 1000}
    source = open_source({"kind": "files", "root": str(folder)})

    class Written(Meddled):
        """A source whose file grows between two looks at it."""

        def batches(self, *asked: Any) -> Any:
            found = self._source.batches(*asked)
            yield next(found)
            with path.open("a") as file:
                file.write("2,b\n")
                os.fsync(file.fileno())
            yield from found

    return stage.sync(lambda: Written(source, lambda: None), rows)
