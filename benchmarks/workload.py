"""The rows that every contender moves: 16 columns as they stand in ledgers."""

from typing import Any

TABLE = "ledger_lines"
COLUMNS = {
    "id": "bigint primary key",
    "account": "integer not null",
    "quantity": "integer not null",
    "branch": "smallint not null",
    "amount": "numeric(18,2) not null",
    "rate": "numeric(12,6) not null",
    "tax": "numeric(18,2)",
    "currency": "text not null",
    "title": "text not null",
    "note": "text",
    "booked_on": "date not null",
    "created_at": "timestamptz not null",
    "updated_at": "timestamptz",
    "settled": "boolean not null",
    "score": "double precision not null",
    "attributes": "json",
}
FILL = f"""
insert into {TABLE}
select n, 100000 + n % 9000, n % 1000, n % 300,
  ((n * 7919) % 100000000)::numeric / 100 - 250000, 1 + (n % 100000)::numeric / 1000000,
  case when n % 3 = 0 then null else ((n * 31) % 1000000)::numeric / 100 end,
  (array['EUR', 'USD', 'SAR', 'AED'])[1 + n % 4], 'Invoice ' || md5(n::text),
  case when n % 5 = 0 then null else 'Zahlung für Auftrag ' || n || ' - ' || md5((n * 3)::text) end,
  date '2020-01-01' + (n % 2200)::int, timestamptz '2020-01-01 00:00+00' + n * interval '1.234567 seconds',
  case when n % 4 = 0 then null else timestamptz '2024-01-01 00:00+00' + n * interval '0.654321 seconds' end,
  n % 7 = 0, sqrt(n::float8), case when n % 10 = 0 then null else json_build_object('line', n, 'tags', array['a', 'b']) end
from generate_series(1::bigint, {{rows}}::bigint) n"""

# Ten rules of the kind that people write, besides types, nulls and the unique key.
CHECKS: dict[str, dict[str, Any]] = {
    "account": {"checks": {"in_range": {"min_value": 100000, "max_value": 109999}}},
    "quantity": {"checks": {"ge": 0}},
    "branch": {"checks": {"lt": 300}},
    "amount": {"checks": {"ge": -250000}},
    "rate": {"checks": {"gt": 0}},
    "tax": {"checks": {"ge": 0}},
    "currency": {"checks": {"isin": ["EUR", "USD", "SAR", "AED"]}},
    "title": {"checks": {"str_startswith": "Invoice "}},
    "booked_on": {"checks": {"ge": "2020-01-01"}},
    "score": {"checks": {"ge": 0}},
}


def digest(columns: list[str] | None = None) -> str:
    """Give the query that sums up a table by value: its rows, and for each column an order-independent sum."""
    sums = (
        f"""sum(('x' || substr(md5(coalesce({text_of(name)}, '~')), 1, 15))::bit(60)::bigint) as "{name}\""""
        for name in columns or COLUMNS
    )
    return f"select count(*), {', '.join(sums)} from {{table}}"


def text_of(name: str) -> str:
    """Write a column so that the same value has the same text, whichever type a contender stored it as."""
    kind = COLUMNS[name].split(" ")[0]
    if kind.startswith("numeric"):
        return f'trim_scale("{name}"::numeric)::text'
    if kind == "json":
        return f'"{name}"::jsonb::text'
    if kind == "timestamptz":
        return f"""to_char("{name}"::timestamptz at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"""
    if kind in {"bigint", "integer", "smallint"}:
        return f'"{name}"::bigint::text'
    return f'"{name}"::{"float8" if kind == "double" else kind}::text'
