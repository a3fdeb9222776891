"""Starts a connector when files have arrived at its source and are not written to any more."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.folder import Folder
from aiia_pipelines.config.triggers import FileArrival
from aiia_pipelines.connectors.base import FileSeen
from aiia_pipelines.jobs.completions import was_ever_synced
from aiia_pipelines.jobs.run import Trigger
from aiia_pipelines.resources import tags
from aiia_pipelines.resources.requests import JOB_PREFIX
from aiia_pipelines.sensors.history import history
from aiia_pipelines.sensors.listings import Listings

SHORTEST_INTERVAL = 5  # seconds
_TOLD_FAULTS = 3


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known about the files of one connector; times are seconds since 1970."""

    started: str  # the digest of the files that were there when it was started last
    seen: str  # the digest at the last look
    since: float  # from when on they have looked so
    looked_at: float

    def is_due(self, now: float, every: float, settle: float) -> bool:
        """Tell whether it is time for the next look."""
        if self.looked_at > now:
            return True  # the clock was set back
        if self.seen != self.started:
            return now - self.since >= settle
        return now - self.looked_at >= every

    def after(self, digest: str, now: float) -> "Watch":
        """Take a look into account."""
        since = self.since if digest == self.seen else now
        return Watch(self.started, digest, since, now)

    def is_still(self, now: float, settle: float) -> bool:
        """Tell whether there are files to be read, complete as far as one can see."""
        return bool(self.seen) and self.seen != self.started and now - self.since >= settle


class _Arrivals:
    """The files of all connectors that wait for some, over the life of this process."""

    def __init__(self, connectors: Mapping[str, Connector]) -> None:
        self._waiting = {
            name: (one, one.triggers.files)
            for name, one in connectors.items()
            if one.triggers.files
        }
        self._listings = Listings()
        # By connector: its files when it was started last. Lost with the process, so only names hang on it.
        self._known: dict[str, frozenset[int]] = {}

    @property
    def names(self) -> list[str]:
        return list(self._waiting)

    @property
    def interval(self) -> int:
        parts = [part for _, part in self._waiting.values()]
        shortest = min(min(part.every_seconds, part.settle_seconds) for part in parts)
        return max(SHORTEST_INTERVAL, shortest)

    def evaluate(self, context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now = time.time()
        watches = read(context.cursor)
        watches = {name: watches[name] for name in self._waiting if name in watches}
        wanted = [
            one
            for name, (one, part) in self._waiting.items()
            if _is_due(watches.get(name), now, part)
        ]
        found, faults = self._listings.of(wanted)
        requests = []
        for name, files in found.items():
            watch = self._look(name, watches.get(name), files, now)
            watches[name] = watch
            if watch.is_still(now, self._waiting[name][1].settle_seconds):
                watches[name] = Watch(watch.seen, watch.seen, watch.since, now)
                requests += self._requests(name, watch.seen, files)
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else _reason(watches, faults),
            cursor=json.dumps({name: asdict(watch) for name, watch in watches.items()}),
        )

    def _look(self, name: str, watch: Watch | None, files: Sequence[FileSeen], now: float) -> Watch:
        digest = digest_of(files)
        if watch is not None:
            if digest == watch.started:
                self._known.setdefault(name, _hashes(files))
            return watch.after(digest, now)
        with history() as engine:
            known = was_ever_synced(engine, name)
        if known:
            self._known[name] = _hashes(files)
        # What was there before anybody watched is no arrival, unless nobody has ever read it.
        return Watch(digest if known else "", digest, now, now)

    def _requests(self, name: str, digest: str, files: Sequence[FileSeen]) -> list[dg.RunRequest]:
        known, hashes = self._known.get(name), _hashes(files)
        self._known[name] = hashes
        new = [file for file in files if known is None or hash(file) not in known]
        if not new:
            return []  # files went away, none came
        first = max(new, key=lambda file: file.changed_at) if known is None else new[0]
        more = f" and {len(new) - 1:,} more" if len(new) > 1 else ""
        by = f"files: {first.name}{more}"
        return [
            dg.RunRequest(
                run_key=f"{name} files {digest}",
                job_name=f"{JOB_PREFIX}{name}",
                tags={tags.TRIGGER: Trigger.SENSOR.value, tags.TRIGGERED_BY: by},
            )
        ]


def build(
    folder: Folder, jobs: Mapping[str, UnresolvedAssetJobDefinition]
) -> list[dg.SensorDefinition]:
    """Make one sensor for all connectors; none when no connector waits for files."""
    arrivals = _Arrivals(folder.connectors)
    if not arrivals.names:
        return []
    return [
        dg.SensorDefinition(
            name="file_arrival",
            evaluation_fn=arrivals.evaluate,
            jobs=[jobs[name] for name in arrivals.names],
            minimum_interval_seconds=arrivals.interval,
            default_status=dg.DefaultSensorStatus.RUNNING,
            description="Starts connectors when files that they read have arrived or changed.",
        )
    ]


def digest_of(files: Sequence[FileSeen]) -> str:
    """Give the same text for the same files; none for no file."""
    if not files:
        return ""
    lines = sorted(json.dumps([file.name, file.size, file.mark]) for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def read(cursor: str | None) -> dict[str, Watch]:
    """Read the sensor's cursor."""
    return {name: Watch(**facts) for name, facts in json.loads(cursor or "{}").items()}


def _is_due(watch: Watch | None, now: float, part: FileArrival | None) -> bool:
    if watch is None or part is None:
        return True
    return watch.is_due(now, part.every_seconds, part.settle_seconds)


def _hashes(files: Sequence[FileSeen]) -> frozenset[int]:
    return frozenset(map(hash, files))


def _reason(watches: Mapping[str, Watch], faults: Sequence[str]) -> str:
    if faults:
        more = f" (and {len(faults) - _TOLD_FAULTS} more)" if len(faults) > _TOLD_FAULTS else ""
        return "; ".join(sorted(faults)[:_TOLD_FAULTS]) + more
    moving = [name for name, watch in watches.items() if watch.seen and watch.seen != watch.started]
    if moving:
        return f"Files are still arriving for {', '.join(moving)}."
    return "No file has arrived."
