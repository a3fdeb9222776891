"""A worker that lacks something, or goes away: memory, disk, open files, names, rights, time."""

import json
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from machine import CANNOT_MOUNT, Meddled, limited, memory, no_more_files, see_instead, small_disk
from provoked import ROWS, Ended, Provocations, Provoked, Stage, check, connector_of

from aiia_pipelines.connectors.base import open_source
from aiia_pipelines.jobs.lost import end_lost, find_lost

pytestmark = [pytest.mark.integration, pytest.mark.slow]
provokes = Provocations()
RESOLVER = "/etc/resolv.conf"
# Of this machine, and of this process alone: the port is that of all name servers.
ADDRESS = f"127.{os.getpid() % 250 + 1}.{os.getpid() // 250 % 250}.53"
CANNOT_DROP = "" if os.geteuid() or shutil.which("setpriv") else "no setpriv to drop rights with"


@pytest.mark.parametrize("case", provokes, ids=str)
def test_a_fault_of_the_worker_has_its_code_line_and_retries(
    stage: Stage, web: Any, tmp_path: Path, case: Provoked
) -> None:
    stage.facts |= {"folder": tmp_path, "url": f"{web.url}/rows", "web": f"127.0.0.1:{web.port}"}
    check(stage, case, web, tmp_path)


# -- memory, disk and files -------------------------------------------------------------------


@provokes("out-of-memory", "Out of Memory (OOM) (rows from {web})", retries=1)
def an_answer_that_memory_does_not_hold(stage: Stage, web: Any, folder: Path) -> Ended:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    blanks = b" " * (1 << 20)
    body = b"".join(packer.compress(blanks) for _ in range(400)) + packer.flush()
    web.answers["/rows"] = [web.reply(body=body, headers={"Content-Encoding": "gzip"})]
    options = {"kind": "rest", "url": web.url, "max_response_bytes": 1 << 30, "max_wait": 0}
    with limited(resource.RLIMIT_AS, memory() + (160 << 20)):
        return stage.sync(options, {"name": "rows", "endpoint": "/rows"})


@provokes(
    "worker-disk-full",
    "Worker Disk Full: No space left on device (rows from {web})",
    unless=CANNOT_MOUNT,
)
def a_temporary_folder_without_room(stage: Stage, web: Any, folder: Path) -> Ended:
    records = [{"id": n, "at": n, "text": "x" * 2000} for n in range(3000)]
    web.answers["/rows"] = [web.reply(records)]
    stream = {
        "name": "rows", "endpoint": "/rows", "key": ["id"], "mode": "upsert", "cursor": "at",
        "options": {"cursor_param": "since"},
    }  # fmt: skip
    before = tempfile.tempdir
    with small_disk(folder / "small") as disk:
        tempfile.tempdir = str(disk)
        try:
            return stage.sync({"kind": "rest", "url": web.url}, stream)
        finally:
            tempfile.tempdir = before


@provokes("resource-limit", "rows.csv: Too many open files. ({folder})")
def a_process_without_a_free_file(stage: Stage, web: Any, folder: Path) -> Ended:
    import aiia_pipelines.connectors._tabular  # noqa: F401 - what is imported late needs files as well

    (folder / "rows.csv").write_text("id,name\n1,a\n")
    source = open_source({"kind": "files", "root": str(folder)})
    with ExitStack() as held:
        crowd = partial(held.enter_context, no_more_files())
        return stage.sync(lambda: Meddled(source, crowd), {"name": "rows", "path": "rows.csv"})


@provokes("resource-limit", "Connection failed. {source} cannot be reached: Too many open files.")
def a_process_without_a_free_connection(stage: Stage, web: Any, folder: Path) -> Ended:
    class Crowded(Meddled):
        """A source that connects when no further file may be opened."""

        def connect(self) -> None:
            with no_more_files():
                self._source.connect()

    source = open_source(stage.source.options())
    return stage.sync(lambda: Crowded(source, None))


# -- rights -----------------------------------------------------------------------------------


@provokes("permission-denied", "rows.csv: Permission denied. ({folder})", unless=CANNOT_DROP)
def a_file_that_may_not_be_read(stage: Stage, web: Any, folder: Path) -> Ended:
    path = folder / "rows.csv"
    path.write_text("id,name\n1,a\n")
    path.chmod(0)
    drop: list[str] = []
    if os.geteuid() == 0:
        # Root without this right is let in by the rights of a file only.
        os.chown(path, 65534, 65534)
        lost = "-dac_override,-dac_read_search"
        drop = ["setpriv", f"--bounding-set={lost}", f"--inh-caps={lost}"]
    source = {"kind": "files", "root": str(folder)}
    with Apart(stage, source, {"name": "rows", "path": "rows.csv"}, drop) as (number, child):
        child.wait()
    return Ended(stage.store, number)


class Apart:
    """A sync in a process of its own, and the number of its job run."""

    def __init__(self, stage: Stage, source: Any, stream: Any, prefix: list[str]) -> None:
        self.number = stage.begin(connector_of(stream))
        told = {
            "store": stage.store.engine.url.render_as_string(hide_password=False),
            "destination": stage.warehouse.url(),
            "source": source,
            "stream": stream,
            "number": self.number,
        }
        program = str(Path(__file__).with_name("apart.py"))
        self.child = subprocess.Popen([*prefix, sys.executable, program, json.dumps(told)])

    def __enter__(self) -> tuple[int, "subprocess.Popen[bytes]"]:
        return self.number, self.child

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()


@provokes(
    "worker-lost", "Worker lost. Process * on * ended without a word.", retries=5, traceback=False
)
def a_worker_that_is_killed(stage: Stage, web: Any, folder: Path) -> Ended:
    slow = {"name": "slow", "query": "select pg_sleep(60)::text as name"}
    busy = f"select 1 from pg_stat_activity where datname = '{stage.source.name}' and wait_event = 'PgSleep'"
    with Apart(stage, stage.source.options(), slow, []) as (number, child):
        deadline = time.monotonic() + 30
        while not stage.source.execute(busy, user="aiia") and time.monotonic() < deadline:
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.wait()
        # The server would notice at the end of the query only.
        stage.source.execute(busy.replace("1", "pg_terminate_backend(pid)", 1), user="aiia")
        deadline = time.monotonic() + 20
        while not (found := find_lost(stage.store)) and time.monotonic() < deadline:
            time.sleep(0.2)
    for lost in found:
        end_lost(stage.store, lost)
    return Ended(stage.store, number)


# -- names ------------------------------------------------------------------------------------


def _answer_names(door: socket.socket, code: int) -> None:
    while True:
        try:
            asked, client = door.recvfrom(512)
        except OSError:
            return
        if len(asked) < 12:
            return
        head = struct.pack("!HHHHHH", struct.unpack("!H", asked[:2])[0], 0x8180 | code, 1, 0, 0, 0)
        end = asked.index(b"\0", 12) + 5
        door.sendto(head + asked[12:end], client)


def _named(stage: Stage, folder: Path, code: int) -> Ended:
    """Sync while a name server of our own answers with a code."""
    told = folder / "resolv.conf"
    told.write_text(f"nameserver {ADDRESS}\noptions timeout:1 attempts:1\n")
    done: list[Ended | BaseException] = []

    def sync() -> None:
        see_instead(RESOLVER, told)
        source = {"kind": "sql", "url": "postgresql://u@db.example.com/d", "connect_timeout": 2}
        try:
            done.append(stage.sync(source))
        except BaseException as fault:  # noqa: BLE001 - raised below, in the thread of the test
            done.append(fault)

    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as door:
        door.bind((ADDRESS, 53))
        server = threading.Thread(target=_answer_names, args=(door, code), daemon=True)
        server.start()
        worker = threading.Thread(target=sync)
        worker.start()
        worker.join()
        with suppress(OSError):
            # It wakes up the thread that waits, though a socket of this kind has no connection.
            door.shutdown(socket.SHUT_RDWR)
        server.join()
    (found,) = done
    if isinstance(found, BaseException):
        raise found
    return found


NO_SUCH_NAME, SERVER_FAILURE = 3, 2


@provokes(
    "host-not-found",
    "Host not found. The name db.example.com has no address on this worker's network. (db.example.com:5432)",
    unless=CANNOT_MOUNT,
)
def a_name_that_nobody_has(stage: Stage, web: Any, folder: Path) -> Ended:
    return _named(stage, folder, NO_SUCH_NAME)


@provokes("host-not-found", "Host not found. The name *")
def a_name_that_nobody_can_have(stage: Stage, web: Any, folder: Path) -> Ended:
    return stage.sync({"kind": "sql", "url": f"postgresql://u@{'x' * 64}.example/d"})


@provokes(
    "name-server-unavailable",
    "Name server unavailable. It gave no answer about the name db.example.com. (db.example.com:5432)",
    retries=5,
    unless=CANNOT_MOUNT,
)
def a_name_server_that_is_out_of_order(stage: Stage, web: Any, folder: Path) -> Ended:
    return _named(stage, folder, SERVER_FAILURE)


# -- people and bugs --------------------------------------------------------------------------


@provokes("cancelled", "Somebody asked this job run to stop.", badge="Cancelled")
def a_person_who_stops_the_run(stage: Stage, web: Any, folder: Path) -> Ended:
    slow = {"name": "slow", "query": "select pg_sleep(60)::text as name"}
    number = stage.begin(connector_of(slow))
    busy = f"select 1 from pg_stat_activity where datname = '{stage.source.name}' and wait_event = 'PgSleep'"

    def stop() -> None:
        deadline = time.monotonic() + 20
        while not stage.source.execute(busy, user="aiia") and time.monotonic() < deadline:
            time.sleep(0.05)
        stage.store.request_cancel(number, by="sara")

    thread = threading.Thread(target=stop)
    thread.start()
    ended = stage.sync(stage.source.options(), slow, number=number)
    thread.join()
    return ended


@provokes(
    "unclassified",
    "Unclassified Failure: *RuntimeError: the moon is in the wrong house (rows from {source})",
)
def a_kind_of_a_third_party_with_a_bug(stage: Stage, web: Any, folder: Path) -> Ended:
    class Broken(Meddled):
        """What somebody else wrote."""

        def columns(self, *_: Any) -> Any:
            raise RuntimeError("the moon is in the wrong house")

    return stage.sync(lambda: Broken(open_source(stage.source.options()), lambda: None), ROWS)
