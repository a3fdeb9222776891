"""Data that are not what was agreed: nothing of them is committed, and the old rows stay."""

import threading
import time
from collections.abc import Generator
from contextlib import closing
from typing import Any

import pytest
from provoked import COLUMNS, ROWS, SEED, Ended, Provocations, Provoked, Stage, check

pytestmark = pytest.mark.integration
provokes = Provocations()
Steps = Generator[None, None, Ended]
HIDDEN = "Hidden-4711"


@pytest.mark.parametrize("case", provokes, ids=str)
def test_a_fault_of_the_data_has_its_code_line_and_retries(stage: Stage, case: Provoked) -> None:
    stage.secrets.add(HIDDEN)
    stage.fill(COLUMNS, SEED)
    check(stage, case)


def _sync(stage: Stage, **stream: Any) -> Ended:
    return stage.sync(stage.source.options(), ROWS | stream)


def _agreed(stage: Stage, **stream: Any) -> None:
    ended = _sync(stage, **stream)
    assert ended.row.state == "Completed", ended.log


# -- columns ----------------------------------------------------------------------------------


@provokes("column-mismatch", "Column mismatch in rows: *name*", badge="Error")
def a_column_that_is_gone(stage: Stage) -> Steps:
    _agreed(stage)
    stage.fill("id int primary key", "values (1)")
    yield
    return _sync(stage)


@provokes("column-mismatch", "Column mismatch in rows: *name*", badge="Error")
def a_column_of_another_name(stage: Stage) -> Steps:
    _agreed(stage)
    stage.source.execute("alter table public.rows rename name to title")
    yield
    return _sync(stage)


@provokes("column-mismatch", "Column mismatch in rows: *name*", badge="Error")
def a_column_of_another_type(stage: Stage) -> Steps:
    _agreed(stage)
    stage.fill("id int primary key, name int", "values (1, 2)")
    yield
    return _sync(stage)


@provokes("column-mismatch", "Column mismatch in rows: *extra*", badge="Error")
def a_column_that_was_added(stage: Stage) -> Steps:
    _agreed(stage)
    stage.source.execute("alter table public.rows add extra text")
    yield
    return _sync(stage)


# -- values -----------------------------------------------------------------------------------


@provokes(
    "value-invalid",
    "Value does not fit. Column 'booked', row 1: a str that is no exact date.",
    badge="Error",
)
def a_value_that_does_not_fit(stage: Stage) -> Ended:
    stage.fill("id int, booked date", "values (1, 'infinity')")
    return _sync(stage, name="bookings")


@provokes("value-invalid", "*name*null*", badge="Error")
def a_value_that_is_missing(stage: Stage) -> Ended:
    stage.fill(COLUMNS, "values (1, null)")
    return _sync(stage, columns={"name": {"nullable": False}})


@provokes("value-invalid", "*name*str_matches*", badge="Error")
def a_value_that_breaks_a_rule(stage: Stage) -> Ended:
    stage.fill(COLUMNS, f"values (1, '{HIDDEN}')")
    return _sync(stage, columns={"name": {"type": "string", "checks": {"str_matches": "^[0-9]+$"}}})


@provokes("duplicate-key", "Duplicate values in rows: 2 rows share their name.", badge="Error")
def two_rows_with_one_key(stage: Stage) -> Ended:
    stage.fill(COLUMNS, f"values (1, '{HIDDEN}'), (2, '{HIDDEN}')")
    return _sync(stage, key=["name"])


# -- the stream as a whole --------------------------------------------------------------------


@provokes("row-count", "Row count of rows is 3; expected at least 10.", badge="Error")
def fewer_rows_than_there_must_be(stage: Stage) -> Ended:
    return _sync(stage, checks={"row_count": {"min": 10}})


@provokes("too-many-records", "Too many records in rows: more than max_rows (2).", badge="Error")
def more_rows_than_there_may_be(stage: Stage) -> Ended:
    return _sync(stage, max_rows=2)


@provokes("empty-source", "The source has no rows of rows, the destination has; *", badge="Error")
def a_source_that_is_empty(stage: Stage) -> Ended:
    stage.source.execute("truncate public.rows")
    return _sync(stage)


@provokes("mass-delete", "*customers*", badge="Error")
def most_rows_gone_at_once(stage: Stage) -> Steps:
    stream = {
        "name": "customers", "key": ["id"], "mode": "upsert", "delete": "hard", "max_delete": 1
    }  # fmt: skip
    _agreed(stage, **stream)
    stage.source.execute("delete from public.rows where id > 1")
    yield
    return _sync(stage, **stream)


@provokes("reconciliation-mismatch", "Reconciliation mismatch in rows: *", badge="Error")
def a_writer_in_the_staging_of_the_destination(stage: Stage) -> Ended:
    # The comparison with the old rows waits for a lock; somebody uses the time.
    with closing(stage.warehouse.connect()) as holder:
        holder.cursor().execute("lock table sap_erp.rows in access exclusive mode")
        meddler = threading.Thread(target=_meddle, args=(stage, holder))
        meddler.start()
        ended = _sync(stage)
        meddler.join()
    return ended


def _meddle(stage: Stage, holder: Any) -> None:
    find = "select tablename from pg_tables where schemaname = '_aiia_stg'"
    deadline = time.monotonic() + 10
    changed = False
    while not changed and time.monotonic() < deadline:
        for (name,) in stage.warehouse.execute(find):
            change = f'update _aiia_stg."{name}" set id = 99 where id = 1 returning id'
            changed = changed or bool(stage.warehouse.execute(change))
        time.sleep(0.02)
    holder.rollback()
