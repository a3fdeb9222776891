from collections.abc import Callable
from typing import Any

import pytest

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.connectors.base import open_source
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import NewJobRun
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.sync.destinations.postgres import open_postgres
from aiia_pipelines.sync.engine import Engine

pytestmark = pytest.mark.integration
Sync = Callable[..., Any]


@pytest.fixture
def sync(store: JobStore, warehouse: Any, request_of: Callable[..., NewJobRun]) -> Sync:
    """Sync one stream of one source into the warehouse, and give the row of the job run."""

    def run(source: dict[str, Any], stream: dict[str, Any]) -> Any:
        connector = Connector.model_validate(
            {
                "name": "shop",
                "title": "Shop",
                "source": {"kind": source["kind"]},
                "streams": [{"name": "rows"} | stream],
            }
        )
        new = request_of("rows")
        number = store.create(new)
        store.take(number, new)
        store.move(number, JobState.RUNNING)
        with Recorder(store, number) as recorder:
            engine = Engine(
                connector=connector,
                source=lambda: open_source(source),
                destination=open_postgres(warehouse.url()),
                recorder=recorder,
            )
            list(engine.run(connector.streams))
        store.finish(number)
        return store.row(number)

    return run


def test_an_api_is_brought_over_page_by_page_and_then_only_what_is_new(
    sync: Sync, web: Any, warehouse: Any
) -> None:
    rows = [
        {"id": n, "at": f"2026-01-{n:02}T00:00:00Z", "amount": "0.10", "tags": {"n": n}}
        for n in range(1, 31)
    ]
    served = rows[:20]

    def answer(asked: Any) -> Any:
        begin = int(asked.query["offset"])
        return web.reply({"data": served[begin : begin + 7], "total": len(served)})

    web.answers["/orders"] = answer
    source = {"kind": "rest", "url": web.url}
    stream = {
        "endpoint": "/orders",
        "mode": "upsert",
        "key": ["id"],
        "cursor": "at",
        "columns": {"at": {"type": "timestamptz"}, "amount": {"type": "decimal(9,2)"}},
        "options": {
            "records": "data",
            "cursor_param": "since",
            "pagination": {"type": "offset", "total": "total"},
        },
    }
    assert sync(source, stream).state == "Completed"
    served = rows[19:]
    done = sync(source, stream)
    assert done.state == "Completed"
    assert web.asked[-1].query["since"] == "2026-01-20T00:00:00Z"
    found = warehouse.execute(
        "select count(*), sum(amount)::text, max(at)::text, max(tags::jsonb ->> 'n') from shop.rows"
    )
    assert found == [(30, "3.00", "2026-01-30 00:00:00+00", "9")]
    assert sync(source, stream).state == "Completed"


def test_an_api_that_breaks_in_the_middle_leaves_the_warehouse_as_it_was(
    sync: Sync, web: Any, warehouse: Any
) -> None:
    pages = {"1": [{"id": 1}, {"id": 2}], "2": []}
    web.answers["/orders"] = lambda asked: web.reply(pages[asked.query["page"]])
    source = {"kind": "rest", "url": web.url}
    stream = {"endpoint": "/orders", "options": {"pagination": {"type": "page"}}}
    assert sync(source, stream).state == "Completed"
    pages |= {"1": [{"id": 8}], "2": [{"id": 9, "new": 1}]}
    failed = sync(source, stream)
    assert (failed.state, failed.failure_code) == ("Error", "column-mismatch")
    web.answers["/orders"] = [web.reply({}, status=401)]
    failed = sync(source, stream)
    assert (failed.state, failed.failure_code) == ("Failed", "invalid-credentials")
    assert warehouse.execute("select id from shop.rows order by 1") == [(1,), (2,)]


def test_new_objects_of_a_bucket_are_appended_once(
    sync: Sync, s3_server: Any, warehouse: Any
) -> None:
    bucket, client = s3_server.make_bucket(), s3_server.client()
    source = {
        "kind": "s3",
        "bucket": bucket,
        "endpoint_url": s3_server.endpoint,
        "access_key_id": s3_server.access_key,
        "secret_access_key": s3_server.secret_key,
    }
    stream = {"path": "in/*.csv", "mode": "append", "options": {"only_new": True}}
    client.put_object(Bucket=bucket, Key="in/1.csv", Body=b"id,name\n1,a\n2,b\n")
    for _ in range(2):
        assert sync(source, stream).state == "Completed"
    client.put_object(Bucket=bucket, Key="in/2.csv", Body=b"id,name\n3,c\n")
    assert sync(source, stream).state == "Completed"
    found = warehouse.execute("select id::text, name from shop.rows order by 1")
    assert found == [("1", "a"), ("2", "b"), ("3", "c")]


def test_the_bytes_of_an_api_are_those_of_its_rows(sync: Sync, web: Any) -> None:
    rows = [{"id": n, "name": f"name {n:04}"} for n in range(1, 501)]
    web.answers["/rows"] = lambda _: web.reply({"data": rows, "padding": "x" * 100_000})
    stream = {
        "endpoint": "/rows",
        "columns": {"id": {"type": "int64"}, "name": {"type": "string"}},
        "options": {"records": "data"},
    }
    found = [sync({"kind": "rest", "url": web.url}, stream) for _ in range(2)]
    assert {row.state for row in found} == {"Completed"}
    # Eight bytes of a number, nine of a name and four of its length; not the answer around the rows.
    assert 500 * 21 <= found[0].bytes <= 500 * 22
    assert (found[1].bytes, found[1].bytes_written) == (found[0].bytes, found[0].bytes_written)
    assert found[0].bytes_written >= 500 * 21
