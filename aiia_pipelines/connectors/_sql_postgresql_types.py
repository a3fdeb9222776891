"""What the column types of PostgreSQL are called here, and how a value of each is read without loss."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors._sql_wanted import AS_IT_IS, AS_WRITTEN, Described, Wanted
from aiia_pipelines.connectors.base import SourceColumn

AS_TEXT = "{}::text"
_NUMERIC = 1700

# PostgreSQL's type OIDs are fixed (src/include/catalog/pg_type.dat); arrays of them follow.
_OIDS = {
    16: "bool", 21: "int16", 23: "int32", 20: "int64", 700: "float32", 701: "float64",
    25: "string", 1043: "string", 1042: "string", 19: "string", 17: "binary",
    1082: "date", 1083: "time", 1114: "timestamp", 1184: "timestamptz",
    1000: "list<bool>", 1005: "list<int16>", 1007: "list<int32>", 1016: "list<int64>",
    1021: "list<float32>", 1022: "list<float64>", 1009: "list<string>", 1015: "list<string>",
    1182: "list<date>", 1115: "list<timestamp>", 1185: "list<timestamptz>",
}  # fmt: skip
# Python's own values would lose months, number digits or the difference of null and SQL NULL.
_OIDS_AS_TEXT = {1186: "interval", 2950: "uuid", 114: "json", 3802: "json"}

# Types of which PostgreSQL knows values that Python's classes cannot hold.
UNUSUAL_OIDS = tuple(
    oid
    for oid, name in _OIDS.items()
    if name in {"date", "time", "timestamp", "timestamptz"} or name.startswith("list")
)


def describe(connection: sa.Connection, relation: str, stream: Stream) -> Described:
    """Describe the columns of a relation from what the server says of an empty result."""
    result = connection.exec_driver_sql(
        f"SELECT * FROM {relation} LIMIT 0", execution_options=AS_WRITTEN
    )
    cursor = result.cursor
    if cursor is None:
        raise AssertionError("a SELECT has a cursor")
    described: list[Any] = list(cursor.description)
    origins = [
        (cursor.pgresult.ftable(place), cursor.pgresult.ftablecol(place))
        for place in range(len(described))
    ]
    result.close()
    names: dict[int, str] = dict(
        connection.exec_driver_sql(
            "select oid::int8, format_type(oid, null) from pg_type where oid = any(%(oids)s)",
            {"oids": [column.type_code for column in described]},
        ).fetchall()
    )
    filled = _not_null(connection, origins) if stream.query is None else set()
    found = [
        _described(column, names.get(column.type_code, "unknown"), nullable=origin not in filled)
        for column, origin in zip(described, origins, strict=True)
    ]
    as_text = {c.from_ or name for name, c in stream.columns.items() if c.on_lossy == "text"}
    # Only the server writes every value of a type, and each always the same way.
    return [
        (column, AS_TEXT if column.name in as_text and _has_text(column) else form)
        for column, form in found
    ]


def _has_text(column: SourceColumn) -> bool:
    return column.type is not None and column.type.name != "binary"


def _not_null(connection: sa.Connection, origins: list[tuple[int, int]]) -> set[tuple[int, int]]:
    rows = connection.exec_driver_sql(
        "select attrelid::int8, attnum::int8 from pg_attribute where attrelid = any(%(tables)s) and attnotnull",
        {"tables": sorted({table for table, _ in origins})},
    )
    return {(row[0], row[1]) for row in rows}


def _described(column: object, declared: str, *, nullable: bool) -> tuple[SourceColumn, str]:
    oid = int(getattr(column, "type_code", 0))
    name = str(getattr(column, "name", ""))
    precision, scale = getattr(column, "precision", None), getattr(column, "scale", None)
    if oid == _NUMERIC:
        # PostgreSQL also knows scales below zero and above the precision.
        bounded = precision is not None and 0 <= (scale or 0) <= precision
        text = f"decimal({precision},{scale or 0})" if bounded else "decimal"
        form = AS_IT_IS
    elif oid in _OIDS:
        text, form = _OIDS[oid], AS_IT_IS
    else:
        text, form = _OIDS_AS_TEXT.get(oid, "string"), AS_TEXT
    return SourceColumn(name, ColumnType.parse(text), nullable, declared, enforced=True), form


# What Arrow columns carry exactly; all else is read as text, or by rows.
_COLUMNAR = {
    "bool", "int16", "int32", "int64", "float32", "float64", "string", "binary", "date", "time",
    "timestamp", "timestamptz", "decimal",
}  # fmt: skip
# What is read as text by rows, and by its own bytes as columns.
_OWN_FORMS = {"uuid", "json"}
_WIDEST = 38  # decimals of a number that is taken apart; others are read as text
_TEXT = ColumnType("string")
# A smaller batch gains nothing from columns, and is wanted at once.
_FEWEST_ROWS = 5_000
# Names that a cast takes for the type of one character.
_ONE_CHARACTER = {"character": "bpchar", "bit": "varbit"}


def columnar(wanted: Wanted) -> bool:
    """Tell whether all wanted columns can be read as Arrow columns, and in batches worth it."""
    if wanted.stream.batch_rows < _FEWEST_ROWS or not wanted.reading.names:
        return False
    for name in wanted.reading.names:
        kind = wanted.column(name).type
        if wanted.form(name) != AS_TEXT and (kind is None or kind.name not in _COLUMNAR):
            return False
    return True


def wire(wanted: Wanted, name: str) -> ColumnType:
    """Tell as what a column is read by binary COPY: its own type, or text."""
    column = wanted.column(name)
    kind = column.type or _TEXT
    if wanted.form(name) == AS_TEXT and not (kind.name == column.declared in _OWN_FORMS):
        return _TEXT
    wide = kind.name == "decimal" and (kind.precision or _WIDEST + 1) > _WIDEST
    return _TEXT if wide else kind


def select(
    wanted: Wanted,
    where: str,
    order: Sequence[str] = (),
    *,
    further: Sequence[str] | None = None,
    wired: bool = False,
) -> str:
    """Write the SELECT of some rows; the texts of `further` columns follow, by default of what orders them.

    `wired` reads the columns as what `wire` says.
    """
    columns = [
        _wired(wanted, name) if wired else wanted.read(name) for name in wanted.reading.names
    ]
    # Without its table, a name would mean the text of the column in the list before.
    full = {name: f"{wanted.relation}.{wanted.quote(name)}" for name in {*order, *(further or ())}}
    columns += [AS_TEXT.format(full[name]) for name in (order if further is None else further)]
    clause = f" WHERE {where}" if where else ""
    ordered = f" ORDER BY {', '.join(full[name] for name in order)}" if order else ""
    return f"SELECT {', '.join(columns)} FROM {wanted.relation}{clause}{ordered}"


def _wired(wanted: Wanted, name: str) -> str:
    kind = wire(wanted, name)
    own = kind == wanted.column(name).type and (kind != _TEXT or wanted.form(name) != AS_TEXT)
    return wanted.quote(name) if own else AS_TEXT.format(wanted.quote(name))


def is_decimal(wanted: Wanted, name: str) -> bool:
    """Tell whether a column holds numbers that Arrow gets as text."""
    kind = wanted.column(name).type
    return kind is not None and kind.name == "decimal"


def castable(declared: str) -> str:
    """Give the name by which a text is cast to a type without being cut."""
    return _ONE_CHARACTER.get(declared, declared)


def histogram(wanted: Wanted, name: str) -> list[str]:
    """Give the bounds of equally many rows that the server noted when it last analysed a table."""
    if wanted.stream.table is None:
        return []
    found = wanted.connection.exec_driver_sql(
        "select s.histogram_bounds::text::text[] from pg_stats s join pg_namespace n on n.nspname = s.schemaname"
        " join pg_class c on c.relnamespace = n.oid and c.relname = s.tablename"
        " where c.oid = %(table)s::regclass and s.attname = %(name)s and s.inherited = (c.relkind = 'p')",
        {"table": wanted.relation, "name": name},
    ).scalar()
    return list(found or ())


def quantiles(wanted: Wanted, name: str, ranges: int) -> list[str]:
    """Compute the values that cut all rows into equally large parts."""
    shares = ",".join(str(place / ranges) for place in range(1, ranges))
    found = wanted.ask(
        f"SELECT (percentile_disc('{{{shares}}}'::float8[]) WITHIN GROUP (ORDER BY {wanted.quote(name)}))::text[]"
        f" FROM {wanted.relation}"
    )[0][0]
    return list(found or ())
