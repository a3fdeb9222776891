"""The sensors that start connectors: real folders, a real bucket, the real job history."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from s3_server import S3Server

from aiia_pipelines.config.folder import Folder, read_folder
from aiia_pipelines.definitions import definitions_of
from aiia_pipelines.jobs.run import JobType, NewJobRun, Trigger
from aiia_pipelines.sensors import file_arrival
from aiia_pipelines.sensors.file_arrival import Watch
from aiia_pipelines.sensors.listings import Listings

pytestmark = pytest.mark.integration

FILES = """\
name: {name}
title: {name}
source: {{ kind: files, root: {root} }}
triggers: {triggers}
streams:
  - {{ name: orders, path: "orders*.csv" }}
  - {{ name: all, path: "**/*.csv" }}
"""
BUCKET = """\
name: lake
title: Lake
source:
  kind: s3
  bucket: {bucket}
  prefix: in
  endpoint_url: {endpoint}
  access_key_id: {key}
  secret_access_key: ${{env:LAKE_SECRET}}
  connect_timeout: 2
triggers: {{ files: {{ every: 30s, settle: 10s }} }}
streams: [{{ name: orders, path: "orders/*.csv" }}]
"""
Sensor = Callable[..., Any]


class Clock:
    """The time that the sensor of a test goes by."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


class Ticker:
    """A sensor that ticks by hand and keeps its cursor, as the daemon does."""

    def __init__(self, instance: dg.DagsterInstance, folder: Folder, name: str) -> None:
        self.instance, self.folder, self.name = instance, folder, name
        self.cursor: str | None = None
        self.restart()

    def restart(self) -> None:
        """Load everything anew, as another process would; the cursor stays."""
        repository = definitions_of(self.folder).get_repository_def()
        self.sensor = repository.get_sensor_def(self.name)
        self.repository = repository

    def tick(self) -> Any:
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, repository_def=self.repository
        )
        found = self.sensor.evaluate_tick(context)
        self.cursor = found.cursor
        return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(file_arrival, "time", clock)
    return clock


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


@pytest.fixture
def files_of(rim: Any, tmp_path: Path, inbox: Path, clock: Clock) -> Sensor:
    """Make the ticker of connectors that wait for files in the inbox."""

    def make(*names: str, triggers: str = "{ files: {} }") -> Ticker:
        folder = tmp_path / "connectors"
        folder.mkdir(exist_ok=True)
        for name in names:
            text = FILES.format(name=name, root=inbox, triggers=triggers)
            (folder / f"{name}.yaml").write_text(text)
        return Ticker(rim.instance, read_folder(folder), "file_arrival")

    return make


def put(inbox: Path, name: str, text: str = "id\n1\n", at: float = 1_700_000_000.0) -> None:
    inbox.joinpath(name).parent.mkdir(exist_ok=True)
    inbox.joinpath(name).write_text(text)
    os.utime(inbox / name, (at, at))


def asked(found: Any) -> list[tuple[str, str]]:
    return [(one.job_name, one.tags[".dagster/aiia_by"]) for one in found.run_requests]


def completed(rim: Any, connector: str, kind: JobType = JobType.SYNC, **facts: Any) -> int:
    """Record a job run that has ended."""
    number = rim.store.create(
        NewJobRun(
            connector=connector, title=connector, streams=("orders",), type=kind,
            trigger=Trigger.MANUAL, triggered_by="sara",
        )
    )  # fmt: skip
    with rim.store.engine.begin() as db:
        db.exec_driver_sql(
            "update aiia.job_runs set state = %s, ended_at = clock_timestamp() where number = %s",
            (facts.get("state", "Completed"), number),
        )
    return int(number)


# -- files ----------------------------------------------------------------------------------


def test_files_start_the_connector_once_they_are_still(
    files_of: Sensor, inbox: Path, clock: Clock
) -> None:
    ticker = files_of("inbound")
    assert ticker.tick().skip_message == "No file has arrived."
    put(inbox, "orders1.csv")
    put(inbox, "deep/other.csv")
    put(inbox, "orders.tmp")
    clock.now += 29
    assert ticker.tick().skip_message == "No file has arrived.", "too early to look again"
    clock.now += 1
    assert ticker.tick().skip_message == "Files are still arriving for inbound."
    clock.now += 5
    assert asked(ticker.tick()) == [], "too early to know that they are still"
    clock.now += 5
    (request,) = ticker.tick().run_requests
    assert request.job_name == "sync__inbound"
    assert request.tags[".dagster/aiia_trigger"] == "sensor"
    assert request.tags[".dagster/aiia_by"] == "files: orders1.csv and 1 more"
    for _ in range(3):
        clock.now += 60
        assert asked(ticker.tick()) == []


def test_a_file_that_is_still_written_to_starts_nothing(
    files_of: Sensor, inbox: Path, clock: Clock
) -> None:
    ticker = files_of("inbound")
    ticker.tick()
    for size in range(1, 5):
        clock.now += 30
        put(inbox, "orders1.csv", "id\n" + "1\n" * size)
        assert asked(ticker.tick()) == []
    clock.now += 10
    assert asked(ticker.tick()) == [("sync__inbound", "files: orders1.csv")]


@pytest.mark.parametrize("how", ["another size", "another time"])
def test_a_changed_file_counts_as_a_new_one_and_a_lost_one_does_not(
    files_of: Sensor, inbox: Path, clock: Clock, how: str
) -> None:
    put(inbox, "orders1.csv")
    put(inbox, "orders2.csv")
    ticker = files_of("inbound")
    requests = list(_ticks(ticker, clock))
    assert [by for _, by in requests] == ["files: orders1.csv and 1 more"], "nobody read them yet"
    if how == "another size":
        put(inbox, "orders2.csv", "id\n1\n2\n")
    else:
        put(inbox, "orders2.csv", at=1_700_000_001.0)
    assert list(_ticks(ticker, clock)) == [("sync__inbound", "files: orders2.csv")]
    (inbox / "orders1.csv").unlink()
    assert list(_ticks(ticker, clock)) == []
    (inbox / "orders2.csv").unlink()
    assert list(_ticks(ticker, clock)) == []


def _ticks(ticker: Ticker, clock: Clock) -> Iterator[tuple[str, str]]:
    for _ in range(4):
        clock.now += 30
        yield from asked(ticker.tick())


def test_what_was_there_before_the_trigger_starts_nothing_when_it_was_synced_before(
    rim: Any, files_of: Sensor, inbox: Path, clock: Clock
) -> None:
    completed(rim, "old_friend", state="Failed")
    put(inbox, "orders1.csv")
    ticker = files_of("old_friend")
    assert list(_ticks(ticker, clock)) == []
    put(inbox, "orders2.csv")
    assert list(_ticks(ticker, clock)) == [("sync__old_friend", "files: orders2.csv")]


def test_a_restart_forgets_nothing_and_repeats_nothing(
    files_of: Sensor, inbox: Path, clock: Clock
) -> None:
    ticker = files_of("inbound")
    ticker.tick()
    put(inbox, "orders1.csv")
    assert len(list(_ticks(ticker, clock))) == 1
    ticker.restart()
    assert list(_ticks(ticker, clock)) == []
    put(inbox, "orders2.csv", at=1_700_000_009.0)
    clock.now += 30
    ticker.tick()
    ticker.restart()
    # What is new cannot be told any more, so the newest is named.
    clock.now += 10
    assert asked(ticker.tick()) == [("sync__inbound", "files: orders2.csv and 1 more")]


def test_a_tick_that_was_lost_asks_again_under_the_same_key(
    files_of: Sensor, inbox: Path, clock: Clock
) -> None:
    ticker = files_of("inbound")
    put(inbox, "orders1.csv")
    ticker.tick()
    clock.now += 10
    before = ticker.cursor
    first = ticker.tick().run_requests
    ticker.cursor = before
    ticker.restart()
    again = ticker.tick().run_requests
    assert [one.run_key for one in first] == [one.run_key for one in again] != [None]


def test_a_source_that_cannot_be_listed_is_told_and_stops_no_other(
    files_of: Sensor, inbox: Path, clock: Clock, tmp_path: Path
) -> None:
    ticker = files_of("inbound")
    for name in ("away_a", "away_b", "away_c", "away_d"):
        text = FILES.format(name=name, root=tmp_path / "nowhere", triggers="{ files: {} }")
        (tmp_path / "connectors" / f"{name}.yaml").write_text(text)
    ticker.folder = read_folder(tmp_path / "connectors")
    ticker.restart()
    told = ticker.tick().skip_message
    assert told.startswith("away_a: ")
    assert told.endswith("(and 1 more)")
    put(inbox, "orders1.csv")
    assert list(_ticks(ticker, clock)) == [("sync__inbound", "files: orders1.csv")]


def test_a_clock_that_is_set_back_stops_nothing(
    files_of: Sensor, inbox: Path, clock: Clock
) -> None:
    ticker = files_of("inbound")
    ticker.tick()
    put(inbox, "orders1.csv")
    clock.now -= 86_400
    assert list(_ticks(ticker, clock)) == [("sync__inbound", "files: orders1.csv")]


def test_a_source_that_hangs_is_left_behind_and_not_asked_twice_at_a_time(
    files_of: Sensor,
    inbox: Path,
    tmp_path: Path,
    silent: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files_of("inbound")
    monkeypatch.setenv("LAKE_SECRET", "not needed to hang")
    text = BUCKET.format(bucket="hung", endpoint=f"http://127.0.0.1:{silent}", key="KEY")
    text = text.replace("connect_timeout: 2", "read_timeout: 2")
    (tmp_path / "connectors" / "lake.yaml").write_text(text)
    connectors = list(read_folder(tmp_path / "connectors").connectors.values())
    listings = Listings(within=1.0)
    put(inbox, "orders1.csv")
    for _ in range(2):
        threads = threading.active_count()
        found, faults = listings.of(connectors)
        assert [file.name for file in found["inbound"]] == ["orders1.csv"]
        assert faults == ["lake: the source does not answer."]
    assert threading.active_count() == threads


def test_what_there_was_no_time_for_is_looked_at_the_next_time(
    files_of: Sensor, inbox: Path
) -> None:
    connectors = list(files_of(*(f"inbound_{n}" for n in range(30))).folder.connectors.values())
    put(inbox, "orders1.csv")
    listings = Listings(within=0.0)
    found, faults = listings.of(connectors)
    assert len(found) + len(faults) == 30
    listings._within = 30.0
    while len(found) < 30:
        found, faults = listings.of(connectors)
    assert faults == []


def test_objects_of_a_bucket_start_the_connector(
    rim: Any, tmp_path: Path, clock: Clock, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, client = s3_server.make_bucket(), s3_server.client()
    text = BUCKET.format(bucket=bucket, endpoint=s3_server.endpoint, key=s3_server.access_key)
    (tmp_path / "lake.yaml").write_text(text)
    ticker = Ticker(rim.instance, read_folder(tmp_path), "file_arrival")
    assert ticker.tick().skip_message.startswith("lake: ${env:LAKE_SECRET}: the variable")
    monkeypatch.setenv("LAKE_SECRET", s3_server.secret_key)
    ticker.tick()
    client.put_object(Bucket=bucket, Key="in/orders/1.csv", Body=b"id\n1\n")
    client.put_object(Bucket=bucket, Key="elsewhere/2.csv", Body=b"id\n1\n")
    assert list(_ticks(ticker, clock)) == [("sync__lake", "files: in/orders/1.csv")]
    client.put_object(Bucket=bucket, Key="in/orders/1.csv", Body=b"id\n2\n")
    assert list(_ticks(ticker, clock)) == [("sync__lake", "files: in/orders/1.csv")]


LIGHT = """
import sys
from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors.base import listing
stream = Stream.model_validate({"name": "rows", "path": "*.csv"})
assert listing({"kind": "files", "root": sys.argv[1]}, [stream])
print(sorted({"boto3", "botocore", "pandas", "pyarrow"} & set(sys.modules)))
"""


def test_looking_into_a_folder_imports_no_reader_and_no_client(inbox: Path) -> None:
    put(inbox, "a.csv")
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, inbox], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr


def test_a_watch_looks_again_as_soon_as_files_could_be_still() -> None:
    watch = Watch(started="a", seen="b", since=100.0, looked_at=100.0)
    assert not watch.is_due(109.0, every=30, settle=10)
    assert watch.is_due(110.0, every=30, settle=10)
    assert not watch.after("c", 110.0).is_still(110.0, settle=10)
    assert watch.after("b", 110.0).is_still(110.0, settle=10)
    assert not Watch("a", "", 0.0, 0.0).is_still(110.0, settle=10), "no file is left"


# -- after another connector ----------------------------------------------------------------


@pytest.fixture
def chain(rim: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Sensor:
    """Make the ticker of connectors that come after others; names are the test's own."""
    own = f"t{abs(hash(request.node.name)) % 10**8}"

    def make(**after: list[str]) -> tuple[Ticker, Callable[[str], str]]:
        names = {*after, *(one for each in after.values() for one in each if one[0] != "?")}
        folder = tmp_path / "chain"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in names:
            before = ", ".join(f"{own}_{one.strip('?')}" for one in after.get(name, []))
            text = FILES.format(
                name=f"{own}_{name}", root=tmp_path, triggers=f"{{ after: [{before}] }}"
            )
            (folder / f"{name}.yaml").write_text(text)
        return Ticker(rim.instance, read_folder(folder), "after_job"), lambda n: f"{own}_{n}"

    return make


def test_a_connector_starts_after_each_completed_sync_of_another_once(
    rim: Any, chain: Sensor
) -> None:
    ticker, name = chain(b=["a"])
    assert "No sync has ended" in ticker.tick().skip_message
    number = completed(rim, name("a"))
    (request,) = ticker.tick().run_requests
    assert request.job_name == f"sync__{name('b')}"
    assert request.run_key == f"{name('b')} after #{number}"
    assert request.tags[".dagster/aiia_trigger"] == "after_job"
    assert request.tags[".dagster/aiia_by"] == f"#{number} ({name('a')})"
    assert asked(ticker.tick()) == []
    ticker.restart()
    assert asked(ticker.tick()) == []
    assert completed(rim, name("a")) > number
    assert len(ticker.tick().run_requests) == 1


def test_only_syncs_that_went_well_count(rim: Any, chain: Sensor) -> None:
    ticker, name = chain(b=["a"])
    completed(rim, name("a"), JobType.DRY_RUN)
    completed(rim, name("a"), JobType.CONNECTION_TEST)
    for state in ("Failed", "Error", "Cancelled", "Partially Succeeded", "Running"):
        completed(rim, name("a"), state=state)
    completed(rim, name("other"))
    assert asked(ticker.tick()) == []


def test_what_ended_before_the_connectors_were_loaded_starts_nothing(
    rim: Any, chain: Sensor
) -> None:
    _, name = chain(b=["a"])
    completed(rim, name("a"))
    ticker, _ = chain(b=["a"])
    assert asked(ticker.tick()) == []
    # Between loading and the first look is after the deployment.
    ticker, _ = chain(b=["a"])
    completed(rim, name("a"))
    assert len(ticker.tick().run_requests) == 1


def test_what_ends_while_nothing_runs_is_caught_up_once(rim: Any, chain: Sensor) -> None:
    ticker, name = chain(b=["a"])
    ticker.tick()
    numbers = [completed(rim, name("a")) for _ in range(3)]
    ticker.restart()
    (request,) = ticker.tick().run_requests
    assert request.tags[".dagster/aiia_by"] == f"#{numbers[-1]} ({name('a')})"
    assert asked(ticker.tick()) == []


def test_a_sync_that_ends_after_later_ones_counts_as_well(rim: Any, chain: Sensor) -> None:
    ticker, name = chain(b=["a"])
    waiting = completed(rim, name("a"), state="Running")
    completed(rim, name("a"))
    assert len(ticker.tick().run_requests) == 1
    with rim.store.engine.begin() as db:
        db.exec_driver_sql(
            "update aiia.job_runs set state = 'Completed', ended_at = clock_timestamp()"
            " where number = %s",
            (waiting,),
        )
    (request,) = ticker.tick().run_requests
    assert request.tags[".dagster/aiia_by"] == f"#{waiting} ({name('a')})"


def test_a_connector_that_waits_for_several_starts_when_each_has_completed_since(
    rim: Any, chain: Sensor
) -> None:
    ticker, name = chain(c=["a", "b"])
    first = completed(rim, name("a"))
    completed(rim, name("a"))
    assert asked(ticker.tick()) == []
    second = completed(rim, name("b"))
    (request,) = ticker.tick().run_requests
    by = f"#{first + 1} ({name('a')}), #{second} ({name('b')})"
    assert request.tags[".dagster/aiia_by"] == by
    completed(rim, name("b"))
    completed(rim, name("b"))
    assert asked(ticker.tick()) == []
    completed(rim, name("a"))
    assert len(ticker.tick().run_requests) == 1


def test_a_chain_goes_on_link_by_link(rim: Any, chain: Sensor) -> None:
    ticker, name = chain(b=["a"], c=["b"])
    ticker.tick()
    completed(rim, name("a"))
    assert [job for job, _ in asked(ticker.tick())] == [f"sync__{name('b')}"]
    completed(rim, name("b"))
    assert [job for job, _ in asked(ticker.tick())] == [f"sync__{name('c')}"]
    assert asked(ticker.tick()) == []


def test_circles_and_unknown_names_are_told_and_start_nothing(rim: Any, chain: Sensor) -> None:
    ticker, name = chain(a=["b"], b=["a"], c=["?nobody"], d=["a"])
    told = ticker.tick().skip_message
    assert f"{name('a')} is not started: goes in a circle" in told
    assert f"{name('c')} is not started: no connector is named" in told
    completed(rim, name("a"))
    completed(rim, name("b"))
    assert [job for job, _ in asked(ticker.tick())] == [f"sync__{name('d')}"]


def test_an_installation_without_triggers_has_no_sensor_for_them(rim: Any) -> None:
    names = {sensor.name for sensor in rim.definitions.get_repository_def().sensor_defs}
    assert not names & {"file_arrival", "after_job"}


def test_a_run_that_a_sensor_asked_for_is_a_job_run_that_says_by_what(rim: Any) -> None:
    tags = {
        "dagster/sensor_name": "after_job",
        ".dagster/aiia_trigger": "after_job",
        ".dagster/aiia_by": "#1 (books)",
    }
    run = rim.create(tags=tags)
    row = rim.row(run.run_id)
    assert (row.trigger, row.triggered_by) == ("after_job", "#1 (books)")
