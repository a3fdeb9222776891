"""Both sides of a stream compared, figure by figure, before anything becomes visible."""

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from aiia_pipelines.jobs.run import Figure
from aiia_pipelines.sync.faults import ContractBroken

Figures = Mapping[tuple[str, str], Any]
_DIGEST = 12  # hexadecimal digits


def compare(source: Figures, destination: Figures) -> list[Figure]:
    """Put the figures of both sides next to each other, as canonical text."""
    return [
        Figure(
            column=column,
            figure=figure,
            source=canonical(source.get((column, figure))),
            destination=canonical(destination.get((column, figure))),
        )
        for column, figure in dict.fromkeys([*source, *destination])
    ]


def mismatch(stream: str, figures: Sequence[Figure]) -> ContractBroken | None:
    """Make the fault of the figures that do not agree; None when all do."""
    wrong = [
        f"{figure.column or 'all rows'}: {figure.figure} is {figure.source} at the source"
        f" and {figure.destination} at the destination"
        for figure in figures
        if not figure.agrees
    ]
    if not wrong:
        return None
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return ContractBroken(
        f"Reconciliation mismatch in {stream}: {wrong[0]}{more}.",
        "reconcile:mismatch",
        report=tuple(wrong),
    )


def canonical(value: object) -> str | None:
    """Write a value so that the same value has the same text, whichever side computed it."""
    if value is None:
        return None
    if isinstance(value, Decimal | int) and not isinstance(value, bool):
        return _digits(Decimal(value))
    if isinstance(value, float):
        return repr(value + 0.0)  # a negative zero is the same figure as zero
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return value.astimezone(dt.UTC).isoformat()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    # A text would stand in the job history and in messages: its digest tells as well whether both agree.
    return hashlib.sha256(str(value).encode()).hexdigest()[:_DIGEST]


def _digits(number: Decimal) -> str:
    # Decimal.normalize() would round to the context's precision.
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
