"""The traceback of a fault as the log keeps it: all that led to it, without the values that drivers repeat."""

import re
import traceback
from collections.abc import Iterator
from itertools import takewhile

from aiia_pipelines.connectors.base import SourceFault
from aiia_pipelines.sync.faults import ContractBroken, DestinationFault, Stopped

OURS = (SourceFault, DestinationFault, ContractBroken, Stopped)
# Of one exception; the first and the last ones say where it began and where it ended.
_MOST_FRAMES = 60
# What drivers and libraries add to their sentence: the statement with its literals, and details with values.
_ADDED = re.compile(r"\[SQL:|\[parameters|\(Background on|DETAIL:|CONTEXT:|LINE \d|HINT:")


def traceback_of(fault: BaseException, *, about_data: bool) -> list[str]:
    """Write down a fault and all that it came from, the first cause first.

    Of a fault `about_data`, what a driver says stays out: it would repeat the values that it did not like.
    """
    return [line for line in _written(fault, set(), about_data=about_data) if line.strip()]


def _written(fault: BaseException, seen: set[int], *, about_data: bool) -> Iterator[str]:
    seen.add(id(fault))
    context = None if fault.__suppress_context__ else fault.__context__
    for inner, how in (
        (fault.__cause__, "The exception above was the cause of this one:"),
        (
            None if fault.__cause__ else context,
            "While the exception above was handled, came this one:",
        ),
    ):
        if inner is not None and id(inner) not in seen:
            yield from _written(inner, seen, about_data=about_data)
            yield how
    yield "Traceback (most recent call last):"
    yield from _frames(fault)
    yield from _words(fault, about_data=about_data)
    for part in fault.exceptions if isinstance(fault, BaseExceptionGroup) else ():
        if id(part) not in seen:
            yield "One of its parts:"
            yield from _written(part, seen, about_data=about_data)


def _frames(fault: BaseException) -> Iterator[str]:
    frames = traceback.extract_tb(fault.__traceback__)
    half = _MOST_FRAMES // 2
    left_out = len(frames) - _MOST_FRAMES
    parts = [frames] if left_out <= 0 else [frames[:half], frames[-half:]]
    for number, part in enumerate(parts):
        if number:
            yield f"  … {left_out:,} further calls …"
        for entry in traceback.format_list(part):
            # Without the marks below a line of code: a terminal and a page wrap them anyway.
            yield from (line for line in entry.splitlines() if line.strip(" ^~"))


def _words(fault: BaseException, *, about_data: bool) -> Iterator[str]:
    """Say what an exception is, and what it says of itself."""
    if about_data and not isinstance(fault, OURS):
        kind = type(fault)
        yield f"{kind.__module__}.{kind.__qualname__}"
        return
    said = "".join(traceback.format_exception_only(fault)).expandtabs().splitlines()
    yield from takewhile(lambda line: _ADDED.match(line.strip()) is None, said)
