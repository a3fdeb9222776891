"""The jobs of the system itself as Dagster jobs: the health check, and maintenance."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import PRIORITIES, JobType
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.resources.job_board import JobBoard, end_as_cancelled, settings
from aiia_pipelines.resources.requests import requests_of

if TYPE_CHECKING:
    from aiia_pipelines.upkeep.course import Course, Stage

_Plan = Callable[[dg.DagsterInstance, Recorder], Sequence["Stage"]]


@dg.op(out=dg.Out(dg.Nothing))
def check_stages(context: dg.OpExecutionContext, job_board: JobBoard) -> Iterator[dg.Output[None]]:
    """Look at everything that job runs need."""
    yield _run(context, job_board, _health)


@dg.op(out=dg.Out(dg.Nothing))
def upkeep_stages(context: dg.OpExecutionContext, job_board: JobBoard) -> Iterator[dg.Output[None]]:
    """Remove what nobody needs any more."""
    yield _run(context, job_board, _maintenance)


def _health(instance: dg.DagsterInstance, recorder: Recorder) -> Sequence["Stage"]:
    # The drivers are needed by runs only; loading definitions stays light.
    from aiia_pipelines.upkeep import health  # noqa: PLC0415

    ground = health.Ground(
        settings=settings(),
        store=recorder.store,
        environ=os.environ,
        daemons=partial(_daemons, instance),
    )
    return health.stages_of(ground)


def _daemons(instance: dg.DagsterInstance) -> Mapping[str, float | None]:
    """Tell how many seconds ago each daemon that this instance needs gave a sign of life."""
    beats, now = instance.get_daemon_heartbeats(), time.time()
    return {
        kind: now - beats[kind].timestamp if kind in beats else None
        for kind in instance.get_required_daemon_types()
    }


def _maintenance(_: dg.DagsterInstance, recorder: Recorder) -> Sequence["Stage"]:
    from aiia_pipelines.upkeep import maintenance  # noqa: PLC0415 - as above

    return maintenance.stages_of(settings(), recorder.store, os.environ)


def _run(context: dg.OpExecutionContext, board: JobBoard, plan: _Plan) -> dg.Output[None]:
    from aiia_pipelines.upkeep.course import Course  # noqa: PLC0415 - as above

    (request,) = requests_of(context.run, {})
    course = Course()
    with board.open(context, request) as recorder:
        _through(recorder, partial(plan, context.instance, recorder), course)
    if course.state is JobState.CANCELLED:
        end_as_cancelled(context)
    metadata = _metadata(recorder.number, course)
    if course.failure is not None:
        raise dg.Failure(
            f"Job run #{recorder.number}: {course.failure.headline}",
            metadata=metadata,
            allow_retries=False,
        )
    return dg.Output(None, metadata=metadata)


def _through(recorder: Recorder, plan: Callable[[], Sequence["Stage"]], course: "Course") -> None:
    from aiia_pipelines.sync.faults import Stopped  # noqa: PLC0415 - as above
    from aiia_pipelines.upkeep.course import finish, go_through  # noqa: PLC0415 - as above

    try:
        go_through(recorder, plan(), course)
    except Stopped:
        course.state = JobState.CANCELLED
    except (KeyboardInterrupt, DagsterExecutionInterruptedError):
        recorder.store.request_cancel(recorder.number, by="a signal to its process")
        course.state = JobState.CANCELLED
    # A fault outside of the stages fails the Dagster run, whose end then is that of the job run.
    line = finish(recorder.store, recorder.number, course)
    if line is not None:
        recorder.tell_sinks(line)


def _metadata(number: int, course: "Course") -> dict[str, Any]:
    from aiia_pipelines.upkeep.course import table_of  # noqa: PLC0415 - as above

    told: dict[str, Any] = {
        "job run": number,
        "stages": dg.MetadataValue.md(table_of(course)),
    }
    if course.failure is not None:
        told |= {"cause": course.failure.code, "what to do": course.failure.remedy()}
    return told


_LOW = {"dagster/priority": str(PRIORITIES["low"])}


@dg.job(
    name=JobType.HEALTH_CHECK.value,
    description="Checks what job runs need: history, daemons, disks, files, destinations.",
    tags={**_LOW, "dagster/max_runtime": "900"},
)
def health_check() -> None:
    """Check what job runs need."""
    check_stages()


@dg.job(
    name=JobType.MAINTENANCE.value,
    description="Removes staging, folders, logs and artifacts that nobody needs any more.",
    tags={**_LOW, "dagster/max_runtime": "7200"},
)
def maintenance() -> None:
    """Remove what nobody needs any more."""
    upkeep_stages()
