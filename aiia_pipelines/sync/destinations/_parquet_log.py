"""The commit log of a stream: one small file a commit, whose name is taken once and for all.

The entry with the highest number tells which data files make up the stream, and everything else that became
true with them: the position, what was set aside, and which tasks committed what.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from aiia_pipelines.sync.destinations._parquet_store import Store
from aiia_pipelines.sync.faults import DestinationFault

KEPT_VERSIONS = 500  # so many commits are remembered by their run keys, and kept as entries
_NAME = re.compile(r"([0-9]{20})\.json", re.ASCII)


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file; `path` is relative to the destination."""

    path: str
    rows: int


@dataclass(frozen=True, slots=True)
class Retired:
    """A file that a version dropped, which readers of the version before may still read."""

    path: str
    version: int
    at: float  # seconds since 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One committed state of a stream."""

    version: int
    attempt: str
    run_key: str
    mode: str
    at: str
    rows: int
    changes: Mapping[str, int]
    position: Mapping[str, Any] | None
    columns: Mapping[str, str]
    files: Sequence[DataFile]
    quarantine: Sequence[DataFile] = ()
    retired: Sequence[Retired] = ()
    runs: Mapping[str, int] = field(default_factory=dict)  # run key → version

    @property
    def every(self) -> Sequence[DataFile]:
        """The files that readers of this version open."""
        return [*self.files, *self.quarantine]

    def dump(self) -> bytes:
        """Write it as JSON."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def load(cls, content: bytes) -> Self:
        """Read what `dump` wrote."""
        facts = json.loads(content)
        for key in ("files", "quarantine"):
            facts[key] = [DataFile(**entry) for entry in facts[key]]
        facts["retired"] = [Retired(**entry) for entry in facts["retired"]]
        return cls(**facts)


class Log:
    """The versions of one stream."""

    def __init__(self, store: Store, folder: str) -> None:
        """Look into the `_log` of a stream's folder."""
        self._store = store
        self._folder = f"{folder}/_log"

    def _name(self, version: int) -> str:
        return f"{self._folder}/{version:020}.json"

    def numbers(self) -> list[int]:
        """List the versions there are, in order."""
        names = (entry.name.rpartition("/")[2] for entry in self._store.names(self._folder))
        return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))

    def latest(self) -> Version | None:
        """Give the version that readers see; None before the first commit."""
        numbers = self.numbers()
        return self.version(numbers[-1]) if numbers else None

    def version(self, number: int) -> Version | None:
        """Give one version; None when it is not there (any more)."""
        content = self._store.read(self._name(number))
        return None if content is None else Version.load(content)

    def commit(self, new: Version) -> bool:
        """Make a version the one that readers see; False when another run was faster.

        Returns when it is certain.
        """
        content = new.dump()
        try:
            made = self._store.put_new(self._name(new.version), content)
        except DestinationFault:
            # The answer may be lost and not the request.
            if self._store.read(self._name(new.version)) != content:
                raise
            made = True
        if not made:
            return False
        # A run that slept while its number was used and removed again has made a version nobody looks at.
        latest = self.latest()
        if latest is None or latest.version == new.version:
            return True
        return latest.runs.get(new.run_key) == new.version

    def prune(self, latest: Version) -> None:
        """Remove the oldest entries."""
        for number in self.numbers():
            if number <= latest.version - KEPT_VERSIONS:
                self._store.remove(self._name(number))
