"""The body of an answer: read to its end, within bounds."""

import zlib
from collections.abc import Iterator

import httpx

from aiia_pipelines.connectors._rest_faults import too_much, unusable

_CHUNK = 65_536
_PACKED = {"gzip": 31, "x-gzip": 31, "deflate": 47}  # zlib's window bits for each form


def whole(response: httpx.Response, limit: int, place: str) -> bytes:
    """Read a body of at most `limit` unpacked bytes.

    Raises:
        SourceFault: It is larger, damaged or packed in an unknown way.
    """
    body = bytearray()
    for piece in _unpacked(response, place):
        body += piece
        if len(body) > limit:
            raise too_much(
                f"Answer too large. {place} sent more than max_response_bytes ({limit:,}) in one"
                " answer; ask for smaller pages.",
                place,
            )
    return bytes(body)


def _unpacked(response: httpx.Response, place: str) -> Iterator[bytes]:
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding in {"identity", ""}:
        yield from response.iter_raw(_CHUNK)
        return
    if coding not in _PACKED:
        raise unusable(
            f"Protocol error. {place} packed its answer as {coding[:20]!r}, which was not asked for.",
            place,
        )
    unpacker = zlib.decompressobj(_PACKED[coding])
    try:
        for packed in response.iter_raw(_CHUNK):
            more, rest = True, packed
            while more and not unpacker.eof:
                # A little at a time: a small input may stand for gigabytes.
                piece = unpacker.decompress(rest, _CHUNK)
                yield piece
                rest = unpacker.unconsumed_tail
                more = bool(rest) or len(piece) == _CHUNK
    except zlib.error:
        raise unusable(f"Protocol error. {place} sent a damaged {coding} answer.", place) from None
    if not unpacker.eof or unpacker.unused_data:
        raise unusable(f"Protocol error. {place} sent a {coding} answer without its end.", place)
