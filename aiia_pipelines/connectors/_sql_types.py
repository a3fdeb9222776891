"""What the column types of databases are called here, as far as SQLAlchemy knows them."""

import sqlalchemy as sa

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors._sql_wanted import AS_IT_IS, AS_WRITTEN, Described
from aiia_pipelines.connectors.base import SourceColumn, SourceFault

_GENERIC = (
    (sa.Boolean, "bool"), (sa.SmallInteger, "int16"), (sa.BigInteger, "int64"), (sa.Integer, "int32"),
    (sa.Double, "float64"), (sa.Float, "float64"), (sa.Uuid, "uuid"), (sa.JSON, "json"),
    (sa.LargeBinary, "binary"), (sa.Interval, "interval"), (sa.Date, "date"), (sa.Time, "time"),
    (sa.String, "string"),
)  # fmt: skip


def describe_table(connection: sa.Connection, schema: str | None, table: str) -> Described:
    """Describe the columns of a table through SQLAlchemy's reflection."""
    try:
        found = sa.inspect(connection).get_columns(table, schema=schema)
    except sa.exc.NoSuchTableError as missing:
        raise SourceFault(
            f"Table {table} does not exist in the source.", "sqlstate:42P01"
        ) from missing
    return [
        (
            SourceColumn(
                column["name"],
                _generic(column["type"]),
                bool(column["nullable"]),
                str(column["type"]),
            ),
            AS_IT_IS,
        )
        for column in found
    ]


def describe_query(connection: sa.Connection, relation: str) -> Described:
    """List the columns of a query; only the connector file can say their types."""
    result = connection.exec_driver_sql(
        f"SELECT * FROM {relation} WHERE 1 = 0", execution_options=AS_WRITTEN
    )
    names = list(result.keys())
    result.close()
    return [
        (SourceColumn(name, None, nullable=True, declared="unknown"), AS_IT_IS) for name in names
    ]


def _generic(kind: sa.types.TypeEngine[object]) -> ColumnType | None:
    if isinstance(kind, sa.DateTime):
        return ColumnType.parse("timestamptz" if kind.timezone else "timestamp")
    if isinstance(kind, sa.Numeric) and not isinstance(kind, sa.Float):
        if kind.precision is None:
            return ColumnType.parse("decimal")
        return ColumnType.parse(f"decimal({kind.precision},{kind.scale or 0})")
    for generic, name in _GENERIC:
        if isinstance(kind, generic):
            return ColumnType.parse(name)
    return None
