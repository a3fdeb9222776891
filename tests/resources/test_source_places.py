"""The place of a source as people know it, told by the connector's file alone."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiia_pipelines.jobs.run import JobType, NewJobRun, Trigger
from aiia_pipelines.jobs.waiting import CONNECTOR_TAG, DESTINATION_TAG, SOURCE_TAG
from aiia_pipelines.resources.limits import limit_tags, priority_tag, source_place

HOME = Path("/nowhere")


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ({"url": "postgresql://ada@10.140.2.14:5432/production"}, "10.140.2.14:5432/production"),
        ({"url": "postgresql+psycopg2://DB.Example/erp?sslmode=require"}, "db.example:5432/erp"),
        ({"url": "postgresql://ada@[::1]/erp"}, "[::1]:5432/erp"),
        ({"url": "postgresql://ada@[::1]:99/erp"}, "[::1]:99/erp"),
        ({"url": "mysql://h/shop"}, "h:3306/shop"),
        ({"url": "mssql+pymssql://h"}, "h:1433"),
        ({"url": "teradata://h/db"}, "h/db"),
        ({"url": "sqlite:////data/a.db"}, "/data/a.db"),
        ({"url": "https://API.example.com/v2/orders?page=1"}, "api.example.com"),
        ({"url": "https://api.example.com:443/v2"}, "api.example.com"),
        ({"url": "http://localhost:8080"}, "localhost:8080"),
        ({"url": "nonsense"}, ""),
        ({"bucket": "raw", "region": "eu-west-1"}, "s3://raw"),
        ({"bucket": "raw", "endpoint_url": "https://s3.local:9000/"}, "s3://raw at s3.local:9000"),
        ({"root": "/data/in/"}, "/data/in"),
        ({"host": "Mainframe", "port": 23}, "mainframe:23"),
        ({"host": "mainframe"}, "mainframe"),
        ({"kind": "unheard_of"}, ""),
        ({"url": ["x"]}, ""),
    ],
)
def test_a_place_has_neither_user_nor_query(source: dict[str, Any], place: str) -> None:
    assert source_place(source, HOME, {}) == place


def test_references_are_resolved_where_they_lead_somewhere() -> None:
    source = {"url": "postgresql://ada@${env:HOST:-db}:${env:PORT}/erp"}
    assert source_place(source, HOME, {"PORT": "99"}) == "db:99/erp"
    # Elsewhere all that say the same are one source.
    assert source_place(source, HOME, {}) == "${env:HOST:-db}:${env:PORT}/erp"


@given(st.text(st.sampled_from("abz@:/?#%[] \\é"), min_size=1, max_size=12))
def test_no_password_of_a_url_is_ever_told(word: str) -> None:
    secret = f"S3{word}cr3t"
    source = {"url": "postgresql://ada:${env:PW}@db:5432/erp"}
    assert source_place(source, HOME, {"PW": secret}) == "db:5432/erp"


def asked(name: str = "a", host: str = "db", **facts: Any) -> NewJobRun:
    config = {"source": {"kind": "sql", "url": f"postgresql://ada@{host}/erp"}}
    given = {
        "connector": name,
        "title": name,
        "streams": (),
        "trigger": Trigger.MANUAL,
        "triggered_by": "ada",
        "config": config,
    }
    return NewJobRun(**given | facts)


def test_a_run_of_one_connector_is_counted_for_all_it_uses() -> None:
    assert limit_tags([asked()], HOME) == {
        SOURCE_TAG: "db:5432/erp",
        DESTINATION_TAG: "warehouse",
        CONNECTOR_TAG: "a",
    }


def test_a_run_of_several_connectors_is_counted_for_what_they_share() -> None:
    found = limit_tags([asked("a", "x"), asked("b", "y")], HOME)
    assert found == {SOURCE_TAG: "several sources", DESTINATION_TAG: "warehouse"}
    lake = {"source": {"kind": "files", "root": "/in"}, "destination": "lake"}
    found = limit_tags([asked("a"), asked("b", config=lake)], HOME)
    assert found[DESTINATION_TAG] == "several destinations"
    assert limit_tags([asked("a"), asked("b")], HOME)[SOURCE_TAG] == "db:5432/erp"


@pytest.mark.parametrize("facts", [{"type": JobType.CONNECTION_TEST}, {"config": None}])
def test_what_reads_no_source_takes_no_slot(facts: dict[str, Any]) -> None:
    assert limit_tags([asked(**facts)], HOME) == {}
    assert limit_tags([], HOME) == {}


def test_a_file_without_a_source_that_is_known_limits_its_destination_only() -> None:
    assert SOURCE_TAG not in limit_tags([asked(config={"source": "broken"})], HOME)


def test_the_most_urgent_connector_of_a_run_decides_its_priority() -> None:
    assert priority_tag([asked(priority="low"), asked(priority="high")]) == {
        "dagster/priority": "10"
    }
    assert priority_tag([asked(priority="low")]) == {"dagster/priority": "-10"}
    assert priority_tag([asked()]) == {}
    assert priority_tag([]) == {}
