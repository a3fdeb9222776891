import pytest

from aiia_pipelines.jobs.families import FAMILIES, concerned, family_of, family_of_url


@pytest.mark.parametrize(
    ("url", "family"),
    {
        "postgresql://rd@db:5432/x": "postgresql",
        "postgresql+psycopg2://rd@db/x": "postgresql",
        "mysql+pymysql://rd@db/x": "mysql",
        "MariaDB://rd@db/x": "mysql",
        "mssql+pymssql://rd@db/x": "mssql",
        "oracle://rd@db/x": "oracle",
        "hana://rd@db:30015": "hana",
        "sqlite:////data/x.db": "sqlite",
        "duckdb:////data/x.duckdb": "duckdb",
        "parquet:///data": "files",
        "file:///data": "files",
        "s3://bucket/prefix": "s3",
        "snowflake://account": "",
        "${env:DATABASE_URL}": "",
        "postgresql": "",
        "": "",
    }.items(),
)
def test_the_scheme_of_a_url_tells_the_family(url: str, family: str) -> None:
    assert family_of_url(url) == family
    assert family_of({"kind": "sql", "url": url}) == family
    assert family in {"", *FAMILIES}


def test_the_kind_tells_the_family_where_there_is_but_one() -> None:
    for kind in ("s3", "rest", "files"):
        assert family_of({"kind": kind, "url": "https://api.example.com"}) == kind
    assert family_of({"kind": "example"}) == ""
    assert family_of({"kind": ["sql"], "url": 7}) == ""


def test_a_failure_concerns_the_server_of_its_side() -> None:
    config = {"source": {"kind": "sql", "url": "mysql://rd@db/x"}}
    urls = {"warehouse": "postgresql://app@dw/dw", "lake": "s3://bucket"}
    assert concerned("source", config, urls) == "mysql"
    assert concerned("data", config, urls) == "mysql"
    assert concerned("destination", config, urls) == "postgresql"
    assert concerned("destination", config | {"destination": "lake"}, urls) == "s3"
    assert concerned("destination", config, {}) == ""
    assert concerned("source", None, urls) == ""
    assert concerned("source", {"source": "odd"}, urls) == ""
