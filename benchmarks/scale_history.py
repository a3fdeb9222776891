"""A job history of any length, how fast it is read, and what one run leaves behind."""

import os
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from aiia_pipelines.jobs import history
from aiia_pipelines.jobs.history import Filter

if TYPE_CHECKING:
    from psycopg2.extensions import connection

# Each copy of one real job run belongs to another connector and another time; three of a hundred went wrong.
_CONNECTORS = 1000
_JOB_RUNS = """
insert into aiia.job_runs (number, uid, connector, title, created_at, started_at, ended_at, state, failure_code,
    message, {rest})
select n, gen_random_uuid(), 'c' || lpad((n * 7919 % {connectors})::text, 4, '0'),
    'Connector ' || (n * 7919 % {connectors}),
    now() - ({most} - n) * interval '90 seconds', now() - ({most} - n) * interval '90 seconds',
    now() - ({most} - n) * interval '90 seconds' + interval '8 seconds',
    case when n % 33 = 0 then 'Failed' else 'Completed' end,
    case when n % 33 = 0 then 'connection-timeout' end,
    case when n % 33 = 0 then 'Connection timeout. Unable to reach 10.140.2.' || n % 255 || ':5432 after 20 seconds.'
        else t.message end, {given}
from generate_series({first}::bigint, {last}) n, aiia.job_runs t where t.number = {template}
"""
_ATTEMPTS = """
insert into aiia.attempts (number, run_id, {rest}) select n, gen_random_uuid()::text, {given}
from generate_series({first}::bigint, {last}) n, aiia.attempts t where t.number = {template}
"""
_TASKS = """
insert into aiia.tasks (number, {rest}) select n, {given}
from generate_series({first}::bigint, {last}) n, aiia.tasks t where t.number = {template}
"""
_OFFSET = 1_000_000  # above the numbers of real runs


def fill(db: "connection", have: int, want: int, most: int) -> None:
    """Lengthen the history from `have` job runs to `want`, each a copy of the last real one."""
    with db.cursor() as cursor:
        cursor.execute(f"select max(number) from aiia.job_runs where number < {_OFFSET}")
        facts = {
            "template": cursor.fetchone()[0], "connectors": _CONNECTORS, "most": most + _OFFSET,
            "first": _OFFSET + have + 1, "last": _OFFSET + want,
        }  # fmt: skip
        own = {
            "job_runs": "number uid connector title created_at started_at ended_at state failure_code message",
            "attempts": "number run_id",
            "tasks": "number",
        }
        for (table, columns), text in zip(own.items(), (_JOB_RUNS, _ATTEMPTS, _TASKS), strict=True):
            cursor.execute(
                "select quote_ident(column_name) from information_schema.columns where table_schema = 'aiia'"
                " and table_name = %s and column_name <> all(%s)",
                (table, columns.split()),
            )
            rest = [name for (name,) in cursor.fetchall()]
            given = ", ".join(f"t.{name}" for name in rest)
            cursor.execute(text.format(rest=", ".join(rest), given=given, **facts))
        cursor.execute("analyze")


def reads(count: int, last: int) -> dict[str, Filter]:
    """Give what people ask a history of `count` job runs; `last` is how many that were."""
    since = datetime.now(UTC) - timedelta(days=30)
    return {
        "the first page": Filter(),
        "a page in the middle": Filter(before=_OFFSET + count // 2),
        "one connector": Filter(connectors=("c0042",)),
        "what failed": Filter(states=history.STATUSES["failed"]),
        "what is active": Filter(states=history.STATUSES["active"]),
        "needs attention": Filter(needs_attention=True),
        "needs attention, 30 days": Filter(needs_attention=True, since=since),
        "text that is frequent": Filter(text="connector 42"),
        "text that is rare": Filter(text=f"#{_OFFSET + last // 2}"),
        "text that is nowhere": Filter(text="no such word"),
    }


def read_times(url: str, count: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Give p50 and p95 of each read in milliseconds."""
    found = {}
    with closing(history.connect(url)) as db:
        for name, wanted in reads(count, count).items():
            found[name] = _spread(lambda wanted=wanted: history.list_runs(db, wanted), rounds)
        one = _OFFSET + count // 2
        found["one job run"] = _spread(lambda: history.run(db, one), rounds)
    return found


def _spread(read: Callable[[], object], rounds: int) -> tuple[float, float]:
    read()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        read()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times), sorted(times)[min(rounds - 1, int(rounds * 0.95))]


_SIZES = """
select n.nspname || '.' || c.relname, pg_total_relation_size(c.oid) from pg_class c join pg_namespace n on n.oid = relnamespace
where relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg_%'
"""


def left_behind(db: "connection") -> dict[str, tuple[int, int]]:
    """Give rows and bytes, with indexes, of each table of a database."""
    with db.cursor() as cursor:
        cursor.execute(_SIZES)
        sizes = dict(cursor.fetchall())
        found = {}
        for table, size in sizes.items():
            schema, _, name = table.partition(".")
            cursor.execute(f'select count(*) from "{schema}"."{name}"')
            found[table] = (int(cursor.fetchone()[0]), int(size))
    return found


def files_of(home: Path) -> dict[str, int]:
    """Count the files below a home and the bytes that they take on the disk."""
    count = size = 0
    for name in ("artifacts", "logs"):
        for at, _, names in os.walk(home / name):
            count += len(names)
            size += sum((Path(at) / each).stat().st_blocks * 512 for each in names)
    return {"files": count, "bytes": size}
