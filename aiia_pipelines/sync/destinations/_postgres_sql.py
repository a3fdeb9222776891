"""The SQL of the PostgreSQL destination, and Arrow batches in the form that COPY reads."""

import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql
from pyarrow import csv

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync.contract import Contract, ContractColumn
from aiia_pipelines.sync.destinations.base import Load
from aiia_pipelines.sync.totals import MAX, MIN, NULLS, ROWS, SUM

CONTROL = "_aiia"
STAGING = "_aiia_stg"
SETUP_LOCK = 0x6169696C
_MAX_NAME = 63  # bytes of a PostgreSQL identifier

CONTROL_TABLES = (
    f"create schema if not exists {CONTROL}",
    f"create schema if not exists {STAGING}",
    f"""create table if not exists {CONTROL}.lease (
      connector text, stream text, epoch bigint not null, taken_at timestamptz not null default clock_timestamp(),
      primary key (connector, stream))""",
    f"""create table if not exists {CONTROL}.ledger (
      run_key text primary key, connector text not null, stream text not null, mode text not null,
      epoch bigint not null, rows bigint not null, inserted bigint not null, updated bigint not null,
      unchanged bigint not null, deleted bigint not null,
      committed_at timestamptz not null default clock_timestamp())""",
)
TAKE_LEASE = f"""insert into {CONTROL}.lease (connector, stream, epoch) values (%s, %s, 1)
  on conflict (connector, stream) do update set epoch = lease.epoch + 1, taken_at = clock_timestamp()
  returning epoch"""
HOLD_LEASE = f"select epoch from {CONTROL}.lease where connector = %s and stream = %s for update"
LEDGER_ROW = (
    f"select rows, inserted, updated, unchanged, deleted from {CONTROL}.ledger where run_key = %s"
)
WRITE_LEDGER = f"""insert into {CONTROL}.ledger
  (run_key, connector, stream, mode, epoch, rows, inserted, updated, unchanged, deleted)
  values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
OLD_STAGING = f"select tablename from pg_tables where schemaname = '{STAGING}' and tablename ~ %s"

_TYPES = {
    "bool": "boolean", "int16": "smallint", "int32": "integer", "int64": "bigint", "float32": "real",
    "float64": "double precision", "decimal": "numeric", "string": "text", "binary": "bytea",
    "date": "date", "time": "time", "timestamp": "timestamp", "timestamptz": "timestamptz",
    "interval": "interval", "uuid": "uuid", "json": "json",
}  # fmt: skip


def short(name: str) -> str:
    """Keep a name within PostgreSQL's limit, still unique."""
    if len(name.encode()) <= _MAX_NAME:
        return name
    return f"{name[:50]}_{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def staging_prefix(connector: str, stream: str) -> str:
    """Name the staging tables of a stream; the epoch follows after two underscores."""
    name = f"{connector}__{stream}"
    # `a__b` of `c` and `b__c` of `a` must not share a table.
    if len(name) > 40 or not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*__[a-z0-9]+(_[a-z0-9]+)*", name):
        mark = hashlib.sha256(f"{connector}/{stream}".encode()).hexdigest()[:12]
        return f"{name[:24]}_{mark}"
    return name


def type_of(kind: ColumnType) -> str:
    """Give the PostgreSQL type of a column type."""
    if kind.item is not None:
        return f"{type_of(kind.item)}[]"
    if kind.name == "decimal" and kind.precision is not None:
        return f"numeric({kind.precision},{kind.scale})"
    return _TYPES[kind.name]


def column_list(contract: Contract, *, keyed: bool) -> sql.Composed:
    """List the columns of a table; the real one has the key and its nulls, staging takes everything."""
    parts = [
        sql.SQL("{} {}{}").format(
            sql.Identifier(column.name),
            sql.SQL(type_of(column.type)),
            sql.SQL(" not null" if keyed and not column.nullable else ""),
        )
        for column in contract.columns
    ]
    if keyed and contract.key:
        names = sql.SQL(", ").join(map(sql.Identifier, contract.key))
        parts.append(sql.SQL("primary key ({})").format(names))
    return sql.SQL(", ").join(parts)


def figure(column: str, name: str, contract: Contract) -> sql.Composed:
    """Give the expression of one figure over the staged rows."""
    if name == ROWS:
        return sql.SQL("count(*)").format()
    kind = next(entry.type for entry in contract.columns if entry.name == column)
    form = {
        NULLS: "count(*) - count({c})",
        SUM: "sum({c}::numeric)",
        MIN: "min({c})",
        MAX: "max({c})",
    }[name]
    if name in {MIN, MAX} and kind.name == "string":
        form = f'{name}({{c}} collate "C")'
    elif name in {MIN, MAX} and kind.name in {"float32", "float64"}:
        form = f"{name}({{c}}::float8) filter (where {{c}} <> 'NaN')"
    return sql.SQL(form).format(c=sql.Identifier(column))


# -- match and apply ------------------------------------------------------------------------


def _same(column: ContractColumn) -> sql.Composed:
    # json has no equality in PostgreSQL, and a month equals 30 days: their text is what was stored.
    form = "t.{c}::text is not distinct from s.{c}::text"
    if column.type.name not in {"json", "interval"}:
        form = "t.{c} is not distinct from s.{c}"
    return sql.SQL(form).format(c=sql.Identifier(column.name))


def _keys_equal(contract: Contract) -> sql.Composed:
    return sql.SQL(" and ").join(
        sql.SQL("t.{c} = s.{c}").format(c=sql.Identifier(name)) for name in contract.key
    )


def _unchanged(contract: Contract) -> sql.Composable:
    rest = [_same(column) for column in contract.columns if column.name not in contract.key]
    return sql.SQL(" and ").join(rest) if rest else sql.SQL("true")


def match_query(load: Load, stage: sql.Identifier, table: sql.Identifier) -> sql.Composed:
    """Count inserted, updated, unchanged and deleted rows."""
    parts = {"stage": stage, "table": table}
    if not load.contract.key:
        if load.mode == "replace":
            return rewrite_query(stage, table)
        return sql.SQL("select count(*), 0::bigint, 0::bigint, 0::bigint from {stage}").format(
            **parts
        )
    deleted = "count(*) filter (where s.{k} is null)" if load.mode == "replace" else "0::bigint"
    join = "full" if load.mode == "replace" else "right"
    return sql.SQL(
        "select count(*) filter (where t.{k} is null),"
        " count(*) filter (where t.{k} is not null and s.{k} is not null and not ({same})),"
        " count(*) filter (where t.{k} is not null and s.{k} is not null and {same}),"
        f" {deleted} from {{table}} t {join} join {{stage}} s on {{keys}}"
    ).format(
        k=sql.Identifier(load.contract.key[0]),
        same=_unchanged(load.contract),
        keys=_keys_equal(load.contract),
        **parts,
    )


def rewrite_query(stage: sql.Identifier, table: sql.Identifier) -> sql.Composed:
    """Count as `match_query` does when every row is written anew."""
    return sql.SQL(
        "select (select count(*) from {stage}), 0::bigint, 0::bigint, (select count(*) from {table})"
    ).format(stage=stage, table=table)


def rewrite_statements(
    load: Load,
    stage: sql.Identifier,
    table: sql.Identifier,
    altered: Iterable[sql.Composed],
) -> Iterator[tuple[str, sql.Composed]]:
    """Give the statements of a commit that changes what the table is made of."""
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in load.contract.columns)
    parts: dict[str, sql.Composable] = {"table": table, "stage": stage, "names": names}
    yield "deleted", sql.SQL("delete from {table}").format(**parts)
    for statement in altered:
        yield "altered", statement
    insert = "insert into {table} ({names}) select {names} from {stage}"
    yield "written", sql.SQL(insert).format(**parts)


def apply_statements(
    load: Load, stage: sql.Identifier, table: sql.Identifier
) -> Iterator[tuple[str, sql.Composed]]:
    """Give the statements of a commit, each with what its row count means."""
    contract = load.contract
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in contract.columns)
    parts: dict[str, sql.Composable] = {"table": table, "stage": stage, "names": names}
    if not contract.key:
        if load.mode == "replace":
            yield "deleted", sql.SQL("delete from {table}").format(**parts)
        yield (
            "written",
            sql.SQL("insert into {table} ({names}) select {names} from {stage}").format(**parts),
        )
        return
    if load.mode == "replace":
        yield (
            "deleted",
            sql.SQL(
                "delete from {table} t where not exists (select from {stage} s where {keys})"
            ).format(keys=_keys_equal(contract), **parts),
        )
    yield "written", _upsert(contract, parts)


def _upsert(contract: Contract, parts: dict[str, sql.Composable]) -> sql.Composed:
    keys = sql.SQL(", ").join(map(sql.Identifier, contract.key))
    rest = [column for column in contract.columns if column.name not in contract.key]
    action: sql.Composable = sql.SQL("nothing")
    if rest:
        action = sql.SQL("update set {}").format(
            sql.SQL(", ").join(
                sql.SQL("{c} = excluded.{c}").format(c=sql.Identifier(column.name))
                for column in rest
            )
        )
    # Only rows that are new or differ are written: an unchanged table stays as it is on disk.
    return sql.SQL(
        "insert into {table} as t ({names}) select {names} from {stage} s"
        " where not exists (select from {table} t where {keys_equal} and {same})"
        " on conflict ({keys}) do {action}"
    ).format(
        keys=keys,
        action=action,
        keys_equal=_keys_equal(contract),
        same=_unchanged(contract),
        **parts,
    )


# -- COPY -----------------------------------------------------------------------------------


def as_csv(batch: pa.RecordBatch, contract: Contract) -> bytes:
    """Write a batch as CSV in which NULL is nothing and an empty text is two quotes."""
    columns = [
        _plain(values, column.type)
        for values, column in zip(batch.columns, contract.columns, strict=True)
    ]
    table = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    buffer = io.BytesIO()
    options = csv.WriteOptions(include_header=False, quoting_style="all_valid")
    csv.write_csv(table, buffer, options)
    return buffer.getvalue()


def _plain(values: pa.Array, kind: ColumnType) -> pa.Array:
    if kind.name == "binary":
        texts = [None if value is None else f"\\x{value.hex()}" for value in values.to_pylist()]
        return pa.array(texts, pa.string())
    if kind.item is not None:
        texts = [None if value is None else _array(value) for value in values.to_pylist()]
        return pa.array(texts, pa.string())
    if pa.types.is_decimal(values.type):
        return pc.cast(values, pa.string())
    return values


def _array(items: list[Any]) -> str:
    """Write a list as PostgreSQL's array text."""
    return "{" + ",".join("NULL" if item is None else _quoted(_item(item)) for item in items) + "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _item(item: Any) -> str:  # noqa: ANN401 - an item of any column type
    if isinstance(item, bool):
        return "true" if item else "false"
    return repr(item) if isinstance(item, float) else str(item)
