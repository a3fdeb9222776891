"""The streams of one bucket, read."""

import io
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO, cast

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors._s3_client import Client
from aiia_pipelines.connectors._s3_objects import Found, ObjectStream, objects, pattern_of
from aiia_pipelines.connectors._s3_options import Options, StreamOptions
from aiia_pipelines.connectors._sample import counted
from aiia_pipelines.connectors._tabular import DataFile, read_batches, read_columns
from aiia_pipelines.connectors.base import Batch, Position, Reading, SourceColumn, SourceFault

_BUFFER = 1 << 20
_OBJECTS, _KEY = "objects", "key"


class S3Reader:
    """A bucket that is being read; one user at a time, any thread may cancel."""

    def __init__(self, options: Options) -> None:
        """Keep the options; nothing is opened yet."""
        self._options = options
        self._client = Client(options)

    def hurry(self) -> None:
        """Try everything once: what passes at the third attempt only is no good connection."""
        self._client.attempts = 1

    def connect(self) -> None:
        """Reach the store and look into the bucket."""
        self._client.stopped.clear()
        self._client.reach()
        self._client.open()
        where = f"Bucket {self._options.bucket}"
        self._client.ask(where, "list_objects_v2", Prefix=self._options.prefix, MaxKeys=1)

    def columns(self, stream: Stream) -> list[SourceColumn]:
        """Describe the columns of a stream by its first objects."""
        self._client.stopped.clear()
        files = self._files(self._listed(stream))
        return read_columns(files, stream, _options(stream), self._options)

    def _listed(self, stream: Stream) -> list[Found]:
        if stream.path is None:
            raise SourceFault(
                f"Stream {stream.name} of kind s3 needs path: keys below the prefix, such as"
                " orders/*.csv.gz.",
                "config:invalid",
                place=self._client.place,
            )
        pattern = pattern_of(self._options, stream.path)
        found = objects(self._client, pattern)
        if not found and not _options(stream).empty_ok:
            raise SourceFault(
                f"Not found. No object of bucket {self._options.bucket} matches {pattern}.",
                "source:not-found",
                place=self._client.place,
            )
        return found

    def _files(self, found: Sequence[Found]) -> list[DataFile]:
        return [DataFile(one.key, one.size, partial(self._stream, one)) for one in found]

    def _stream(self, found: Found) -> BinaryIO:
        return cast("BinaryIO", io.BufferedReader(ObjectStream(self._client, found), _BUFFER))

    def position(self, stream: Stream) -> Position | None:
        """Tell which objects there are now, where only new ones are wanted."""
        if not _options(stream).only_new:
            return None
        self._client.stopped.clear()
        return {_OBJECTS: {one.key: [one.etag, one.size] for one in self._listed(stream)}}

    def batches(self, stream: Stream, reading: Reading) -> Iterator[Batch]:
        """Read the wanted objects one after the other, each as it was when it was listed."""
        self._client.stopped.clear()
        if reading.until is not None:
            listed = reading.until[_OBJECTS].items()
            found = [Found(key, etag, size) for key, (etag, size) in sorted(listed)]
        else:
            found = self._listed(stream)
        known = self._known(stream, reading)
        found = [one for one in found if known.get(one.key) != [one.etag, one.size]]
        if reading.after is not None:
            found = [one for one in found if one.key > reading.after[_KEY]]
        yield from read_batches(
            self._files(found), stream, reading, _options(stream), self._options, checkpoint=_checkpoint
        )  # fmt: skip

    def _known(self, stream: Stream, reading: Reading) -> Mapping[str, Any]:
        """Give the objects that an earlier sync has read."""
        if reading.since is None:
            return {}
        if _OBJECTS not in reading.since and not stream.key:
            raise SourceFault(
                f"Stream {stream.name} cannot go on where it stopped: it was read in another way then."
                " Empty its table at the destination and sync with --full, or give it a key.",
                "config:invalid",
                place=self._client.place,
            )
        found: Mapping[str, Any] = reading.since.get(_OBJECTS, {})
        return found

    # -- Connection Test --------------------------------------------------------------------

    def stage_dns(self) -> str:
        """Look up the host."""
        return ", ".join(self._client.resolve())

    def stage_tcp(self) -> str:
        """Open a connection to an address that may be asked."""
        reached = self._client.reach()
        return f"{reached.address}:{self._client.origin.port} from {reached.outbound}"

    def stage_tls(self) -> str:
        """Agree on encryption, trusting whom the client trusts."""
        return self._client.look()

    def stage_login(self) -> str:
        """Look into the bucket."""
        self.connect()
        return (
            f"as {self._options.access_key_id}"
            if self._options.login == "keys"
            else self._options.login
        )

    def stage_permission(self, stream: Stream) -> str:
        """List the objects of a stream, and open the first."""
        found = self._listed(stream)
        for one in found[:1]:
            self._stream(one).close()
        return counted(len(found), "object")

    # -- ending -----------------------------------------------------------------------------

    def cancel(self) -> None:
        """End the request in progress; may be called from another thread."""
        self._client.cancel()

    def close(self) -> None:
        """Close every connection."""
        self._client.close()


def _options(stream: Stream) -> StreamOptions:
    return StreamOptions.model_validate(stream.options)


def _checkpoint(file: DataFile) -> Position:
    return {_KEY: file.name}
