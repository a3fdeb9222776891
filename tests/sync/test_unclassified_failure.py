"""A failure that no row of the catalogue knows is told honestly: by name, with all that led to it."""

from typing import Any, NoReturn

import pytest

from aiia_pipelines.jobs.log import Level

pytestmark = pytest.mark.integration
CANARY = "canary-Odd-2b7c"


class Odd(Exception):
    """What nobody has met before."""


def _breaks() -> NoReturn:
    try:
        raise KeyError(f"password={CANARY}")
    except KeyError as inner:
        raise Odd("the moon is full") from inner


def test_an_unknown_failure_names_its_class_keeps_its_traceback_and_asks_for_a_report(
    bench: Any,
) -> None:
    ended = bench.sync(source=_breaks)
    assert (ended.state, ended.code) == ("Failed", "unclassified")
    error, asked, last = ended.lines[-3:]
    assert error.level is Level.ERROR
    assert error.message == f"Unclassified Failure: {__name__}.Odd: the moon is full"
    told = "\n".join(error.detail)
    assert "raise Odd(" in told
    assert "KeyError: " in told
    assert CANARY not in ended.log
    assert asked.level is Level.WARNING
    assert f"knows {__name__}.Odd." in asked.message
    assert f"`aiia jobs logs {ended.number}`" in asked.message
    assert last.message == "Job aborted with state FAILED."
