import bz2
import datetime as dt
import gzip
import io
import json
import random
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors.base import Reading, Source, SourceFault
from aiia_pipelines.jobs.failures import classify
from aiia_pipelines.sync.contract import agree
from aiia_pipelines.sync.faults import ContractBroken
from aiia_pipelines.sync.sieve import Sieve

Read = Callable[..., list[tuple[Any, ...]]]
Opened = Callable[..., Source]
Streams = Callable[..., Stream]
PLAIN = b"a,b\n1,x\n2,y\n"
ROWS = [("a", "b"), ("1", "x"), ("2", "y")]


def columns(**types: str) -> dict[str, Any]:
    return {name: {"type": kind} for name, kind in types.items()}


def refused(action: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(SourceFault) as caught:
        action()
    return classify(caught.value).code, str(caught.value)


# -- compression ----------------------------------------------------------------------------


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return out.getvalue()


PACKED = {
    "in.csv.gz": gzip.compress(PLAIN),
    "two.csv.gz": gzip.compress(PLAIN[:5]) + gzip.compress(PLAIN[5:]),
    "in.csv.bz2": bz2.compress(PLAIN),
    "in.csv.zst": pa.compress(PLAIN, codec="zstd", asbytes=True),
    "in.csv.zip": zipped(in__csv=PLAIN),
    "several.zip": zipped(b__csv=b"a,b\n2,y\n", a__csv=b"a,b\n1,x\n"),
    "IN.CSV.GZ": gzip.compress(PLAIN),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_compressed_file_is_read_by_its_name(read_files: Read, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(PACKED[name])
    assert read_files(name) == ROWS


@pytest.mark.parametrize("name", ["in.csv.gz", "in.csv.bz2", "in.csv.zst", "in.csv.zip"])
def test_a_compressed_file_that_is_cut_off_is_malformed(
    read_files: Read, tmp_path: Path, name: str
) -> None:
    big = "a,b\n" + "\n".join(f"{n},{random.Random(n).random()}" for n in range(9000))
    pack: dict[str, Callable[[bytes], bytes]] = {
        "in.csv.gz": gzip.compress,
        "in.csv.bz2": bz2.compress,
        "in.csv.zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
        "in.csv.zip": lambda data: zipped(in__csv=data),
    }
    data = pack[name](big.encode())
    for cut in (len(data) // 2, len(data) - 3):
        (tmp_path / name).write_bytes(data[:cut])
        assert refused(lambda: read_files(name))[0] == "malformed-data"


# What `pa.compress` writes as zstd has no checksum.
@pytest.mark.parametrize("name", ["in.csv.gz", "in.csv.bz2", "in.csv.zip"])
def test_a_compressed_file_with_flipped_bytes_is_refused_or_read_exactly(
    read_files: Read, tmp_path: Path, name: str
) -> None:
    chance = random.Random(7)
    for _ in range(40):
        data = bytearray(PACKED[name])
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (tmp_path / name).write_bytes(data)
        try:
            assert read_files(name) == ROWS
        except SourceFault as fault:
            assert classify(fault).badge.name == "ERROR"  # noqa: PT017


def test_only_the_wanted_members_of_an_archive_are_read(read_files: Read, tmp_path: Path) -> None:
    (tmp_path / "in.zip").write_bytes(zipped(readme__txt=b"hello", in__csv=PLAIN))
    assert read_files("in.zip", options={"member": "*.csv"}) == ROWS
    code, text = refused(lambda: read_files("in.zip", options={"member": "*.tsv"}))
    assert (code, "holds no file *.tsv" in text) == ("malformed-data", True)


# -- typed CSV ------------------------------------------------------------------------------


def test_declared_columns_are_read_as_their_types(read_files: Read, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(
        "i,d,f,b,day,t,ts,tz,u,j,x,s\n"
        '1,1.50,0.1,true,2024-02-29,12:30,2024-02-29 01:02:03.000001,2024-02-29T01:02:03+02:00,6f9619ff-8b86-d011-b42d-00c04fc964ff,"{""a"":1}",\\x00ff,00123\n'
        ",,,,,,,,,,,\n"
    )
    kinds = columns(
        i="int64", d="decimal(18,2)", f="float64", b="bool", day="date", t="time", ts="timestamp",
        tz="timestamptz", u="uuid", j="json", x="binary", s="string",
    )  # fmt: skip
    _, first, second = read_files("in.csv", columns=kinds)
    assert first == (
        1, Decimal("1.50"), 0.1, True, dt.date(2024, 2, 29), dt.time(12, 30),
        dt.datetime(2024, 2, 29, 1, 2, 3, 1),  # noqa: DTZ001
        dt.datetime(2024, 2, 28, 23, 2, 3, tzinfo=dt.UTC),
        "6f9619ff-8b86-d011-b42d-00c04fc964ff", '{"a":1}', b"\x00\xff", "00123",
    )  # fmt: skip
    assert set(second) == {None}


def test_stated_formats_are_read(read_files: Read, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("d;n;day;t;b\n1.234,50;-1.000;29.02.2024;1:05 PM;ja\n")
    options = {
        "decimal": ",", "thousands": ".", "date_format": "%d.%m.%Y", "time_format": "%I:%M %p",
        "true_values": ["ja"], "false_values": ["nein"],
    }  # fmt: skip
    kinds = columns(d="decimal(9,2)", n="int32", day="date", t="time", b="bool")
    found = read_files("in.csv", options=options, columns=kinds)[1]
    assert found == (Decimal("1234.50"), -1000, dt.date(2024, 2, 29), dt.time(13, 5), True)


NO_VALUES = {
    "int64": ["1.0", "0x1F", "1e3", "1_000", "٣", "one", "1,5", "--1"],
    "int16": ["32768"],
    "decimal(5,2)": ["1.005", "1000", "1,5", "NaN", "1e999999999", "."],
    "float64": ["0.12345678901234567890", "1e400", "1e-400", "0x1p3", "1,5", "9007199254740993.1"],
    "bool": ["2", "maybe", "tru"],
    "date": ["2023-02-29", "2024-2-9", "29.02.2024", "2024-02-29 00:00", "0000-01-01"],
    "time": ["24:00", "12:60", "12:30:00.1234567", "12:30Z"],
    "timestamp": ["2024-02-29", "2024-02-29 24:00:00", "2024-02-29 12:00:00Z", "2024-02-29 12:00:00.0000001"],
    "timestamptz": ["2024-02-29 12:00:00", "2024-02-29 12:00:00+25:00"],
    "uuid": ["6f9619ff", "{6f9619ff-8b86-d011-b42d-00c04fc964ff}"],
    "binary": ["\\x0", "abc"],
    "list<int64>": ["[1,", "{1}", '["1"]', "[1.5]"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, texts in NO_VALUES.items() for text in texts]
)
def test_a_text_that_is_no_value_is_refused_by_the_contract_at_its_row(
    open_files: Opened, stream: Streams, tmp_path: Path, kind: str, text: str
) -> None:
    (tmp_path / "in.csv").write_text(f"a;b\n;x\n'{text}';y\n")
    files = open_files()
    wanted = stream(
        path="in.csv", columns=columns(a=kind), options={"delimiter": ";", "quote": "'"}
    )
    found = files.columns(wanted)
    sieve = Sieve(agree(wanted, found, None), quarantine=False, schema=None)
    names = [column.name for column in found]
    batches = list(files.batches(wanted, Reading(names=names)))
    with pytest.raises(ContractBroken) as caught:
        list(map(sieve.parse, batches))
    assert classify(caught.value).code == "value-invalid"
    assert "column 'a'" in str(caught.value).lower()


# -- several files --------------------------------------------------------------------------


def test_files_are_read_in_the_order_of_their_names(read_files: Read, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "2.csv").write_bytes(b"b,a\ny,2\n")
    (tmp_path / "in" / "1.csv").write_bytes(b"a,b\n1,x\n")
    (tmp_path / "in" / ".hidden.csv").write_bytes(b"no\n")
    assert read_files("in/*.csv") == ROWS


@pytest.mark.parametrize("other", [b"a,c\n2,y\n", b"a\n2\n", b"a,b,c\n2,y,z\n", b"A,b\n2,y\n"])
def test_a_file_with_other_columns_is_a_column_mismatch(
    read_files: Read, tmp_path: Path, other: bytes
) -> None:
    (tmp_path / "1.csv").write_bytes(b"a,b\n1,x\n")
    (tmp_path / "2.csv").write_bytes(other)
    code, text = refused(lambda: read_files("*.csv"))
    assert (code, text.startswith("2.csv: ")) == ("column-mismatch", True)


def test_a_batch_knows_the_file_and_line_of_its_rows(
    open_files: Opened, stream: Streams, tmp_path: Path
) -> None:
    for name in ("1.csv", "2.csv"):
        (tmp_path / name).write_bytes(b'a,b\n"x\ny",1\nz,2\n\nw,3\n')
    wanted = stream(path="*.csv", batch_rows=2)
    found = open_files().batches(wanted, Reading(names=["a", "b"]))
    places = [batch.where(row) for batch in found for row in range(len(batch)) if batch.where]
    assert places == [f"{name}, line {line}" for name in ("1.csv", "2.csv") for line in (2, 4, 6)]


def test_batches_hold_no_more_rows_than_asked_for(
    open_files: Opened, stream: Streams, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_bytes(b"a\n" + b"1\n" * 1000)
    (tmp_path / "in.jsonl").write_bytes(b'{"a": 1}\n' * 1000)
    pq.write_table(pa.table({"a": range(1000)}), tmp_path / "in.parquet")
    for name in ("in.csv", "in.jsonl", "in.parquet"):
        wanted = stream(path=name, batch_rows=300)
        sizes = [len(batch) for batch in open_files().batches(wanted, Reading(names=["a"]))]
        assert (sum(sizes), max(sizes)) == (1000, 300)


def test_a_large_file_is_read_whole_whatever_stands_at_the_edges_of_blocks(
    read_files: Read, tmp_path: Path
) -> None:
    chance = random.Random(3)
    rows = [
        (str(n), chance.choice(["plain", 'a "word"', "two\nlines", "x,y", "Köln\r\n", ""]) * 20)
        for n in range(90_000)
    ]
    quoted = "\r\n".join(f'{n},"{text.replace(chr(34), chr(34) * 2)}"' for n, text in rows)
    (tmp_path / "in.csv").write_bytes(b"n,text\r\n" + quoted.encode())
    assert (tmp_path / "in.csv").stat().st_size > 8 << 20
    assert read_files("in.csv")[1:] == rows


# -- JSON -----------------------------------------------------------------------------------


def test_json_keeps_every_digit(read_files: Read, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(
        '{"n": 123456789012345678901234567890, "d": 1.10, "j": {"x": [1.50, null, "é"]}, "m": 1}\n'
        '\n{"n": null, "m": "t"}\n{"d": 0.30000000000000004, "n": 1}'
    )
    assert read_files("in.jsonl") == [
        ("n", "d", "j", "m"),
        (123456789012345678901234567890, Decimal("1.10"), '{"x": [1.50, null, "é"]}', "1"),
        (None, None, None, '"t"'),
        (1, Decimal("0.30000000000000004"), None, None),
    ]


def test_json_values_become_what_is_declared(read_files: Read, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(
        '[{"day": "2024-02-29", "f": 0.1, "d": "1.50", "l": [1, 2], "s": 5, "z": ""}]'
    )
    kinds = columns(
        day="date", f="float64", d="decimal(5,2)", l="list<int64>", s="string", z="date"
    )
    # What is no value of its type is handed on for the contract to refuse.
    assert read_files("in.json", columns=kinds)[1] == (
        dt.date(2024, 2, 29), 0.1, Decimal("1.50"), [1, 2], 5, "",
    )  # fmt: skip


def test_json_documents_are_read_record_by_record(read_files: Read, tmp_path: Path) -> None:
    records = [{"a": n, "t": "ü" * (n % 50)} for n in range(30_000)]
    rows = [("a", "t"), *((r["a"], r["t"]) for r in records)]
    forms = {
        "array.json": json.dumps(records, ensure_ascii=False, indent=1),
        "values.json": "\n".join(map(json.dumps, records)),
        "lines.ndjson": "\r\n".join(map(json.dumps, records)),
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        assert read_files(name) == rows
    (tmp_path / "deep.json").write_text(json.dumps({"data": {"items": records}}))
    assert read_files("deep.json", options={"records": "data.items"}) == rows


BAD_JSON: dict[str, tuple[str, str, str]] = {
    "a new key": ('{"a": 1}\n' * 1200 + '{"a": 1, "b": 2}\n', "column-mismatch", "line 1,201: has a new key 'b'"),
    "a key twice": ('{"a": 1}\n{"a": 1, "a": 2}\n', "malformed-data", "line 2: the key 'a' stands twice"),
    "nan": ('{"a": NaN}\n', "malformed-data", "line 1: NaN is no value of JSON"),
    "infinity": ('{"a": -Infinity}\n', "malformed-data", "line 1: -Infinity"),
    "cut off": ('{"a": 1}\n{"a": "x', "malformed-data", "line 2: is no JSON"),
    "a comma": ('{"a": 1},\n{"a": 1}\n', "malformed-data", "line 1: is no JSON"),
    "an array": ('{"a": 1}\n[1]\n', "malformed-data", "line 2: is an array where an object"),
    "null": ("null\n", "malformed-data", "line 1: is null where an object"),
    "deep": ('{"a": ' + "[" * 65 + "]" * 65 + "}\n", "malformed-data", "more than 64 levels"),
    "very deep": ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "malformed-data", "more than 64 levels"),
    "a huge number": ('{"a": ' + "1" * 5000 + "}\n", "malformed-data", "too many digits"),
    "a huge exponent": ('{"a": 1e999999999}\n', "malformed-data", "too large an exponent"),
    "nothing": ("\n", "malformed-data", "is empty"),
    "python": ("{'a': 1}\n", "malformed-data", "line 1: is no JSON"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_JSON)
def test_json_that_is_not_clean_is_refused_at_the_line(
    read_files: Read, tmp_path: Path, case: str
) -> None:
    text, code, words = BAD_JSON[case]
    (tmp_path / "in.jsonl").write_text(text)
    found = refused(lambda: read_files("in.jsonl"))
    assert (found[0], words in found[1]) == (code, True), found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"a": 1}', "the file may be cut off"),
        ('[{"a": 1} {"a": 2}]', "a comma or the end"),
        ('[{"a": 1},]', "is no JSON"),
        ('[{"a": 1}] x', "more follows"),
        ('{"data": [{"a": 1}]}', "state `records: data`"),
        ('{"a": 1', "is no JSON"),
    ],
)
def test_json_documents_that_are_damaged_are_refused(
    read_files: Read, tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "in.json").write_text(text)
    found = refused(lambda: read_files("in.json"))
    assert (found[0], words in found[1]) == ("malformed-data", True), found


# -- Parquet --------------------------------------------------------------------------------


def test_parquet_keeps_every_value(open_files: Opened, stream: Streams, tmp_path: Path) -> None:
    big = Decimal("1" * 37 + ".5")
    table = {
        "u8": (pa.uint8(), [255, None], "int16"),
        "u64": (pa.uint64(), [2**64 - 1, None], "decimal"),
        "f16": (pa.float16(), [1.5, None], "float32"),
        "dec": (pa.decimal256(60, 1), [big, None], "decimal(60,1)"),
        "ts": (pa.timestamp("ms"), [dt.datetime(2024, 1, 1, 1), None], "timestamp"),  # noqa: DTZ001
        "tz": (pa.timestamp("ns", "Europe/Berlin"), [dt.datetime(2024, 1, 1, tzinfo=dt.UTC), None], "timestamptz"),
        "t32": (pa.time32("s"), [dt.time(1, 2, 3), None], "time"),
        "d64": (pa.date64(), [dt.date(1, 1, 1), None], "date"),
        "span": (pa.duration("us"), [dt.timedelta(hours=-30, microseconds=1), None], "interval"),
        "text": (pa.large_string(), ["é\U0001d11e", None], "string"),
        "code": (pa.dictionary(pa.int8(), pa.string()), ["x", None], "string"),
        "fix": (pa.binary(2), [b"\x00\xff", None], "binary"),
        "list": (pa.list_(pa.int32()), [[1, None], None], "list<int32>"),
        "rec": (pa.struct([("a", pa.decimal128(5, 2)), ("b", pa.string())]), [{"a": Decimal("1.10"), "b": None}, None], "json"),
        "map": (pa.map_(pa.string(), pa.int64()), [[("k", 2**60)], None], "json"),
        "none": (pa.null(), [None, None], "string"),
    }  # fmt: skip
    arrays = {name: pa.array(values, kind) for name, (kind, values, _) in table.items()}
    pq.write_table(pa.table(arrays), tmp_path / "in.parquet", row_group_size=1)
    files, wanted = open_files(), stream(path="in.parquet")
    found = files.columns(wanted)
    assert {c.name: str(c.type) for c in found} == {name: t for name, (_, _, t) in table.items()}
    sieve = Sieve(agree(wanted, found, None), quarantine=False, schema=None)
    batches = files.batches(wanted, Reading(names=[c.name for c in found]))
    first, second = [sieve.parse(batch).rows.to_pylist()[0] for batch in batches]
    assert set(second.values()) == {None}
    expected = {name: values[0] for name, (_, values, _) in table.items()} | {
        "u64": "18446744073709551615",
        "span": "-29:59:59.999999",
        "rec": '{"a": 1.10, "b": null}',
        "map": '{"k": 1152921504606846976}',
    }
    assert first == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.timestamp("ns"), 1),
        (pa.time64("ns"), 1),
        (pa.timestamp("s"), 2**40),
    ],
)
def test_parquet_values_beyond_the_contract_are_refused_not_rounded(
    open_files: Opened, stream: Streams, tmp_path: Path, kind: pa.DataType, value: int
) -> None:
    array = pa.array([value], pa.int64()).view(kind)
    pq.write_table(pa.table({"a": array}), tmp_path / "in.parquet")
    files, wanted = open_files(), stream(path="in.parquet")
    sieve = Sieve(agree(wanted, files.columns(wanted), None), quarantine=False, schema=None)
    batches = list(files.batches(wanted, Reading(names=["a"])))
    with pytest.raises(ContractBroken):
        list(map(sieve.parse, batches))


def test_a_damaged_parquet_file_is_refused(read_files: Read, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"a": range(5000), "b": ["x"] * 5000}), path, compression="snappy")
    whole, chance = path.read_bytes(), random.Random(1)
    expected = read_files("in.parquet")
    for data in (whole[:-9], whole[:100], b"PAR1", b"", whole[:-8] + b"\xff\xff\xff\x7fPAR1"):
        path.write_bytes(data)
        assert refused(lambda: read_files("in.parquet"))[0] == "malformed-data"
    for _ in range(60):
        data = bytearray(whole)
        place = len(data) - chance.randrange(1, 600)
        data[place] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        try:
            assert len(read_files("in.parquet")) == len(expected)
        except SourceFault as fault:
            assert classify(fault).badge.name == "ERROR"  # noqa: PT017


# -- Excel ----------------------------------------------------------------------------------


def workbook(path: Path, fill: Callable[[Any], None]) -> None:
    book = openpyxl.Workbook()
    fill(book.active)
    book.save(path)


def test_cells_of_a_worksheet_keep_their_types(
    read_files: Read, open_files: Opened, stream: Streams, tmp_path: Path
) -> None:
    def fill(sheet: Any) -> None:
        sheet["B3"], sheet["C3"] = "note", "ignored"
        for column, name in enumerate(["i", "f", "s", "b", "day", "ts", "t", "zip", "e"]):
            sheet.cell(5, 2 + column, name)
        moment = dt.datetime(2024, 2, 29, 12, 30, 1)  # noqa: DTZ001
        sheet.append([])
        for column, value in enumerate(
            [7, 0.1, "x", True, moment.date(), moment, moment.time(), 123]
        ):
            sheet.cell(6, 2 + column, value)
        sheet.cell(7, 3, 1.0000000001)

    workbook(tmp_path / "in.xlsx", fill)
    rows = read_files("in.xlsx", options={"skip_rows": 4})
    moment = dt.datetime(2024, 2, 29, 12, 30, 1)  # noqa: DTZ001
    assert rows[0] == ("i", "f", "s", "b", "day", "ts", "t", "zip", "e")
    assert rows[1] == (7.0, 0.1, "x", True, moment.date(), moment, moment.time(), 123, None)
    kinds = columns(i="int32", f="decimal(20,10)", zip="string", day="timestamp")
    declared = read_files("in.xlsx", options={"skip_rows": 4}, columns=kinds)
    assert [declared[1][0], declared[1][1], declared[2][1], declared[1][7], declared[1][4]] == [
        7, Decimal("0.1"), Decimal("1.0000000001"), "123", dt.datetime(2024, 2, 29),  # noqa: DTZ001
    ]  # fmt: skip
    wanted = stream(path="in.xlsx", options={"skip_rows": 4})
    found = {c.name: str(c.type) for c in open_files().columns(wanted)}
    assert found == {
        "i": "int64", "f": "float64", "s": "string", "b": "bool", "day": "date", "ts": "timestamp",
        "t": "time", "zip": "int64", "e": "string",
    }  # fmt: skip
    batch = next(iter(open_files().batches(wanted, Reading(names=["i"]))))
    assert batch.where is not None
    assert batch.where(1) == "in.xlsx, sheet 'Sheet', row 7"


def cells(**values: Any) -> Callable[[Any], None]:
    def fill(sheet: Any) -> None:
        sheet["A1"], sheet["B1"], sheet["A2"], sheet["B2"] = "a", "b", "x", "y"
        for place, value in values.items():
            sheet[place] = value

    return fill


BAD_CELLS = {
    "an error": (cells(B3="#N/A", A3="z"), "cell B3: holds the error #N/A"),
    "a formula never computed": (cells(B3="=1+1", A3="z"), "cell B3: holds a formula without its result"),
    "a blank name": (cells(C1="c", B1=None), "cell B1: has no name in it"),
    "a name twice": (cells(B1="a"), "cell B1: repeats the name 'a' of A1"),
    "a number for a name": (cells(B1=5), "cell B1: holds a value where a name should be"),
    "a value beside": (cells(D3="?", A3="z"), "cell D3: stands beside the columns"),
    "totals": (cells(A3="Total:", B3=5), "cell A3: begins a row that looks like totals"),
    "two tables": (cells(A4="c", B4="d"), "cell A3: is in a blank row"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_CELLS)
def test_a_worksheet_that_is_not_clean_is_refused_at_the_cell(
    read_files: Read, tmp_path: Path, case: str
) -> None:
    fill, words = BAD_CELLS[case]
    workbook(tmp_path / "in.xlsx", fill)
    found = refused(lambda: read_files("in.xlsx"))
    assert (found[0], words in found[1]) == ("malformed-data", True), found


def test_a_number_of_more_digits_than_excel_keeps_is_refused(
    read_files: Read, tmp_path: Path
) -> None:
    workbook(tmp_path / "plain.xlsx", cells(B3=4711, A3="z"))
    with (
        zipfile.ZipFile(tmp_path / "plain.xlsx") as plain,
        zipfile.ZipFile(tmp_path / "in.xlsx", "w") as other,
    ):
        for name in plain.namelist():
            other.writestr(name, plain.read(name).replace(b">4711<", b">9007199254740993<"))
    found = refused(lambda: read_files("in.xlsx"))
    assert "cell B3: holds a number of more digits than Excel keeps" in found[1]


def test_merged_cells_are_refused(read_files: Read, tmp_path: Path) -> None:
    workbook(tmp_path / "in.xlsx", lambda sheet: (cells()(sheet), sheet.merge_cells("A2:A3")))
    found = refused(lambda: read_files("in.xlsx"))
    assert "cell A2: is merged with the cells up to A3" in found[1]


def test_a_time_before_the_first_of_excel_is_refused(read_files: Read, tmp_path: Path) -> None:
    def fill(sheet: Any) -> None:
        cells(B3=-5, A3="z")(sheet)
        sheet["B3"].number_format = "yyyy-mm-dd"

    workbook(tmp_path / "in.xlsx", fill)
    assert "cell B3: holds a time before" in refused(lambda: read_files("in.xlsx"))[1]


def test_a_sheet_is_chosen_by_its_name(read_files: Read, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.sheet_state = "hidden"
    book.active["A1"] = "hidden"
    for name in ("Ä & B", "last"):
        sheet = book.create_sheet(name)
        sheet.append([name])
        sheet.append([1])
    book.save(tmp_path / "in.xlsx")
    assert read_files("in.xlsx") == [("Ä & B",), (1,)]
    assert read_files("in.xlsx", options={"sheet": "last"}) == [("last",), (1,)]
    code, text = refused(lambda: read_files("in.xlsx", options={"sheet": "none"}))
    assert (code, "there are Sheet, Ä & B, last" in text) == ("source-not-found", True)


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04", b"hello", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", zipped(a=b"")]
)
def test_what_is_no_workbook_is_refused(read_files: Read, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "in.xlsx").write_bytes(data)
    assert refused(lambda: read_files("in.xlsx"))[0] == "malformed-data"
