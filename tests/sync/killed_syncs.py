"""Kill syncs into a destination of files at many points, and look at what each kill left.

Run as a program, since it forks: URL, number of kills, seed. It prints one JSON line a kill.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import duckdb
import pandas as pd  # noqa: F401 - pyarrow loads it with its first array, which each fork would pay for
import pyarrow as pa
import pyarrow.compute as pc

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync.contract import Contract, ContractColumn
from aiia_pipelines.sync.destinations import open_destination
from aiia_pipelines.sync.destinations.base import REJECTED, Load
from aiia_pipelines.sync.destinations.parquet import read

COLUMNS = {"id": "int64", "name": "string"}
MODES = ("append", "upsert", "history", "replace")
ROWS = 3000


def load(mode: str, run_key: str) -> Load:
    parts = tuple(
        ContractColumn(name=n, source=n, type=ColumnType.parse(k), nullable=True, checks={})
        for n, k in COLUMNS.items()
    )
    key = () if mode == "append" else ("id",)
    return Load(
        connector="sap_erp",
        stream=mode,
        mode=mode,
        run_key=run_key,
        contract=Contract(parts, key, (), None, None),
        delete="soft" if mode in {"upsert", "history"} else "none",
    )


def sync(url: str, mode: str, number: int) -> None:
    """Sync state `number`, unless it was committed before."""
    destination = open_destination(url)
    destination.connect()
    landing = destination.land(load(mode, f"run-{number}/{mode}"))
    if landing.committed_before() is None:
        ids = range(number, number + ROWS)
        batch = pa.record_batch({"id": pa.array(ids), "name": pa.array([f"n{number}"] * ROWS)})
        for start in range(0, ROWS, ROWS // 3):
            landing.stage(batch.slice(start, ROWS // 3))
        row = {"row": number, "place": "", "rules": "r", "record": "{}"}
        landing.reject(pa.RecordBatch.from_pylist([row], schema=REJECTED))
        changes = landing.match(complete=mode != "append")
        landing.commit(ROWS, changes, {"number": number})
    landing.discard()
    destination.close()


def look(url: str, mode: str, number: int) -> dict[str, Any]:
    """Tell the committed state: the numbers that rows, position, quarantine and ledger speak of."""
    destination = open_destination(url)
    destination.connect()
    landing = destination.land(load(mode, f"run-{number}/{mode}"))
    known, position, live = landing.committed_before(), landing.position(), landing.live_rows()
    landing.discard()
    destination.close()
    aside = table(url, f"{mode}__quarantine")
    return {
        "known": known is not None,
        "position": position and position["number"],
        "live": live,
        "names": names(table(url, mode), mode),
        "aside": sorted(aside.column("row").to_pylist()) if aside.num_columns else [],
    }


def names(found: pa.Table, mode: str) -> dict[str, int]:
    """Count the live rows of each state."""
    if not found.num_columns:
        return {}
    mark = {"upsert": "_deleted_at", "history": "_valid_to"}.get(mode)
    if mark is not None:
        found = found.filter(pc.is_null(found.column(mark)))
    counts = found.group_by("name").aggregate([("id", "count_distinct"), ("id", "count")])
    assert counts.column(1).to_pylist() == counts.column(2).to_pylist(), "a row twice"
    return dict(zip(counts.column(0).to_pylist(), counts.column(2).to_pylist(), strict=True))


def table(url: str, stream: str) -> pa.Table:
    if not url.startswith("duckdb"):
        return read(url, "sap_erp", stream)
    db = duckdb.connect(url.removeprefix("duckdb://"), read_only=True)
    try:
        return db.sql(f"select * from sap_erp.{stream}").to_arrow_table()
    except duckdb.CatalogException:
        return pa.table({})
    finally:
        db.close()


def forked(
    work: Callable[[], Any], *, kill_at: int = 0, kill_after: float = 0.0
) -> tuple[int, Any]:
    """Run something in a process of its own; give how it ended and what it returned."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        calls = 0

        def count(frame: Any, event: str, _: object) -> None:
            nonlocal calls
            if event == "c_call" and "/sync/destinations/" in frame.f_code.co_filename:
                calls += 1
                if calls == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
        try:
            found = work()
            sys.setprofile(None)
            os.write(writer, json.dumps([calls, found]).encode())
        except BaseException as fault:  # noqa: BLE001 - told to the parent, whatever it is
            sys.setprofile(None)
            os.write(writer, json.dumps([calls, f"{type(fault).__name__}: {fault}"]).encode())
            os._exit(3)
        os._exit(0)
    os.close(writer)
    if kill_after:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    told = b""
    while part := os.read(reader, 65536):
        told += part
    os.close(reader)
    _, status = os.waitpid(pid, 0)
    return status, json.loads(told) if told else None


def main(url: str, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    lengths: dict[str, tuple[int, float]] = {}
    number = 0
    for mode in MODES:
        for _ in range(2):  # the first sync makes everything, the second is like all later ones
            number += 1
            began = time.monotonic()
            status, told = forked(lambda: sync(url, mode, number))  # noqa: B023 - runs at once
            assert status == 0, told
            lengths[mode] = (told[0], time.monotonic() - began)
    last = {mode: 2 * place + 2 for place, mode in enumerate(MODES)}
    for trial in range(kills):
        mode = MODES[trial % len(MODES)]
        number += 1
        calls, seconds = lengths[mode]
        # Two of three at a call, mostly near the commit; the others at any moment.
        point = chance.randint(calls // 2 if trial % 2 else 1, calls) if trial % 3 else 0
        delay = 0.0 if point else chance.uniform(0.2, 1.0) * seconds
        status, _ = forked(lambda: sync(url, mode, number), kill_at=point, kill_after=delay)  # noqa: B023
        _, left = forked(lambda: look(url, mode, number))  # noqa: B023
        _, again = forked(lambda: sync(url, mode, number))  # noqa: B023
        _, after = forked(lambda: look(url, mode, number))  # noqa: B023
        killed = os.WIFSIGNALED(status)
        facts = {"mode": mode, "before": last[mode], "number": number, "killed": killed}
        point_told = {"point": point, "delay": round(delay, 3), "again": again and again[1]}
        told = facts | point_told | {"left": left[1], "after": after[1]}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        last[mode] = number


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
