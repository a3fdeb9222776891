"""Why a Dagster run failed when the job run could not say so itself."""

import re
import signal

from dagster import DagsterEvent
from dagster._core.events import JobFailureData
from dagster_shared.error import SerializableErrorInfo

from aiia_pipelines.jobs.failures import Failure, classify
from aiia_pipelines.jobs.lost import death_of
from aiia_pipelines.jobs.store import JobStore

_KILLED = re.compile(
    r"terminated by signal (\d+)|exit(?:ed with)? code (-?\d+)|process .* (?:crashed|died)"
)
_NOT_BEGUN = re.compile(r"taking longer than ([\d.]+) seconds to start")
# As resources/celery_launcher.py tells it.
_NO_BROKER = re.compile(r"Broker away\. .+")
_OVERDUE = re.compile(r"exceeding maximum runtime of (\d+) seconds")
_HISTORY = {"OperationalError", "InterfaceError"}
_OUTSIDE = "This run has been marked as failed from outside the execution context"


class RunEnded(Exception):
    """A run ended without a word of its own."""

    def __init__(self, message: str, *signals: str) -> None:
        """Keep the sentence and the signals of the failure catalogue."""
        super().__init__(message)
        self.signals = signals


def failure_of(event: DagsterEvent, store: JobStore, number: int, said: str = "") -> Failure | None:
    """Classify the failure that a run event reports for a job run; None when the run went well.

    `said` is what Dagster told about the run before the event.
    """
    if not event.is_run_failure:
        return None
    data = event.event_specific_data
    error = data.error if isinstance(data, JobFailureData) else None
    step = data.first_step_failure_event if isinstance(data, JobFailureData) else None
    if step is not None and step.step_failure_data.error is not None:
        return classify(_told(step.step_failure_data.error))
    words = " ".join(filter(None, (event.message, error.message if error else "")))
    if is_gone(words):
        return death(store, number, f"{words} {said}")
    began = _NOT_BEGUN.search(words)
    if began is not None:
        sentence = f"Worker lost. The run did not begin within {began[1]} seconds."
        return classify(RunEnded(sentence, "worker:lost"))
    away = _NO_BROKER.search(words)
    if away is not None:
        return classify(RunEnded(away[0], "worker:no-broker"))
    names = _told(error).signals if error else ()
    return classify(RunEnded(f"The run failed before its job began: {words}", *names))


def overdue(event: DagsterEvent) -> Failure | None:
    """Say that Dagster stops a run because it took longer than it may; None when it stops it for another reason."""
    found = _OVERDUE.search(event.message or "")
    if found is None:
        return None
    return classify(
        RunEnded(f"Time limit. The run took longer than {found[1]} seconds.", "run:time-limit")
    )


def is_gone(words: str) -> bool:
    """Tell whether Dagster's words say that the process of a run is no more."""
    return _OUTSIDE in words or _KILLED.search(words) is not None


def death(store: JobStore, number: int, words: str = "") -> Failure:
    """Say why the process of a job run is gone, from what it left and from what Dagster saw of its end."""
    seen = _exit(words)
    return classify(death_of(store, number, f"ended without a word{seen}" if seen else ""))


def _exit(words: str) -> str:
    killed = _KILLED.search(words)
    if killed is None:
        return ""
    if killed[1]:
        return f" ({_signal_name(int(killed[1]))})"
    return f" (exit code {killed[2]})" if killed[2] else ""


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _told(error: SerializableErrorInfo) -> RunEnded:
    names = []
    info: SerializableErrorInfo | None = error
    while info is not None:
        names.append(f"class:{info.cls_name}")
        if info.cls_name in _HISTORY:
            # Those of sources and destinations are told by the task: what is left speaks to our own database.
            names.append("platform:history")
        # Dagster puts the class in front of what the exception says.
        message = re.sub(rf"^[\w.]*\b{info.cls_name}: ", "", info.message)
        info = info.cause
    return RunEnded(message.strip().splitlines()[0] if message.strip() else "No message.", *names)
