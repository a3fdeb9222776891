"""What is said of a run that could not say it itself."""

import sys

import pytest
import sqlalchemy as sa
from dagster._utils.error import serializable_error_info_from_exc_info
from dagster_shared.error import SerializableErrorInfo

from aiia_pipelines.jobs.failures import classify
from aiia_pipelines.local.ports import free_port
from aiia_pipelines.resources import endings

pytestmark = pytest.mark.integration


def told(fault: BaseException) -> SerializableErrorInfo:
    """Write an exception down as Dagster does when a step raises it."""
    try:
        raise fault
    except type(fault):
        return serializable_error_info_from_exc_info(sys.exc_info())


def test_a_run_whose_history_was_away_says_so() -> None:
    url = f"postgresql+psycopg2://nobody@127.0.0.1:{free_port()}/nothing"
    with pytest.raises(sa.exc.OperationalError) as refused:
        sa.create_engine(url).connect()
    failure = classify(endings._told(told(refused.value)))
    assert failure.code == "history-unavailable"
    assert "refused" in failure.headline


def test_what_nobody_knows_stays_unclassified() -> None:
    assert classify(endings._told(told(RuntimeError("odd")))).code == "unclassified"
