"""The columns of a stream as they were agreed, frozen until drift is taken up or a person accepts others."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NotRequired, TypedDict

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.jobs.tables import CONTRACTS, SCHEMA_HISTORY


class Profile(TypedDict):
    """What the values of a column looked like, in figures of a sample from which no value can be read.

    Values and their shapes are hashed; of greatest and least only the order of magnitude is kept.
    """

    values: int  # that are not NULL
    nulls: float  # share of the rows
    distinct: float  # share of the values
    sketch: list[int]  # the least hashes: two columns share as many as they share values
    first: list[
        int
    ]  # short hashes of the first rows, NULL as -1: two samples may be of the same rows
    common: dict[str, float]  # hash → share, when there are few different values
    shapes: dict[str, float]  # hash of `a@a.a` → share
    levels: list[int]  # least, middle and greatest, for numbers and times


class LearnedColumn(TypedDict):
    """A column as the source described it; `type` is the canonical text of a column type.

    An `absent` one is kept although the source has it no longer. `profile` tells what its values looked like.
    """

    name: str
    type: str
    nullable: bool
    absent: NotRequired[bool]
    profile: NotRequired[Profile]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One schema that a stream had; a sync learned it, or a person accepted it."""

    connector: str
    stream: str
    version: int
    columns: list[LearnedColumn]
    change: str
    learned_by: int | None
    accepted_by: str | None
    at: datetime


def learned(store: JobStore, connector: str, stream: str) -> list[LearnedColumn] | None:
    """Read the frozen columns of a stream, with what their values looked like; None before its first sync."""
    query = sa.select(CONTRACTS.c.columns, CONTRACTS.c.profile).where(
        *_of(CONTRACTS, connector, stream)
    )
    with store.engine.connect() as db:
        found = db.execute(query).one_or_none()
    if found is None:
        return None
    columns: list[LearnedColumn] = found.columns
    for column in columns:
        if profile := (found.profile or {}).get(column["name"]):
            column["profile"] = profile
    return columns


def learn(
    db: sa.Connection,
    connector: str,
    stream: str,
    columns: Sequence[LearnedColumn],
    *,
    number: int | None,
) -> None:
    """Freeze the columns of a stream, in place of what was learned before."""
    _freeze(db, (connector, stream), columns, number=number)


def accept(
    store: JobStore, connector: str, stream: str, columns: Sequence[LearnedColumn], *, by: str
) -> None:
    """Freeze the columns of a stream because a person says so."""
    store.transact(lambda db: _freeze(db, (connector, stream), columns, by=by))


def versions(store: JobStore, connector: str, stream: str) -> list[Version]:
    """Read every schema that a stream had, the latest first."""
    kept = [column for column in SCHEMA_HISTORY.c if column.name != "profile"]
    query = (
        sa.select(*kept)
        .where(*_of(SCHEMA_HISTORY, connector, stream))
        .order_by(SCHEMA_HISTORY.c.version.desc())
    )
    with store.engine.connect() as db:
        return [Version(**row._mapping) for row in db.execute(query)]  # noqa: SLF001 - SQLAlchemy's own name


def change_of(before: Sequence[LearnedColumn] | None, now: Sequence[LearnedColumn]) -> str:
    """Say how two schemas differ, in one line; empty when they do not."""
    if before is None:
        return "learned"
    old, new = ({column["name"]: column for column in each} for each in (before, now))
    parts = [
        *(f"{name} added" for name in new if name not in old),
        *(f"{name} removed" for name in old if name not in new),
    ]
    for name in (name for name in new if name in old):
        was, is_ = old[name], new[name]
        if was["type"] != is_["type"]:
            parts.append(f"{name} {was['type']} → {is_['type']}")
        if was["nullable"] != is_["nullable"]:
            parts.append(f"{name} {'may be NULL' if is_['nullable'] else 'is never NULL'}")
        if bool(was.get("absent")) != bool(is_.get("absent")):
            parts.append(f"{name} {'gone' if is_.get('absent') else 'back'} at the source")
    return ", ".join(parts)


def _freeze(
    db: sa.Connection,
    of: tuple[str, str],
    columns: Sequence[LearnedColumn],
    *,
    number: int | None = None,
    by: str | None = None,
) -> None:
    lock = sa.select(CONTRACTS.c.columns).where(*_of(CONTRACTS, *of)).with_for_update()
    change = change_of(db.execute(lock).scalar_one_or_none(), columns)
    plain, profile = _apart(columns)
    values: dict[str, Any] = {
        "columns": plain,
        "learned_by": number,
        "learned_at": sa.func.clock_timestamp(),
    }
    # Without new values to look at, those that are known stay.
    values |= {"profile": profile} if profile else {}
    statement = insert(CONTRACTS).values(connector=of[0], stream=of[1], **values)
    db.execute(statement.on_conflict_do_update(index_elements=["connector", "stream"], set_=values))
    if change:
        latest = sa.select(sa.func.max(SCHEMA_HISTORY.c.version)).where(*_of(SCHEMA_HISTORY, *of))
        db.execute(
            insert(SCHEMA_HISTORY).values(
                connector=of[0],
                stream=of[1],
                version=(db.execute(latest).scalar() or 0) + 1,
                columns=plain,
                profile=profile or sa.null(),
                change=change,
                learned_by=number,
                accepted_by=by,
            )
        )


def _apart(columns: Sequence[LearnedColumn]) -> tuple[list[LearnedColumn], dict[str, Profile]]:
    """Take the profiles out of the columns."""
    profiles = {column["name"]: column["profile"] for column in columns if "profile" in column}
    plain = [column.copy() for column in columns]
    for column in plain:
        column.pop("profile", None)
    return plain, profiles


def _of(table: sa.Table, connector: str, stream: str) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.connector == connector, table.c.stream == stream
