"""Objects of a bucket: which of them a pattern means, and their bytes from any place on."""

import io
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiia_pipelines.connectors import _s3_faults as faults
from aiia_pipelines.connectors._s3_client import Client
from aiia_pipelines.connectors._s3_options import Options
from aiia_pipelines.connectors.base import SourceFault

if TYPE_CHECKING:
    from typing_extensions import Buffer

_BLOCK = 1 << 20
_AGAIN = 4  # times that a broken object is asked for once more
_PAUSE = 0.2  # seconds, more each time
_WILD = re.compile(r"[*?\[]")
_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?[^\]/]+\]|.", re.DOTALL)
_TRANSLATED = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True, slots=True)
class Found:
    """An object as it was listed."""

    key: str
    etag: str
    size: int
    changed_at: float = field(default=0.0, compare=False)  # seconds since 1970


def pattern_of(options: Options, path: str) -> str:
    """Give the pattern of keys that a stream's path means below the prefix."""
    between = "/" if options.prefix and not options.prefix.endswith("/") else ""
    return f"{options.prefix}{between}{path.lstrip('/')}"


def objects(client: Client, pattern: str) -> list[Found]:
    """List the objects that a pattern means, in the order of their keys.

    Raises:
        SourceFault: The bucket cannot be listed, or too many match.
    """
    wild = _WILD.search(pattern)
    fits = _fitting(pattern)
    found: list[Found] = []
    for entry in client.listed(pattern[: wild.start()] if wild else pattern):
        key = entry["Key"]
        if key.endswith("/") or not fits.fullmatch(key):
            continue
        changed = entry.get("LastModified")
        changed_at = changed.timestamp() if changed else 0.0
        found.append(Found(key, entry["ETag"], int(entry["Size"]), changed_at))
        if len(found) > client.options.max_objects:
            raise SourceFault(
                f"More than max_objects ({client.options.max_objects:,}) objects match {pattern}.",
                "limit:size",
                "data:malformed",
                place=client.place,
            )
        client.stop_if_asked()
    return sorted(found, key=lambda one: one.key)


def _fitting(pattern: str) -> re.Pattern[str]:
    """Translate `*` (within a folder), `**` (across folders), `?` and `[…]`."""
    parts = []
    for token in _TOKEN.findall(pattern):
        if token.startswith("[") and len(token) > 1:
            inside = token[1:-1].replace("\\", r"\\").replace("[", r"\[")
            parts.append(f"[^/{inside[1:]}]" if inside.startswith("!") else f"[{inside}]")
        else:
            parts.append(_TRANSLATED.get(token) or re.escape(token))
    return re.compile("".join(parts), re.DOTALL)


class ObjectStream(io.RawIOBase):
    """The bytes of one object, as it was when it was listed: streamed, or in blocks after a seek."""

    def __init__(self, client: Client, found: Found) -> None:
        """Keep which object it is; nothing is asked for yet."""
        super().__init__()
        self._client, self._found = client, found
        self._at = 0
        self._body: Any = None
        self._body_at = 0
        self._block = b""
        self._block_at = 0
        self._left = _AGAIN

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read from any place on."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to another place; nothing is asked for yet."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._found.size}[whence]
        if base + offset < 0:
            raise ValueError("a place before the first byte")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Tell the place."""
        return self._at

    def readinto(self, target: "Buffer") -> int:
        """Fill a buffer from the current place on.

        Raises:
            SourceFault: The object changed, or cannot be read.
        """
        view = memoryview(target).cast("B")
        wanted = min(len(view), self._found.size - self._at)
        if wanted <= 0:
            # Also the end is asked for: only there a checksum is compared.
            self._finish()
            return 0
        streamed = self._at == (self._body_at if self._body is not None else 0)
        data = self._streamed(wanted) if streamed else self._cut(wanted)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _streamed(self, wanted: int) -> bytes:
        while True:
            try:
                if self._body is None:
                    self._body, self._body_at = self._get(self._at, None), self._at
                with self._client.translated(self._found.key):
                    data: bytes = self._body.read(wanted)
                if not data:
                    raise faults.lost(self._found.key, self._client.place)
            except faults.Lost:
                self._again()
                continue
            self._body_at += len(data)
            return data

    def _cut(self, wanted: int) -> bytes:
        """Read from a block that holds the place, or ask for one."""
        offset = self._at - self._block_at
        while not (self._block and 0 <= offset < len(self._block)):
            end = min(self._at + max(wanted, _BLOCK), self._found.size)
            try:
                body = self._get(self._at, end - 1)
                with self._client.translated(self._found.key):
                    self._block, self._block_at, offset = body.read(), self._at, 0
                if len(self._block) != end - self._at:
                    raise faults.lost(self._found.key, self._client.place)
            except faults.Lost:
                self._block = b""
                self._again()
        return self._block[offset : offset + wanted]

    def _finish(self) -> None:
        if self._body is not None and self._body_at == self._found.size:
            body, self._body = self._body, None
            with self._client.translated(self._found.key):
                body.read(1)
            body.close()

    def _again(self) -> None:
        """Wait a little before the rest is asked for, a few times only."""
        self._client.stop_if_asked()
        self._drop_body()
        if self._left == 0:
            raise faults.lost(self._found.key, self._client.place)
        self._client.stopped.wait(_PAUSE * (_AGAIN + 1 - self._left))
        self._client.stop_if_asked()
        self._left -= 1

    def _get(self, begin: int, end: int | None) -> Any:  # noqa: ANN401 - botocore has no types
        """Ask for the object from a place on; only the version that was listed is taken."""
        found, place = self._found, self._client.place
        wanted: dict[str, Any] = {"Key": found.key, "IfMatch": found.etag}
        if begin or end is not None:
            wanted["Range"] = f"bytes={begin}-{'' if end is None else end}"
        else:
            wanted["ChecksumMode"] = "ENABLED"
        try:
            answer = self._client.ask(found.key, "get_object", **wanted)
        except SourceFault as fault:
            if {f"aws:{code}" for code in faults.CHANGED | {"NoSuchKey"}} & set(fault.signals):
                raise faults.changed(found.key, place) from fault
            raise
        if answer["ETag"] != found.etag:
            answer["Body"].close()
            raise faults.changed(found.key, place)
        if "Range" in wanted and answer["ResponseMetadata"]["HTTPStatusCode"] != 206:
            answer["Body"].close()
            raise SourceFault(
                f"Protocol error. {place} sends whole objects where parts are asked for.",
                "protocol:error",
                place=place,
            )
        return answer["Body"]

    def _drop_body(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()

    def close(self) -> None:
        """Give the connection back."""
        if not self.closed:
            self._drop_body()
            self._block = b""
        super().close()
