"""How a Connection Test is told: as a record for programs, as lines for people, as a table for Dagster."""

from collections.abc import Iterator
from typing import Any

from aiia_pipelines.jobs.log import escape
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.sync.probe import Probed, Staged

_WIDTH = 20


def facts_of(tested: Probed) -> dict[str, Any]:
    """Return the record of a Connection Test; its keys are stable."""
    failure, firewall = tested.failure, tested.firewall
    return {
        "number": tested.number,
        "connector": tested.connector,
        "state": tested.state.value,
        "failure_code": failure.code if failure else None,
        "message": failure.headline if failure else "",
        "cause": failure.kind.cause if failure else "",
        "remedy": failure.remedy() if failure else "",
        "verify": verify_of(tested),
        "place": failure.place if failure else "",
        "stages": [_stage(stage) for stage in tested.stages],
        "failed_stage": tested.failed_stage or None,
        "outbound_ip": firewall.source_ip if firewall else None,
        "firewall": firewall.facts() if firewall else None,
    }


def _stage(stage: Staged) -> dict[str, Any]:
    return {
        "name": stage.name,
        "passed": stage.passed,
        "seconds": round(stage.seconds, 4),
        "note": stage.note,
        "failure_code": stage.failure.code if stage.failure else None,
    }


def verify_of(tested: Probed) -> str:
    """Give the command with which a person looks at what failed."""
    failure = tested.failure
    if failure is None:
        return ""
    return failure.verify(family=tested.family).replace("CONNECTOR", tested.connector)


def lines_of(tested: Probed) -> Iterator[str]:
    """Say how a Connection Test ended, and what to do when it failed."""
    failure, firewall = tested.failure, tested.firewall
    if failure is None:
        yield f"{'✓' if tested.state is JobState.COMPLETED else '⊘'} {tested.state.value}"
        return
    yield f"✕ {tested.state.value} ({failure.code}): {failure.headline}"
    yield f"  Cause:       {failure.kind.cause}"
    yield f"  What to do:  {failure.remedy()}"
    yield f"  Verify:      {verify_of(tested)}"
    if not tested.wants_firewall or firewall is None:
        return
    yield f"  To open:     {failure.place} (from {firewall.source_ip or 'no known address'})"
    yield "  To paste to a firewall team:"
    yield ""
    yield from (f"    {line}" for line in firewall.text.splitlines())
    yield ""


def line_of(stage: Staged) -> str:
    """Render a stage as it is shown while a test runs."""
    if stage.passed is None:
        return f"  - {stage.name:<{_WIDTH}} {'not reached':>11}"
    mark = "✕" if not stage.passed else "!" if stage.warns else "✓"
    return f"  {mark} {stage.name:<{_WIDTH}} {_time(stage.seconds):>11}  {stage.note}".rstrip()


def table_of(tested: Probed) -> str:
    """Render the stages as a table in Markdown."""
    rows = [
        f"| {_cell(stage.name)} | {_result(stage)} | {_taken(stage)} | {_cell(stage.note)} |"
        for stage in tested.stages
    ]
    return "\n".join(["| stage | result | time | note |", "|---|---|---:|---|", *rows])


def _result(stage: Staged) -> str:
    if stage.passed is None:
        return "not reached"
    return "✓ passed" if stage.passed else "✕ failed"


def _taken(stage: Staged) -> str:
    return "" if stage.passed is None else _time(stage.seconds)


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _cell(text: str) -> str:
    # What a server calls itself must not become markup of the page that shows it.
    safe = escape(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return safe.replace("`", "\\`").replace("[", "\\[").replace("*", "\\*").replace("_", "\\_")
