"""The SQL in which DuckDB compares staged rows with stored ones, for its own tables as for Parquet files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync.contract import Contract, ContractColumn
from aiia_pipelines.sync.destinations.base import DELETED_AT, VALID_FROM, VALID_TO, Load
from aiia_pipelines.sync.faults import DestinationFault

TIME = "TIMESTAMP WITH TIME ZONE"
_MAX_DIGITS = 38
_SAMPLES = 5
_GROUP = 19  # digits behind the point that are added up together
_TYPES = {
    "bool": "BOOLEAN", "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT", "float32": "FLOAT",
    "float64": "DOUBLE", "string": "VARCHAR", "binary": "BLOB", "date": "DATE", "time": "TIME",
    "timestamp": "TIMESTAMP", "timestamptz": TIME, "uuid": "UUID", "json": "JSON",
    # DuckDB writes its own intervals in its own way; the text of the source stays as it is.
    "interval": "VARCHAR",
}  # fmt: skip
_FLOATS = {"float32", "float64"}


def quoted(name: str) -> str:
    """Write a name as an identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Write a text as a value."""
    return "'" + text.replace("'", "''") + "'"


def listed(names: Sequence[str], alias: str = "") -> str:
    """Write names as a list of columns."""
    dot = f"{alias}." if alias else ""
    return ", ".join(dot + quoted(name) for name in names)


def type_of(kind: ColumnType) -> str | None:
    """Give the type that holds every value of a column type exactly; None when there is none."""
    if kind.item is not None:
        item = type_of(kind.item)
        return item and f"{item}[]"
    if kind.name == "decimal":
        if kind.precision is None or kind.precision > _MAX_DIGITS:
            return None
        return f"DECIMAL({kind.precision},{kind.scale})"
    return _TYPES[kind.name]


def extras_of(load: Load) -> tuple[str, ...]:
    """Name the columns that a load adds to those of the contract."""
    if load.mode == "history":
        return (VALID_FROM, VALID_TO)
    return (DELETED_AT,) if load.delete == "soft" else ()


def layout(load: Load, *, where: str) -> dict[str, str]:
    """Give the type of each stored column of a load.

    Raises:
        DestinationFault: A column cannot be stored as it is; the sentence names it.
    """
    found: dict[str, str] = {}
    for column in load.contract.columns:
        kind = type_of(column.type)
        if kind is None:
            raise DestinationFault(
                f"{where} cannot hold every {column.type} exactly: column '{column.name}' of {load.stream}."
                f" Declare it with at most {_MAX_DIGITS} digits, or let it be text with `on_lossy: text`.",
                "contract:type",
            )
        found[column.name] = kind
    if "" in found:
        raise DestinationFault(
            f"A column of {load.stream} has an empty name, which {where} cannot hold: give it"
            " another name under `columns:`.",
            "contract:column",
        )
    found |= dict.fromkeys(extras_of(load), TIME)
    same = {name.casefold() for name in found}
    if len(same) < len(load.contract.columns) + len(extras_of(load)):
        raise DestinationFault(
            f"{where} does not tell apart columns of {load.stream} whose names differ in case only,"
            f" and adds {', '.join(extras_of(load)) or 'none'}: rename columns with `from`.",
            "contract:column",
        )
    return found


# -- figures --------------------------------------------------------------------------------


def figure(name: str, column: str, kind: ColumnType) -> str:
    """Give the expression of one figure over the staged rows."""
    c = quoted(column)
    if name == "rows":
        return "count(*)"
    if name == "nulls":
        return f"count(*) - count({c})"
    if name == "hash":
        return f"sum(('0x' || md5({canonical(c, kind)})[:15])::BIGINT)"
    if name == "sum":
        return _sum(c, kind)
    known = f" filter (where not isnan({c}))" if kind.name in _FLOATS else ""
    return f"{name}({c}){known}"


def _sum(c: str, kind: ColumnType) -> str:
    """Add up the digits of wide decimals in four groups: their sum may have more than 38 digits."""
    if kind.name != "decimal" or (kind.precision or 0) <= 18:
        return f"sum({c})"
    scale = kind.scale or 0
    return (
        f"{{'whole': sum(trunc({c})::HUGEINT // 1000000000000000000::HUGEINT),"
        f" 'rest': sum(trunc({c})::HUGEINT % 1000000000000000000::HUGEINT),"
        f" 'high': sum({_behind(c, 0, min(scale, _GROUP))}), 'low': sum({_behind(c, _GROUP, scale)})}}"
    )


def total(value: Any, kind: ColumnType) -> Any:  # noqa: ANN401 - a figure of any type
    """Put the groups of digits of a sum together."""
    if not isinstance(value, dict):
        return value
    if value["whole"] is None:
        return None
    scale = kind.scale or 0
    digits = [value["whole"] * 10**18 + value["rest"], value["high"], value["low"]]
    with localcontext(prec=200):
        parts = zip(digits, (0, min(scale, _GROUP), scale), strict=True)
        return sum((Decimal(number).scaleb(-places) for number, places in parts), Decimal(0))


def _behind(c: str, first: int, last: int) -> str:
    """Take the digits behind the point from `first` to before `last` as a signed whole number."""
    if last <= first:
        return "0::HUGEINT"
    digits = f"substr(split_part({c}::VARCHAR, '.', 2), {first + 1}, {last - first})"
    return f"(case when {c} < 0 then '-' else '' end || {digits})::HUGEINT"


def canonical(c: str, kind: ColumnType, depth: int = 0) -> str:
    """Write a value as the text by which both sides of a sync know it."""
    if kind.item is not None:
        x = f"x{depth}"
        item = canonical(x, kind.item, depth + 1)
        each = f"case when {x} is null then '-' else length({item}) || ':' || {item} end"
        return f"array_to_string(list_transform({c}, lambda {x}: {each}), '')"
    forms = {
        "bool": f"case when {c} then 't' when not {c} then 'f' end",
        "binary": f"lower(hex({c}))",
        "date": f"({c} - DATE '1970-01-01')::VARCHAR",
        "time": f"epoch_us({c})::VARCHAR",
        "timestamp": f"epoch_us({c})::VARCHAR",
        "timestamptz": f"epoch_us({c})::VARCHAR",
        "float32": _bits(c),
        "float64": _bits(c),
    }
    if kind.name == "decimal" and kind.precision is not None and kind.scale == kind.precision:
        # DuckDB writes such a number without the zero before its point.
        return f"regexp_replace({c}::VARCHAR, '^(-?)[.]', '\\10.')"
    return forms.get(kind.name, f"{c}::VARCHAR")


def _bits(c: str) -> str:
    return (
        f"case when isnan({c}) then '7ff8000000000000' else lower(hex({c}::DOUBLE::BIT::BLOB)) end"
    )


def duplicates(relation: str, columns: Sequence[str]) -> tuple[str, str]:
    """Give the queries that count the rows that share their values, and show some."""
    names = listed(columns)
    filled = " and ".join(f"{quoted(name)} is not null" for name in columns)
    groups = (
        f"select count(*) as n, {names} from {relation} where {filled} group by {names}"
        " having count(*) > 1"
    )
    return f"select coalesce(sum(n), 0)::BIGINT from ({groups})", f"{groups} limit {_SAMPLES}"


# -- comparing ------------------------------------------------------------------------------


def same(contract: Contract) -> str:
    """Say that row `t` holds what row `s` has, to the bit."""
    parts = [_alike(column) for column in contract.columns if column.name not in contract.key]
    return " and ".join(parts) or "true"


def _alike(column: ContractColumn) -> str:
    t, s = (f"{alias}.{quoted(column.name)}" for alias in "ts")
    kind: ColumnType | None = column.type
    depth = 0
    while kind is not None and kind.item is not None:
        kind, depth = kind.item, depth + 1
    if kind is None or kind.name not in _FLOATS:
        return f"{t} is not distinct from {s}"
    if depth:
        t, s = canonical(t, column.type), canonical(s, column.type)
        return f"{t} is not distinct from {s}"
    # Zero equals negative zero, and yet is another value.
    return f"({t} is not distinct from {s} and ({t} is distinct from 0 or signbit({t}) = signbit({s})))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Staged rows against stored ones: `keys` are those that the source has, else the staged rows tell.

    `columns` are the stored ones, which may be more than those of the contract.
    """

    load: Load
    staged: str
    stored: str
    columns: Mapping[str, str]
    keys: str | None = None
    follows: bool = False  # whether rows that the source has no more are to be deleted

    @property
    def pairs(self) -> str:
        """Say that `t` and `s` have the same key."""
        return self._pairs("s")

    def _pairs(self, other: str) -> str:
        key = map(quoted, self.load.contract.key)
        return " and ".join(f"t.{name} = {other}.{name}" for name in key)

    @property
    def live(self) -> str:
        """Say that `t` is present for readers."""
        if self.load.mode == "history":
            return f"t.{VALID_TO} is null"
        return f"t.{DELETED_AT} is null" if DELETED_AT in self.columns else "true"

    @property
    def gone(self) -> str:
        """Say that the source has `t` no more."""
        if not self.follows:
            return "false"
        found = f"not exists (select 1 from {self.staged} s where {self.pairs})"
        if self.keys is not None:
            found += f" and not exists (select 1 from {self.keys} k where {self._pairs('k')})"
        return f"({self.live} and {found})"

    @property
    def superseded(self) -> str:
        """Say that `s`, joined by key, takes the place of `t`."""
        if self.load.mode == "history":
            return f"({self.live} and not ({self.same}))"
        return f"not ({self.live} and {self.same})"

    @property
    def same(self) -> str:
        """Say that `t` holds what `s` has."""
        return same(self.load.contract)

    def counts(self) -> str:
        """Give the query of inserted, updated, unchanged and deleted rows."""
        if not self.load.contract.key:
            stored = f"(select count(*) from {self.stored})" if self.follows else "0"
            return f"select (select count(*) from {self.staged}), 0, 0, {stored}"
        k = quoted(self.load.contract.key[0])
        both = f"t.{k} is not null and s.{k} is not null"
        deleted, join = "0", "right"
        if self.follows and self.keys is None:
            deleted, join = f"count(*) filter (where s.{k} is null)", "full"
        elif self.follows:
            deleted = f"(select count(*) from {self.stored} t where {self.gone})"
        return (
            f"select count(*) filter (where t.{k} is null),"
            f" count(*) filter (where {both} and not ({self.same})),"
            f" count(*) filter (where {both} and {self.same}), {deleted}"
            f" from (select * from {self.stored} t where {self.live}) t {join} join {self.staged} s on {self.pairs}"
        )

    def arriving(self) -> str:
        """Give the `from` and `where` of the rows `s` that are new or not what is stored."""
        if not self.load.contract.key:
            return f"from {self.staged} s"
        k = quoted(self.load.contract.key[0])
        return (
            f"from {self.staged} s left join (select * from {self.stored} t where {self.live}) t"
            f" on {self.pairs} where t.{k} is null or not ({self.same})"
        )


def without_key(contract: Contract, relation: str) -> str:
    """Count the rows that have no value in a column of the key."""
    empty = " or ".join(f"{quoted(name)} is null" for name in contract.key) or "false"
    return f"select count(*) from {relation} where {empty}"


def shaped(relation: str, have: Mapping[str, str], want: Mapping[str, str]) -> str:
    """Give a relation all wanted columns; those it lacks are NULL."""
    parts = [
        quoted(name) if name in have else f"NULL::{kind} as {quoted(name)}"
        for name, kind in want.items()
    ]
    return f"(select {', '.join(parts)} from {relation})"


def refuse_other_columns(
    load: Load, have: Mapping[str, str], want: Mapping[str, str], place: str
) -> None:
    """Refuse stored rows that stay and cannot get the columns of the contract; they may have more.

    Raises:
        DestinationFault: A column has another type, or a new one would need values.
    """
    needed = {*load.contract.key, *({VALID_FROM} & want.keys())}
    alien = {VALID_FROM, VALID_TO} & have.keys() - want.keys()
    if (
        alien
        or needed - have.keys()
        or any(want.get(name, have[name]) != have[name] for name in have)
    ):
        raise DestinationFault(
            f"The stored rows of {load.connector}.{load.stream} have other columns than the contract, and"
            f" mode {load.mode} keeps them: sync the stream once in mode replace, or remove what is stored.",
            "destination:rejected",
            place=place,
        )
