"""Signed calls from other systems, by the scheme of Standard Webhooks, each carried out once."""

import base64
import binascii
import hmac
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from uuid import UUID, uuid5

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from aiia_pipelines.jobs.tables import WEBHOOK_CALLS

TOLERANCE = 300  # seconds that the clocks of both sides may differ
SHORTEST_KEY = 16  # bytes
# A point in the id would let the parts of what is signed be read in two ways.
_ID = re.compile(r"[A-Za-z0-9_:@/+=-]{1,200}", re.ASCII)
_MOMENT = re.compile(r"[0-9]{1,12}", re.ASCII)
_PREFIX, _VERSION = "whsec_", "v1,"
_MOST_SIGNATURES = 10
_KEPT_DAYS = 30
_PURGE_EVERY = 3600  # seconds
_NAMESPACE = UUID("6f0d2f0c-2f8b-5d2b-9a46-6d0f0c4d0c11")


class WeakSecret(ValueError):
    """A secret that calls cannot be checked with; the text does not tell it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call as it arrived: its three headers and its body."""

    id: str
    timestamp: str
    signature: str
    body: bytes


def keys_of(secret: str) -> list[bytes]:
    """Read a secret, or several that stand apart by blanks while an old one is replaced.

    Raises:
        WeakSecret: One is no base64 after `whsec_`, or too short.
    """
    return [_key(word) for word in secret.split()] or [_key("")]


def _key(word: str) -> bytes:
    try:
        key = (
            base64.b64decode(word.removeprefix(_PREFIX), validate=True)
            if word.startswith(_PREFIX)
            else word.encode()
        )
    except binascii.Error:
        raise WeakSecret(f"what follows {_PREFIX} must be base64") from None
    if len(key) < SHORTEST_KEY:
        raise WeakSecret(f"it must have at least {SHORTEST_KEY} bytes")
    return key


def sign(key: bytes, call_id: str, timestamp: int | str, body: bytes) -> str:
    """Sign a call."""
    signed = b".".join([call_id.encode(), str(timestamp).encode(), body])
    digest = hmac.new(key, signed, sha256).digest()
    return _VERSION + base64.b64encode(digest).decode()


def genuine(call: Call, keys: Sequence[bytes], now: float) -> bool:
    """Tell whether a call was signed with one of the keys, and not long ago."""
    if not _ID.fullmatch(call.id) or not _MOMENT.fullmatch(call.timestamp):
        return False
    offered = call.signature.encode(errors="replace").split(b" ")[:_MOST_SIGNATURES]
    agrees = False
    for key in keys:
        right = sign(key, call.id, call.timestamp, call.body).encode()
        for one in offered:
            # Every pair is compared: the time it takes tells nobody which one was close.
            agrees |= hmac.compare_digest(right, one)
    return agrees and abs(now - int(call.timestamp)) <= TOLERANCE


def run_id_of(connector: str, call_id: str) -> str:
    """Give the run that a call starts: the same call, whenever it comes again, means the same run."""
    return str(uuid5(_NAMESPACE, f"{connector} {call_id}"))


@dataclass(slots=True)
class Calls:
    """The calls that were carried out, in the job-run store."""

    engine: sa.Engine
    _purged_at: float = field(default=0.0, init=False)

    @contextmanager
    def once(self, connector: str, call_id: str) -> Iterator[bool]:
        """Carry a call out inside: True for whoever is the first; a fault inside forgets the call.

        Whoever brings the same call at the same time waits here until the first is done.
        """
        self._purge()
        row = insert(WEBHOOK_CALLS).values(connector=connector, call_id=call_id)
        with self.engine.begin() as db:
            yield bool(db.execute(row.on_conflict_do_nothing()).rowcount)

    def _purge(self) -> None:
        if time.monotonic() - self._purged_at < _PURGE_EVERY and self._purged_at:
            return
        self._purged_at = time.monotonic()
        purge(self.engine)


def purge(engine: sa.Engine, most: int | None = None) -> int:
    """Forget the calls that no sender repeats any more, and count them."""
    calls, kept = WEBHOOK_CALLS.c, sa.func.make_interval(0, 0, 0, _KEPT_DAYS)
    old = sa.select(calls.connector, calls.call_id).where(
        calls.at < sa.func.clock_timestamp() - kept
    )
    which = sa.tuple_(calls.connector, calls.call_id).in_(old.limit(most))
    with engine.begin() as db:
        return int(db.execute(sa.delete(WEBHOOK_CALLS).where(which)).rowcount)
