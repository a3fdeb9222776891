"""Failures at the source itself, and of what it says."""

from aiia_pipelines.jobs import _catalogue_checks as check
from aiia_pipelines.jobs._catalogue_row import AGAIN, FAILED, NEVER, ONCE, FailureClass, found_by

# fmt: off
SOURCE = (
    FailureClass("source-not-found", "Source Not Found", "source", FAILED, "source", NEVER,
        "The database, path or file that the connector names does not exist.",
        "Correct the name in the connector, or have the source restored.",
        check.EXISTS,
        found_by("sqlstate:3D000 errno:ENOENT errno:ENOTDIR class:FileNotFoundError "
                 "source:not-found login:no-database http:404 http:410 aws:NoSuchBucket "
                 "aws:NoSuchKey aws:NoSuchVersion aws:404 aws:NotFound aws:NoSuchUpload "
                 "aws:ResourceNotFoundException sqlstate:57P04 errno:ENXIO errno:ENODEV")),
    FailureClass("source-unavailable", "Source Unavailable", "source", FAILED, "source", AGAIN,
        "The server is up but takes no work: it starts, stops, recovers or is being maintained.",
        "Wait until the server takes work again; if it stays so, read the log of the server.",
        check.UP,
        found_by("sqlstate:57P03 login:unavailable source:unavailable http:500 http:502 http:503 "
                 "http:504 http:5xx aws:InternalError aws:InternalFailure aws:ServiceUnavailable "
                 "aws:500 aws:503 aws:OperationAborted aws:PriorRequestNotComplete "
                 "aws:IDPCommunicationError aws:InternalServerException "
                 "aws:ServiceUnavailableException sqlstate:HV00N")),
    FailureClass("source-changed", "Source Changed", "source", FAILED, "source", AGAIN,
        "A file or object was written again while it was being read.",
        "Let the writer finish first, or have it write under another name and rename.",
        check.FILE_TIMES,
        found_by("source:changed aws:PreconditionFailed aws:412")),
    FailureClass("source-disk-full", "Source Disk Full", "source", FAILED, "source", NEVER,
        "The server cannot write: its disk is full or faulty, so large sorts and joins fail there.",
        "Free or add disk space on the server of the source.",
        check.DISK,
        found_by("sqlstate:53100 sqlstate:58030 http:507 errno:EIO errno:EREMOTEIO")),
    FailureClass("rate-limited", "Rate Limited", "source", FAILED, "source", AGAIN,
        "The source refuses further requests for a while because there were too many.",
        "Schedule the connector less often, or ask the owner of {place} for a higher rate.",
        check.everywhere(check.TEST),
        found_by("http:429 aws:SlowDown aws:Throttling aws:ThrottlingException "
                 "aws:RequestLimitExceeded aws:TooManyRequestsException "
                 "aws:BandwidthLimitExceeded aws:TooManyRequests aws:429 source:rate-limited "
                 "aws:EC2ThrottledException aws:ProvisionedThroughputExceededException "
                 "aws:RequestThrottled aws:RequestThrottledException aws:SlowDownException "
                 "aws:ThrottledException aws:TooManyRequestsError")),
    FailureClass("quota-exceeded", "Quota Exceeded", "source", FAILED, "source", NEVER,
        "The account has used up what the source grants it for an hour, a day or a month.",
        "Wait for the next period, or ask the owner of {place} for a larger quota.",
        check.QUOTA,
        found_by("source:quota aws:ServiceQuotaExceeded aws:ServiceQuotaExceededException "
                 "aws:LimitExceededException aws:QuotaExceeded http:509")),
    FailureClass("too-many-connections", "Too Many Connections", "source", FAILED, "source", AGAIN,
        "Every connection that the server allows is in use.",
        "End idle sessions, raise the limit of server or role, or run fewer connectors at once.",
        check.SESSIONS,
        found_by("sqlstate:53300 class:sqlalchemy.exc.TimeoutError login:too-many")),
    FailureClass("query-timeout", "Query Timeout", "source", FAILED, "source", ONCE,
        "The server stopped the query because it ran longer than it may.",
        "Add an index or narrow the query, or have the time limit of this user raised.",
        check.TIME_LIMIT,
        found_by("sqlstate:57014 sqlstate:25P04 query:timeout")),
    FailureClass("query-cancelled", "Query Cancelled", "source", FAILED, "source", AGAIN,
        "An administrator of the source stopped the query, or ended its session.",
        "Ask the administrator of {place} why, and agree on an hour at which the query may run.",
        check.SESSIONS,
        found_by("query:cancelled sqlstate:57000")),
    FailureClass("lock-conflict", "Lock Conflict", "source", FAILED, "source", AGAIN,
        "Another session held what the query needed, or the server broke a deadlock.",
        "Let the other work finish, or move the schedule to a quieter hour.",
        check.LOCKS,
        found_by("sqlstate:40 sqlstate:55P03 sqlstate:55006 sqlstate:72 errno:EDEADLK errno:EDEADLOCK "
                 "errno:ENOLCK aws:ReplicatedWriteConflictException aws:ConflictException "
                 "aws:TransactionInProgressException")),
)

PROTOCOL = (
    FailureClass("protocol-error", "Protocol Error", "protocol", FAILED, "source", NEVER,
        "What answers there does not speak the expected protocol.",
        "Check that host and port lead to the service itself, not to a proxy or another product.",
        check.PROTOCOL,
        found_by("sqlstate:08P01 errno:EPROTO protocol:error http:426 http:501 http:505 http:511 "
                 "http:3xx aws:301 aws:PermanentRedirect aws:TemporaryRedirect aws:redirect "
                 "aws:IllegalLocationConstraintException aws:MethodNotAllowed "
                 "aws:NotImplemented aws:UnsupportedMediaType sqlstate:26 sqlstate:34")),
    FailureClass("content-type-unexpected", "Unexpected Content Type", "protocol", FAILED,
        "source", NEVER,
        "The server sent a page for people, or another format, where data were expected.",
        "Open the address in a browser: a login page, a notice of maintenance or a wrong path is "
        "the usual reason.",
        check.FORMAT,
        found_by("protocol:content-type")),
    FailureClass("redirect-loop", "Redirect Loop", "protocol", FAILED, "source", NEVER,
        "The server refers every request to another address, without end.",
        "Write the final address in the connector, with https and the exact path that the source "
        "documents.",
        check.REDIRECTS,
        found_by("http:redirect-loop")),
)
