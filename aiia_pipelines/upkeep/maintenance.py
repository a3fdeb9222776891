"""Maintenance: removing, in small steps, what nobody needs any more, and what is older than the settings keep."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from uuid import UUID

import sqlalchemy as sa

from aiia_pipelines.config.settings import Settings, destination_urls
from aiia_pipelines.jobs import webhooks
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.sync.destinations import collect
from aiia_pipelines.sync.destinations._parquet_store import sweep_scratch
from aiia_pipelines.upkeep import retention
from aiia_pipelines.upkeep.course import Stage

MOST = 5000  # that one stage removes in one run; the next day goes on
_LOGS_KEPT = 30 * 86_400.0  # seconds
_ARTIFACTS_KEPT = 86_400.0  # seconds; the run of a younger folder may just be made
_WITHIN = 600.0  # seconds for each stage
_AT_ONCE = 500
_DEAD = 10_000  # rows
_DEAD_SHARE = 0.2
_CHEAP_BYTES = 256 << 20


def stages_of(settings: Settings, store: JobStore, environ: Mapping[str, str]) -> list[Stage]:
    """List the stages."""
    artifacts = Path(environ.get("AIIA_ARTIFACTS") or settings.home / "artifacts")
    work: dict[str, Callable[[], str]] = {
        **{
            f"staging {name}": partial(_staging, url)
            for name, url in sorted(destination_urls(environ).items())
        },
        "scratch folders": lambda: _removed(sweep_scratch(Path(tempfile.gettempdir()))),
        "run logs": lambda: _removed(_old_logs(settings.home / "logs" / "runs")),
        "webhook calls": lambda: _removed(webhooks.purge(store.engine, MOST)),
        "artifacts": lambda: _removed(_orphans(store.engine, artifacts)),
        **{
            name: partial(_counted, remove)
            for name, remove in retention.stages(store.engine, settings).items()
        },
        "dead rows": lambda: _vacuumed(store.engine),
    }
    return [
        Stage(
            name=name,
            work=each,
            within=_WITHIN,
            side="destination" if name.startswith("staging ") else "source",
        )
        for name, each in work.items()
    ]


def _removed(count: int, most: int = MOST) -> str:
    more = "; the next run goes on" if count >= most else ""
    return f"{count:,} removed{more}" if count else "nothing to remove"


def _counted(remove: Callable[[], int]) -> str:
    return _removed(remove(), retention.MOST)


def _staging(url: str) -> str:
    return _removed(collect(url, MOST))


# -- files ----------------------------------------------------------------------------------


def _old_logs(folder: Path) -> int:
    before = time.time() - _LOGS_KEPT
    return sum(1 for each in _older(folder.glob("*.log"), before) if _unlinked(each))


def _orphans(engine: sa.Engine, artifacts: Path) -> int:
    """Remove what Dagster runs wrote that are gone from its storage."""
    before = time.time() - _ARTIFACTS_KEPT
    places = (artifacts, artifacts / "storage")
    found = [
        each
        for place in places
        for each in _older(place.iterdir() if place.is_dir() else (), before)
        if _is_run_id(each.name) and each.is_dir()
    ]
    count = 0
    for start in range(0, len(found), _AT_ONCE):
        some = found[start : start + _AT_ONCE]
        known = _known_runs(engine, [each.name for each in some])
        for each in some:
            if each.name not in known and count < MOST:
                shutil.rmtree(each, ignore_errors=True)
                count += not each.exists()
    return count


def _older(paths: Iterable[Path], before: float) -> Iterator[Path]:
    for path in paths:
        try:
            changed = path.stat().st_mtime
        except FileNotFoundError:
            continue  # somebody else was faster
        if changed < before:
            yield path


def _unlinked(path: Path) -> bool:
    path.unlink(missing_ok=True)
    return True


def _is_run_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False


# -- the database ---------------------------------------------------------------------------


def _known_runs(engine: sa.Engine, run_ids: list[str]) -> set[str]:
    query = sa.text("select run_id from public.runs where run_id = any(:ids)")
    with engine.connect() as db:
        return set(db.execute(query, {"ids": run_ids}).scalars())


def _vacuumed(engine: sa.Engine) -> str:
    """Tidy up the small tables that autovacuum has left behind; large ones are its own business."""
    query = sa.text(
        "select format('%I.%I', s.schemaname, s.relname) from pg_stat_user_tables s"
        " join pg_class c on c.oid = s.relid"
        " where s.schemaname in ('aiia', 'public') and s.n_dead_tup >= :least"
        " and s.n_dead_tup > :share * (s.n_live_tup + s.n_dead_tup)"
        " and pg_table_size(s.relid) <= :most and pg_has_role(c.relowner, 'usage') order by 1"
    )
    values = {"least": _DEAD, "share": _DEAD_SHARE, "most": _CHEAP_BYTES}
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        names = list(db.execute(query, values).scalars())
        for name in names:
            db.exec_driver_sql(f"vacuum (analyze, skip_locked) {name}")
    return f"vacuumed {', '.join(names)}" if names else "few"
