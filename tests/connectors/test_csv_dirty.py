from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.connectors.base import SourceFault
from aiia_pipelines.jobs.failures import classify

Read = Callable[..., list[tuple[Any, ...]]]

# name: (bytes, options, rows with the header as the first one)
READ_RIGHTLY: dict[str, tuple[bytes, dict[str, Any], list[tuple[Any, ...]]]] = {
    "plain": (b"a,b\n1,2\n", {}, [("a", "b"), ("1", "2")]),
    "semicolons": (b"a;b\n1,5;2\n", {}, [("a", "b"), ("1,5", "2")]),
    "tabs": (b"a\tb\n1\t2,3;4\n", {}, [("a", "b"), ("1", "2,3;4")]),
    "pipes": (b"a|b\n1|2\n", {}, [("a", "b"), ("1", "2")]),
    "colons": (b"user:shell\nroot:sh\n", {}, [("user", "shell"), ("root", "sh")]),
    "times of day are no colons": (b"at,b\n12:30,1\n13:30,2\n", {}, [("at", "b"), ("12:30", "1"), ("13:30", "2")]),
    "a stated mark": (b"a~b\n1~2\n", {"delimiter": "~"}, [("a", "b"), ("1", "2")]),
    "a stated wide mark": ("a§b\n1§2\n".encode(), {"delimiter": "§"}, [("a", "b"), ("1", "2")]),
    "one column": (b"a\n1\n2\n", {}, [("a",), ("1",), ("2",)]),
    "excel's separator line": (b"sep=;\na;b\n1;2\n", {}, [("a", "b"), ("1", "2")]),
    "windows line ends": (b"a,b\r\n1,2\r\n", {}, [("a", "b"), ("1", "2")]),
    "old mac line ends": (b"a,b\r1,2\r3,4\r", {}, [("a", "b"), ("1", "2"), ("3", "4")]),
    "mixed line ends": (b"a,b\r\n1,2\n3,4\r5,6\r\n", {}, [("a", "b"), ("1", "2"), ("3", "4"), ("5", "6")]),
    "doubled carriage returns": (b"a,b\r\r\n1,x\r\r\n2,y\r\r\n", {}, [("a", "b"), ("1", "x"), ("2", "y")]),
    "no final line end": (b"a,b\n1,2", {}, [("a", "b"), ("1", "2")]),
    "no final line end after a delimiter": (b"a,b\n1,", {}, [("a", "b"), ("1", None)]),
    "no final line end after a quote": (b'a,b\n1,"2"', {}, [("a", "b"), ("1", "2")]),
    "blank lines at the end": (b"a,b\n1,2\n\n\r\n \n", {}, [("a", "b"), ("1", "2")]),
    "blank lines at the beginning": (b"\n\r\na,b\n1,2\n", {}, [("a", "b"), ("1", "2")]),
    "a blank line after the header": (b"a,b\n\nx,y\n", {}, [("a", "b"), ("x", "y")]),
    "a blank line between numbers": (b"a,b\n1,x\n\n2,y\n", {}, [("a", "b"), ("1", "x"), ("2", "y")]),
    "a blank line that is stated": (b"a,b\nx,y\n\nz,w\n", {"blank_lines": "skip"}, [("a", "b"), ("x", "y"), ("z", "w")]),
    "a blank line that means nulls": (b"a\nx\n\nz\n", {"blank_lines": "null"}, [("a",), ("x",), (None,), ("z",)]),
    "header only": (b"a,b\n", {}, [("a", "b")]),
    "header only, no line end": (b"a;b", {}, [("a", "b")]),
    "utf-8 mark": (b"\xef\xbb\xbfa,b\n1,2\n", {}, [("a", "b"), ("1", "2")]),
    "utf-8 mark before a quote": (b'\xef\xbb\xbf"a","b"\n1,2\n', {}, [("a", "b"), ("1", "2")]),
    "utf-16 little": ("\ufeffa,ü\n1,€\n".encode("utf-16-le"), {}, [("a", "ü"), ("1", "€")]),
    "utf-16 big": ("\ufeffa,ü\n1,€\n".encode("utf-16-be"), {}, [("a", "ü"), ("1", "€")]),
    "utf-16 without mark": ("name,b\n1,2\n".encode("utf-16-le"), {}, [("name", "b"), ("1", "2")]),
    "utf-32": ("\ufeffa,b\n1,𝄞\n".encode("utf-32-le"), {}, [("a", "b"), ("1", "𝄞")]),
    "stated cp1252": ("a,b\n1,Köln €\n".encode("cp1252"), {"encoding": "cp1252"}, [("a", "b"), ("1", "Köln €")]),
    "stated latin-1 with a next-line sign": (b"a,b\n1,x\x85y\n", {"encoding": "latin-1"}, [("a", "b"), ("1", "x\x85y")]),
    "a line separator inside": ("a,b\n1,x\u2028y\x0bz\x0c\n".encode(), {}, [("a", "b"), ("1", "x\u2028y\x0bz\x0c")]),
    "quotes": (b'a,b\n"x,""y""","z\nw"\n', {}, [("a", "b"), ('x,"y"', "z\nw")]),
    "quoted line ends of all kinds": (b'a,b\n"1\r\n2\r3\n4",x\n', {}, [("a", "b"), ("1\r\n2\r3\n4", "x")]),
    "empty and null": (b'a,b\n"",\n,""\n', {}, [("a", "b"), ("", None), (None, "")]),
    "stated nulls": (b'a,b\nNULL,\n"NULL",-\n', {"null_values": ["NULL", "-"]}, [("a", "b"), (None, ""), ("NULL", None)]),
    "only delimiters": (b"a,b\n,\n1,2\n", {}, [("a", "b"), (None, None), ("1", "2")]),
    "single quotes": (b"a,b\n'x,y','it''s'\n'z',''\n", {}, [("a", "b"), ("x,y", "it's"), ("z", "")]),
    "apostrophes are text": (b"a,b\n'tis,'twas\nx,y\n", {}, [("a", "b"), ("'tis", "'twas"), ("x", "y")]),
    "backslashes before quotes": (b'a,b\n"x\\"y",1\n"z\\\\",2\n', {}, [("a", "b"), ('x"y', "1"), ("z\\", "2")]),
    "backslashes that are text": (b'a,b\n"C:\\dir\\",1\n', {}, [("a", "b"), ("C:\\dir\\", "1")]),
    "stated escape outside quotes": (b"a,b\nx\\,y,1\n", {"escape": "\\"}, [("a", "b"), ("x,y", "1")]),
    "stated escape and null": (b"a,b\n\\N,1\n", {"escape": "\\", "null_values": ["\\N"]}, [("a", "b"), (None, "1")]),
    "quotes that are text": (b'a,b\n5" pipe,"x\n', {"quote": "none"}, [("a", "b"), ('5" pipe', '"x')]),
    "stray quotes that are text": (b'a,b\n5" pipe,"x,y"\n', {"stray_quotes": "keep"}, [("a", "b"), ('5" pipe', "x,y")]),
    "single quotes that are text": (b"a,b,c\n\"x,y\",'z,w'\n", {"quote": '"'}, [("a", "b", "c"), ("x,y", "'z", "w'")]),
    "single quotes in double ones": (b"a,b\n\"'x,y'\",it's\n", {}, [("a", "b"), ("'x,y'", "it's")]),
    "a line end in quotes that looks torn": (b'a,b\n"x\r,\ny",2\n', {}, [("a", "b"), ("x\r,\ny", "2")]),
    "blanks around quotes": (b'a, b\n"x" , "y, z"\n 1 ,2\n', {"trim": True}, [("a", "b"), ("x", "y, z"), ("1", "2")]),
    "blanks are kept": (b"a,b\n x , y\n", {}, [("a", "b"), (" x ", " y")]),
    "blanks around names": (b" a , b\n1,2\n", {}, [("a", "b"), ("1", "2")]),
    "a title and a blank line": (b"Sales 2026\n\na,b\n1,2\n", {}, [("a", "b"), ("1", "2")]),
    "titles and blank lines": (b"Sales\nNorth\n\na,b,c\n1,2,3\n", {}, [("a", "b", "c"), ("1", "2", "3")]),
    "comments above": (b"# made by x\n# on monday\na,b\n1,2\n", {}, [("a", "b"), ("1", "2")]),
    "stated lines above": (b"Sales, all\nx\na,b\n1,2\n", {"skip_rows": 2}, [("a", "b"), ("1", "2")]),
    "stated footer": (b"a,b\n1,2\nTotal;\n-- 1 row\n", {"skip_footer": 2}, [("a", "b"), ("1", "2")]),
    "stated footer and blank lines": (b"a,b\n1,2\n\n-- 1 row\n\n", {"skip_footer": 1}, [("a", "b"), ("1", "2")]),
    "a total that is a row": (b"a,b\nx,1\nTotal,1\n", {"skip_footer": 0}, [("a", "b"), ("x", "1"), ("Total", "1")]),
    "no names": (b"1,2\n3,4\n", {"header": False}, [("column_1", "column_2"), ("1", "2"), ("3", "4")]),
    "stated names": (b"1,2\n3,4\n", {"header": False, "names": ["x", "y"]}, [("x", "y"), ("1", "2"), ("3", "4")]),
    "replaced names": (b"a,\n1,2\n", {"header": True, "names": ["x", "y"]}, [("x", "y"), ("1", "2")]),
    "years as names": (b"2025,2026\n1,2\n", {"header": True}, [("2025", "2026"), ("1", "2")]),
    "a delimiter at every end": (b"a,b,\n1,2,\n3,4,\n", {}, [("a", "b"), ("1", "2"), ("3", "4")]),
    "quoted names": (b'"a;b";"c"\n1;2\n', {}, [("a;b", "c"), ("1", "2")]),
    "three thousand columns": (
        b",".join(b"c%d" % n for n in range(3000)) + b"\n" + b",".join([b"1"] * 3000),
        {},
        [tuple(f"c{n}" for n in range(3000)), ("1",) * 3000],
    ),
}  # fmt: skip

# name: (bytes, options, code, what the sentence says)
REFUSED: dict[str, tuple[bytes, dict[str, Any], str, str]] = {
    "a field too many": (b"a,b\n1,2\n1,2,3\n", {}, "malformed-data", "line 3: 3 fields where 2 are expected"),
    "a field too few": (b"a,b\n1,2\n3\n4,5\n", {}, "malformed-data", "line 3: 1 field where 2 are expected"),
    "too few after a quoted line end": (b'a,b\n"x\ny",2\n3\n', {}, "malformed-data", "line 4: 1 field"),
    "a header too short": (b"a,b\n1,2,3\n4,5,6\n", {}, "malformed-data", "line 2: 3 fields where 2"),
    "a delimiter at the end of rows only": (b"a,b\n1,2,\n3,4,\n", {}, "malformed-data", "the header does not"),
    "a value in the nameless column": (b"a,b,\n1,2,\n3,4,5\n", {}, "malformed-data", "line 1: column 3 has no name"),
    "a value in the nameless column later": (b"a,b,\n" + b"1,2,\n" * 600 + b"3,4,5\n", {}, "malformed-data", "line 602: has a value after the last named column"),
    "an open quote": (b'a,b\n1,"2\n3,4\n', {}, "malformed-data", "line 2: a field begins with a quote that never closes"),
    "text after a quote": (b'a,b\n1,2\n"x"y,2\n', {}, "malformed-data", "line 3: text follows the closing quote"),
    "text after a quote of two lines": (b'a,b\n"x\ny"z,2\n', {}, "malformed-data", "line 3: text follows the closing quote"),
    "a quote inside": (b'a,b\n5" pipe,2\n', {}, "malformed-data", "line 2: a quote stands inside"),
    "a blank before a quote": (b'a,b\n1, "x,y"\n', {}, "malformed-data", "trim: true"),
    "mixed quotes": (b"a,b\n\"x,y\",'z,w'\n", {}, "malformed-data", "line 2: 3 fields where 2"),
    "mixed quotes and a lost field": (b"id,name,city\n1,\"Doe, J\",Paris\n2,'Roe, R'\n", {}, "malformed-data", "line 3: single quotes enclose a delimiter"),
    "mixed quotes after a quoted line end": (b"id,name,city\n1,\"Doe\n'J, K'\",Paris\n2,'Roe, R'\n", {}, "malformed-data", "line 4: single quotes enclose a delimiter"),
    "single quotes around every first field": (b"\x27\x27\x27n Sync, x\x27,1\n\x27\x27\x27n Sync, y\x27,2\n", {"header": False}, "malformed-data", "state the `quote`"),
    "very many columns": (b",".join(b"c%d" % n for n in range(17_000)) + b"\n", {}, "malformed-data", "has 17,000 columns; 16,384 may be"),
    "a torn line end": (b"a,b\r\n1,2\r,\n3,4\r\n", {}, "malformed-data", "line 2: delimiters stand between"),
    "a wrong escape": (b'a,b\n"x\\"y",1\n"\\n",2\n', {}, "malformed-data", "line 3: '\\' before a letter"),
    "not utf-8": (b"a,b\n1,2\n3,K\xf6ln\n", {}, "encoding-error", "line 3: byte 0xf6 is no text in utf-8"),
    "not utf-8 in the last byte": (b"a,b\n1,2\n3,\xc3", {}, "encoding-error", "line 3: byte 0xc3"),
    "encoded surrogates": (b"a,b\n1,\xed\xa0\x80\n", {}, "encoding-error", "line 2"),
    "not cp1252": (b"a,b\n1,\x81\n", {"encoding": "cp1252"}, "encoding-error", "line 2: byte 0x81"),
    "a mark against the stated encoding": (b"\xef\xbb\xbfa,b\n", {"encoding": "cp1252"}, "encoding-error", "begins with the mark of utf-8"),
    "half a character of utf-16": ("\ufeffa,b\n1,2\n".encode("utf-16-le")[:-1], {}, "encoding-error", "line 2"),
    "a nul byte": (b"a,b\n1,2\n3,x\x00y\n", {}, "malformed-data", "line 3: holds a NUL byte"),
    "nothing": (b"", {}, "malformed-data", "is empty"),
    "only blank lines": (b"\n\n \n", {}, "malformed-data", "is empty"),
    "a blank name": (b"a,,c\n1,2,3\n", {}, "malformed-data", "line 1: column 2 has no name"),
    "a repeated name": (b"a,b,a\n1,2,3\n", {}, "malformed-data", "line 1: columns 1 and 3 are both named 'a'"),
    "names that differ by blanks": (b"a,a \n1,2\n", {}, "malformed-data", "columns 1 and 2 are both named 'a'"),
    "numbers for names": (b"1,2\n3,4\n", {}, "malformed-data", "line 1: has numbers where names should be"),
    "a title without a blank line": (b"Sales 2026\na,b\n1,2\n3,4\n", {}, "malformed-data", "line 1: has one field and later lines have more"),
    "a title with a delimiter": (b"Sales, all\na,b,c\n1,2,3\n", {}, "malformed-data", "line 2: 3 fields where 2"),
    "a footer": (b"a,b\n1,2\n-- 1 row\n", {}, "malformed-data", "line 3: 1 field where 2 are expected"),
    "totals": (b"a,b\nx,2\nTotal,2\n", {}, "malformed-data", "line 3: looks like a line of totals"),
    "two tables": (b"a,b\nx,y\n\nc,d\nz,w\n", {}, "malformed-data", "line 3: is blank, and rows follow"),
    "two tables with numbers": (b"a,b\n1,2\n\nc,d\n3,4\n", {}, "malformed-data", "line 3: is blank, and rows follow"),
    "two tables of other widths": (b"a,b\n1,2\n\nc,d,e\n3,4,5\n", {}, "malformed-data", "line 4: 3 fields where 2"),
    "the header again": (b"a,b\n1,2\na,b\n3,4\n", {}, "malformed-data", "line 3: repeats the header"),
    "files put together": (b"a,b\n1,2\n\xef\xbb\xbfc,d\n3,4\n", {}, "malformed-data", "line 3: begins with a byte order mark"),
    "a blank line in one column": (b"a\nx\n\ny\n", {}, "malformed-data", "line 3: is blank"),
    "blank lines that are refused": (b"a,b\n1,2\n\n3,4\n", {"blank_lines": "error"}, "malformed-data", "line 3: is blank"),
    "a lone carriage return in one column": (b"a\nx\ry\n", {}, "malformed-data", "line 2: a carriage return"),
    "several delimiters": (b"a;b,c\n1;2,3\n", {}, "malformed-data", "could be separated by ',' or ';'"),
    "a dirty row hides the delimiter": (b"id;x, y\n1;S, J\n2;D; Jr, K\n", {}, "malformed-data", "could be separated by"),
    "a web page": (b"<!DOCTYPE html>\n<html><body>login</body></html>", {}, "malformed-data", "is a web page"),
    "xml": (b'<?xml version="1.0"?><a/>', {}, "malformed-data", "is a web page or XML"),
    "json": (b'{"a": 1, "b": 2}\n', {}, "malformed-data", "looks like JSON"),
    "a workbook": (b"PK\x03\x04aaaa", {}, "malformed-data", "is an Excel workbook"),
    "parquet": (b"PAR1aaaaPAR1", {}, "malformed-data", "is a Parquet file"),
    "gzip": (b"\x1f\x8b\x08\x00aaa", {}, "malformed-data", "is compressed with gzip"),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00\x00", {}, "encoding-error", "line 1: byte 0x89"),
}  # fmt: skip


@pytest.mark.parametrize("case", READ_RIGHTLY)
def test_a_file_is_read_rightly(read_files: Read, tmp_path: Path, case: str) -> None:
    data, options, expected = READ_RIGHTLY[case]
    (tmp_path / "in.csv").write_bytes(data)
    assert read_files("in.csv", options=options) == expected


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_is_refused_at_the_line(read_files: Read, tmp_path: Path, case: str) -> None:
    data, options, code, words = REFUSED[case]
    (tmp_path / "in.csv").write_bytes(data)
    with pytest.raises(SourceFault) as caught:
        read_files("in.csv", options=options)
    failure = classify(caught.value)
    assert words in str(caught.value)
    assert str(caught.value).startswith("in.csv")
    assert (failure.code, failure.badge.name) == (code, "ERROR")
