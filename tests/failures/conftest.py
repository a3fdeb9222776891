"""Servers that can be made to fail, and a stage on which a whole sync meets them."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.jobs.run import NewJobRun
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.local.postgres import APPLICATION_ROLE

# The tables of these files stand on modules that lie beside them.
sys.path.append(str(Path(__file__).parent))

from provoked import COLUMNS, READER, ROWS, SEED, Stage, neighbour

_web = neighbour("connectors")
web = _web.web


@pytest.fixture(scope="module")
def ground(
    server: Any, _store_database: Any, request: pytest.FixtureRequest
) -> Iterator[tuple[Any, Any]]:
    """A source and a warehouse for all tests of a file."""
    database = type(_store_database)
    name = request.module.__name__.rpartition("test_")[2]
    pair = (database(server, f"source_{name}"), database(server, f"warehouse_{name}"))
    for found in pair:
        server.ensure_database(found.name, APPLICATION_ROLE)
    pair[0].execute(f"alter default privileges grant select on tables to {READER}")
    yield pair
    admin = server.connect("postgres")
    admin.autocommit = True
    with admin.cursor() as cursor:
        for found in pair:
            cursor.execute(f"drop database if exists {found.name} with (force)")
    admin.close()


@pytest.fixture
def stage(
    store: JobStore,
    ground: tuple[Any, Any],
    request_of: Callable[..., NewJobRun],
    forgetful: None,
) -> Stage:
    """A warehouse with the rows of an earlier sync; the secrets of this test are not known to the mask."""
    source, warehouse = ground
    found = Stage(store, source, warehouse, request_of)
    found.facts |= {"source": f"127.0.0.1:{source.port}", "here": f"127.0.0.1:{warehouse.port}"}
    found.secrets.add(source.password(READER))
    if warehouse.execute("select to_regclass('sap_erp.rows')") == [(None,)]:
        found.fill(COLUMNS, SEED)
        ended = found.sync(source.options(), ROWS)
        assert ended.row.state == "Completed", ended.log
    return found
