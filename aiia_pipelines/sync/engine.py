"""One refresh of one connector: connect once, then bring each stream over, all of it or nothing."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from aiia_pipelines.config.connector import Connector, Stream
from aiia_pipelines.connectors.base import Source, SourceFault, wrong_option
from aiia_pipelines.jobs import contracts, unclassified
from aiia_pipelines.jobs.badge import Badge
from aiia_pipelines.jobs.failures import Failure, classify
from aiia_pipelines.jobs.log import Level, connecting, headline, headline_at
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.jobs.state import TaskState
from aiia_pipelines.sync._traceback import OURS, traceback_of
from aiia_pipelines.sync.destinations.base import Destination
from aiia_pipelines.sync.faults import ContractBroken, DestinationFault, Held, Stopped
from aiia_pipelines.sync.outcome import Broken, Synced
from aiia_pipelines.sync.profiles import profiled
from aiia_pipelines.sync.task import StreamSync, Wish

_INSISTING = 1.0  # seconds between two requests to stop


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What one sync works with.

    `uid` makes its commits recognisable: by default that of the job run, or of the one that it tries again.
    """

    connector: Connector
    source: Callable[[], Source]
    destination: Destination
    recorder: Recorder
    wish: Wish = field(default_factory=Wish)
    uid: str = ""

    def run(self, streams: Sequence[Stream]) -> Iterator[Synced | Broken]:
        """Sync the streams one after the other, giving each one's outcome as it is known."""
        source: Source | None = None
        over = threading.Event()
        self.recorder.start_task(*(stream.name for stream in streams))
        try:
            source = self._connect(streams, over)
        except BaseException as fault:
            if self._pauses(fault):
                self._put_back(streams)
                raise Held("This job run is to pause.") from None
            failure = self._told(fault)
            for stream in streams:
                self._end(stream.name, failure)
                yield Broken(stream.name, failure)
            if _is_stop(fault):
                raise
            return
        finally:
            if source is None:
                over.set()
                self.destination.close()
        try:
            uids = {} if self.uid else self.recorder.store.uids_of(self.recorder.number)
            for place, stream in enumerate(streams):
                uid = self.uid or uids[stream.name]
                yield self._stream(source, stream, uid, streams[place + 1 :])
        finally:
            over.set()
            source.close()
            self.destination.close()

    def _connect(self, streams: Sequence[Stream], over: threading.Event) -> Source:
        names = [stream.name for stream in streams]
        with self.recorder.shared(names, "prepare"):
            source = self._opened()
            try:
                self.destination.connect()
            except DestinationFault:
                source.close()
                raise
        self.recorder.on_cancel = lambda: self._stop(source, over)
        self.recorder.log(Level.INFO, connecting(source.describe()))
        try:
            with self.recorder.shared(names, "connect"):
                source.connect()
        except BaseException:
            source.close()
            raise
        return source

    def _opened(self) -> Source:
        try:
            return self.source()
        except ValidationError as invalid:
            # Options were checked as they stand in the file; what their references lead to comes up here.
            told = f"Invalid configuration. {self.connector.name}: {wrong_option(invalid)}."
            raise SourceFault(told, "config:invalid") from None

    def _stop(self, source: Source, over: threading.Event) -> None:
        """Stop what both sides are doing; what they are asked next, the task does not ask any more."""
        source.cancel()
        self.destination.cancel()

        def insist() -> None:
            # A stop that comes between two statements of the source stops neither.
            while not over.wait(_INSISTING):
                source.cancel()

        threading.Thread(target=insist, name="stop", daemon=True).start()

    def _stream(
        self, source: Source, stream: Stream, uid: str, later: Sequence[Stream]
    ) -> Synced | Broken:
        store, name = self.recorder.store, self.connector.name
        task = StreamSync(
            connector=self.connector, stream=stream, source=source, destination=self.destination,
            recorder=self.recorder, wish=self.wish, last=not later,
        )  # fmt: skip
        try:
            rows, changes = task.run(uid, contracts.learned(store, name, stream.name))
        except BaseException as fault:  # noqa: BLE001 - raised again by `_broken` when it must be
            if not isinstance(fault, Exception):
                source.cancel()
            done = None if isinstance(fault, Exception) else task.committed()
            if done is None:
                return self._broken(fault, source, task, later)
            # The interruption came too late: it stopped nothing any more.
            rows, changes = done
        contract = task.contract
        if contract is not None and contract.learned is not None and not self.wish.dry_run:
            found = profiled(contract, task.first)
            number = self.recorder.number
            self.recorder.also(
                lambda db: contracts.learn(db, name, stream.name, found, number=number)
            )
        adjusted = task.adjusted
        self.recorder.end_task(
            stream.name,
            TaskState.SUCCEEDED,
            changes=changes,
            rejected=task.rejected,
            adjusted=sum(count for *_, count in adjusted),
        )
        return Synced(
            stream.name, rows, changes, task.stored_columns(), task.rejected, task.violations, adjusted
        )  # fmt: skip

    def _broken(
        self, fault: BaseException, source: Source, task: StreamSync, later: Sequence[Stream]
    ) -> Broken:
        if self._pauses(fault):
            self._put_back([task.stream, *later])
            raise Held("This job run is to pause.") from None
        # The remedy of a broken contract begins at the source, so it names it.
        failure = self._told(fault, source.place(), task.stream.name)
        self._end(task.stream.name, failure)
        if _is_stop(fault):
            for unread in later:
                self._end(unread.name, failure)
            raise fault
        rules = getattr(fault, "rules", ())
        return Broken(task.stream.name, failure, rules, task.violations)

    def _pauses(self, fault: BaseException) -> bool:
        """Tell whether a stream broke off because the run is to pause, and for no other reason."""
        asked = self.recorder.held and not self.recorder.cancelled
        return asked and not isinstance(fault, ContractBroken)

    def _put_back(self, streams: Sequence[Stream]) -> None:
        for stream in streams:
            self.recorder.put_back(stream.name)

    def _told(self, fault: BaseException, place: str = "", stream: str = "") -> Failure:
        """Classify a fault and write cause, report and traceback to the log."""
        if self.recorder.cancelled:
            fault = Stopped("Somebody asked this job run to stop.")
        elif not isinstance(fault, Exception):
            fault = Stopped("The run was interrupted.")
        side = "destination" if isinstance(fault, DestinationFault) else "source"
        failure = classify(fault, side=side)
        if stream and not isinstance(fault, OURS):
            # What nobody translates, such as a lack of memory, does not say where it came up.
            where = headline(f"{stream} from {place}", 100)
            failure = replace(failure, headline=headline_at(failure.headline, where))
        level = Level.WARNING if isinstance(fault, Stopped) else Level.ERROR
        detail = [*getattr(fault, "report", ()), *_trace(fault, failure)]
        self.recorder.log(level, failure.headline, detail=detail)
        if failure.code == unclassified.CODE:
            asked = unclassified.please_report(failure.headline, self.recorder.number)
            self.recorder.log(Level.WARNING, asked)
        return replace(failure, place=failure.place or place)

    def _end(self, stream: str, failure: Failure) -> None:
        state = {"Error": TaskState.ERROR, "Cancelled": TaskState.CANCELLED}
        self.recorder.end_task(
            stream, state.get(failure.badge.value, TaskState.FAILED), failure=failure
        )


def _is_stop(fault: BaseException) -> bool:
    return isinstance(fault, Stopped) or not isinstance(fault, Exception)


def _trace(fault: BaseException, failure: Failure) -> list[str]:
    # Who stopped a run is explained by its sentence, and so is silence: nothing was said or done there
    # that a traceback could show. The documented log of a source that never answers has none.
    if isinstance(fault, Stopped) or failure.code == "connection-timeout":
        return []
    about_data = isinstance(fault, OURS) and failure.badge is Badge.ERROR
    return traceback_of(fault, about_data=about_data)
