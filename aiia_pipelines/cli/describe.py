"""One job run in words, for people."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from aiia_pipelines.cli.runs import badge_text
from aiia_pipelines.cli.times import amount, brief, lasting, shown
from aiia_pipelines.jobs.details import Details, Step, Task
from aiia_pipelines.jobs.history import RunRow
from aiia_pipelines.jobs.log import escape, type_words
from aiia_pipelines.jobs.slowest import Slow
from aiia_pipelines.jobs.state import FINAL

CHANGES = ("inserted", "updated", "unchanged", "deleted")
_MARKS = {"Completed": "✓", "Failed": "✕", "Running": "▶", "Skipped": "-", "Pending": "◔"}


def describe(found: Details, zone: str) -> Iterator[str]:
    """Give the lines of a job run's page."""
    for line in _page(found, zone):
        yield escape(line)


def _page(found: Details, zone: str) -> Iterator[str]:
    run = found.run
    code = f" ({run.failure_code})" if run.failure_code else ""
    yield f"#{run.number} · {run.title} · {type_words(run.type).capitalize()}"
    yield f"{badge_text(run.state, run.badge)}{code}"
    yield ""
    yield from _guidance(found)
    yield from _facts(found, zone)
    for task in found.tasks:
        yield ""
        yield from _task(task)
    if found.attempts:
        yield ""
        yield "Attempts"
    for attempt in found.attempts:
        run_id = f"Dagster run {attempt.run_id}" if attempt.run_id else "without Dagster"
        where = f" on {attempt.host} (process {attempt.pid})" if attempt.host else ""
        yield f"  {attempt.attempt}  {run_id}{where}  {attempt.outcome or 'open'}"


def _guidance(found: Details) -> Iterator[str]:
    guidance = found.guidance
    if found.run.message:
        yield f"Message:     {found.run.message}"
    yield f"Meaning:     {guidance.meaning}"
    if guidance.cause:
        yield f"Cause:       {guidance.cause}"
    yield f"What to do:  {guidance.remedy}"
    if guidance.verify:
        yield f"Verify:      {guidance.verify}"
    if guidance.docs:
        yield f"Read more:   {guidance.docs}"
    yield ""


def _facts(found: Details, zone: str) -> Iterator[str]:
    run = found.run
    if run.connector:
        yield f"Connector:   {run.connector}"
    if run.waits:
        yield f"Waits:       {run.waits}"
    if run.expires_at and run.state not in FINAL:
        yield f"Expires:     {shown(run.expires_at, zone)} ({zone})"
    if run.full_read:
        yield "Reading:     all rows again (--full)"
    yield f"Records:     {run.records:,}"
    if run.duration_seconds is not None:
        yield f"Duration:    {lasting(run.duration_seconds)}"
    if found.slowest:
        yield f"Slowest:     {_slowest(found.slowest)}"
    if run.cpu_seconds:
        used = _used(run.cpu_seconds, run.peak_memory_bytes, run.bytes, run.bytes_written)
        yield f"Used:        {used}"
    yield f"Created:     {shown(run.created_at, zone)} ({zone})"
    yield f"Trigger:     {run.trigger}{f' by {run.triggered_by}' if run.triggered_by else ''}"
    yield from _links(run, found.retried_as)


def _slowest(slow: Sequence[Slow]) -> str:
    # Steps overlap: the shares are no parts of a whole.
    return "; ".join(
        f"{each.step}{f' of {each.stream}' if each.stream else ''} {'was at work ' * (not place)}for"
        f" {each.share:.0%} of the time ({brief(each.busy_seconds)})"
        for place, each in enumerate(slow)
    )


def _used(cpu: float, peak: int, read: int, written: int) -> str:
    parts = [f"CPU {brief(cpu)}"]
    parts += [f"memory {amount(peak)}"] * bool(peak)
    parts += [f"read {amount(read)}"] * bool(read)
    parts += [f"written {amount(written)}"] * bool(written)
    return ", ".join(parts)


def _links(run: RunRow, retried_as: tuple[int, ...]) -> Iterator[str]:
    if run.cancel_by:
        reason = f": {run.cancel_reason}" if run.cancel_reason else ""
        yield f"Cancelled:   by {run.cancel_by}{reason}"
    if run.retry_of:
        yield f"Retry of:    #{run.retry_of}"
    if retried_as:
        yield f"Retried as:  {', '.join(f'#{number}' for number in retried_as)}"


def _task(task: Task) -> Iterator[str]:
    # A Connection Test has one task, of no stream, whose steps are its stages.
    told = f"{task.records:,} records{_changes(task)}" if task.stream else ""
    yield f"{task.stream or 'Stages'}  {task.state}  {told}".rstrip()
    if task.message:
        yield f"  {task.message}"
    if task.cpu_seconds:
        cost = (task.cpu_seconds, task.peak_memory_bytes, task.bytes_read, task.bytes_written)
        yield f"  Used: {_used(*cost)}"
    for step in task.steps:
        yield _step(step)
    figures = task.reconciliation
    if figures.figures:
        verdict = "all agree" if figures.agree == figures.figures else f"{figures.agree} agree"
        yield f"  Reconciled: {figures.figures} figures, {verdict}"
    for difference in figures.differences:
        column = difference["column"] or "the stream"
        yield (
            f"    ✕ {difference['figure']} of {column}:"
            f" source {difference['source']}, destination {difference['destination']}"
        )


def _changes(task: Task) -> str:
    return f" ({told})" if (told := changes_text(asdict(task))) else ""


def changes_text(counts: Mapping[str, Any]) -> str:
    """Say what a commit changed, or would; counts that nobody knows are left out."""
    told = [f"{counts[n]:,} {n}" for n in CHANGES if counts[n] is not None]
    asides = (("rejected", "rows set aside"), ("adjusted", "values changed"))
    return ", ".join([*told, *(f"{counts[n]:,} {words}" for n, words in asides if counts[n])])


def _step(step: Step) -> str:
    mark = _MARKS.get(step.state, " ")
    parts = [f"  {mark} {step.step:<10}"]
    if step.started_at and step.completed_at:
        span = (step.completed_at - step.started_at).total_seconds()
        parts.append(f"{brief(span):>8}  ({_busy(step, span)})")
    elif step.state != "Completed":
        parts.append(f"{step.state.lower():>8}")
    if step.records:
        parts.append(f"{step.records:,} records")
    if step.cpu_seconds:
        cost = (step.cpu_seconds, step.peak_memory_bytes, step.bytes_read, step.bytes_written)
        parts.append(_used(*cost))
    if step.note:
        parts.append(step.note)
    return "  ".join(parts)


def _busy(step: Step, span: float) -> str:
    # Rows are staged while they are read; the step begins when that is over.
    staging = " with staging" if step.step == "commit" and step.busy_seconds > span else ""
    return f"busy {brief(step.busy_seconds)}{staging}"
