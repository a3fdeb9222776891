"""Dagster's Celery launcher, mended: cancelled runs end as cancelled, killed ones are seen, none starts twice."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit, urlunsplit

import sqlalchemy as sa
from dagster import DagsterEvent, DagsterRun, DagsterRunStatus, Field, Map, Noneable, StringSource
from dagster._core.events import EngineEventData
from dagster._core.launcher import (
    CheckRunHealthResult,
    LaunchRunContext,
    ResumeRunContext,
    WorkerStatus,
)
from dagster._serdes import ConfigurableClassData
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_QUEUE_TAG
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from aiia_pipelines.config.faults import ConfigInvalid
from aiia_pipelines.jobs.launches import is_sealed
from aiia_pipelines.jobs.redaction import REDACTOR
from aiia_pipelines.jobs.tables import ATTEMPTS
from aiia_pipelines.resources.admission import admitted, store_of
from aiia_pipelines.resources.requests import JOB_PREFIX
from aiia_pipelines.resources.run_signs import SILENCE, RunSigns

if TYPE_CHECKING:
    from dagster._config import UserConfigSchema

TASK = "aiia_pipelines.run"
KILL = "aiia_pipelines_kill"  # what a worker is told when a process of its own hangs
CANCEL_GRACE = 8.0  # seconds that a run has to stop by itself
_DOC = "docs/how-to/run-on-more-machines.md"
_SCHEMES = ("redis", "rediss")
# Redis has four lists for each queue and empties those with low numbers first; Dagster means the opposite.
_STEPS = ((20, 0), (10, 3), (0, 6))
_LAST_STEP = 9
_PATIENCE = 30.0  # seconds that a broker may be away while a run is handed over
_SETTINGS = {
    "task_ignore_result": True,
    # One process for each run, forked from a parent that has imported everything.
    "worker_max_tasks_per_child": 1,
    # What a busy worker would hold back, another one could begin.
    "worker_disable_prefetch": True,
    "worker_prefetch_multiplier": 1,
    # Dagster captures what steps print by itself.
    "worker_redirect_stdouts": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_transport_options": {
        # A run is acknowledged when its process begins: what a worker leaves unacknowledged, it has lost.
        "visibility_timeout": 60,
        "socket_timeout": 15,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
        # Of one attempt to connect; left out, it would never end.
        "max_retries": 2,
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 0.5,
    },
}


class BrokerAway(Exception):
    """The broker took no run."""


class CeleryLauncher(CeleryRunLauncher):
    """The launcher that dagster.yaml names for workers on more machines."""

    def __init__(
        self,
        broker: str,
        *,
        password_file: str | None = None,
        queues: Mapping[str, str] | None = None,
        config_source: Mapping[str, Any] | None = None,
        inst_data: ConfigurableClassData | None = None,
        **more: Any,  # noqa: ANN401 - what Dagster's own launcher takes
    ) -> None:
        """Build the Celery app; nothing is connected before a run is launched.

        Raises:
            ConfigInvalid: The broker or the result backend cannot be used.
        """
        url = _with_password(_checked("broker", broker), password_file)
        backend = more.pop("backend", None)
        super().__init__(
            broker=url,
            backend=_with_password(_checked("backend", backend), password_file)
            if backend
            else None,
            config_source=_merged(config_source or {}),
            inst_data=inst_data,
            **more,
        )
        self.queues = dict(queues or {})
        self.signs = RunSigns(url)
        # Dagster's app knows one queue only; with none named, Celery makes those that are asked for.
        self.celery.conf.task_queues = None

    @classmethod
    def config_type(cls) -> "UserConfigSchema":
        """Describe the keys in dagster.yaml."""
        own = {
            "broker": Field(StringSource, description="redis://host:6379/0, without a password."),
            "password_file": Field(
                Noneable(StringSource),
                is_required=False,
                description="The file that holds the broker's password.",
            ),
            "backend": Field(
                Noneable(StringSource),
                is_required=False,
                description="Where Celery keeps states for its own tools; the product needs none.",
            ),
            "queues": Field(
                Map(str, StringSource),  # type: ignore[no-untyped-call] # Dagster's own
                is_required=False,
                description="The queue of a connector, for those that need workers of their own.",
            ),
        }
        return {**super().config_type(), **own}  # type: ignore[dict-item] # Dagster's mapping is untyped

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """Build from dagster.yaml."""
        return cls(inst_data=inst_data, **config_value)

    def dispose(self) -> None:
        """Close the connections to the broker."""
        self.signs.close()
        self.celery.close()

    # -- begin ------------------------------------------------------------------------------

    def launch_run(self, context: LaunchRunContext) -> None:
        """Put a run into its queue, once however many processes try to.

        Raises:
            BrokerAway: The broker went away just now, and was not back in time; the run has ended as failed.
        """
        run = context.dagster_run
        # A run that came past Dagster's queue cannot be put into it.
        if run.remote_job_origin is not None and not self.signs.answers():
            self._put_back(run)
            return
        if not admitted(self._instance, run):
            return
        queue = self.queue_of(run)
        try:
            self._hand_over(run, queue)
        except OperationalError as fault:
            sentence = (
                f"Broker away. {_place(self.broker)} took no run for {_PATIENCE:.0f} seconds."
            )
            self._instance.report_run_failed(run, sentence)
            raise BrokerAway(sentence) from fault
        facts = EngineEventData({"queue": queue})
        self._instance.report_engine_event(f"Waits in queue {queue}.", run, facts, type(self))

    def _put_back(self, run: DagsterRun) -> None:
        sentence = (
            f"The broker {_place(self.broker)} does not answer: the run waits in Dagster's queue."
        )
        self._instance.report_engine_event(sentence, run, cls=type(self))
        self._instance.report_dagster_event(DagsterEvent.job_enqueue(run), run_id=run.run_id)

    def _hand_over(self, run: DagsterRun, queue: str) -> None:
        priority = step_of(run.tags.get("dagster/priority", ""))
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                self.celery.send_task(
                    TASK, [run.run_id], task_id=run.run_id, queue=queue, priority=priority
                )
            except OperationalError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)
            else:
                return

    def queue_of(self, run: DagsterRun) -> str:
        """Give the queue of a run: that of its tag, of its connector in dagster.yaml, or the common one."""
        tagged = run.tags.get(DAGSTER_CELERY_QUEUE_TAG)
        if tagged:
            return tagged
        names = {key.path[0] for key in run.asset_selection or ()} or {
            run.job_name.removeprefix(JOB_PREFIX)
        }
        found = {self.queues.get(name, self.default_queue) for name in names}
        return found.pop() if len(found) == 1 else self.default_queue

    @property
    def supports_resume_run(self) -> bool:
        """A run that lost its worker has ended; a retry is a run of its own, with its own evidence."""
        return False

    def resume_run(self, context: ResumeRunContext) -> None:
        """Refuse to go on with a run in another process.

        Raises:
            ConfigInvalid: Always.
        """
        raise ConfigInvalid(
            f"run {context.dagster_run.run_id} cannot be resumed: retries are further attempts of its "
            "job run; set run_monitoring.max_resume_run_attempts in dagster.yaml to 0"
        )

    # -- end --------------------------------------------------------------------------------

    def terminate(self, run_id: str) -> bool:
        """Stop a run, or take it out of the queue; False when it has ended already."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        # Before anybody is asked: a worker reads this when it takes the run, and when an order was lost.
        self._instance.report_run_canceling(run)
        try:
            taker = self.signs.taker(run_id)
        except RedisError:
            sentence = "The broker cannot be asked: the run's process will read that it is to stop."
            self._instance.report_engine_event(sentence, run, cls=type(self))
            return True
        if taker is None:
            self._instance.report_run_canceled(run, "Cancelled before a worker took it.")
            return True
        # The run reads the order from the database; for a process that hangs, somebody else must see to it.
        timer = threading.Timer(CANCEL_GRACE, self._give_up, [run_id, taker])
        timer.daemon = True
        timer.start()
        return True

    def _give_up(self, run_id: str, taker: str) -> None:
        """End a process that did not stop when asked: it hangs where no signal reaches it."""
        run = self._instance.get_run_by_id(run_id) if self.has_instance else None
        if run is None or run.status is not DagsterRunStatus.CANCELING:
            return
        if is_sealed(store_of(self._instance), run_id):
            return  # a kill would leave open whether the rows arrived
        self._kill(taker)
        sentence = f"Its process did not stop within {CANCEL_GRACE:.0f} seconds and was killed."
        self._instance.report_run_canceled(run, sentence)

    def _kill(self, taker: str) -> None:
        """Have the worker that a run's process belongs to kill it.

        Celery's own way, revoking the task, then takes the next run as if the process were gone at once.
        """
        # A pooled connection may be one to the broker before its restart: the second is fresh.
        for _ in range(2):
            try:
                self.celery.control.broadcast(KILL, {"taker": taker})
            except (RedisError, OperationalError):
                continue
            return

    # -- health -----------------------------------------------------------------------------

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Tell from its signs of life whether the process of a run is there."""
        try:
            if self.signs.lives(run.run_id):
                return CheckRunHealthResult(WorkerStatus.RUNNING)
        except RedisError:
            # The job history has signs of life as well, and ends what gives none.
            return CheckRunHealthResult(WorkerStatus.RUNNING, "The broker cannot be asked.")
        if self._was_heard(run.run_id):
            return CheckRunHealthResult(WorkerStatus.RUNNING, "Only the job history heard of it.")
        # What was given up must do nothing more, should it only have been stopped.
        taker = self.signs.taker(run.run_id)
        if taker is not None:
            self._kill(taker)
        elif run.status is DagsterRunStatus.STARTING:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "It waits for a worker.")
        sentence = f"The process of the run died: it gave no sign of life for {SILENCE} seconds."
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, sentence)

    def _was_heard(self, run_id: str) -> bool:
        """Tell whether a run wrote to the job history just now: it may have lost the broker alone."""
        fresh = sa.func.clock_timestamp() - sa.func.make_interval(0, 0, 0, 0, 0, 0, SILENCE)
        query = sa.select(sa.func.count()).where(
            ATTEMPTS.c.run_id == run_id,
            ATTEMPTS.c.ended_at.is_(None),
            ATTEMPTS.c.heartbeat_at > fresh,
        )
        with store_of(self._instance).engine.connect() as db:
            return bool(db.execute(query).scalar_one())

    def get_run_worker_debug_info(
        self,
        run: DagsterRun,
        include_container_logs: bool | None = True,  # noqa: ARG002, FBT001, FBT002 - Dagster's signature
    ) -> str | None:
        """Say of a run that did not begin where it is."""
        try:
            taker = self.signs.taker(run.run_id)
        except RedisError:
            return f"The broker {_place(self.broker)} does not answer."
        queue = self.queue_of(run)
        return (
            None if taker else f"No worker took it: nobody serves queue {queue}, or all are busy."
        )


def step_of(priority: str) -> int:
    """Give the list of a queue that runs of this priority wait in; the lowest number goes first."""
    try:
        number = int(priority or 0)
    except ValueError:
        number = 0
    return next((step for least, step in _STEPS if number >= least), _LAST_STEP)


def _merged(given: Mapping[str, Any]) -> dict[str, Any]:
    transport = _SETTINGS["broker_transport_options"]
    options = {**transport, **given.get("broker_transport_options", {})}  # type: ignore[dict-item] # a dict
    return {**_SETTINGS, **given, "broker_transport_options": options}


def _checked(key: str, url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "rpc":
        raise ConfigInvalid(
            "dagster.yaml: run_launcher: backend: rpc:// keeps what became of a run where only its "
            f"sender can read it; leave the key out, or name a redis:// server ({_DOC})"
        )
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise ConfigInvalid(
            f"dagster.yaml: run_launcher: {key} must name a Redis or Valkey server, for example "
            f"redis://broker.example.com:6379/0 ({_DOC})"
        )
    if parts.password:
        raise ConfigInvalid(
            f"dagster.yaml: run_launcher: {key} must not hold a password; write it to a file and "
            f"name that file as password_file ({_DOC})"
        )
    return url


def _with_password(url: str, file: str | None) -> str:
    if not file:
        return url
    try:
        secret = Path(file).read_text(encoding="utf-8").strip()
    except OSError as fault:
        raise ConfigInvalid(
            f"dagster.yaml: run_launcher: password_file {file}: {fault.strerror}"
        ) from None
    REDACTOR.add(secret)
    parts = urlsplit(url)
    user = quote(parts.username or "", safe="")
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(secret, safe='')}@{host}"))


def _place(url: str | None) -> str:
    return urlsplit(url or "").netloc.rpartition("@")[2]
