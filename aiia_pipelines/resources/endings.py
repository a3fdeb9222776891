"""Why a Dagster run failed when the job run could not say so itself."""

import re

from dagster import DagsterEvent
from dagster._core.events import JobFailureData
from dagster_shared.error import SerializableErrorInfo

from aiia_pipelines.jobs.failures import Failure, classify

_KILLED = re.compile(r"terminated by signal (\d+)|exit code (-?\d+)|process .* (?:crashed|died)")
_OUTSIDE = "This run has been marked as failed from outside the execution context"


class RunEnded(Exception):
    """A run ended without a word of its own."""

    def __init__(self, message: str, *signals: str) -> None:
        """Keep the sentence and the signals of the failure catalogue."""
        super().__init__(message)
        self.signals = signals


def failure_of(event: DagsterEvent) -> Failure | None:
    """Classify the failure that a run event reports; None when the run went well."""
    if not event.is_run_failure:
        return None
    data = event.event_specific_data
    error = data.error if isinstance(data, JobFailureData) else None
    step = data.first_step_failure_event if isinstance(data, JobFailureData) else None
    if step is not None and step.step_failure_data.error is not None:
        return classify(_told(step.step_failure_data.error))
    words = " ".join(filter(None, (event.message, error.message if error else "")))
    return classify(lost(words))


def lost(words: str) -> RunEnded:
    """Say that the process of a run is gone."""
    killed = _KILLED.search(words)
    if killed is None and _OUTSIDE not in words:
        return RunEnded(f"The run failed before its job began: {words}")
    how = f" (signal {killed[1]})" if killed and killed[1] else ""
    return RunEnded(
        f"Worker lost. The process of this run ended without a word{how}.", "worker:lost"
    )


def _told(error: SerializableErrorInfo) -> RunEnded:
    names = []
    info: SerializableErrorInfo | None = error
    while info is not None:
        names.append(f"class:{info.cls_name}")
        # Dagster puts the class in front of what the exception says.
        message = re.sub(rf"^[\w.]*\b{info.cls_name}: ", "", info.message)
        info = info.cause
    return RunEnded(message.strip().splitlines()[0] if message.strip() else "No message.", *names)
