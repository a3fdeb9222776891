"""`aiia doctor`, second guide: why job runs fail."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from aiia_pipelines.cli._doctor_finding import (
    Finding,
    Ground,
    Scene,
    ago,
    problem,
    size,
    some,
    warning,
)
from aiia_pipelines.cli.exits import Exit, exit_of
from aiia_pipelines.config.faults import ConfigInvalid
from aiia_pipelines.config.settings import destination_urls
from aiia_pipelines.jobs.failures import CATALOGUE, Failure, classify
from aiia_pipelines.jobs.history import Filter, RunRow, connect, list_runs, rows, run
from aiia_pipelines.jobs.unclassified import unclassified_count

_LEAST_FREE_BYTES = 1 << 30
_CLOCK_SECONDS = 60.0
_OFTEN = 3  # failures in a row that no retry mends by itself
_UNCLASSIFIED_DAYS = 7


def examine(scene: Scene) -> Iterator[Finding]:
    """Go through what failed last, and through what makes runs fail."""
    if scene.number is not None:
        yield _asked_for(scene, scene.number)
    yield from _failures(scene)
    yield secrets(scene)
    yield from disks(scene)
    yield from _destinations()
    yield _clock(scene)
    yield _unclassified(scene)


def _asked_for(scene: Scene, number: int) -> Finding:
    """Say how the job run that was asked for stands."""
    found, check = run(scene.db, number), f"job run #{number}"
    if found.failure_code is not None:
        told = _failed(scene, check, found)
        # What a later run made good is not in the way any more.
        return told if number in _open(scene) else warning(check, told.note, told.remedy)
    words = (f"{found.connector} {found.type}", found.state, found.waits, found.message)
    return Finding(check, note=", ".join(filter(None, words)))


def _open(scene: Scene) -> dict[int, RunRow]:
    """List the failures that no later run made good, the newest first."""
    names = tuple(sorted(scene.names or ()))
    wanted = Filter(needs_attention=True, connectors=names, limit=1000)
    return {each.number: each for each in list_runs(scene.db, wanted)}


def _failures(scene: Scene) -> Iterator[Finding]:
    check = "failures to look at"
    found = list(_open(scene).values())
    if not found:
        yield Finding(check, note="none")
        return
    numbers = some([f"#{each.number} {each.connector}" for each in found])
    yield warning(check, numbers, f"Run `aiia jobs show {found[0].number}`.")
    latest: dict[str, RunRow] = {}
    for each in found:
        latest.setdefault(each.connector, each)
    for name, last in latest.items():
        if last.number != scene.number:
            yield _failed(scene, f"connector {name}", last)


def _failed(scene: Scene, check: str, last: RunRow) -> Finding:
    """Tell the last failure of a connector; one that may pass by itself is no problem yet."""
    kind = CATALOGUE.get(last.failure_code or "", CATALOGUE["unclassified"])
    failure = Failure(kind, last.message, last.failure_place)
    times = _in_a_row(scene, last)
    often = "" if times == 1 else f", {times} times in a row"
    note = f"#{last.number} {last.failure_code or last.state}{often}: {last.message}"
    remedy = f"{failure.remedy()} More: `aiia explain {kind.code}`."
    if failure.transient and times < _OFTEN:
        return warning(check, note, remedy)
    return problem(check, note, remedy, exit_of([last.state]))


def _in_a_row(scene: Scene, last: RunRow) -> int:
    query = (
        "select count(*) as times from aiia.job_runs r where r.connector = %s and r.type = %s"
        " and r.number <= %s and r.state in ('Failed', 'Error', 'Partially Succeeded')"
        " and r.number > coalesce((select max(o.number) from aiia.job_runs o where"
        " o.connector = r.connector and o.type = r.type and o.state = 'Completed' and o.number < %s), 0)"
    )
    values = [last.connector, last.type, last.number, last.number]
    return int(next(rows(scene.db, query, values))["times"])


def secrets(ground: Ground) -> Finding:
    """Look for references that lead to nothing."""
    from aiia_pipelines.config.secrets import resolve_tree

    check = "secrets"
    for connector in ground.folder.connectors.values():
        if not ground.wants(connector.name):
            continue
        try:
            resolve_tree(connector.source, os.environ, ground.settings.home)
        except ConfigInvalid as fault:
            remedy = "Set the variable or file where the worker runs."
            return problem(check, f"{connector.name}: {fault}", remedy, Exit.CONFIG)
    return Finding(check, note="all references lead to a value")


def disks(ground: Ground) -> Iterator[Finding]:
    """Look for room wherever something is written on this machine."""
    yield _disk("disk space", ground.settings.home)
    yield _disk("temporary folder", Path(tempfile.gettempdir()))
    for name, url in sorted(destination_urls(os.environ).items()):
        parts = urlsplit(url)
        if parts.scheme in {"duckdb", "parquet", "file"} and parts.path:
            yield _disk(f"destination {name}", Path(unquote(parts.path)))


def _disk(check: str, wanted: Path) -> Finding:
    """Look for room where something is, or will be, kept."""
    folder = next(each for each in (wanted, *wanted.absolute().parents) if each.is_dir())
    free = shutil.disk_usage(folder).free
    note = f"{size(free)} free at {folder}"
    if free >= _LEAST_FREE_BYTES:
        return Finding(check, note=note)
    return problem(check, note, "Free some space there.")


def _destinations() -> Iterator[Finding]:
    """Log in at each PostgreSQL that rows go to."""
    from psycopg2 import Error

    for name, url in sorted(destination_urls(os.environ).items()):
        if not url.startswith("postgresql"):
            continue
        check = f"destination {name}"
        try:
            connect(url).close()
        except Error as fault:
            failure = classify(fault, side="destination")
            remedy = f"{failure.remedy()} Its URL is in AIIA_DESTINATION_{name.upper()}."
            yield problem(check, failure.headline, remedy)
        else:
            yield Finding(check, note="lets this program in")


def _clock(scene: Scene) -> Finding:
    check = "clock"
    before = time.time()
    query = "select extract(epoch from clock_timestamp())::float8 as now"
    theirs = float(next(rows(scene.db, query))["now"])
    # The answer was on its way for half of the time at most.
    apart = theirs - (before + time.time()) / 2
    if abs(apart) <= _CLOCK_SECONDS:
        return Finding(check, note=f"{abs(apart):.1f} s apart from the database")
    which = "behind" if apart > 0 else "ahead of"
    note = f"this machine is {ago(abs(apart))} {which} the database"
    return warning(check, note, "Let both keep time by NTP: schedules and signatures go by it.")


def _unclassified(scene: Scene) -> Finding:
    check = "unclassified failures"
    found = unclassified_count(scene.db, _UNCLASSIFIED_DAYS)
    if not found.runs:
        return Finding(check, note=f"none within {_UNCLASSIFIED_DAYS} days")
    classes = some([f"{name} ({times})" for name, times in found.classes])
    note = (
        f"{found.runs} of {found.of} that went wrong within {_UNCLASSIFIED_DAYS} days: {classes},"
        f" the last is #{found.latest}"
    )
    remedy = f"Open an issue with what `aiia jobs logs {found.latest}` prints."
    return warning(check, note, remedy)
