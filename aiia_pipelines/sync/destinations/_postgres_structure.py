"""What a table is made of, and how a table follows the contract inside the commit.

Nothing here rewrites a table: readers with an older snapshot go on seeing its old rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from psycopg import sql

from aiia_pipelines.config.types import ColumnType, widens
from aiia_pipelines.sync.contract import Contract
from aiia_pipelines.sync.destinations._postgres_control import Db
from aiia_pipelines.sync.destinations._postgres_sql import MOMENT, type_of
from aiia_pipelines.sync.destinations.base import DELETED_AT, VALID_FROM, VALID_TO

# With the statements that give a column that is made anew what people gave to the old one.
_COLUMNS = """
select t.oid is not null, attname, format_type(atttypid, atttypmod), attnotnull, array_remove(array_append(array(
  select format('grant %%s (%%I) on %%s to %%s%%s', privilege_type, attname, attrelid::regclass,
    case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
    case when is_grantable then ' with grant option' else '' end)
  from aclexplode(attacl) order by 1),
  case when col_description(attrelid, attnum) is not null then
    format('comment on column %%s.%%I is %%L', attrelid::regclass, attname,
      col_description(attrelid, attnum)) end), null)
from (select to_regclass(%s) as oid) t
left join pg_attribute on attrelid = t.oid and attnum > 0 and not attisdropped order by attnum"""
_KEY = """
select conname, array(
  select attname::text from unnest(conkey) with ordinality k(attnum, place)
  join pg_attribute a on a.attrelid = conrelid and a.attnum = k.attnum order by place)
from pg_constraint where conrelid = to_regclass(%s) and contype = 'p'"""

_LONGEST_NAME = 63  # bytes; the server cuts what is longer
_SYSTEM = {"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}

SCHEMA_GRANTS = """
select 1 from pg_default_acl join pg_namespace n on n.oid = defaclnamespace
where nspname = %s and defaclobjtype = 'r' and pg_get_userbyid(defaclrole) = current_user"""


@dataclass(frozen=True, slots=True)
class Structure:
    """What a table is made of: types by column name, the columns that take no NULL, and the key.

    `given` has the statements that repeat the rights on a column and its comment.
    """

    columns: Mapping[str, str]
    filled: frozenset[str]
    key: tuple[str, ...]
    key_name: str = ""
    given: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def same(self, other: "Structure") -> bool:
        """Tell whether two tables differ in the name of the key at most."""
        mine, others = ((dict(each.columns), each.filled, each.key) for each in (self, other))
        return mine == others

    def without_key(self) -> "Structure":
        """Give the same without its key."""
        return replace(self, key=())


def read(db: Db, table: sql.Identifier) -> Structure | None:
    """Read the structure of a table, None when there is none."""
    name = table.as_string(db)
    found = db.execute(_COLUMNS, (name,)).fetchall()
    if not found[0][0]:
        return None
    columns = [row[1:] for row in found if row[1] is not None]
    key = db.execute(_KEY, (name,)).fetchone() or ("", [])
    return Structure(
        {column: kind for column, kind, *_ in columns},
        frozenset(column for column, _, filled, _ in columns if filled),
        tuple(key[1]),
        key[0],
        {column: given for column, _, _, given in columns if given},
    )


def added_columns(mode: str, delete: str) -> dict[str, str]:
    """Tell the columns that a mode needs beyond those of the contract."""
    if mode == "history":
        return {VALID_FROM: MOMENT, VALID_TO: MOMENT}
    return {DELETED_AT: MOMENT} if delete == "soft" else {}


def wanted(contract: Contract, added: Mapping[str, str]) -> Structure:
    """Give the structure that contract and mode ask for."""
    columns = {column.name: type_of(column.type) for column in contract.columns}
    start = {VALID_FROM} & set(added)
    key = (*contract.key, *start)
    filled = {column.name for column in contract.columns if not column.nullable}
    return Structure(columns | dict(added), frozenset(filled | set(key)), key)


def refused_name(name: str) -> str:
    """Tell why no column can have a name; nothing when it can."""
    if not name:
        return "it is empty"
    if len(name.encode()) > _LONGEST_NAME:
        return f"it has more than {_LONGEST_NAME} bytes"
    return "PostgreSQL has a column of its own by that name" if name in _SYSTEM else ""


def create(table: sql.Identifier, new: Structure) -> Iterator[sql.Composed]:
    """Give the statements that make a table."""
    parts = [
        sql.SQL("{} {}{}").format(
            sql.Identifier(name),
            sql.SQL(kind),
            sql.SQL(" not null" if name in new.filled else ""),
        )
        for name, kind in new.columns.items()
    ]
    if new.key:
        parts.append(sql.SQL("primary key ({})").format(_names(new.key)))
    yield sql.SQL("create table {} ({})").format(table, sql.SQL(", ").join(parts))
    if VALID_FROM in new.columns:
        yield _current_index(table, new)


def _current_index(table: sql.Identifier, new: Structure) -> sql.Composed:
    """Let a key have one current version, and make that one quick to find."""
    names = _names([name for name in new.key if name != VALID_FROM])
    index = "create unique index on {} ({}) where {} is null"
    return sql.SQL(index).format(table, names, sql.Identifier(VALID_TO))


def _names(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def additions(
    table: sql.Identifier, old: Structure, new: Structure
) -> Iterator[sql.Composed] | None:
    """Give the statements that let a table take new rows beside its old ones, None when none do.

    They change the catalogue only; columns that the contract has no more stay, empty in new rows.
    """
    widened = {
        name: kind
        for name, kind in new.columns.items()
        if name in old.columns and old.columns[name] != kind
    }
    if not all(_is_roomier(old.columns[name], kind) for name, kind in widened.items()):
        return None
    added = {name: kind for name, kind in new.columns.items() if name not in old.columns}
    return _additions(table, old, new, added, widened)


def _additions(
    table: sql.Identifier,
    old: Structure,
    new: Structure,
    added: Mapping[str, str],
    widened: Mapping[str, str],
) -> Iterator[sql.Composed]:
    for name, kind in added.items():
        yield _alter(table, "add column {name} {kind}", name, kind)
    for name, kind in widened.items():
        yield _alter(table, "alter column {name} type {kind}", name, kind)
    for name in sorted(old.filled - new.filled):
        yield _alter(table, "alter column {name} drop not null", name)


def _alter(table: sql.Identifier, action: str, name: str, kind: str = "") -> sql.Composed:
    parts = {"name": sql.Identifier(name), "kind": sql.SQL(kind)}
    return sql.SQL(f"alter table {{table}} {action}").format(table=table, **parts)


def _literally(statement: str) -> sql.Composed:
    # The server has quoted the names.
    return sql.Composed([sql.SQL(statement)])


def _is_roomier(old: str, new: str) -> bool:
    """Tell whether PostgreSQL changes the type without touching a row."""
    one, other = (_numeric(kind) for kind in (old, new))
    if one is None or other is None or one.name != other.name != "decimal":
        return False
    return other.precision is None or (one.scale == other.scale and widens(one, other))


def _numeric(kind: str) -> ColumnType | None:
    if not kind.startswith("numeric") or kind.endswith("]"):
        return None
    return ColumnType.parse(kind.replace("numeric", "decimal"))


def alterations(table: sql.Identifier, old: Structure, new: Structure) -> Iterator[sql.Composed]:
    """Give the statements that make an emptied table of the old structure one of the new."""
    kept = {name for name, kind in old.columns.items() if new.columns.get(name) == kind}
    # A key goes with any column of it that is made anew.
    rekeyed = old.key != new.key or not kept.issuperset(new.key)
    if old.key_name and rekeyed:
        yield _alter(table, "drop constraint {name}", old.key_name)
    for name in old.columns:
        if name not in kept:
            # Refused while a view needs the column: then the person who made the view must decide.
            yield _alter(table, "drop column {name}", name)
    for name, kind in new.columns.items():
        if name not in kept:
            yield _alter(table, "add column {name} {kind}", name, kind)
            yield from (_literally(statement) for statement in old.given.get(name, ()))
    if new.key and rekeyed:
        yield sql.SQL("alter table {} add primary key ({})").format(table, _names(new.key))
    if VALID_FROM in new.columns and VALID_FROM not in old.columns:
        yield _current_index(table, new)
    for name in new.columns:
        before = name in kept and name in old.filled
        if (name in new.filled) != before and name not in new.key:
            action = "set" if name in new.filled else "drop"
            yield _alter(table, f"alter column {{name}} {action} not null", name)
