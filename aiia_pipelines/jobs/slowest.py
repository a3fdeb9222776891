"""Which steps of a job run took the most of its time."""

from collections.abc import Iterable
from dataclasses import dataclass

# What the streams of a connector wait for together: it is done once, and every stream has the same time.
_SHARED = ("prepare", "connect")
_MOST = 3  # steps that are named
_NEAR = 0.5  # of the slowest step's time: what took less is not worth a word beside it


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """A step over all streams; `stream` is the one that took most of it, empty when none did.

    Steps overlap in time: their shares may add up to more than 1.
    """

    step: str
    stream: str
    busy_seconds: float
    share: float


def slowest(busy: Iterable[tuple[str, str, float]], seconds: float | None) -> tuple[Slow, ...]:
    """Name the slowest steps out of (stream, step, seconds of work), in a run that took so long."""
    times: dict[str, dict[str, float]] = {}
    for stream, step, worked in busy:
        # The stages of a Connection Test have no stream.
        if stream:
            times.setdefault(step, {})[stream] = worked
    totals = {
        step: max(parts.values()) if step in _SHARED else sum(parts.values())
        for step, parts in times.items()
    }
    order = sorted(totals, key=lambda step: -totals[step])
    if not seconds or not order or not totals[order[0]]:
        return ()
    least = _NEAR * totals[order[0]]
    return tuple(
        Slow(
            step=step,
            stream=_most_of(times[step], totals[step]) if step not in _SHARED else "",
            busy_seconds=totals[step],
            share=min(1.0, totals[step] / seconds),
        )
        for step in order[:_MOST]
        if totals[step] >= least
    )


def _most_of(parts: dict[str, float], total: float) -> str:
    stream = max(parts, key=lambda name: parts[name])
    return stream if parts[stream] > total / 2 else ""
