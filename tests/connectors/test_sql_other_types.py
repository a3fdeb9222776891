"""What the columns of Oracle, SQL Server and SAP HANA are called here, from what their drivers tell of them."""

import importlib
from typing import Any

import pytest
import sqlalchemy as sa

from aiia_pipelines.config.amounts import Lookback
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors import _sql_hana, _sql_mssql, _sql_oracle
from aiia_pipelines.connectors._sql_dialects import dialect_of
from aiia_pipelines.connectors._sql_wanted import Limits
from aiia_pipelines.connectors.base import SourceColumn


@pytest.mark.parametrize(
    ("word", "precision", "scale", "expected"),
    [
        ("DB_TYPE_NUMBER", 0, -127, "decimal"),
        ("DB_TYPE_NUMBER", 126, -127, "decimal"),
        ("DB_TYPE_NUMBER", 18, 2, "decimal(18,2)"),
        ("DB_TYPE_NUMBER", 9, 0, "decimal(9,0)"),
        ("DB_TYPE_NUMBER", 3, -2, "decimal(5,0)"),
        ("DB_TYPE_NUMBER", 2, 5, "decimal(5,5)"),
        ("DB_TYPE_DATE", None, None, "timestamp"),
        ("DB_TYPE_TIMESTAMP", 0, 9, "timestamp"),
        ("DB_TYPE_TIMESTAMP_TZ", 0, 9, "timestamptz"),
        ("DB_TYPE_TIMESTAMP_LTZ", 0, 6, "timestamptz"),
        ("DB_TYPE_INTERVAL_DS", 2, 6, "interval"),
        ("DB_TYPE_VARCHAR", None, None, "string"),
        ("DB_TYPE_CLOB", None, None, "string"),
        ("DB_TYPE_RAW", None, None, "binary"),
        ("DB_TYPE_BLOB", None, None, "binary"),
        ("DB_TYPE_BINARY_DOUBLE", None, None, "float64"),
        ("DB_TYPE_BOOLEAN", None, None, "bool"),
        ("DB_TYPE_OBJECT", None, None, "None"),
    ],
)
def test_a_column_of_oracle_has_a_type(
    word: str, precision: int | None, scale: int | None, expected: str
) -> None:
    oracledb: Any = importlib.import_module("oracledb")
    field = ("C", getattr(oracledb, word), 1, 1, precision, scale, False)
    column, _ = _sql_oracle.described(field, None, table=True)
    assert (str(column.type), column.nullable) == (expected, False)


def test_a_number_without_bounds_takes_the_type_of_the_file() -> None:
    oracledb: Any = importlib.import_module("oracledb")
    field = ("C", oracledb.DB_TYPE_NUMBER, 1, 1, 0, -127, True)
    column, _ = _sql_oracle.described(field, ColumnType.parse("int64"), table=True)
    assert str(column.type) == "int64"


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("bit", "bool"), ("tinyint", "int16"), ("int", "int32"), ("bigint", "int64"),
        ("decimal(18,2)", "decimal(18,2)"), ("numeric(38,0)", "decimal(38,0)"),
        ("money", "decimal(19,4)"), ("real", "float32"), ("float", "float64"),
        ("nvarchar(max)", "string"), ("varchar(9)", "string"), ("xml", "string"),
        ("uniqueidentifier", "uuid"), ("varbinary(max)", "binary"), ("rowversion", "binary"),
        ("date", "date"), ("time(7)", "time"), ("datetime", "timestamp"),
        ("datetime2(7)", "timestamp"), ("datetimeoffset(7)", "timestamptz"), ("sql_variant", "None"),
    ],
)  # fmt: skip
def test_a_column_of_sql_server_has_a_type(declared: str, expected: str) -> None:
    column, _ = _sql_mssql.described(("c", declared, True), table=True)
    assert str(column.type) == expected


@pytest.mark.parametrize(
    ("code", "precision", "scale", "expected"),
    [
        (5, 18, 2, "decimal(18,2)"), (5, 34, 32767, "decimal"), (1, 3, 0, "int16"), (4, 19, 0, "int64"),
        (7, 15, 0, "float64"), (14, 10, 0, "date"), (16, 27, 7, "timestamp"), (61, 27, 7, "timestamp"),
        (11, 9, 0, "string"), (13, 9, 0, "binary"), (28, 1, 0, "bool"), (74, 0, 0, "None"),
    ],
)  # fmt: skip
def test_a_column_of_hana_has_a_type(code: int, precision: int, scale: int, expected: str) -> None:
    column, _ = _sql_hana.described(("C", code, 1, 1, precision, scale, True), table=True)
    assert str(column.type) == expected


@pytest.mark.parametrize(
    ("database", "kind", "declared", "text", "literal", "earlier"),
    [
        ("oracle", "timestamp", "date", "2024-01-01 00:00:00",
         "TO_DATE('2024-01-01 00:00:00', 'YYYY-MM-DD HH24:MI:SS')",
         "({} - NUMTODSINTERVAL(60, 'SECOND'))"),
        ("oracle", "timestamp", "timestamp", "2024-01-01 00:00:00.123456789",
         "TO_TIMESTAMP('2024-01-01 00:00:00.123456789', 'YYYY-MM-DD HH24:MI:SS.FF9')",
         "({} - NUMTODSINTERVAL(60, 'SECOND'))"),
        ("mssql", "timestamp", "datetime2(7)", "2024-01-01 00:00:00.1234567",
         "CONVERT(datetime2(7), N'2024-01-01 00:00:00.1234567', 121)",
         "DATEADD(day, -0, DATEADD(second, -60, {}))"),
        ("hana", "timestamp", "timestamp", "2024-01-01 00:00:00.1234567",
         "TO_TIMESTAMP('2024-01-01 00:00:00.1234567', 'YYYY-MM-DD HH24:MI:SS.FF7')",
         "ADD_SECONDS(TO_TIMESTAMP({}), -60)"),
        ("oracle", "decimal", "number", "12.5", "12.5", ""),
        ("mssql", "string", "nvarchar(9)", "O'Neil", "N'O''Neil'", ""),
    ],
)  # fmt: skip
def test_a_cursor_is_written_with_all_its_digits(
    database: str, kind: str, declared: str, text: str, literal: str, earlier: str
) -> None:
    found = dialect_of(sa.make_url(f"{database}://u@h/d"), Limits(20, 3600))
    column = SourceColumn("c", ColumnType.parse(kind), nullable=True, declared=declared)
    assert found.literal(text, column) == literal
    if earlier:
        assert found.earlier(literal, Lookback(seconds=60), column) == earlier.format(literal)
