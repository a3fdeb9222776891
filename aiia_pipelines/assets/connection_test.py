"""The Connection Test as a Dagster job: its run config names the connector.

It has no pool: whether a source can be reached is asked most of all while a sync of it runs or waits.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from aiia_pipelines.config.folder import read_connector
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import PRIORITIES
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.resources.job_board import JobBoard, end_as_cancelled, settings
from aiia_pipelines.resources.requests import TEST_JOB, requests_of

if TYPE_CHECKING:
    from aiia_pipelines.sync.probe import Probed

_SECONDS = 20


@dg.config_mapping(
    config_schema={
        "connector": dg.Field(str, description="The connector's name, as in its file."),
        "timeout": dg.Field(
            int,
            is_required=False,
            default_value=_SECONDS,
            description="Seconds for the whole test.",
        ),
    }
)
def _of_connector(config: dict[str, Any]) -> dict[str, Any]:
    return {"ops": {"test_stages": {"config": dict(config)}}}


class _Wanted(dg.Config):
    connector: str
    timeout: int


@dg.op(out=dg.Out(dg.Nothing))
def test_stages(
    context: dg.OpExecutionContext, config: _Wanted, job_board: JobBoard
) -> Iterator[dg.Output[None]]:
    """Try a source stage by stage: name, port, encryption, login, permissions, a row of each stream."""
    # SQLAlchemy and the drivers are needed by runs only; loading definitions stays light.
    from aiia_pipelines.sync.probe import Probed  # noqa: PLC0415

    (request,) = requests_of(context.run, {})
    tested = Probed(request.connector, request.title, config.timeout)
    with job_board.open(context, request) as recorder:
        _run(tested, recorder)
    if tested.state is JobState.CANCELLED:
        end_as_cancelled(context)
    metadata = _metadata(tested)
    if tested.failure is not None:
        raise dg.Failure(
            f"Job run #{tested.number}: {tested.failure.headline}",
            metadata=metadata,
            allow_retries=False,
        )
    yield dg.Output(None, metadata=metadata)


def _run(tested: "Probed", recorder: Recorder) -> None:
    from aiia_pipelines.sync.recorded_probe import finish, record  # noqa: PLC0415 - as above

    found = settings()
    tested.number = recorder.number
    try:
        # Read again: a run after a correction must use the corrected file.
        record(
            recorder,
            lambda: read_connector(found.connectors, tested.connector),
            found.home,
            tested,
            lambda _: None,
        )
    except (KeyboardInterrupt, DagsterExecutionInterruptedError):
        recorder.store.request_cancel(recorder.number, by="a signal to its process")
    finally:
        line = finish(recorder.store, recorder.number, tested)
        if line is not None:
            recorder.tell_sinks(line)


def _metadata(tested: "Probed") -> dict[str, Any]:
    from aiia_pipelines.sync.probe_wording import table_of, verify_of  # noqa: PLC0415 - as above

    failure, firewall = tested.failure, tested.firewall
    told: dict[str, Any] = {
        "connector": tested.connector,
        "job run": tested.number,
        "stages": dg.MetadataValue.md(table_of(tested)),
    }
    if failure is not None:
        told |= {
            "cause": failure.code,
            "what to do": failure.remedy(),
            "verify": verify_of(tested),
        }
    if firewall is not None:
        told |= {"outbound ip": firewall.source_ip}
        if tested.wants_firewall:
            told |= {"for a firewall team": dg.MetadataValue.md(f"```\n{firewall.text}\n```")}
    return told


@dg.job(
    name=TEST_JOB,
    config=_of_connector,
    description="Tries a connector's source stage by stage. Run config: `connector: NAME`.",
    # Seconds of work that somebody waits for go before hours of work that nobody watches.
    tags={"dagster/priority": str(PRIORITIES["high"])},
)
def connection_test() -> None:
    """Try a connector's source stage by stage."""
    test_stages()
