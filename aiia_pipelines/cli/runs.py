"""How a job run looks in lists, and the record that programs get."""

from typing import Any

from aiia_pipelines.cli.output import Shown, instant
from aiia_pipelines.cli.times import lasting, shown
from aiia_pipelines.jobs.badge import BADGES, Badge
from aiia_pipelines.jobs.history import RunRow
from aiia_pipelines.jobs.log import type_words
from aiia_pipelines.jobs.state import FINAL, JobState

STYLES = {
    Badge.PENDING: "dim",
    Badge.RUNNING: "blue",
    Badge.COMPLETED: "green",
    Badge.FAILED: "red",
    Badge.ERROR: "yellow",
    Badge.CANCELLED: "dim",
}


def facts_of(run: RunRow) -> dict[str, Any]:
    """Return the record of a job run; its keys are stable."""
    return {
        "number": run.number,
        "type": run.type,
        "connector": run.connector,
        "title": run.title,
        "streams": list(run.streams),
        "state": run.state.value,
        "badge": run.badge.value,
        "trigger": run.trigger,
        "triggered_by": run.triggered_by,
        "retry_of": run.retry_of,
        "priority": run.priority,
        "progress": run.progress,
        "activity": run.activity,
        "step": run.step,
        "waits": run.waits,
        "place": run.place,
        "due_at": instant(run.due_at),
        "expires_at": instant(run.expires_at),
        "held_by": run.held_by,
        "attempt": run.attempt,
        "attempts_most": run.attempts_most,
        "records": run.records,
        "records_total": run.records_total,
        "bytes": run.bytes,
        "bytes_read": run.bytes,
        "bytes_written": run.bytes_written,
        "duration_seconds": run.duration_seconds,
        "cpu_seconds": run.cpu_seconds,
        "peak_memory_bytes": run.peak_memory_bytes,
        "message": run.message,
        "failure_code": run.failure_code,
        "failure_place": run.failure_place,
        "cancelled_by": run.cancel_by,
        "cancel_reason": run.cancel_reason,
        "created_at": instant(run.created_at),
        "started_at": instant(run.started_at),
        "ended_at": instant(run.ended_at),
        "full_read": run.full_read,
    }


def badge_text(state: JobState, badge: Badge) -> str:
    """Render a state with the icon of its badge."""
    return f"{BADGES[badge].icon} {state.value}"


def columns(zone: str) -> tuple[Shown, ...]:
    """Return the columns of the Job History."""
    return (
        Shown("Job", lambda run: f"#{run.number}"),
        Shown("Type", lambda run: type_words(run.type).capitalize()),
        Shown("Connector", lambda run: run.connector),
        Shown(
            "Status",
            lambda run: badge_text(run.state, run.badge),
            style=lambda run: STYLES[run.badge],
        ),
        Shown("Progress", _progress),
        Shown("Records", lambda run: f"{run.records:,}", right=True),
        Shown("Duration", lambda run: lasting(run.duration_seconds), right=True),
        Shown("Message", lambda run: run.waits or run.message or run.activity, yields=True),
        Shown("Created", lambda run: shown(run.created_at, zone)),
    )


def _progress(run: RunRow) -> str:
    if run.progress is not None:
        return f"{run.progress:.0%}"
    return run.step if run.state in FINAL else run.activity
