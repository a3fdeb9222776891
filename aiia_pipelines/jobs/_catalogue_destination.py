"""Failures at the destination; most of their signals are those of a source with a prefix."""

from aiia_pipelines.jobs import _catalogue_checks as check
from aiia_pipelines.jobs._catalogue_row import AGAIN, ERROR, FAILED, NEVER, FailureClass, found_by


def _there(signals: str) -> frozenset[str]:
    return frozenset(f"destination:{signal}" for signal in signals.split())


# fmt: off
DESTINATION = (
    FailureClass("destination-unreachable", "Destination Unreachable", "destination", FAILED,
        "destination", AGAIN,
        "The destination does not answer, or ended the connection.",
        "Start the destination, and allow traffic from this worker to {place}.",
        check.of_destination(check.UP),
        _there("unreachable errno:ETIMEDOUT errno:ECONNREFUSED errno:ECONNRESET "
               "errno:ECONNABORTED errno:EPIPE errno:EHOSTUNREACH errno:ENETUNREACH errno:ESTALE "
               "errno:EAI_NONAME errno:EAI_AGAIN sqlstate:08 sqlstate:57P01 sqlstate:57P02 "
               "sqlstate:57P03 sqlstate:57P05 sqlstate:25P03 login:timeout login:refused "
               "login:lost login:host login:name-server login:unavailable dns:not-found "
               "dns:try-again timeout:connect connection:lost class:ConnectionError "
               "class:TimeoutError class:psycopg.errors.ConnectionTimeout "
               "class:socket.gaierror")),
    FailureClass("destination-tls", "Destination TLS", "destination", FAILED, "destination", NEVER,
        "The connection to the destination could not be encrypted, or its certificate is not "
        "trusted here.",
        "Correct the TLS options in the URL of the destination, or renew the certificate at "
        "{place}.",
        check.of_destination(check.TLS),
        _there("tls:failure tls:expired tls:name tls:protocol login:tls class:ssl.SSLError")),
    FailureClass("destination-login", "Destination Login", "destination", FAILED, "destination",
        NEVER,
        "The destination refused the login or has no such database.",
        "Correct user, password or database of the destination, then run the job again.",
        check.of_destination(check.LOGIN),
        _there("sqlstate:28 sqlstate:08004 sqlstate:3D000 login:credentials login:no-database "
               "login:expired login:not-allowed login:second-factor")),
    FailureClass("destination-permission", "Destination Permission", "destination", FAILED,
        "destination", NEVER,
        "The user of the destination may not create or write the tables there.",
        "Grant that user create and write on the schema of the connector.",
        check.of_destination(check.SCHEMAS),
        _there("sqlstate:42501 aws:AccessDenied aws:403")),
    FailureClass("destination-busy", "Destination Busy", "destination", FAILED, "destination",
        AGAIN,
        "The destination takes no further connections: all that it allows are in use.",
        "End idle sessions at {place}, raise its limit, or run fewer connectors at once.",
        check.of_destination(check.SESSIONS),
        _there("sqlstate:53300 login:too-many")),
    FailureClass("destination-disk-full", "Destination Disk Full", "destination", FAILED,
        "destination", NEVER,
        "The destination cannot write: its disk is full or faulty. Nothing was committed.",
        "Free or add disk space on the server of the destination, then retry.",
        check.of_destination(check.DISK),
        _there("sqlstate:53100 sqlstate:58030 errno:EIO errno:EREMOTEIO")),
    FailureClass("destination-conflict", "Destination Conflict", "destination", FAILED,
        "destination", AGAIN,
        "Another session or a newer job run holds the table of this stream.",
        "Let the other job run finish; if none is active, look for a session that holds locks.",
        check.of_destination(check.LOCKS),
        _there("sqlstate:40 sqlstate:55P03 fenced changed locked")),
    FailureClass("file-locked", "File Locked", "destination", FAILED, "destination", AGAIN,
        "Another process has the file of the destination open, and only one may write to it.",
        "Close the other program; readers open the file read-only, or a copy of it.",
        check.everywhere("lsof {place}"),
        found_by("file:locked destination:file:locked errno:EBUSY errno:ETXTBSY")),
    FailureClass("destination-rejected", "Destination Rejected", "destination", ERROR,
        "destination", NEVER,
        "A constraint of the destination table refused a record. Nothing was committed.",
        "Correct the records, or drop the constraint that somebody added to the table.",
        check.of_destination(check.TABLE),
        _there("sqlstate:23 rejected")),
    FailureClass("target-read-only", "Target Read-Only", "destination", FAILED, "destination",
        NEVER,
        "The server takes no writes: it is a standby, or its sessions are read-only.",
        "Point the destination at the primary server, or lift the read-only setting.",
        check.of_destination(check.WRITABLE),
        found_by("sqlstate:25006 errno:EROFS")),
)
