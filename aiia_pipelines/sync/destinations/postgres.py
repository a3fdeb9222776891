"""PostgreSQL as destination: COPY into an unlogged staging table, then one short transaction.

The control tables live in the destination's own database so that they share the transaction of the rows:
`lease` fences off an older attempt that still runs, `ledger` tells for ever which task committed what.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from aiia_pipelines.jobs.run import Changes
from aiia_pipelines.sync.convert import masked
from aiia_pipelines.sync.destinations import _postgres_sql as text
from aiia_pipelines.sync.destinations import _postgres_structure as structure
from aiia_pipelines.sync.destinations.base import Landing, Load
from aiia_pipelines.sync.faults import DestinationFault

_OPTIONS = (
    "-c TimeZone=UTC -c DateStyle=ISO -c extra_float_digits=3 -c client_min_messages=warning"
    " -c idle_in_transaction_session_timeout=60s -c lock_timeout=60s"
)
_SAMPLES = 5
_MAX_FIGURES = 1000  # a select list has at most 1664 entries


class PostgresDestination:
    """One database of a PostgreSQL server."""

    def __init__(self, url: str) -> None:
        """Keep a libpq URL; nothing is opened yet."""
        self._url = url.replace("postgresql+psycopg2://", "postgresql://", 1)
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def describe(self) -> str:
        """Name the database for people, without password."""
        parts = self._parts()
        user = f"{parts['user']}@" if "user" in parts else ""
        return f"postgresql://{user}{self._place(parts)}/{parts.get('dbname', '')}"

    def _parts(self) -> dict[str, Any]:
        try:
            return dict(psycopg.conninfo.conninfo_to_dict(self._url))
        except psycopg.ProgrammingError:
            # libpq's message repeats the text, which may hold a password.
            raise DestinationFault(
                "The destination has no URL that PostgreSQL understands;"
                " set AIIA_DESTINATION_<NAME> to postgresql://user@host:port/database.",
                "config:invalid",
            ) from None

    def _place(self, parts: Mapping[str, Any]) -> str:
        return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}"

    def connect(self) -> None:
        """Connect and make sure the control tables are there."""
        place = self._place(self._parts())
        with translated(place, login=True):
            self._connection = psycopg.connect(
                self._url,
                connect_timeout=20,
                options=_OPTIONS,
                application_name="aiia_pipelines",
                autocommit=True,
            )
            with self._connection.transaction():
                self._connection.execute("select pg_advisory_xact_lock(%s)", (text.SETUP_LOCK,))
                for statement in text.CONTROL_TABLES:
                    self._connection.execute(statement)

    def land(self, load: Load) -> Landing:
        """Take over a stream: a higher epoch, and no staging left of lower ones."""
        if self._connection is None:
            raise AssertionError("connect() comes first")
        place = self._place(self._parts())
        with translated(place):
            return PostgresLanding(self._connection, load, place)

    def close(self) -> None:
        """Disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


class PostgresLanding:
    """The staged rows of one stream in one attempt."""

    def __init__(
        self, connection: psycopg.Connection[tuple[Any, ...]], load: Load, place: str
    ) -> None:
        """Take the lease, which waits for an attempt that is inside its commit, and drop older staging."""
        self._db = connection
        self._load = load
        self._place = place
        self._table = sql.Identifier(load.connector, text.short(load.stream))
        self._epoch = self._value(text.TAKE_LEASE, (load.connector, load.stream))
        prefix = text.staging_prefix(load.connector, load.stream)
        for (name,) in self._db.execute(text.OLD_STAGING, (f"^{prefix}__[0-9]+$",)).fetchall():
            self._db.execute(
                sql.SQL("drop table if exists {}").format(sql.Identifier(text.STAGING, name))
            )
        self._stage = sql.Identifier(text.STAGING, f"{prefix}__{self._epoch}")
        self._staged = False
        # Set when the table is not what the contract says: then the commit alters it.
        self._altered: list[sql.Composed] = []

    def _value(self, query: str, values: Sequence[Any]) -> Any:  # noqa: ANN401 - a value of any type
        row = self._db.execute(query, values).fetchone()
        return row[0] if row else None

    def committed_before(self) -> tuple[int, Changes] | None:
        """Tell what the ledger has of this task."""
        with translated(self._place):
            row = self._db.execute(text.LEDGER_ROW, (self._load.run_key,)).fetchone()
        if row is None:
            return None
        rows, inserted, updated, unchanged, deleted = row
        return rows, Changes(
            inserted=inserted, updated=updated, unchanged=unchanged, deleted=deleted
        )

    # -- staging ----------------------------------------------------------------------------

    def stage(self, batch: pa.RecordBatch) -> None:
        """COPY a batch into the staging table."""
        with translated(self._place):
            self._make_stage()
            names = sql.SQL(", ").join(map(sql.Identifier, batch.schema.names))
            statement = sql.SQL("copy {} ({}) from stdin (format csv)").format(self._stage, names)
            with self._db.cursor() as cursor, cursor.copy(statement) as copy:
                copy.write(text.as_csv(batch, self._load.contract))

    def _make_stage(self) -> None:
        if self._staged:
            return
        columns = text.column_list(self._load.contract, keyed=False)
        self._db.execute(sql.SQL("create unlogged table {} ({})").format(self._stage, columns))
        self._staged = True

    def duplicates(self, columns: Sequence[str]) -> tuple[int, list[str]]:
        """Count the staged rows that share their values in these columns with another row."""
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        filled = sql.SQL(" and ").join(
            sql.SQL("{} is not null").format(sql.Identifier(name)) for name in columns
        )
        groups = sql.SQL(
            "select count(*) as n, {names} from {stage} where {filled} group by {names} having count(*) > 1"
        ).format(names=names, stage=self._stage, filled=filled)
        with translated(self._place):
            self._make_stage()
            total = self._db.execute(
                sql.SQL("select coalesce(sum(n), 0)::int8 from ({}) g").format(groups)
            ).fetchone()
            samples = self._db.execute(
                sql.SQL("{} limit {}").format(groups, sql.Literal(_SAMPLES))
            ).fetchall()
        shown = [
            f"({', '.join(masked(value) for value in row[1:])}) {row[0]} times" for row in samples
        ]
        return (int(total[0]) if total else 0), shown

    def figures(self, wanted: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Any]:
        """Compute the figures over the staged rows, as many in one pass as PostgreSQL takes."""
        found: dict[tuple[str, str], Any] = {}
        with translated(self._place):
            self._make_stage()
            for start in range(0, len(wanted), _MAX_FIGURES):
                some = wanted[start : start + _MAX_FIGURES]
                parts = [text.figure(column, name, self._load.contract) for column, name in some]
                query = sql.SQL("select {} from {}").format(sql.SQL(", ").join(parts), self._stage)
                found |= zip(some, self._db.execute(query).fetchone() or (), strict=True)
        return found

    # -- matching and committing ------------------------------------------------------------

    def holds_rows(self) -> bool:
        """Tell whether the table has a row now."""
        with translated(self._place):
            if self._value("select to_regclass(%s)", (self._table.as_string(self._db),)) is None:
                return False
            query = sql.SQL("select exists (select from {})").format(self._table)
            row = self._db.execute(query).fetchone()
        return bool(row and row[0])

    def match(self) -> Changes:
        """Count what a commit would insert, update, leave and delete."""
        with translated(self._place):
            self._make_stage()
            self._make_table()
            self._altered = self._alterations()
            query = text.match_query(self._load, self._stage, self._table)
            if self._altered:
                query = text.rewrite_query(self._stage, self._table)
            row = self._db.execute(query).fetchone()
        inserted, updated, unchanged, deleted = row or (0, 0, 0, 0)
        return Changes(inserted=inserted, updated=updated, unchanged=unchanged, deleted=deleted)

    def _make_table(self) -> None:
        schema = sql.Identifier(self._load.connector)
        self._db.execute(sql.SQL("create schema if not exists {}").format(schema))
        columns = text.column_list(self._load.contract, keyed=True)
        self._db.execute(sql.SQL("create table if not exists {} ({})").format(self._table, columns))

    def _alterations(self) -> list[sql.Composed]:
        """Give the statements that make the table what the contract says, if it is anything else."""
        table = structure.read(self._db, self._table)
        wanted = structure.wanted(structure.read(self._db, self._stage), self._load.contract)
        if structure.same(table, wanted):
            return []
        if self._load.mode != "replace" and self.holds_rows():
            raise DestinationFault(
                f"The table {self._load.connector}.{self._load.stream} has other columns or another key"
                f" than the contract, and mode {self._load.mode} keeps its rows: alter or drop the table,"
                " or sync it once in mode replace.",
                "destination:rejected",
                place=self._place,
            )
        return list(structure.alterations(self._table, table, wanted))

    def commit(self, rows: int, changes: Changes) -> None:
        """Apply the staged rows, move the ledger, and become visible in one transaction."""
        load = self._load
        with translated(self._place), self._db.transaction():
            epoch = self._value(text.HOLD_LEASE, (load.connector, load.stream))
            if epoch != self._epoch:
                raise DestinationFault(
                    f"Another run took over {load.connector}.{load.stream} while this one was reading.",
                    "destination:fenced",
                    place=self._place,
                )
            self._apply(changes)
            values = (
                load.run_key, load.connector, load.stream, load.mode, self._epoch, rows,
                changes.inserted, changes.updated, changes.unchanged, changes.deleted,
            )  # fmt: skip
            self._db.execute(text.WRITE_LEDGER, values)

    def _apply(self, changes: Changes) -> None:
        done = {"deleted": 0, "written": 0, "altered": 0}
        statements = text.apply_statements(self._load, self._stage, self._table)
        if self._altered:
            parts = (self._load, self._stage, self._table)
            statements = text.rewrite_statements(*parts, self._altered)
        for kind, statement in statements:
            done[kind] += max(self._db.execute(statement).rowcount, 0)
        done.pop("altered")
        expected = {"deleted": changes.deleted, "written": changes.inserted + changes.updated}
        if done != expected:
            raise DestinationFault(
                f"The rows of {self._load.connector}.{self._load.stream} were changed by somebody else"
                f" while this run was matching: {expected} rows expected, {done} found.",
                "destination:fenced",
                place=self._place,
            )

    def discard(self) -> None:
        """Drop the staging table; what cannot be dropped now, the next run of the stream drops."""
        with suppress(psycopg.Error):
            self._db.execute(sql.SQL("drop table if exists {}").format(self._stage))


@contextmanager
def translated(place: str, *, login: bool = False) -> Iterator[None]:
    """Turn what psycopg raises into a DestinationFault."""
    try:
        yield
    except psycopg.Error as fault:
        state = fault.sqlstate
        words = (fault.diag.message_primary or str(fault)).strip().splitlines() or [""]
        said = words[-1].removeprefix("connection failed: ") if login else words[0]
        signals = (f"sqlstate:{state}",) if state else ()
        raise DestinationFault(
            f"The destination {place} refused: {said.rstrip('.')}.", *signals, place=place
        ) from fault


def open_postgres(url: str) -> PostgresDestination:
    """Open a PostgreSQL destination; nothing is connected yet."""
    return PostgresDestination(url)
