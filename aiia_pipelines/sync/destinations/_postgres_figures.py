"""The destination's side of the reconciliation, as SQL over the staged rows."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from psycopg import sql

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync.contract import Contract
from aiia_pipelines.sync.convert import masked
from aiia_pipelines.sync.destinations._postgres_control import Db
from aiia_pipelines.sync.destinations._postgres_sql import names_of
from aiia_pipelines.sync.totals import MAX, MIN, NULLS, ROWS, SUM

_HASH = "hash"
_SAMPLES = 5
_MAX_FIGURES = 1000  # a select list has at most 1664 entries
_NAN = "7ff8000000000000"
# The canonical text of a value, by type; everything else is its text.
_CANONICAL = {
    "bool": "case when {c} then 't' when not {c} then 'f' end",
    "float32": f"case when {{c}} = 'NaN' then '{_NAN}' else encode(float8send({{c}}::float8), 'hex') end",
    "float64": f"case when {{c}} = 'NaN' then '{_NAN}' else encode(float8send({{c}}), 'hex') end",
    "date": "({c} - date '1970-01-01')::text",
    "time": "(extract(epoch from {c}) * 1000000)::bigint::text",
    "timestamp": "(extract(epoch from {c}) * 1000000)::bigint::text",
    "timestamptz": "(extract(epoch from {c}) * 1000000)::bigint::text",
    "binary": "encode({c}, 'hex')",
}
_TEXTS = {"string", "json"}
_LIST = (
    "case when {c} is not null then (select coalesce(string_agg(case when i.v is null then '-' else length({item}) || ':' || {item} end,"
    " '' order by i.n), '') from unnest({c}) with ordinality i(v, n)) end"
)


def figures(
    db: Db,
    stage: sql.Identifier,
    contract: Contract,
    wanted: Sequence[tuple[str, str]],
    filled: Collection[str] = (),
) -> Mapping[tuple[str, str], Any]:
    """Compute figures over the staged rows, as many in one pass as PostgreSQL takes.

    Of `filled` columns the table itself takes no NULL, so that none need be counted.
    """
    kinds = {column.name: column.type for column in contract.columns}
    found: dict[tuple[str, str], Any] = {
        (column, name): 0 for column, name in wanted if name == NULLS and column in filled
    }
    asked = [figure for figure in wanted if figure not in found]
    for start in range(0, len(asked), _MAX_FIGURES):
        some = asked[start : start + _MAX_FIGURES]
        parts = [_figure(column, name, kinds.get(column)) for column, name in some]
        query = sql.SQL("select {} from {}").format(sql.SQL(", ").join(parts), stage)
        found |= zip(some, db.execute(query).fetchone() or (), strict=True)
    return found


def _figure(column: str, name: str, kind: ColumnType | None) -> sql.Composed:
    if name == ROWS or kind is None:
        return sql.SQL("count(*)").format()
    form = {
        NULLS: "count(*) - count({c})",
        SUM: "sum({c}::bigint)" if kind.name.startswith("int") else "sum({c})",
        MIN: "min({c})",
        MAX: "max({c})",
        _HASH: f"sum(('x' || substr(md5({_bytes(kind)}), 1, 15))::bit(60)::bigint)",
    }[name]
    if name in {MIN, MAX} and kind.name == "string":
        form = f'{name}({{c}} collate "C")'
    elif name in {MIN, MAX} and kind.name in {"float32", "float64"}:
        form = f"{name}({{c}}::float8) filter (where {{c}} <> 'NaN')"
    return sql.SQL(form).format(c=sql.Identifier(column))


def _bytes(kind: ColumnType) -> str:
    text = _canonical(kind, "{c}")
    inner = kind.item or kind
    # Other texts are ASCII, whatever the encoding of the database.
    return f"convert_to({text}, 'UTF8')" if inner.name in _TEXTS else text


def _canonical(kind: ColumnType, value: str) -> str:
    if kind.item is not None:
        return _LIST.replace("{item}", _canonical(kind.item, "i.v")).replace("{c}", value)
    return _CANONICAL.get(kind.name, "{c}::text").replace("{c}", value)


def duplicates(db: Db, stage: sql.Identifier, columns: Sequence[str]) -> tuple[int, list[str]]:
    """Count the staged rows that share their values in these columns, and show some."""
    filled = sql.SQL(" and ").join(
        sql.SQL("{} is not null").format(sql.Identifier(name)) for name in columns
    )
    query = sql.SQL(
        "select (sum(n) over ())::int8, * from (select count(*) as n, {names} from {stage}"
        " where {filled} group by {names} having count(*) > 1) g limit {samples}"
    ).format(names=names_of(columns), stage=stage, filled=filled, samples=sql.Literal(_SAMPLES))
    found = db.execute(query).fetchall()
    shown = [f"({', '.join(masked(value) for value in row[2:])}) {row[1]} times" for row in found]
    return (found[0][0] if found else 0), shown
