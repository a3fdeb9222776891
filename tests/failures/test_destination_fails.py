"""A destination that fails: nothing of the sync is seen there afterwards."""

import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from fronts import answering, refusing, secured
from machine import CANNOT_MOUNT, small_disk
from provoked import (
    CANARY,
    COLUMNS,
    READER,
    ROWS,
    Ended,
    Provocations,
    Provoked,
    Stage,
    check,
)

from aiia_pipelines.local.ports import free_port

pytestmark = pytest.mark.integration
provokes = Provocations()
Steps = Generator[None, None, Ended]
OTHER = "select n, 'other ' || n from generate_series(1, 5000) n"


@pytest.mark.parametrize("case", provokes, ids=str)
def test_a_fault_of_the_destination_has_its_code_line_and_retries(
    stage: Stage, tmp_path: Path, case: Provoked
) -> None:
    stage.fill(COLUMNS, OTHER)
    stage.facts["folder"] = tmp_path
    check(stage, case, tmp_path)


def _to(stage: Stage, url: str = "", user: str = "aiia_app", **more: Any) -> Ended:
    url = url or stage.warehouse.url(user)
    return stage.sync(stage.source.options(), ROWS, destination=url, **more)


@contextmanager
def _role(stage: Stage, name: str, how: str = "") -> Any:
    """Make a role with all rights of the owner, and others that `how` gives or takes."""
    stage.warehouse.server.ensure_role(name)
    execute = stage.warehouse.execute
    execute(f"grant aiia_app to {name}", user="aiia")
    if how:
        execute(f"alter role {name} {how}", user="aiia")
    yield name
    execute(f"drop owned by {name}", f"drop role {name}", user="aiia")


@provokes(
    "destination-unreachable",
    "The destination {place} cannot be reached: connection refused.",
    retries=5,
)
def a_destination_that_is_down(stage: Stage, folder: Path) -> Ended:
    port = free_port()
    stage.facts["place"] = f"127.0.0.1:{port}"
    return _to(stage, f"postgresql://aiia_app@127.0.0.1:{port}/x")


@provokes(
    "destination-unreachable",
    "The destination {place} cannot be reached: the database system is shutting down.",
    retries=5,
)
def a_destination_that_shuts_down(stage: Stage, folder: Path) -> Ended:
    with answering(refusing("57P03", "the database system is shutting down")) as port:
        stage.facts["place"] = f"127.0.0.1:{port}"
        return _to(stage, f"postgresql://aiia_app@127.0.0.1:{port}/x")


@provokes("destination-tls", "The destination {place} *certificate*.")
def a_destination_whose_certificate_has_expired(stage: Stage, folder: Path) -> Ended:
    authority = Authority(folder).found()
    wire = secured(stage.warehouse.port, authority.sign("expired", days=-1))
    with answering(wire.talk) as port:
        stage.facts["place"] = f"127.0.0.1:{port}"
        query = f"sslmode=verify-full&sslrootcert={authority.path}"
        return _to(stage, f"postgresql://aiia_app@127.0.0.1:{port}/x?{query}")


@provokes(
    "destination-login",
    'The destination {here} refused: password authentication failed for user "aiia_app".',
)
def a_wrong_password(stage: Stage, folder: Path) -> Ended:
    name = stage.warehouse.name
    return _to(stage, f"postgresql://aiia_app:{CANARY}@{stage.facts['here']}/{name}")


@provokes("destination-login", 'The destination {here} refused: database "nope" does not exist.')
def a_database_that_does_not_exist(stage: Stage, folder: Path) -> Ended:
    return _to(stage, f"postgresql://aiia_app@{stage.facts['here']}/nope")


@provokes("destination-permission", "The destination {here} refused: permission denied *.")
def a_user_that_may_not_write(stage: Stage, folder: Path) -> Ended:
    return _to(stage, user=READER)


@provokes(
    "destination-busy",
    'The destination {here} refused: too many connections for role "busy_writer".',
    retries=5,
)
def a_user_whose_connections_are_in_use(stage: Stage, folder: Path) -> Ended:
    with _role(stage, "busy_writer", "connection limit 0") as user:
        return _to(stage, user=user)


@provokes(
    "target-read-only",
    "The destination {here} refused: cannot execute * in a read-only transaction.",
)
def a_session_that_may_only_read(stage: Stage, folder: Path) -> Ended:
    url = stage.warehouse.url()
    return _to(stage, f"{url}?options=-c%20default_transaction_read_only%3Don")


@provokes(
    "destination-conflict",
    "The destination {here} refused: canceling statement due to lock timeout.",
    retries=5,
)
def a_table_that_somebody_reads_in_a_long_transaction(stage: Stage, folder: Path) -> Ended:
    with closing(stage.warehouse.connect()) as other:
        other.cursor().execute("lock table sap_erp.rows in access exclusive mode")
        url = stage.warehouse.url()
        return _to(stage, f"{url}?options=-c%20lock_timeout%3D300ms")


@provokes("destination-rejected", "The destination {here} refused: *few_ids*.", badge="Error")
def a_constraint_that_somebody_added(stage: Stage, folder: Path) -> Steps:
    table = "alter table sap_erp.rows"
    stage.warehouse.execute(f"{table} add constraint few_ids check (id < 1000)")
    yield
    ended = _to(stage)
    stage.warehouse.execute(f"{table} drop constraint few_ids")
    return ended


@provokes(
    "destination-unreachable",
    "The destination {here} refused: terminating connection due to administrator command.",
    retries=5,
)
def an_administrator_who_ends_the_session(stage: Stage, folder: Path) -> Ended:
    # The source waits for a lock, so that the moment of the end is always the same.
    stop = (
        "select pg_terminate_backend(pid) from pg_stat_activity"
        f" where datname = '{stage.warehouse.name}' and application_name = 'aiia_pipelines'"
    )
    seen = f"select 1 from pg_stat_activity where datname = '{stage.source.name}' and wait_event_type = 'Lock'"
    with closing(stage.source.connect()) as other:
        other.cursor().execute("lock table public.rows in access exclusive mode")

        def end() -> None:
            while not stage.source.execute(seen, user="aiia"):
                time.sleep(0.02)
            stage.warehouse.execute(stop, user="aiia")
            other.rollback()

        thread = threading.Thread(target=end)
        thread.start()
        ended = _to(stage)
        thread.join()
    return ended


@provokes(
    "destination-disk-full",
    "The destination {here} refused: could not * No space left on device.",
    unless=CANNOT_MOUNT,
)
def a_disk_that_is_full(stage: Stage, folder: Path) -> Ended:
    home = stage.warehouse.server
    owner = (home.log.parent / "data").stat().st_uid
    stage.fill(COLUMNS, "select n, repeat(md5(n::text), 30) from generate_series(1, 20000) n")
    execute = stage.warehouse.execute
    with small_disk(home.home / "small", "8m", owner) as disk:
        execute(f"create tablespace tiny location '{disk}'", user="aiia")
        try:
            with _role(stage, "tiny_writer", "set default_tablespace = tiny") as user:
                execute(f"grant create on tablespace tiny to {user}", user="aiia")
                return _to(stage, user=user)
        finally:
            execute("drop tablespace tiny", user="aiia")


@provokes(
    "file-locked",
    "The destination {folder}/w.duckdb refused: Could not set lock on file: Conflicting lock is held in *",
    retries=5,
)
def a_file_that_another_program_has_open(stage: Stage, folder: Path) -> Ended:
    path = folder / "w.duckdb"
    program = f"import duckdb, sys; db = duckdb.connect({str(path)!r}); print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        ended = _to(stage, f"duckdb://{path}")
        other.communicate()
    return ended


@provokes(
    "config-invalid",
    "The destination warehouse has no URL; set AIIA_DESTINATION_WAREHOUSE.",
)
def a_destination_without_a_url(stage: Stage, folder: Path) -> Ended:
    return _to(stage, "unset:warehouse")
