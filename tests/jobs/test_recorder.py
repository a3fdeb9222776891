import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from aiia_pipelines.jobs.log import Level, LogLine, render
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.run import Figure, NewJobRun
from aiia_pipelines.jobs.state import JobState, TaskState
from aiia_pipelines.jobs.store import JobStore

pytestmark = pytest.mark.integration
New = Callable[..., NewJobRun]


@pytest.fixture
def number(store: JobStore, request_of: New) -> int:
    made = store.create(request_of())
    store.take(made, request_of())
    store.move(made, JobState.RUNNING)
    return made


@pytest.fixture
def recorder(store: JobStore, number: int) -> Iterator[Recorder]:
    with Recorder(store, number) as opened:
        opened.start_task("rows")
        yield opened


def within(seconds: float, asked: Callable[[], object]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if asked():
            return True
        time.sleep(0.05)
    return False


def row(store: JobStore, number: int) -> Any:
    return store.row(number)


def test_the_live_count_is_seen_while_the_run_goes_on(
    store: JobStore, recorder: Recorder, number: int
) -> None:
    with recorder.step("rows", "validate", last=False):
        recorder.count("rows", "validate", 123_456, read=1000)
        assert within(20, lambda: row(store, number).records == 123_456)
    assert row(store, number).bytes == 1000
    assert row(store, number).activity == "rows: validate"
    assert row(store, number).peak_memory > 10_000_000
    # The count is a field of the job run, never an event of its log.
    assert store.log_after(number, 0) == []


def test_the_heart_beats_every_second(store: JobStore, recorder: Recorder, number: int) -> None:
    def beat() -> Any:
        attempt = store.attempt_of(number)
        return attempt.heartbeat_at if attempt is not None else None

    first = beat()
    assert within(20, lambda: beat() > first)


def test_a_cancellation_is_seen_soon_and_told_once(
    store: JobStore, recorder: Recorder, number: int
) -> None:
    told: list[str] = []
    recorder.on_cancel = lambda: told.append(threading.current_thread().name)
    store.request_cancel(number, by="sara")
    assert within(20, lambda: recorder.cancelled)
    threads = [threading.Thread(target=recorder.flush) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(1.2)
    assert told == [f"job-{number}-pulse"]


def test_a_database_that_goes_away_for_seconds_does_not_end_the_run(
    store: JobStore, number: int, store_db: Any
) -> None:
    admin = store_db.server.connect("postgres")
    admin.autocommit = True

    def away(cursor: Any) -> None:
        cursor.execute("alter database store allow_connections false")
        for _ in range(6):
            cursor.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname='store'"
            )
            time.sleep(0.5)
        cursor.execute("alter database store allow_connections true")

    with admin.cursor() as cursor:
        outage = threading.Thread(target=away, args=(cursor,))
        with Recorder(store, number) as recorder:
            recorder.start_task("rows")
            outage.start()
            for piece in range(20):
                with recorder.step("rows", "extract", last=False):
                    recorder.count("rows", "validate", 1)
                    time.sleep(0.1)
                recorder.log(Level.INFO, f"piece {piece}")
            outage.join()
            recorder.end_task("rows", TaskState.SUCCEEDED)
        store.finish(number)
    admin.close()
    assert store.state_of(number) is JobState.COMPLETED
    assert row(store, number).records == 20
    messages = [line.message for _, line in store.log_after(number, 0)]
    pieces = [message for message in messages if message.startswith("piece")]
    assert pieces == [f"piece {piece}" for piece in range(20)]


def test_every_log_line_reaches_store_and_sinks_alike(store: JobStore, number: int) -> None:
    heard: list[LogLine] = []
    recorder = Recorder(store, number, sinks=[heard.append])
    recorder.log(Level.ERROR, "a\nb", detail=["c\r", "password=hush-hush"])
    kept = [line for _, line in store.log_after(number, 0)]
    assert [render(line) for line in kept] == [render(line) for line in heard]
    assert heard[0].message == "a\\u000ab"
    assert heard[0].detail == ("c\\u000d", "password=***")


def test_a_step_that_breaks_off_is_not_completed(
    store: JobStore, recorder: Recorder, number: int
) -> None:
    with pytest.raises(ZeroDivisionError), recorder.step("rows", "extract"):
        raise ZeroDivisionError
    with recorder.step("rows", "prepare"):
        pass
    recorder.end_task("rows", TaskState.FAILED)
    with store.engine.connect() as db:
        query = "select step, state from aiia.steps where number = %s"
        states = dict(tuple(row) for row in db.exec_driver_sql(query, (number,)))
    assert (states["extract"], states["prepare"], states["commit"]) == (
        "Failed",
        "Completed",
        "Skipped",
    )


def test_a_pulse_writes_only_what_has_changed(store: JobStore, request_of: New) -> None:
    names = tuple(f"s{n}" for n in range(30))
    number = store.create(request_of(*names))
    store.take(number, request_of(*names))
    store.move(number, JobState.RUNNING)
    recorder = Recorder(store, number)
    for name in names:
        recorder.start_task(name)
        with recorder.step(name, "extract"):
            recorder.count(name, "extract", 5)
        recorder.count(name, "validate", 5)
    recorder.flush()
    written: list[int] = []
    sa.event.listen(
        store.engine,
        "before_cursor_execute",
        lambda *given: written.append(len(given[3]) if given[5] else 1),
    )
    recorder.flush()
    assert sum(written) == 2  # the job run and its attempt: the heartbeat
    recorder.count("s7", "validate", 1)
    recorder.flush()
    assert sum(written) == 6  # and one task and one step
    assert row(store, number).records == 151


def test_the_times_of_a_step_are_those_of_its_work_and_not_of_the_pulse(
    store: JobStore, number: int
) -> None:
    recorder = Recorder(store, number)
    recorder.start_task("rows")
    recorder.flush()
    with recorder.step("rows", "extract"):
        time.sleep(0.05)
    time.sleep(0.4)
    recorder.flush()
    with store.engine.connect() as db:
        query = """select state, extract(epoch from completed_at - started_at)::float8 as lasted,
          extract(epoch from clock_timestamp() - completed_at)::float8 as since
          from aiia.steps where number = %s and step = 'extract'"""
        found = db.exec_driver_sql(query, (number,)).one()
    assert found.state == "Completed"
    assert found.lasted >= 0.05
    assert found.since >= 0.4


def test_the_figures_of_both_sides_are_kept(
    store: JobStore, recorder: Recorder, number: int
) -> None:
    for destination in ("9", "10"):
        recorder.reconciled(
            "rows",
            [Figure(column="", figure="rows", source="10", destination=destination)],
        )
        recorder.flush()
    with store.engine.connect() as db:
        query = "select source, destination, agrees from aiia.reconciliations where number = %s"
        assert db.exec_driver_sql(query, (number,)).one() == ("10", "10", True)


def figures_of(store: JobStore, number: int, step: str) -> Any:
    with store.engine.connect() as db:
        query = "select * from aiia.steps where number = %s and stream = 'rows' and step = %s"
        return db.exec_driver_sql(query, (number, step)).one()


def work(seconds: float) -> None:
    """Use so much CPU on this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_step_is_kept_with_what_it_used(store: JobStore, number: int) -> None:
    with Recorder(store, number) as recorder:
        recorder.start_task("rows")
        with recorder.step("rows", "extract"):
            work(0.05)
            recorder.count("rows", "extract", 10, read=700)
        with recorder.work(["rows"], "commit"):
            work(0.05)
        recorder.sent("rows", "commit", 300)
        recorder.sent("rows", "match", 350)
    read, written = figures_of(store, number, "extract"), figures_of(store, number, "commit")
    assert (read.bytes_read, read.bytes_written, read.records) == (700, 0, 10)
    assert (written.bytes_written, written.state) == (300, "Pending")
    assert read.cpu_seconds >= 0.05
    assert written.cpu_seconds >= 0.05
    run = row(store, number)
    assert (run.bytes, run.bytes_written) == (700, 350)
    assert read.cpu_seconds + written.cpu_seconds <= run.cpu_seconds
    assert read.peak_memory > 10_000_000
    task = task_of(store, number)
    assert (task.bytes_read, task.bytes_written) == (700, 350)
    assert task.cpu_seconds == pytest.approx(read.cpu_seconds + written.cpu_seconds, abs=1e-3)


def task_of(store: JobStore, number: int) -> Any:
    with store.engine.connect() as db:
        query = "select * from aiia.tasks where number = %s and stream = 'rows'"
        return db.exec_driver_sql(query, (number,)).one()


def test_streams_share_the_cpu_of_what_they_wait_for_together(
    store: JobStore, request_of: New
) -> None:
    number = store.create(request_of("rows", "more"))
    store.take(number, request_of("rows", "more"))
    store.move(number, JobState.RUNNING)
    with (
        Recorder(store, number) as recorder,
        recorder.shared(["rows", "more"], "connect"),
    ):
        work(0.1)
    with store.engine.connect() as db:
        query = "select cpu_seconds from aiia.steps where number = %s and step = 'connect'"
        first, second = db.exec_driver_sql(query, (number,)).scalars()
    assert first == second
    assert 0.05 <= first < 0.1


def test_steps_at_the_same_time_do_not_count_each_others_work(store: JobStore, number: int) -> None:
    def extract(recorder: Recorder) -> None:
        with recorder.step("rows", "extract"):
            work(0.3)

    before = time.process_time()
    with Recorder(store, number) as recorder:
        reader = threading.Thread(target=extract, args=(recorder,))
        with recorder.step("rows", "match"):
            reader.start()
            work(0.1)
            reader.join()
        recorder.flush()
        spent = time.process_time() - before
    found = figures_of(store, number, "extract"), figures_of(store, number, "match")
    assert found[0].cpu_seconds >= 0.3
    assert 0.1 <= found[1].cpu_seconds < 0.3
    assert sum(step.cpu_seconds for step in found) <= spent


def test_memory_that_a_long_step_takes_is_seen_while_it_lasts(
    store: JobStore, recorder: Recorder, number: int
) -> None:
    with recorder.step("rows", "commit"):
        before = row(store, number).peak_memory
        held = bytearray(b"x") * (before + (32 << 20))
        assert within(20, lambda: row(store, number).peak_memory > len(held))
    recorder.flush()
    assert figures_of(store, number, "commit").peak_memory > len(held)


def attempts_of(store: JobStore, number: int) -> list[Any]:
    with store.engine.connect() as db:
        query = "select * from aiia.attempts where number = %s order by attempt"
        return list(db.exec_driver_sql(query, (number,)))


def begin_another(store: JobStore, number: int, new: NewJobRun) -> None:
    with store.engine.begin() as db:
        db.exec_driver_sql(
            "update aiia.attempts set ended_at = now(), outcome = 'Failed' where number = %s",
            (number,),
        )
        db.exec_driver_sql("insert into aiia.attempts (number, attempt) values (%s, 2)", (number,))
    store.take(number, new)


def test_a_run_has_used_what_its_attempts_used_together(
    store: JobStore, number: int, request_of: New
) -> None:
    with Recorder(store, number) as recorder:
        with recorder.step("rows", "extract"):
            work(0.05)
            recorder.count("rows", "extract", 10, read=700)
        with recorder.step("rows", "commit", last=False):
            work(0.05)
        recorder.sent("rows", "commit", 300)
    once = figures_of(store, number, "extract")
    begin_another(store, number, request_of())
    with Recorder(store, number) as recorder, recorder.step("rows", "extract"):
        work(0.05)
        recorder.count("rows", "extract", 10, read=900)
    first, second = attempts_of(store, number)
    run, task = row(store, number), task_of(store, number)
    assert (run.bytes, run.bytes_written) == (1600, 300)
    assert (task.bytes_read, task.bytes_written) == (1600, 300)
    assert first.cpu_seconds >= 0.1
    assert second.cpu_seconds >= 0.05
    assert run.cpu_seconds == pytest.approx(first.cpu_seconds + second.cpu_seconds, abs=1e-3)
    assert run.peak_memory == max(first.peak_memory, second.peak_memory) > 0
    both = figures_of(store, number, "extract")
    assert both.bytes_read == 1600
    assert both.cpu_seconds >= once.cpu_seconds + 0.05
    assert both.busy_seconds >= once.busy_seconds + 0.05
    assert task.cpu_seconds <= run.cpu_seconds
    assert figures_of(store, number, "commit").bytes_written == 300


def test_what_could_not_be_told_is_told_with_the_next_pulse(store: JobStore, number: int) -> None:
    recorder = Recorder(store, number)
    recorder.start_task("rows")
    recorder.count("rows", "validate", 7, read=70)
    with store.engine.begin() as db:
        db.exec_driver_sql("alter table aiia.steps rename to steps_away")
    with pytest.raises(sa.exc.ProgrammingError):
        recorder.flush(patience=0)
    with store.engine.begin() as db:
        db.exec_driver_sql("alter table aiia.steps_away rename to steps")
    recorder.flush()
    assert figures_of(store, number, "validate").records == 7
