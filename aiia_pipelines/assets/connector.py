"""One connector as one Dagster asset definition with an asset for each stream.

The streams share one operation, so that they are read on one connection in one snapshot of the source,
and a source that does not answer is waited for once (docs/adr/0004).
"""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from aiia_pipelines.assets import checks
from aiia_pipelines.config.connector import Connector, Stream
from aiia_pipelines.config.folder import read_connector
from aiia_pipelines.config.secrets import resolve_tree
from aiia_pipelines.config.settings import Settings, destination_url
from aiia_pipelines.connectors.base import open_source
from aiia_pipelines.jobs.failures import Failure
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import JobType, NewJobRun, Trigger
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.resources import tags
from aiia_pipelines.resources.job_board import JobBoard, end_as_cancelled, settings
from aiia_pipelines.schedules.ticks import longest_pause
from aiia_pipelines.sync.faults import Held, Stopped

Outcome = dg.MaterializeResult[None] | dg.AssetCheckResult
_INTERRUPTED = (Stopped, KeyboardInterrupt, DagsterExecutionInterruptedError)
_KIND_ICONS = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mariadb", "sqlite": "sqlite"}


def build(connector: Connector) -> dg.AssetsDefinition:
    """Make the assets of a connector; nothing of its kind is imported until a run."""
    name = connector.name
    freshness = _freshness(connector)
    selected = [checks.spec_of(connector, stream) for stream in connector.streams]

    @dg.multi_asset(
        name=f"refresh_{name}",
        specs=[_spec(connector, stream, freshness) for stream in connector.streams],
        check_specs=[spec for specs in selected for spec in specs],
        can_subset=True,
        pool=f"connector_{name}",
        description=connector.description or f"Refreshes {connector.title}.",
    )
    def refresh(context: dg.AssetExecutionContext, job_board: JobBoard) -> Iterator[Outcome]:
        yield from _refresh(context, job_board, name)

    return refresh


def _spec(
    connector: Connector, stream: Stream, freshness: dg.FreshnessPolicy | None
) -> dg.AssetSpec:
    columns = [
        dg.TableColumn(
            name=name,
            type=str(column.type or "learned"),
            description=column.description,
            constraints=dg.TableColumnConstraints(
                nullable=column.nullable is not False,
                unique=[name] == stream.key,
                other=[f"{rule}: {argument}" for rule, argument in column.checks.items()],
            ),
        )
        for name, column in stream.columns.items()
    ]
    metadata: dict[str, object] = {
        "dagster/table_name": f"{connector.destination}.{connector.name}.{stream.name}"
    }
    if columns:
        metadata["dagster/column_schema"] = dg.TableSchema(columns=columns)
    return dg.AssetSpec(
        key=dg.AssetKey([connector.name, stream.name]),
        group_name=connector.name,
        description=stream.description or f"{stream.name} of {connector.title}",
        owners=[owner for owner in connector.owners if owner.startswith("team:") or "@" in owner],
        kinds={_kind(connector), "pandera", "table"},
        tags={"aiia/tier": connector.tier},
        metadata=metadata,
        freshness_policy=freshness,
    )


def _kind(connector: Connector) -> str:
    kind = str(connector.source["kind"])
    dialect = str(connector.source.get("url", "")).partition("://")[0].partition("+")[0]
    return _KIND_ICONS.get(dialect, kind)


def _freshness(connector: Connector) -> dg.FreshnessPolicy | None:
    """Ask for new data a day after they were due at the latest; without a schedule none are due."""
    if connector.schedule is None:
        return None
    # Not Dagster's policy for crons: that walks a thousand ticks for each asset, and refuses some crons.
    pause = longest_pause(connector.schedule, connector.timezone, datetime.now(UTC))
    return dg.FreshnessPolicy.time_window(fail_window=pause + timedelta(days=1))


def _refresh(context: dg.AssetExecutionContext, board: JobBoard, name: str) -> Iterator[Outcome]:
    # Read again: a run after a correction must use the corrected file.
    found = settings()
    connector = read_connector(found.connectors, name)
    wanted = {key.path[1] for key in context.selected_asset_keys}
    streams = [stream for stream in connector.streams if stream.name in wanted]
    new = NewJobRun(
        connector=name,
        title=connector.title,
        streams=tuple(stream.name for stream in streams),
        trigger=Trigger.MANUAL,
        triggered_by="Dagster",
        priority=connector.priority,
        config=connector.public(),
        type=tags.type_of(context.run.tags),
        full_read=tags.is_full(context.run.tags),
    )
    with board.open(context, new) as recorder:
        if new.type is JobType.SYNC:
            recorder.closes_at = connector.opening.closes_at(datetime.now(UTC))
        try:
            outcomes = _sync(recorder, connector, streams, found, new)
            # A dry run stores nothing: what it finds out is no event of the asset.
            yield from outcomes if new.type is JobType.SYNC else _drained(outcomes)
        except _INTERRUPTED as fault:
            run_id, store = context.run.run_id, recorder.store
            if isinstance(fault, Stopped) and store.numbers_of(run_id, at_work=True):
                # Only this connector stops; the others of the run go on.
                told = f"Job run #{recorder.number} was stopped."
                raise dg.Failure(told, allow_retries=False) from None
            end_as_cancelled(context)


def _drained(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    for _ in outcomes:
        pass
    yield from ()


def _sync(
    recorder: Recorder,
    connector: Connector,
    streams: Sequence[Stream],
    found: Settings,
    new: NewJobRun,
) -> Iterator[Outcome]:
    # pandas, pandera, Arrow and the drivers are needed by runs only; loading definitions stays light.
    from aiia_pipelines.sync.destinations import destination_at  # noqa: PLC0415
    from aiia_pipelines.sync.engine import Engine  # noqa: PLC0415
    from aiia_pipelines.sync.outcome import Synced  # noqa: PLC0415
    from aiia_pipelines.sync.portions import after_shortages  # noqa: PLC0415
    from aiia_pipelines.sync.task import Wish  # noqa: PLC0415

    store = recorder.store
    engine = Engine(
        connector=connector,
        source=lambda: open_source(resolve_tree(connector.source, os.environ, found.home)),
        destination=destination_at(_destination(connector)),
        recorder=recorder,
        wish=Wish(full=new.full_read, dry_run=new.type is JobType.DRY_RUN),
    )
    failures: dict[str, Failure] = {}
    wanted: JobState | None = None
    paused = False
    try:
        for outcome in engine.run(after_shortages(recorder, streams)):
            if isinstance(outcome, Synced):
                yield checks.materialized(connector, outcome, recorder.number)
            else:
                failures[outcome.stream] = outcome.failure
                yield from checks.broken(connector, outcome)
    except Held:
        paused = True
        raise
    except _INTERRUPTED:
        wanted = JobState.CANCELLED
        by = "a signal to its process"
        store.request_cancel(recorder.number, by=by, attempt=recorder.attempt)
        raise
    finally:
        number, attempt = recorder.number, recorder.attempt
        if paused:
            line = store.pause(number, _reopens(connector), attempt=attempt)
        else:
            line = store.finish(number, wanted, attempt=attempt)
        if line is not None:
            recorder.tell_sinks(line)
    if failures:
        raise _failure(recorder.number, failures)


def _reopens(connector: Connector) -> datetime | None:
    """Give the moment at which a run goes on that its window stopped; None while the window is open."""
    now = datetime.now(UTC)
    opening = connector.opening
    return None if opening.is_open(now) else opening.next_opening(now)


def _destination(connector: Connector) -> str:
    url = destination_url(connector.destination, os.environ)
    return url or f"unset:{connector.destination}"


def _failure(number: int, failures: dict[str, Failure]) -> dg.Failure:
    first = next(iter(failures.values()))
    return dg.Failure(
        description=f"Job run #{number}: {first.headline}",
        metadata={
            "job run": number,
            "cause": first.code,
            "what to do": first.remedy(),
            "read more": first.kind.docs,
            "failed streams": ", ".join(failures),
        },
        allow_retries=False,
    )
