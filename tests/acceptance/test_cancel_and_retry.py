"""Runs that are stopped in whatever state they are, and runs that are tried again by themselves."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest

from aiia_pipelines.local.ports import free_port
from aiia_pipelines.local.postgres import WAREHOUSE

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

LONG = """\
name: long
title: long DB
source:
  kind: sql
  url: postgresql://shop_read@127.0.0.1:${env:AIIA_POSTGRES_PORT}/shop
  password: ${file:secrets/shop_read}
streams:
  - { name: orders, query: "select id, pg_sleep(600)::text as s from public.orders", key: [id] }
"""
SILENT = """\
name: silent
title: silent DB
source:
  kind: sql
  url: postgresql://shop_read@127.0.0.1:%d/shop
  password: ${file:secrets/shop_read}
  connect_timeout: 120
streams:
  - { name: orders, table: public.orders, key: [id] }
"""
SECONDS = 10  # within which a cancel is carried out


@pytest.fixture(scope="module")
def silence() -> Iterator[int]:
    """A server that accepts connections and never says a word."""
    heard: list[socket.socket] = []
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as server:

        def listen() -> None:
            with suppress(OSError):
                while True:
                    heard.append(server.accept()[0])

        threading.Thread(target=listen, daemon=True).start()
        yield port
        for each in heard:
            each.close()


@pytest.fixture(scope="module")
def here(installations: Any, silence: int) -> Any:
    found = installations("again")
    folder = found.home / "connectors"
    (folder / "long.yaml").write_text(LONG)
    (folder / "silent.yaml").write_text(SILENT % silence)
    again = folder / "again.yaml"
    again.write_text(again.read_text().replace("policy: never", "first_wait: 1"))
    found.bring_up()
    return found


def cancelled(here: Any, eventually: Any, run_id: str) -> dict[str, Any]:
    """Cancel a job run by the command and give it once it has ended."""
    number = here.job(run_id)["number"]
    done = here.run("aiia", "jobs", "cancel", str(number), "-o", "json")
    assert json.loads(done.stdout)["accepted"], done.stderr
    found = here.ended(run_id, SECONDS)
    assert found["state"] == "Cancelled", found
    status = "select status from public.runs where run_id = "
    ended = eventually(lambda: here.query(f"{status}'{run_id}'") == [("CANCELED",)], SECONDS)
    assert ended, here.query(f"{status}'{run_id}'")
    return found


def test_a_long_query_at_the_source_is_gone(here: Any, eventually: Any) -> None:
    run_id = here.launch("sync__long")
    asleep = "select count(*) from pg_stat_activity where query like '%pg_sleep(600)%' and usename = 'shop_read'"
    assert eventually(lambda: here.query(asleep, "postgres", "aiia")[0][0], 30)
    cancelled(here, eventually, run_id)
    assert eventually(lambda: here.readers() == 0, SECONDS)


def test_a_run_that_hangs_in_a_socket_ends(here: Any, eventually: Any) -> None:
    run_id = here.launch("sync__silent")
    assert eventually(lambda: here.job(run_id).get("state") == "Running", 30)
    cancelled(here, eventually, run_id)


def test_a_run_that_has_just_been_asked_for_ends(here: Any, eventually: Any) -> None:
    run_id = here.launch("sync__long")
    cancelled(here, eventually, run_id)
    assert eventually(lambda: here.readers() == 0, SECONDS)


def test_a_queued_run_leaves_the_queue(here: Any, eventually: Any) -> None:
    first = here.launch("sync__silent")
    assert eventually(lambda: here.job(first).get("state") == "Running", 30)
    queued = here.launch("sync__silent")
    assert eventually(lambda: here.job(queued).get("state") == "Pending", 10)
    cancelled(here, eventually, queued)
    assert here.job(first)["state"] == "Running"
    cancelled(here, eventually, first)


def test_a_cancel_during_the_commit_is_refused_or_kept(here: Any, eventually: Any) -> None:
    assert here.ended(here.launch("sync__shop"))["state"] == "Completed"
    before = here.warehouse("shop.orders")
    here.query("update public.orders set note = 'changed'", "shop", "shop_owner")
    with closing(here.server.connect(WAREHOUSE, "aiia_app")) as db, db.cursor() as cursor:
        # The commit waits for whoever writes to the table.
        cursor.execute("lock table shop.orders in row exclusive mode")
        cursor.execute("select 1 from shop.orders for update")
        run_id = here.launch("sync__shop")
        waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        assert eventually(lambda: here.query(waits, "postgres", "aiia")[0][0], 30)
        number = here.job(run_id)["number"]
        done = here.run("aiia", "jobs", "cancel", str(number), "-o", "json")
        accepted = json.loads(done.stdout)["accepted"]
        db.rollback()
    state = here.ended(run_id)["state"]
    after = here.warehouse("shop.orders")
    assert state == ("Cancelled" if accepted else "Completed")
    assert (after == before) is accepted


def test_a_killed_run_is_tried_again_under_its_number(here: Any, eventually: Any) -> None:
    here.query("alter table public.orders rename to orders_away", "shop", "shop_owner")
    with closing(here.server.connect("shop", "shop_owner")) as db, db.cursor() as cursor:
        # A view over a table that somebody holds: the run waits, and can be killed at leisure.
        cursor.execute("create view public.orders as select * from public.orders_away")
        cursor.execute("grant select on public.orders to shop_read")
        db.commit()
        cursor.execute("lock table public.orders_away in access exclusive mode")
        run_id = here.launch("sync__again")
        pid = eventually(lambda: here.latest("again").get("pid"), 30)
        assert eventually(lambda: here.job(run_id)["state"] == "Running", 30)
        os.kill(pid, signal.SIGKILL)
        number = here.job(run_id)["number"]
        scheduled = eventually(lambda: here.job(run_id)["state"] != "Running", 20)
        assert scheduled, here.job(run_id)
        found = here.job(run_id)
        assert found["failure_code"] == "worker-lost"
    again = eventually(lambda: here.job(run_id).get("ended_at"), 60)
    assert again, here.job(run_id)
    assert (here.job(run_id)["state"], here.job(run_id)["number"]) == ("Completed", number)
    attempts = (
        f"select attempt, outcome from aiia.attempts where number = {number} order by attempt"
    )
    outcomes = here.query(attempts)
    assert outcomes[0] == (1, "Failed")
    assert outcomes[-1][1] == "Completed"
    log = here.log(number)
    assert any("30 Attempt 1 ended as worker-lost" in line for line in log), log


def test_nothing_changes_afterwards(here: Any) -> None:
    """Runs once more through what ended: a late word of a process must not have changed it."""
    states = here.query(
        "select j.state, r.status from aiia.job_runs j join aiia.attempts a using (number)"
        " join public.runs r on r.run_id = a.run_id where j.connector in ('long', 'silent')"
    )
    assert states
    assert set(states) == {("Cancelled", "CANCELED")}
