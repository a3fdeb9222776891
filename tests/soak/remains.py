"""What must not be there once all runs have ended."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from conftest import Installation

from aiia_pipelines.local.postgres import WAREHOUSE

_PATIENCE = 60.0  # seconds for what ends after its run: sessions, slots


def left_behind(here: Installation, good: Sequence[str]) -> list[str]:
    """List slots, attempts, sessions, locks, staging tables, processes and rows that are not as they must be."""
    return [
        *_empty("attempt", lambda: here.query(
            "select number, attempt from aiia.attempts where ended_at is null"
        )),
        *_empty("slot", lambda: here.query(
            "select concurrency_key, run_id from public.concurrency_slots where run_id is not null"
        )),
        *_empty("session at the source", lambda: here.query(
            "select pid, state, query from pg_stat_activity where usename = 'shop_read'", "postgres", "aiia"
        )),
        *_empty("transaction", lambda: here.query(
            "select pid, state, query from pg_stat_activity where state like 'idle in transaction%'",
            "postgres", "aiia",
        )),
        *_empty("staging table", lambda: _staging(here, good)),
        *_empty("process of a run", lambda: _processes(here)),
        *[f"{name} does not equal its source" for name in good if _differs(here, name)],
    ]  # fmt: skip


def _empty(what: str, look: Callable[[], Sequence[object]]) -> list[str]:
    end = time.monotonic() + _PATIENCE
    while (found := look()) and time.monotonic() < end:
        time.sleep(1)
    return [f"left: {what} {each}" for each in found]


def _staging(here: Installation, good: Sequence[str]) -> list[str]:
    # A stream that never comes to its end keeps its last staging, for an attempt that goes on.
    query = "select table_name from information_schema.tables where table_schema = '_aiia_stg'"
    found = [str(name) for (name,) in here.query(query, WAREHOUSE)]
    return [name for name in found if name.partition("__")[0] in good]


def _processes(here: Installation) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_text().replace("\0", " ").strip()
            known = str(here.home).encode() in (entry / "environ").read_bytes()
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            above = (Path("/proc") / parent / "cmdline").read_text()
        except OSError:
            continue
        if known and "aiia_pipelines.worker" in command and "aiia_pipelines.worker" in above:
            found.append(f"{entry.name} {command}")
    return found


def _differs(here: Installation, name: str) -> bool:
    source = here.query(
        "select id, amount, note from public.orders order by id", "shop", "shop_owner"
    )
    arrived = here.query(f"select id, amount, note from {name}.orders order by id", WAREHOUSE)
    return source != arrived
