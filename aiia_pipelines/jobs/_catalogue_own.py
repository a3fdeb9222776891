"""Failures on this side: configuration, resources of the worker, the platform and its users."""

from aiia_pipelines.jobs import _catalogue_checks as check
from aiia_pipelines.jobs._catalogue_row import (
    AGAIN,
    CANCELLED,
    ERROR,
    FAILED,
    NEVER,
    ONCE,
    FailureClass,
    found_by,
)

# fmt: off
CONFIGURATION = (
    FailureClass("config-invalid", "Invalid Configuration", "configuration", FAILED,
        "configuration", NEVER,
        "A connector file or a setting asks for something that cannot be done.",
        "Correct the lines that the check names.",
        check.everywhere("aiia connectors validate"),
        found_by("config:invalid class:ConfigInvalid class:UnknownConnector address:refused "
                 "source:forbidden-path errno:ENAMETOOLONG errno:ELOOP aws:InvalidBucketName "
                 "aws:InvalidArgument aws:InvalidPrefix aws:InvalidRequest aws:InvalidRequestException "
                 "aws:InvalidRequestRegionException aws:ValidationException aws:400")),
    FailureClass("secret-missing", "Secret Missing", "configuration", FAILED, "configuration",
        NEVER,
        "A secret the connector refers to is not set for the process that needed it.",
        "Set the variable or file the message names where that process runs: the services of "
        "`aiia up`, or this shell.",
        check.everywhere("aiia connectors validate"),
        found_by("secret:missing class:SecretMissing")),
    FailureClass("query-invalid", "Invalid Query", "configuration", ERROR, "configuration", NEVER,
        "The server does not accept the query of the stream.",
        "Run the query by hand at the source, correct it in the connector, then re-run.",
        check.everywhere(check.TEST),
        found_by("sqlstate:03 sqlstate:0A sqlstate:2F sqlstate:38 sqlstate:39 sqlstate:42 "
                 "sqlstate:55000 sqlstate:HV sqlstate:P0 query:invalid http:400 http:405 http:406 http:409 http:411 http:413 "
                 "http:414 http:415 http:422 http:4xx")),
)

RESOURCES = (
    FailureClass("out-of-memory", "Out of Memory (OOM)", "resources", FAILED, "platform", ONCE,
        "The work needed more memory than the worker or the server may use.",
        "Narrow the query, set a lower batch_rows, or give the worker more memory.",
        check.everywhere("free -m"),
        found_by("memory:exhausted memory:oom-kill sqlstate:53200 sqlstate:HV001 errno:ENOMEM")),
    FailureClass("worker-disk-full", "Worker Disk Full", "resources", FAILED, "platform", NEVER,
        "The disk of the worker has no room left.",
        "Free space below the data folder and the temporary folder of this worker.",
        check.everywhere("df -h"),
        found_by("errno:ENOSPC errno:EDQUOT")),
    FailureClass("resource-limit", "Resource Limit", "resources", FAILED, "platform", NEVER,
        "A limit other than memory or disk was hit: open files, threads, or size of a query.",
        "Raise the limit for this worker, or split the stream into smaller ones.",
        check.everywhere("ulimit -a"),
        found_by("sqlstate:54 sqlstate:53 errno:EMFILE errno:ENFILE errno:EAGAIN errno:ENOBUFS errno:EFBIG "
                 "limit:size aws:EntityTooLarge aws:TooManyParts aws:PackedPolicyTooLarge "
                 "aws:JWTPayloadSizeExceededException")),
    FailureClass("time-limit", "Time Limit", "resources", FAILED, "platform", NEVER,
        "The job run took longer than it may, and was stopped; nothing of it was committed.",
        "Look for the slowest step of the job run; narrow the stream or raise the time limit.",
        check.everywhere("aiia jobs show NUMBER"),
        found_by("run:time-limit")),
)

PLATFORM = (
    FailureClass("worker-lost", "Worker Lost", "platform", FAILED, "platform", AGAIN,
        "The worker ended without a word: killed, restarted, or its machine went away.",
        "Read the system log of the worker around the last line of this job run, then retry.",
        check.everywhere("journalctl -k --since '1 hour ago'"),
        found_by("worker:lost exit:137 exit:-9")),
    FailureClass("broker-unavailable", "Broker Unavailable", "platform", FAILED, "platform", AGAIN,
        "The broker that hands job runs over to workers went away just as this one was handed over.",
        "Start the broker at the address that the message names, then retry.",
        check.everywhere("aiia doctor"),
        found_by("worker:no-broker")),
    FailureClass("code-location-broken", "Code Location Broken", "platform", FAILED, "platform",
        NEVER,
        "Dagster cannot load the code of the connectors, or the process that serves it is gone.",
        "Read the first error that the check prints, mend it, then restart `aiia up`.",
        check.everywhere("dagster definitions validate"),
        found_by("platform:code-location class:DagsterUserCodeUnreachableError "
                 "class:DagsterUserCodeProcessError class:DagsterCodeLocationLoadError "
                 "class:DagsterCodeLocationNotFoundError")),
    FailureClass("daemon-down", "Daemon Down", "platform", FAILED, "platform", NEVER,
        "The daemon that starts queued and scheduled job runs gives no sign of life.",
        "Restart `aiia up`, or the daemon's own service, and read its log if it ends again.",
        check.everywhere("aiia doctor"),
        found_by("platform:daemon")),
    FailureClass("history-unavailable", "History Unavailable", "platform", FAILED, "platform",
        AGAIN,
        "The database that holds the history of job runs does not answer.",
        "Start that database, or correct AIIA_DATABASE_URL; what was committed is safe.",
        check.everywhere("aiia doctor"),
        found_by("platform:history")),
    FailureClass("unclassified", "Unclassified Failure", "platform", FAILED, "platform", NEVER,
        "The catalogue has no row for this failure yet.",
        "Read the traceback in the log; report it, so that the catalogue gets a row for it.",
        check.everywhere("aiia jobs logs NUMBER --level error"),
        found_by("")),
)

USER = (
    FailureClass("cancelled", "Cancelled", "user", CANCELLED, "user", NEVER,
        "A person stopped this job run; nothing of it was committed.",
        "Dispatch it again if the records are still needed.",
        check.everywhere("aiia jobs list"),
        found_by("cancelled job:cancelled class:KeyboardInterrupt "
                 "class:dagster._core.errors.DagsterExecutionInterruptedError")),
)
