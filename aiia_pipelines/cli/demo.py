"""`aiia demo`: the main job from nothing, then two failures on purpose, and how they differ."""

from collections.abc import Callable
from dataclasses import dataclass

import click

from aiia_pipelines.cli.exits import Exit, Stop
from aiia_pipelines.cli.main import Command
from aiia_pipelines.cli.output import Output
from aiia_pipelines.cli.runs import columns, facts_of
from aiia_pipelines.cli.session import (
    Session,
    load,
    output,
    reading,
    require_project,
    started,
    store,
)
from aiia_pipelines.jobs import history
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.local import demo as sample
from aiia_pipelines.local.postgres import APPLICATION_ROLE, WAREHOUSE, EmbeddedPostgres

CONNECTOR = "nyc_flights"


@click.command("demo", cls=Command)
def demo() -> None:
    """Sync a real data set from one PostgreSQL database to another, then break things on purpose."""
    require_project(load())
    with started() as session:
        if session.embedded is None:
            raise Stop(
                Exit.CONFIG,
                "The demo brings its own database and touches no other: unset AIIA_DATABASE_URL.",
                code="demo-needs-embedded",
            )
        with store(session) as jobs:
            _Demo(session, session.embedded, jobs).run()


@dataclass
class _Demo:
    session: Session
    server: EmbeddedPostgres
    jobs: JobStore

    def run(self) -> None:
        self._source()
        self._good("2. Sync it into the warehouse")
        before = self._warehouse()
        self._bad(
            "3. Somebody changes the password at the source: the data cannot be obtained → Failed",
            JobState.FAILED,
            lambda: sample.break_password(self.server),
        )
        sample.mend_password(self.server)
        self._bad(
            "4. Somebody retypes a column at the source: the data breaks its contract → Error",
            JobState.ERROR,
            lambda: sample.retype_column(self.server, "text"),
        )
        sample.retype_column(self.server, "integer")
        if self._warehouse() != before:
            raise Stop(Exit.FAULT, "A failed sync changed the warehouse, which must never happen.")
        _say("   The warehouse was not touched by either: every table has the rows it had before.")
        self._good("5. Both are mended; sync once more")
        self._history()
        self._next()

    def _source(self) -> None:
        _title("1. A source: all flights from New York City in 2013, in a PostgreSQL of its own")
        made = sample.load_source(self.server)
        # An earlier demo may have been stopped while something was broken.
        sample.mend_password(self.server)
        sample.retype_column(self.server, "integer")
        state = "loaded" if made else "is there from an earlier demo"
        _say(f"   Database {sample.DATABASE} {state}; the connector reads it as {sample.READER}.")

    def _good(self, title: str) -> None:
        _title(title)
        number = self._sync(())
        if self.jobs.state_of(number) is not JobState.COMPLETED:
            raise Stop(
                Exit.FAULT,
                f"The demo's sync did not complete; see `aiia jobs show {number}`.",
                code="demo-failed",
            )
        _say("")
        for stream, rows in self._warehouse().items():
            _say(f"   {CONNECTOR}.{stream:<10} {rows:>9,} rows")

    def _bad(self, title: str, expected: JobState, break_it: Callable[[], None]) -> None:
        from aiia_pipelines.jobs.failures import CATALOGUE, Failure
        from aiia_pipelines.jobs.families import concerned

        _title(title)
        break_it()
        number = self._sync(("flights",))
        row = self.jobs.row(number)
        if row is None or row.state != expected or not row.failure_code:
            raise Stop(Exit.FAULT, f"Job run #{number} should have ended as {expected}.")
        failure = Failure(CATALOGUE[row.failure_code], row.message, row.failure_place)
        _say(f"\n   Badge       {row.state}  ({failure.code}, {failure.origin})")
        _say(f"   Cause       {failure.kind.cause}")
        _say(f"   What to do  {failure.remedy()}")
        family = concerned(failure.origin, row.config, {})
        _say(f"   Verify      {failure.verify(family=family)}")

    def _sync(self, streams: tuple[str, ...]) -> int:
        from aiia_pipelines.cli.watch import Watch
        from aiia_pipelines.control import SyncRequest
        from aiia_pipelines.control import sync as launch

        settings = self.session.settings
        request = SyncRequest(connector=CONNECTOR, streams=streams, by="demo")
        launched = launch(settings, self.jobs, request)
        watch = Watch(self.jobs, output(), settings.timezone, [launched], log_is_data=True)
        watch.until_ended()
        return launched.number

    def _warehouse(self) -> dict[str, int]:
        """Count the rows of each stream, as a user of the warehouse would."""
        counts = {}
        with self.server.connect(WAREHOUSE, APPLICATION_ROLE) as db, db.cursor() as cursor:
            for stream in sample.STREAMS:
                cursor.execute(f"select count(*) from {CONNECTOR}.{stream}")
                counts[stream] = int((cursor.fetchone() or (0,))[0])
        return counts

    def _history(self) -> None:
        _title("6. The job history")
        with reading(self.session) as db:
            found = history.list_runs(db, history.Filter(limit=8))
        Output(asked="table").rows(found, facts_of, *columns(self.session.settings.timezone))

    def _next(self) -> None:
        up = f"http://{self.session.settings.host}:{self.session.settings.port}"
        _title("Where to look next")
        _say(f"   aiia up                      everything, with the Dagster UI at {up}")
        _say("   aiia jobs show NUMBER        what happened, step by step")
        _say("   aiia jobs logs NUMBER        the whole log, with the traceback")
        _say("   aiia connectors new sql      a connector for a database of your own")
        _say("   (commands live in .venv/bin: `source .venv/bin/activate`)")


def _title(text: str) -> None:
    click.secho(f"\n{text}", bold=True)


def _say(text: str) -> None:
    click.echo(text)
