"""The kind `files`: data files of a folder that this machine can read."""

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Literal

from pydantic import Field, field_validator

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors._files_folder import Folder, Listed
from aiia_pipelines.connectors._sample import counted, sampled
from aiia_pipelines.connectors._tabular_options import FormatOptions, LimitOptions
from aiia_pipelines.connectors.base import (
    Batch,
    FileSeen,
    Position,
    Reading,
    Source,
    SourceColumn,
    SourceFault,
)


class Options(LimitOptions):
    """The `source:` part of a connector file of kind files."""

    kind: Literal["files"]
    root: str = Field(min_length=1, description="The folder; nothing outside it is ever read")

    @field_validator("root")
    @classmethod
    def _is_absolute(cls, root: str) -> str:
        if "${" not in root and not root.startswith("/"):
            raise ValueError("must be an absolute path, as in /data/in")
        if "\0" in root:
            raise ValueError("must not contain a NUL character")
        return root


class StreamOptions(FormatOptions):
    """The `options:` of a stream of kind files."""

    only_new: bool = Field(
        default=False, description="Read only files that are new or changed since the last sync"
    )


class FilesSource:
    """A folder of data files."""

    def __init__(self, options: Options) -> None:
        """Keep the options; nothing is looked at yet."""
        self._options = options
        self._folder = Folder(options.root)
        self._stopped = threading.Event()

    def describe(self) -> str:
        """Name the folder."""
        return f"files in {self._options.root}"

    def place(self) -> str:
        """Tell the folder."""
        return self._options.root

    def connect(self) -> None:
        """Make sure that the folder is there and can be listed."""
        self._folder.open()

    def _listed(self, stream: Stream) -> list[Listed]:
        if stream.path is None:
            raise self._folder.fault(
                f"Stream {stream.name} names no `path`, the files below the root.", "config:invalid"
            )
        return self._folder.listed(stream.path, empty_ok=self._of(stream).empty_ok)

    # -- reading ----------------------------------------------------------------------------

    @staticmethod
    def _of(stream: Stream) -> StreamOptions:
        return StreamOptions.model_validate(stream.options)

    def columns(self, stream: Stream) -> list[SourceColumn]:
        """Describe the columns of the first file that has any."""
        options = self._of(stream)
        if options.only_new and stream.mode == "replace":
            raise self._folder.fault(
                f"Stream {stream.name} has `only_new`, but replace needs all files; take append"
                " or upsert.",
                "config:invalid",
            )
        # Loading definitions must not import Arrow.
        from aiia_pipelines.connectors._tabular import read_columns  # noqa: PLC0415

        files = self._folder.files(self._listed(stream))
        with self._folder.translated(str(stream.path)):
            return read_columns(files, stream, options, self._options)

    def position(self, stream: Stream, reading: Reading) -> Position | None:
        """Tell which files there are, when only new ones are read."""
        del reading
        if not self._of(stream).only_new:
            return None
        return {"files": {file.name: file.mark for file in self._listed(stream)}}

    def rows_until(self, stream: Stream, reading: Reading) -> int | None:
        """Count nothing: files are known by name and time, not by rows."""
        del stream, reading
        return None

    def batches(self, stream: Stream, reading: Reading) -> Iterator[Batch]:
        """Read the wanted files in the order of their names."""
        return self._read(stream, reading)

    def _read(self, stream: Stream, reading: Reading) -> Generator[Batch, None, None]:
        from aiia_pipelines.connectors._tabular import read_batches  # noqa: PLC0415 - see above

        options = self._of(stream)
        files = self._folder.files(self._wanted(stream, reading))
        checkpoint = (lambda file: {"done": file.name}) if options.only_new else None
        batches = read_batches(
            files, stream, reading, options, self._options, checkpoint=checkpoint
        )
        with self._folder.translated(str(stream.path)), closing(batches):
            for batch in batches:
                if self._stopped.is_set():
                    raise SourceFault("The read was stopped.", "cancelled", place=self.place())
                yield batch

    def _wanted(self, stream: Stream, reading: Reading) -> list[Listed]:
        """Leave out what an earlier sync read, and what came after this one began."""
        listed = self._listed(stream)
        if not self._of(stream).only_new:
            return listed
        read = _marks(reading.since)
        listed = [file for file in listed if read.get(file.name) != file.mark]
        if reading.until is not None:
            agreed = _marks(reading.until)
            listed = [file for file in listed if file.name in agreed]
            for file in listed:
                if agreed[file.name] != file.mark:
                    raise self._folder.changed(file)
        done = str((reading.after or {}).get("done", ""))
        return [file for file in listed if file.name > done]

    # -- Connection Test --------------------------------------------------------------------

    def stages(self, streams: Sequence[Stream]) -> Iterator[tuple[str, Callable[[], str]]]:
        """List the stages: the folder, then the files and a sample row of each stream."""
        yield "folder", self._stage_folder
        yield from ((f"permission {s.name}", partial(self._stage_files, s)) for s in streams)
        yield from ((f"query {s.name}", partial(self._stage_sample, s)) for s in streams)

    def _stage_folder(self) -> str:
        self.connect()
        return self._folder.root

    def _stage_files(self, stream: Stream) -> str:
        listed = self._listed(stream)
        for file in self._folder.files(listed[:1]):
            file.open().close()
        return counted(len(listed), "file")

    def _stage_sample(self, stream: Stream) -> str:
        return sampled(self, stream, [column.name for column in self.columns(stream)])

    # -- ending -----------------------------------------------------------------------------

    def cancel(self) -> None:
        """Stop at the next batch."""
        self._stopped.set()

    def close(self) -> None:
        """Leave nothing open: every file is closed with the reading of it."""


def listing(options: Options, streams: Sequence[Stream]) -> list[FileSeen]:
    """List the files of some streams; no file yet is no fault."""
    folder = Folder(options.root)
    folder.open()
    found = {}
    for pattern in filter(None, (stream.path for stream in streams)):
        for file in folder.listed(pattern, empty_ok=True):
            size, changed_at = file.mark
            found[file.name] = FileSeen(file.name, size, str(changed_at), changed_at / 1e9)
    return list(found.values())


def _marks(position: Position | None) -> Mapping[str, list[int]]:
    return dict((position or {}).get("files", {}))


def open(options: Options) -> Source:  # noqa: A001 - the name every kind has
    """Open the source of kind files."""
    return FilesSource(options)
