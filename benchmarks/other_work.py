"""Other work than a whole table: changed rows of a large one, and many small streams."""

import statistics
import sys

from ground import Ground, ours, piped, run_once
from workload import COLUMNS, TABLE


def changed_rows(ground: Ground, rounds: int) -> list[str]:
    """Compare an incremental upsert of 15 % of the rows with the same done by hand."""
    ground.execute(
        "bench_source",
        f"update {TABLE} set updated_at = created_at where updated_at is null",
        f"create index on {TABLE} (updated_at)",
        f"vacuum analyze {TABLE}",
    )
    ground.fresh()
    if run_once(ground, ours("upsert")(ground)).code:
        return ["The first load for the changed rows failed."]
    names = ", ".join(COLUMNS)
    news = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name != "id")
    ground.execute(
        "bench_target",
        f"create table raw.by_hand as select {names} from bench.{TABLE}",
        "alter table raw.by_hand add primary key (id)",
        "vacuum analyze raw.by_hand",
    )
    by_hand, by_us = [], []
    for turn in range(rounds):
        ((since,),) = ground.execute("bench_source", "select clock_timestamp()")
        change = f"update {TABLE} set score = score + 1, updated_at = clock_timestamp() where (id + {turn * 15}) % 100 < 15"
        ground.execute("bench_source", change, f"vacuum analyze {TABLE}")
        ground.settle()
        changes = f"(select {names} from {TABLE} where updated_at > '{since}')"
        upsert = f"insert into raw.by_hand ({names}) select {names} from news on conflict (id) do update set {news}"
        news_table = f"create temp table news as select {names} from raw.by_hand where false"
        copy = "copy news from stdin (format binary)"
        by_hand.append(run_once(ground, piped(ground, changes, [news_table, copy, upsert])))
        by_us.append(run_once(ground, ours("upsert")(ground)))
        sys.stderr.write(
            f"changed rows: {by_hand[-1].wall:.1f} s by hand, {by_us[-1].wall:.1f} s ours\n"
        )
    same = f"select count(*) from raw.by_hand h join bench.{TABLE} t using (id) where h.score = t.score and h.updated_at = t.updated_at"
    ((equal,),) = ground.execute("bench_target", same)
    hand, mine = (statistics.median(run.wall for run in runs) for runs in (by_hand, by_us))
    told = (
        f"**{ground.rows * 15 // 100:,} changed rows into {ground.rows:,}**: COPY to a temporary table and INSERT … ON CONFLICT by hand"
        f" {hand:.1f} s, incremental upsert of ours {mine:.1f} s: {mine / hand:.2f} x, forked off a warm process;"
        f" {'all rows equal' if equal == ground.rows else f'{ground.rows - equal} rows differ'}."
    )
    return [told]


def many_streams(ground: Ground, count: int = 200) -> list[str]:
    """Measure what a small stream costs once a run is under way."""
    tables = [
        f"create table small.t{n} as select * from {TABLE} where id between {n * 1000 + 1} and {n * 1000 + 1000}"
        for n in range(count)
    ]
    ground.execute("bench_source", "create schema small", *tables)
    ground.fresh()
    alone = run_once(ground, ours("streams")(ground))
    ground.fresh()
    every = run_once(ground, ours("streams", count)(ground))
    if alone.code or every.code:
        return ["The run of many small streams failed."]
    each = (every.wall - alone.wall) / (count - 1) * 1000
    told = (
        f"**{count} streams of 1,000 rows in one run**: {every.wall:.1f} s, of which a run of one stream takes {alone.wall:.1f} s:"
        f" {each:.0f} ms for each further stream."
    )
    return [told]
