from typing import Any

import pytest
from pydantic import ValidationError

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.retry import Retry
from aiia_pipelines.config.wording import mistakes_of, place
from aiia_pipelines.jobs.retry import RetryPolicy

SMALLEST: dict[str, Any] = {
    "name": "crm",
    "title": "CRM",
    "source": {"kind": "sql"},
    "streams": [{"name": "orders", "table": "orders"}],
}


def test_the_defaults_are_those_of_the_decision() -> None:
    assert RetryPolicy.of({"retry": Retry().model_dump()}) == RetryPolicy()
    assert Connector.model_validate(SMALLEST).retry == Retry()


def test_what_the_file_says_reaches_the_decision() -> None:
    told = {"policy": "standard", "max_attempts": 3, "first_wait": 60}
    connector = Connector.model_validate({**SMALLEST, "retry": told})
    assert connector.public()["retry"] == told
    assert RetryPolicy.of(connector.public()) == RetryPolicy(max_attempts=3, first_wait=60)


@pytest.mark.parametrize(
    ("tree", "mistake"),
    [
        (
            {"retry": {"first_wait": 60, "longest_wait": 30}},
            "retry: first_wait must not be longer than longest_wait",
        ),
        (
            {"retry": {"policy": "fire_and_forget"}, "window": {"hours": "22:00-05:00"}},
            "retry.policy: fire_and_forget starts at once; a connector with a window takes standard",
        ),
    ],
)
def test_what_does_not_go_together_is_told(tree: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Connector.model_validate({**SMALLEST, **tree})
    assert [f"{place(loc)}: {text}" for loc, text in mistakes_of(caught.value)] == [mistake]
