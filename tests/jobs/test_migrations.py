import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from aiia_pipelines.jobs import migrations
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.jobs.tables import METADATA, SCHEMA

pytestmark = pytest.mark.integration
Engines = Callable[[], sa.Engine]


@pytest.fixture
def database(new_database: Callable[[str], Any]) -> Any:
    return new_database("history")


@pytest.fixture
def engine(database: Any) -> Iterator[sa.Engine]:
    made = sa.create_engine(database.url(driver="postgresql+psycopg2"))
    yield made
    made.dispose()


def test_an_empty_database_gets_all_tables(engine: sa.Engine) -> None:
    assert migrations.current(engine) is None
    migrations.ensure(engine)
    assert migrations.current(engine) == migrations.head()
    tables = {f"{SCHEMA}.{name}" for name in sa.inspect(engine).get_table_names(SCHEMA)}
    assert tables == {*METADATA.tables, f"{SCHEMA}.alembic_version"}


def test_the_migrated_tables_are_those_the_code_knows(engine: sa.Engine) -> None:
    def ours(_object: object, name: str, kind: str, _found: bool, _other: object) -> bool:
        return not (kind == "table" and name == "alembic_version")

    migrations.ensure(engine)
    with engine.connect() as connection:
        options = {
            "include_schemas": True,
            "version_table_schema": SCHEMA,
            "compare_type": True,
            "include_name": lambda name, kind, _: kind != "schema" or name == SCHEMA,
            "include_object": ours,
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, METADATA) == []


def test_rows_of_the_first_version_are_kept(engine: sa.Engine) -> None:
    migrations.upgrade(engine, "0001")
    rows = (
        (
            "insert into aiia.job_runs (number, uid, type, connector, title, streams, trigger, triggered_by,"
            " priority, state) values (7, gen_random_uuid(), 'sync', 'a', 'A', '{x}', 'manual', 'sara',"
            " 'normal', 'Completed')"
        ),
        "insert into aiia.tasks (number, stream, state) values (7, 'x', 'Succeeded')",
        "insert into aiia.log_lines (number, at, level, message, detail) values (7, now(), 20, 'm', '{d}')",
    )
    with engine.begin() as db:
        for row in rows:
            db.exec_driver_sql(row)
    migrations.upgrade(engine)
    assert migrations.current(engine) == migrations.head()
    with engine.connect() as db:
        found = db.exec_driver_sql(
            "select connector, stream, log_lines.message from aiia.job_runs join aiia.tasks using (number)"
            " join aiia.log_lines using (number)"
        ).all()
    assert [tuple(row) for row in found] == [("a", "x", "m")]


def test_what_was_learned_before_there_was_a_history_is_its_first_version(
    engine: sa.Engine,
) -> None:
    migrations.upgrade(engine, "0002")
    columns = '[{"name": "a", "type": "int32", "nullable": true}]'
    with engine.begin() as db:
        db.exec_driver_sql(
            "insert into aiia.contracts (connector, stream, columns, learned_by)"
            f" values ('crm', 'orders', '{columns}', 7)"
        )
    migrations.upgrade(engine)
    with engine.connect() as db:
        found = db.exec_driver_sql(
            "select h.version, h.columns, h.change, h.learned_by, h.at = c.learned_at, c.profile"
            " from aiia.schema_history h join aiia.contracts c using (connector, stream)"
        ).all()
    learned = [{"name": "a", "type": "int32", "nullable": True}]
    assert [tuple(row) for row in found] == [(1, learned, "learned", 7, True, None)]


def test_two_processes_that_start_at_once_make_one_set_of_tables(database: Any) -> None:
    code = (
        "import sys; from aiia_pipelines.jobs.store import JobStore;"
        " JobStore.open(sys.argv[1]).close()"
    )
    url = database.url(driver="postgresql+psycopg2")
    processes = [subprocess.Popen([sys.executable, "-c", code, url]) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]


def test_an_older_store_is_refused_with_what_to_do(engine: sa.Engine) -> None:
    migrations.upgrade(engine, "0001")
    with pytest.raises(migrations.StoreOutdated, match=r"at version 0001.*run `aiia migrate`\.$"):
        migrations.ensure(engine)


def test_a_newer_store_is_refused_in_one_sentence(database: Any, engine: sa.Engine) -> None:
    migrations.ensure(engine)
    with engine.begin() as db:
        db.exec_driver_sql("update aiia.alembic_version set version_num = '9999'")
    with pytest.raises(migrations.StoreOutdated) as refused:
        JobStore.open(database.url(driver="postgresql+psycopg2"))
    assert str(refused.value) == (
        f"The job-run store is at version 9999, this program needs {migrations.head()}:"
        " install the version of aiia-pipelines that wrote it, or a newer one."
    )
