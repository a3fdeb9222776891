"""Why a PostgreSQL server refused a login, in any language of its messages.

libpq keeps only the words of such a refusal, and the server chooses their language. The same login once more,
with libpq's trace of the protocol, shows the SQLSTATE that came with them.
"""

import os
import re
import select
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, PollingStatus

from aiia_pipelines.jobs.failures import classify

_PATIENCE = 5.0  # seconds
_REFUSAL = re.compile(rb'\tErrorResponse\t S "[^"\n]*"(?: V "[^"\n]*")? C "([0-9A-Z]{5})"')
_DONE = (PollingStatus.OK, PollingStatus.FAILED)


def tell_state(fault: psycopg.Error, conninfo: str) -> None:
    """Give the fault of a login the SQLSTATE that libpq left out, unless its words say enough."""
    if fault.sqlstate is None and classify(fault).code == "unclassified":
        fault.sqlstate = refusal(conninfo)


def refusal(conninfo: str, patience: float = _PATIENCE) -> str | None:
    """Log in once more and return the SQLSTATE of the refusal; None when the server sent none."""
    if sys.platform != "linux":
        return None  # libpq traces into a C stream that psycopg opens there only
    # The trace may hold a password in clear: it never leaves the memory of this process.
    with os.fdopen(os.memfd_create("login"), "r+b") as trace:
        with suppress(psycopg.Error, OSError):
            _log_in(conninfo, trace.fileno(), time.monotonic() + patience)
        trace.seek(0)
        found = _REFUSAL.findall(trace.read())
    return found[-1].decode() if found else None


def connect(
    dialect: sa.Dialect, record: object, arguments: Sequence[Any], named: Mapping[str, Any]
) -> Any:  # noqa: ANN401 - the driver's own connection
    """Connect as SQLAlchemy would, and let a refusal keep its SQLSTATE."""
    del record
    try:
        return dialect.connect(*arguments, **named)
    except psycopg.OperationalError as fault:
        words: dict[str, Any] = {
            key: value for key, value in named.items() if isinstance(value, str | int)
        }
        tell_state(fault, make_conninfo(*arguments, **words))
        raise


def _log_in(conninfo: str, trace: int, deadline: float) -> None:
    attempt = PGconn.connect_start(conninfo.encode())
    try:
        attempt.trace(trace)
        while (status := attempt.connect_poll()) not in _DONE:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            reading = status == PollingStatus.READING
            wanted = [attempt.socket]
            select.select(wanted if reading else [], [] if reading else wanted, [], left)
        attempt.untrace()
    finally:
        attempt.finish()
