"""Which rows of a PostgreSQL table changed since a snapshot: told by the transaction that wrote each, `xmin`.

A cursor column alone loses rows: a long transaction commits them late, clocks run backwards, values are equal or
NULL. What a snapshot saw of a table is known exactly: all transactions before its `xmin`, none from its `xmax` on,
and of those between the ones whose rows were visible, which are noted with the position. So no list of running
transactions is needed, which would not name their subtransactions and is empty on a standby.
"""

from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError

from aiia_pipelines.connectors import _sql_cursor as cursor
from aiia_pipelines.connectors._sql_wanted import Wanted
from aiia_pipelines.connectors.base import Position

_WRAP = 2**32  # transaction ids of rows have 32 bits
_REACH = 2_000_000_000  # ids apart that can still be compared
_SNAPSHOTS_SINCE = 140_000  # server version with multiranges

_TREE = """
with recursive tree(id) as (
    select {relation}::regclass::oid union select inhrelid from pg_inherits join tree on inhparent = id
)
select c.oid::int8, c.relkind = 'r' and a.amname = 'heap' or c.relkind = 'p',
       c.oid = {relation}::regclass,
       row_security_active(c.oid) or not has_table_privilege(c.oid, 'select')
from tree join pg_class c on c.oid = id left join pg_am a on a.oid = c.relam
"""
_DATABASE = """
select (select system_identifier from pg_control_system())::text,
       (select oid from pg_database where datname = current_database())::text,
       case when pg_is_in_recovery() then (select timeline_id from pg_control_checkpoint())
            else ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int end::text
"""
_INDEXES = """
select i.indkey::text, i.indnkeyatts::int4, i.indisunique
from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
where i.indrelid = {table} and i.indisvalid and i.indpred is null and a.amname = 'btree'
"""
_COLUMNS = """
select attname::text, attnum::int4, attnotnull from pg_attribute
where attrelid = {table} and attnum > 0 and not attisdropped
"""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that are read by one SELECT, in the order of these columns if any."""

    where: str = ""
    order: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Followed:
    """A table whose changes are told by its rows: itself, its partitions, and what orders its rows."""

    table: int
    tables: tuple[int, ...]
    order: tuple[str, ...]


def followed(wanted: Wanted, version: int) -> Followed | None:
    """Look at what a stream reads; None for views, queries and whatever has no `xmin` of its own."""
    if wanted.stream.table is None or wanted.reading.cursor is None or version < _SNAPSHOTS_SINCE:
        return None
    found = wanted.ask(_TREE.format(relation=cursor.text(wanted.relation)))
    root = next(row for row in found if row[2])
    # What a policy hides today may show tomorrow, without any change of the row.
    if root[3] or not all(row[1] for row in found):
        return None
    tables = tuple(sorted(row[0] for row in found))
    return Followed(root[0], tables, _order(wanted, root[0]))


def _order(wanted: Wanted, table: int) -> tuple[str, ...]:
    """Give the columns that put rows with a cursor in one order, when indexes make that cheap and sure."""
    columns = {row[0]: row[1:] for row in wanted.ask(_COLUMNS.format(table=table))}
    name = str(wanted.reading.cursor)
    keys = [wanted.origin(key) for key in wanted.stream.key]
    if wanted.stream.partition or not {name, *keys} <= columns.keys():
        return ()
    indexes = [
        ([int(place) for place in row[0].split()][: row[1]], row[2])
        for row in wanted.ask(_INDEXES.format(table=table))
    ]
    order = tuple(dict.fromkeys([name, *keys]))
    places = {columns[key][0] for key in order}
    leads = any(index[0] == columns[name][0] for index, _ in indexes)
    unique = any(is_unique and set(index) <= places for index, is_unique in indexes)
    filled = all(columns[key][1] for key in order[1:])
    return order if leads and unique and filled else ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The snapshot of this connection, and the database it is of."""

    text: str
    database: str

    @property
    def xmin(self) -> int:
        """The first transaction that may be unseen."""
        return int(self.text.split(":")[0])

    @property
    def xmax(self) -> int:
        """The first transaction that is unseen for certain."""
        return int(self.text.split(":")[1])


def snapshot(wanted: Wanted) -> Snapshot:
    """Ask which snapshot this connection sees, and of which database: one restored is another one."""
    text = str(wanted.ask("select pg_current_snapshot()::text")[0][0])
    oid = str(wanted.ask("select oid from pg_database where datname = current_database()")[0][0])
    database = f"?/{oid}/?"
    # Hosted servers hide what tells them from their copies.
    with suppress(DBAPIError), wanted.connection.begin_nested():
        database = "/".join(str(part) for part in wanted.ask(_DATABASE)[0])
    return Snapshot(text, database)


def position(wanted: Wanted, table: Followed, now: Snapshot, latest: str | None) -> Position:
    """Note what this snapshot sees of a table; `latest` is its greatest cursor, for people and indexes."""
    seen = "{}"
    if now.xmin < now.xmax:
        number = _number(now)
        found = wanted.ask(
            f"select range_agg(int8range(x, x, '[]'))::text from (select distinct {number} as x"
            f" from {wanted.relation} where {_recent(now.xmin)} and {number} >= {now.xmin}) as seen"
        )
        seen = found[0][0] or seen
    return {
        "column": wanted.reading.cursor,
        "cursor": latest,
        "snapshot": now.text,
        "seen": seen,
        "table": table.table,
        "tables": list(table.tables),
        "database": now.database,
    }


def usable(wanted: Wanted, noted: Position | None, table: Followed, now: Snapshot) -> bool:
    """Tell whether the transactions of a position still mean what they meant.

    Raises:
        SourceFault: They do not, and reading all rows again would double them.
    """
    if noted is None:
        return False
    before = Snapshot(noted["snapshot"], noted["database"])
    why = ""
    if before.database != now.database or before.xmax > now.xmax:
        why = "the database was restored, failed over or replaced since the last sync"
    elif noted["table"] != table.table:
        why = "its table was dropped and made again since the last sync"
    elif now.xmax - before.xmin > _REACH:
        why = "too many transactions have passed since the last sync"
    if why:
        cursor.refuse_doubling(wanted, why)
    return not why


def parts(words: cursor.Words, wanted: Wanted, table: Followed, now: Snapshot) -> list[Part]:
    """Cut the wanted rows in those that can be read in order, and the rest; each row is in one part."""
    reading = wanted.reading
    last = reading.since if usable(wanted, reading.since, table, now) else None
    visible, order = "", table.order
    if reading.after is not None and reading.until is not None:
        # A row that changed since the broken attempt belongs to the next sync, wherever its cursor is now.
        if usable(wanted, reading.until, table, now):
            visible = f"NOT ({_changed(reading.until, table, now)})"
        # Also when the index that made it cheap is gone.
        order = tuple(reading.after["columns"])
    newer, older = _sides(words, wanted, last)
    changed = f"({_changed(last, table, now)})" if last else ""
    if not order or not newer:
        whole = f"({newer} OR {changed})" if newer and changed else changed
        return [Part(cursor.both(whole, visible))]
    after = _after(words, wanted, reading.after) if reading.after else ""
    return [
        Part(cursor.both(newer, after, visible), order),
        Part(cursor.both(older, changed, visible)),
    ]


def _sides(words: cursor.Words, wanted: Wanted, last: Position | None) -> tuple[str, str]:
    """Write what lies beyond the last cursor, and what does not; nothing if another column was it."""
    name = wanted.quote(str(wanted.reading.cursor))
    if last is None or last["cursor"] is None:
        return f"{name} IS NOT NULL", f"{name} IS NULL"
    if last["column"] != wanted.reading.cursor:
        return "", ""
    beyond, before = (">=", "<") if wanted.stream.key and wanted.stream.lookback else (">", "<=")
    edge = cursor.edge_of(words, wanted, last)
    return f"{name} {beyond} {edge}", f"({name} {before} {edge} OR {name} IS NULL)"


def _after(words: cursor.Words, wanted: Wanted, mark: Position) -> str:
    """Write what follows a checkpoint."""
    order: list[str] = mark["columns"]
    texts: list[str] = mark["values"]
    values = [
        words.literal(text, wanted.column(name)) for name, text in zip(order, texts, strict=True)
    ]
    return f"({', '.join(map(wanted.quote, order))}) > ({', '.join(values)})"


def _changed(last: Position, table: Followed, now: Snapshot) -> str:
    """Write the condition that a row was not visible in the snapshot of a position."""
    before = Snapshot(last["snapshot"], last["database"])
    number = _number(now)
    unseen = (
        f"{_recent(before.xmin)} AND {number} >= {before.xmin}"
        f" AND NOT '{last['seen']}'::int8multirange @> {number}"
    )
    # A partition that was attached brings old rows along.
    attached = sorted({*table.tables} - {*last["tables"]})
    return (
        f"{unseen} OR tableoid = ANY('{{{','.join(map(str, attached))}}}'::oid[])"
        if attached
        else unseen
    )


def _recent(xmin: int) -> str:
    """Write a cheap condition that all transactions from `xmin` on fulfil."""
    return f"age(xmin) <= (SELECT age('{xmin % _WRAP}'::xid))"


def _number(now: Snapshot) -> str:
    """Write the transaction of a row with all its 64 bits: the last one before now with these 32."""
    return f"({now.xmax} - (({now.xmax} - xmin::text::int8) % {_WRAP} + {_WRAP}) % {_WRAP})"
