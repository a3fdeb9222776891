import sys
from collections.abc import Callable

from aiia_pipelines.connectors.base import SourceFault
from aiia_pipelines.sync._traceback import traceback_of
from aiia_pipelines.sync.destinations import destination_at
from aiia_pipelines.sync.destinations._nowhere import Nowhere
from aiia_pipelines.sync.faults import DestinationFault


def caught(action: Callable[[], object]) -> BaseException:
    try:
        action()
    except BaseException as fault:  # noqa: BLE001 - whatever the action raises is looked at
        return fault
    raise AssertionError


def refused() -> None:
    try:
        raise ValueError("'Hidden-4711' is no number\nDETAIL: Hidden-4711\n")
    except ValueError as fault:
        raise SourceFault("A value does not fit.", "contract:value") from fault


def test_the_first_cause_comes_first_and_the_fault_itself_last() -> None:
    lines = traceback_of(caught(refused), about_data=False)
    assert lines.count("Traceback (most recent call last):") == 2
    assert "ValueError: 'Hidden-4711' is no number" in lines
    assert "The exception above was the cause of this one:" in lines
    assert lines[-1] == "aiia_pipelines.connectors.base.SourceFault: A value does not fit."
    assert not [line for line in lines if line.startswith("DETAIL") or not line.strip(" ^~")]


def test_of_a_fault_of_the_data_the_words_of_others_stay_out() -> None:
    lines = traceback_of(caught(refused), about_data=True)
    assert "builtins.ValueError" in lines
    # The line of code that raises it has the words in this test only.
    assert not [line for line in lines if line.startswith("ValueError")]
    assert lines[-1].endswith("A value does not fit.")


def test_what_came_while_another_was_handled_is_told_apart() -> None:
    def handled() -> None:
        try:
            refused()
        except SourceFault:
            {}["missing"]

    lines = traceback_of(caught(handled), about_data=False)
    assert "While the exception above was handled, came this one:" in lines
    assert lines[-1] == "KeyError: 'missing'"


def test_the_parts_of_a_group_follow_it_once() -> None:
    part = caught(refused)
    group = ExceptionGroup("both", [part, part, OSError(28, "full")])  # type: ignore[list-item]
    lines = traceback_of(group, about_data=False)
    assert lines.count("One of its parts:") == 2
    assert lines[-1] == "OSError: [Errno 28] full"


def test_a_fault_that_came_from_itself_ends() -> None:
    fault = caught(refused)
    assert fault.__cause__ is not None
    fault.__cause__.__cause__ = fault
    assert len(traceback_of(fault, about_data=False)) < 20


def test_calls_without_end_are_cut() -> None:
    def even(number: int) -> int:
        return odd(number + 1)

    def odd(number: int) -> int:
        return even(number + 1)

    before = sys.getrecursionlimit()
    lines = traceback_of(caught(lambda: even(0)), about_data=False)
    assert sys.getrecursionlimit() == before
    assert len(lines) < 140
    assert [line for line in lines if "further calls" in line]
    assert lines[-1].startswith("RecursionError: maximum recursion depth exceeded")


def test_a_destination_without_a_url_says_so_when_it_is_to_connect() -> None:
    found = destination_at("unset:lake")
    assert isinstance(found, Nowhere)
    assert found.describe() == "no destination"
    found.cancel()
    found.close()
    for action in (found.connect, lambda: found.land(None)):  # type: ignore[arg-type]
        fault = caught(action)
        assert isinstance(fault, DestinationFault)
        assert str(fault) == "The destination lake has no URL; set AIIA_DESTINATION_LAKE."
