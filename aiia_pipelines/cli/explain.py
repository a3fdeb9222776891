"""`aiia explain`: the failure catalogue."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from aiia_pipelines.cli.exits import Exit, Stop
from aiia_pipelines.cli.main import Command
from aiia_pipelines.cli.output import Shown
from aiia_pipelines.cli.session import output

if TYPE_CHECKING:
    from aiia_pipelines.jobs.failures import FailureClass


@click.command(cls=Command)
@click.argument("code", required=False)
def explain(code: str | None) -> None:
    """Explain a failure code, or list them all."""
    from aiia_pipelines.config.faults import nearest
    from aiia_pipelines.jobs.failures import CATALOGUE

    out = output()
    if code is None:
        out.rows(
            CATALOGUE.values(),
            facts_of,
            Shown("Code", lambda row: row.code),
            Shown("Badge", lambda row: row.badge.value),
            Shown("Origin", lambda row: row.origin),
            Shown("Retried", lambda row: "yes" if row.transient else "no"),
            Shown("Cause", lambda row: row.cause, yields=True),
        )
        return
    if code not in CATALOGUE:
        hint = nearest(code, CATALOGUE) or "."
        raise Stop(
            Exit.NOT_FOUND,
            f"There is no failure code '{code}'{hint}",
            code="unknown-code",
            remedy="Run `aiia explain` to see all.",
        )
    row = CATALOGUE[code]
    out.one(facts_of(row), lambda: _page(row))


def facts_of(row: "FailureClass") -> dict[str, Any]:
    """Return the record of a failure class; its keys are stable."""
    from aiia_pipelines.jobs.failures import Failure

    failure = Failure(row, row.title)
    return {
        "code": row.code,
        "title": row.title,
        "badge": row.badge.value,
        "origin": row.origin,
        "retryable": row.transient,
        "cause": row.cause,
        "remedy": failure.remedy(),
        "verify": failure.verify(),
        "signals": sorted(row.signals),
    }


def _page(row: "FailureClass") -> Iterable[str]:
    facts = facts_of(row)
    yield f"{row.title} ({row.code})"
    yield f"Badge:       {row.badge.value}, origin: {row.origin}"
    yield f"Cause:       {facts['cause']}"
    yield f"What to do:  {facts['remedy']}"
    yield f"Verify:      {facts['verify']}"
    yield f"Retried:     {'automatically' if row.transient else 'only by hand'}"
