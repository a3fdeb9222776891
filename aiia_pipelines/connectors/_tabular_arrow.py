"""CSV text that Arrow and the strict grammar split alike, split by Arrow, which is much faster."""

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.csv as arrow_csv

from aiia_pipelines.connectors._tabular_dialect import Layout
from aiia_pipelines.connectors._tabular_records import MAX_CELL, regular

LARGEST_RECORD = 2 * MAX_CELL
_BLANK_LINE = (b"\n\n", b"\n\r", b"\r\r")
_BOM = b"\xef\xbb\xbf"


def is_plain(piece: bytes, layout: Layout) -> bool:
    """Tell whether a chunk holds nothing that Arrow reads in its own way."""
    dialect = layout.dialect
    marks = dialect.delimiter + (dialect.quote or "")
    if dialect.escape or dialect.trim or not marks.isascii() or len(piece) > LARGEST_RECORD:
        return False
    if piece[:1] in b"\r\n" or _BOM in piece or any(mark in piece for mark in _BLANK_LINE):
        return False
    lone = layout.width == 1 and piece.count(b"\r") > piece.count(b"\r\n")
    return not lone and regular(piece, dialect)


def split(piece: bytes, layout: Layout, wanted: Sequence[int]) -> pa.Table:
    """Split a plain chunk into columns of text, those that are wanted.

    Raises:
        pyarrow.ArrowInvalid: A line has too many or too few fields.
    """
    dialect = layout.dialect
    names = [str(place) for place in range(layout.width)]
    kept = {*map(str, wanted), *([names[-1]] if layout.trailing else [])}
    return arrow_csv.read_csv(
        io.BytesIO(piece),
        read_options=arrow_csv.ReadOptions(column_names=names, block_size=len(piece) + 64),
        parse_options=arrow_csv.ParseOptions(
            delimiter=dialect.delimiter,
            quote_char=dialect.quote or False,
            newlines_in_values=True,
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=[name for name in names if name in kept] or names[:1],
            null_values=sorted(dialect.nulls),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
