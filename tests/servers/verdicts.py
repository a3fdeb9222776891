"""What tests of single exceptions share: how an exception comes to be, and what a verdict must be like."""

from collections.abc import Callable

import pytest

from aiia_pipelines.jobs.failures import Failure


def check(failure: Failure, code: str) -> None:
    assert failure.code == code, failure.headline
    assert 0 < len(failure.headline) <= 200
    assert "(psycopg" not in failure.headline
    assert "sqlalche.me" not in failure.headline


def raised(action: Callable[[], object]) -> BaseException:
    """Have a library raise its exception, with the chain that it gives it."""
    with pytest.raises(Exception) as caught:
        action()
    return caught.value
