"""Who switched a connector's schedule off, and why: notes beside what Dagster keeps."""

import json
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aiia_pipelines.jobs.history import rows

if TYPE_CHECKING:
    from psycopg2.extensions import connection

_KEY = "aiia/paused/"
# Dagster's table of single values: it comes with its storage, and keeps what it does not know.
_WRITE = (
    "insert into public.kvs (key, value) values (%s, %s)"
    " on conflict (key) do update set value = excluded.value"
)
_ERASE = "delete from public.kvs where key = %s"
_READ = (
    "select substr(key, %s) as connector, value from public.kvs"
    " where starts_with(key, %s) order by key"
)


@dataclass(frozen=True, slots=True)
class Pause:
    """One note."""

    by: str
    reason: str
    at: str


def write(db: "connection", connector: str, *, by: str, reason: str) -> None:
    """Note that a schedule was switched off."""
    pause = Pause(by, reason, datetime.now(UTC).isoformat(timespec="seconds"))
    _change(db, _WRITE, _KEY + connector, json.dumps(asdict(pause)))


def erase(db: "connection", connector: str) -> None:
    """Forget the note of a schedule that was switched on."""
    _change(db, _ERASE, _KEY + connector)


def read(db: "connection") -> dict[str, Pause]:
    """Read the notes by connector."""
    found = rows(db, _READ, [len(_KEY) + 1, _KEY])
    return {row["connector"]: Pause(**json.loads(row["value"])) for row in found}


def _change(db: "connection", statement: str, *values: str) -> None:
    db.set_session(readonly=False, autocommit=True)
    with closing(db.cursor()) as cursor:
        cursor.execute(statement, values)
