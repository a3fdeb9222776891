"""Every way a job run can go wrong: one row each, found by its signals."""

from dataclasses import dataclass
from typing import Literal

from aiia_pipelines.jobs.badge import Badge

Origin = Literal["source", "destination", "data", "configuration", "platform", "user"]


@dataclass(frozen=True, slots=True)
class FailureClass:
    """One row of the catalogue; a failure fills `{place}`, `{host}` and `{port}`."""

    code: str
    title: str
    badge: Badge
    origin: Origin
    transient: bool
    cause: str
    remedy: str
    verify: str
    signals: frozenset[str]


_FAILED, _ERROR, _CANCELLED = Badge.FAILED, Badge.ERROR, Badge.CANCELLED
_RETRY, _STAY = True, False


def _any(signals: str) -> frozenset[str]:
    return frozenset(signals.split())


# A row is badge, origin and retry, then cause, remedy, verify, signals: kept as a table.
# fmt: off
_ROWS = (
    FailureClass("connection-timeout", "Connection Timeout", _FAILED, "source", _RETRY,
        "Nothing answered in time: a firewall drops the packets, or the server hangs.",
        "Allow outbound traffic from this worker to {place}, then run a Connection Test.",
        "nc -vz -w 5 {host} {port}",
        _any("errno:ETIMEDOUT connect:class:TimeoutError class:psycopg.errors.ConnectionTimeout "
             "timeout:connect login:timeout class:ConnectTimeout")),
    FailureClass("connection-refused", "Connection Refused", _FAILED, "source", _RETRY,
        "The host answered, but no service listens on that port.",
        "Start the service at {place}, or correct host and port in the connector.",
        "nc -vz {host} {port}",
        _any("errno:ECONNREFUSED class:ConnectionRefusedError login:refused")),
    FailureClass("connection-lost", "Connection Lost", _FAILED, "source", _RETRY,
        "The server or something between closed the connection while it was in use.",
        "Look for a restart, an idle limit or a proxy that ends sessions at {place}, then retry.",
        "nc -vz {host} {port}",
        _any("sqlstate:08 sqlstate:57P01 sqlstate:57P02 sqlstate:57P05 sqlstate:25P03 "
             "errno:ECONNRESET errno:ECONNABORTED errno:EPIPE errno:ENOTCONN errno:ESHUTDOWN "
             "class:ConnectionError class:EOFError class:ssl.SSLEOFError "
             "class:ssl.SSLZeroReturnError connection:lost login:lost")),
    FailureClass("network-unreachable", "Network Unreachable", _FAILED, "source", _RETRY,
        "This worker has no route to the server.",
        "Bring up the network, VPN or tunnel that leads to {place}.",
        "ip route get {host}",
        _any("errno:EHOSTUNREACH errno:ENETUNREACH errno:EHOSTDOWN errno:ENETDOWN "
             "errno:EADDRNOTAVAIL")),
    FailureClass("host-not-found", "Host Not Found", _FAILED, "source", _STAY,
        "The name server knows no host of that name.",
        "Correct the host in the connector, or add the name to the DNS this worker asks.",
        "getent hosts {host}",
        _any("errno:EAI_NONAME errno:EAI_NODATA errno:EAI_FAIL errno:EAI_ADDRFAMILY "
             "class:socket.gaierror dns:not-found login:host")),
    FailureClass("name-server-unavailable", "Name Server Unavailable", _FAILED, "platform", _RETRY,
        "The name server gave no answer, so the address of the host is not known.",
        "Check the name servers of this worker; the host name itself may well be right.",
        "getent hosts {host}",
        _any("errno:EAI_AGAIN dns:try-again login:name-server")),
    FailureClass("tls-failure", "TLS Failure", _FAILED, "source", _STAY,
        "Both sides could not agree on encryption, or the certificate is not trusted here.",
        "Install the certificate authority of {place} here, or correct the sslmode option.",
        "openssl s_client -connect {host}:{port}",
        _any("class:ssl.SSLError tls:failure login:tls")),
    FailureClass("invalid-credentials", "Invalid Credentials", _FAILED, "source", _STAY,
        "The login was refused: user or password is wrong, expired or not let in from here.",
        "Renew the credentials the connector refers to, then run a Connection Test.",
        "psql -h {host} -p {port} -U USER -d DATABASE -c 'select 1'",
        _any("sqlstate:28 sqlstate:08004 login:credentials http:401 aws:InvalidAccessKeyId "
             "aws:SignatureDoesNotMatch aws:ExpiredToken aws:InvalidToken "
             "aws:TokenRefreshRequired aws:InvalidSecurity aws:NotSignedUp "
             "aws:AuthorizationHeaderMalformed aws:UnrecognizedClientException aws:401 "
             "aws:ExpiredTokenException")),
    FailureClass("permission-denied", "Permission Denied", _FAILED, "source", _STAY,
        "The login worked, but it may not read what the stream asks for.",
        "Grant the user of the connector read access to the table, schema or file.",
        "aiia test CONNECTOR",
        _any("sqlstate:42501 errno:EACCES errno:EPERM class:PermissionError http:402 http:403 "
             "http:451 aws:AccessDenied aws:AllAccessDisabled aws:KMS.DisabledException "
             "aws:AccountProblem aws:InvalidObjectState aws:Forbidden "
             "aws:403")),
    FailureClass("source-not-found", "Source Not Found", _FAILED, "source", _STAY,
        "The database, path or file that the connector names does not exist.",
        "Correct the name in the connector, or have the source restored.",
        "aiia test CONNECTOR",
        _any("sqlstate:3D000 errno:ENOENT errno:ENOTDIR class:FileNotFoundError "
             "source:not-found login:no-database http:404 http:410 aws:NoSuchBucket "
             "aws:NoSuchKey aws:NoSuchVersion aws:404 aws:NotFound")),
    FailureClass("rate-limited", "Rate Limited", _FAILED, "source", _RETRY,
        "The source refuses further requests for a while because there were too many.",
        "Schedule the connector less often, or ask the owner of {place} for a higher quota.",
        "aiia test CONNECTOR",
        _any("http:429 aws:SlowDown aws:Throttling aws:ThrottlingException "
             "aws:RequestLimitExceeded aws:TooManyRequestsException aws:BandwidthLimitExceeded "
             "aws:TooManyRequests aws:429 "
             "source:rate-limited")),
    FailureClass("clock-skew", "Clock Skew", _FAILED, "platform", _STAY,
        "The clock of this worker and that of the source differ too much for a signed request.",
        "Set the clock of the worker by a time server, then retry.",
        "date -u",
        _any("aws:RequestTimeTooSkewed aws:RequestExpired")),
    FailureClass("source-changed", "Source Changed", _FAILED, "source", _RETRY,
        "A file or object was written again while it was being read.",
        "Let the writer finish first, or have it write under another name and rename.",
        "ls -l --full-time FILE",
        _any("source:changed aws:PreconditionFailed aws:412")),
    FailureClass("source-unavailable", "Source Unavailable", _FAILED, "source", _RETRY,
        "The server is up but takes no work: it starts, stops or recovers.",
        "Wait until the server has started; if it stays so, read the log of the server.",
        "pg_isready -h {host} -p {port}",
        _any("sqlstate:57P03 login:unavailable source:unavailable http:500 http:502 http:503 "
             "http:504 http:5xx aws:InternalError aws:InternalFailure aws:ServiceUnavailable "
             "aws:500 aws:503")),
    FailureClass("too-many-connections", "Too Many Connections", _FAILED, "source", _RETRY,
        "Every connection that the server allows is in use.",
        "End idle sessions, raise the limit of server or role, or run fewer connectors at once.",
        "psql -h {host} -p {port} -U USER -c 'select count(*) from pg_stat_activity'",
        _any("sqlstate:53300 class:sqlalchemy.exc.TimeoutError login:too-many")),
    FailureClass("query-timeout", "Query Timeout", _FAILED, "source", _RETRY,
        "The server stopped the query because it ran longer than it may.",
        "Add an index or narrow the query, or raise statement_timeout for this user.",
        "psql -h {host} -p {port} -U USER -c 'show statement_timeout'",
        _any("sqlstate:57014 query:timeout")),
    FailureClass("read-timeout", "Read Timeout", _FAILED, "source", _RETRY,
        "The connection stands, but the server sent nothing for too long.",
        "Look for blocked sessions or heavy load at {place}, and for a stalled network path.",
        "nc -vz {host} {port}",
        _any("class:TimeoutError read:timeout class:ReadTimeout http:408 aws:RequestTimeout")),
    FailureClass("lock-conflict", "Lock Conflict", _FAILED, "source", _RETRY,
        "Another session held what the query needed, or the server broke a deadlock.",
        "Let the other work finish, or move the schedule to a quieter hour.",
        "psql -h {host} -p {port} -U USER -c 'select * from pg_locks where not granted'",
        _any("sqlstate:40 sqlstate:55P03")),
    FailureClass("source-disk-full", "Source Disk Full", _FAILED, "source", _STAY,
        "The server cannot write: its disk is full or faulty, so large sorts and joins fail there.",
        "Free or add disk space on the server of the source.",
        "ssh {host} df -h",
        _any("sqlstate:53100 sqlstate:58030")),
    FailureClass("out-of-memory", "Out of Memory (OOM)", _FAILED, "platform", _RETRY,
        "The work needed more memory than the worker or the server may use.",
        "Narrow the query, set a lower batch_rows, or give the worker more memory.",
        "free -m",
        _any("memory:exhausted memory:oom-kill sqlstate:53200 errno:ENOMEM")),
    FailureClass("worker-lost", "Worker Lost", _FAILED, "platform", _RETRY,
        "The worker ended without a word: killed, restarted, or its machine went away.",
        "Read the system log of the worker around the last line of this job run, then retry.",
        "journalctl -k --since '1 hour ago'",
        _any("worker:lost exit:137 exit:-9")),
    FailureClass("worker-disk-full", "Worker Disk Full", _FAILED, "platform", _STAY,
        "The disk of the worker has no room left.",
        "Free space below the data folder and the temporary folder of this worker.",
        "df -h",
        _any("errno:ENOSPC errno:EDQUOT")),
    FailureClass("resource-limit", "Resource Limit", _FAILED, "platform", _STAY,
        "A limit other than memory or disk was hit: open files, threads, or size of a query.",
        "Raise the limit for this worker, or split the stream into smaller ones.",
        "ulimit -a",
        _any("sqlstate:54 sqlstate:53 errno:EMFILE errno:ENFILE errno:EAGAIN limit:size")),
    FailureClass("protocol-error", "Protocol Error", _FAILED, "source", _STAY,
        "What answers there does not speak the expected protocol.",
        "Check that host and port lead to the service itself, not to a proxy or another product.",
        "nc -v {host} {port}",
        _any("sqlstate:08P01 errno:EPROTO protocol:error http:407 http:426 http:501 http:505 "
             "http:511 http:3xx aws:301 aws:PermanentRedirect aws:TemporaryRedirect "
             "aws:redirect")),
    FailureClass("column-mismatch", "Column Mismatch", _ERROR, "data", _STAY,
        "A table, column or type is not what the mapping or the contract expects.",
        "Correct mapping or query in the connector, or accept what the source has now with "
        "`aiia connectors schema NAME --accept`, then re-run.",
        "psql -h {host} -p {port} -U USER -d DATABASE -c '\\d TABLE'",
        _any("contract:column contract:type sqlstate:42703 sqlstate:42P01 sqlstate:42804 "
             "sqlstate:42883 sqlstate:42846 sqlstate:3F000 pandera:COLUMN_NOT_IN_DATAFRAME "
             "pandera:COLUMN_NOT_IN_SCHEMA pandera:COLUMN_NOT_ORDERED pandera:WRONG_DATATYPE "
             "pandera:DATATYPE_COERCION")),
    FailureClass("value-invalid", "Invalid Value", _ERROR, "data", _STAY,
        "A value breaks a rule of the contract or does not fit its column.",
        "Correct the rows at the source, or the check or type in the connector, then re-run.",
        "aiia jobs list --status failed",
        _any("contract:value contract:null contract:check sqlstate:21 sqlstate:22 "
             "pandera:SERIES_CONTAINS_NULLS pandera:DATAFRAME_CHECK pandera:CHECK_ERROR")),
    FailureClass("malformed-data", "Malformed Data", _ERROR, "data", _STAY,
        "The data is damaged or not in the format it claims to be in.",
        "Have the source write the data again, or say in the connector how they have to be read.",
        "aiia connectors preview CONNECTOR",
        _any("sqlstate:22P04 sqlstate:XX001 sqlstate:XX002 class:json.decoder.JSONDecodeError "
             "class:pyarrow.lib.ArrowInvalid data:malformed")),
    FailureClass("duplicate-key", "Duplicate Key", _ERROR, "data", _STAY,
        "Two records have the same key, where the contract wants one.",
        "Remove the duplicates at the source, or name all columns that make the key.",
        "psql -h {host} -p {port} -U USER -d DATABASE "
        "-c 'select KEY, count(*) from TABLE group by KEY having count(*) > 1'",
        _any("contract:unique contract:key pandera:SERIES_CONTAINS_DUPLICATES "
             "pandera:DUPLICATES")),
    FailureClass("constraint-violation", "Constraint Violation", _ERROR, "data", _STAY,
        "A record breaks a constraint of the database.",
        "Correct the records, or the constraint that refuses them.",
        "psql -h {host} -p {port} -U USER -d DATABASE -c '\\d TABLE'",
        _any("sqlstate:23")),
    FailureClass("row-count", "Row Count", _ERROR, "data", _STAY,
        "The number of records is outside the range the contract allows.",
        "Find out why the source has so many or so few, or correct row_count in the connector.",
        "psql -h {host} -p {port} -U USER -d DATABASE -c 'select count(*) from TABLE'",
        _any("contract:row-count")),
    FailureClass("reconciliation-mismatch", "Reconciliation Mismatch", _ERROR, "data", _STAY,
        "What would be stored differs from what the source sent, so nothing was committed.",
        "Compare the figures of the job run, look for writers during the run, then re-run.",
        "aiia jobs list --status failed",
        _any("contract:reconciliation reconcile:mismatch contract:lost-rows")),
    FailureClass("empty-source", "Empty Source", _ERROR, "data", _STAY,
        "The source sent no records, though the contract expects some.",
        "Check that the load before this one ran, and the filter of the query.",
        "psql -h {host} -p {port} -U USER -d DATABASE -c 'select count(*) from TABLE'",
        _any("contract:empty")),
    FailureClass("mass-delete", "Mass Delete", _ERROR, "data", _STAY,
        "Far more records are gone at the source than usual; they were not deleted here.",
        "Find out whether the source is complete; if so, raise max_delete of the stream, re-run.",
        "aiia sync CONNECTOR --dry-run",
        _any("contract:mass-delete")),
    FailureClass("too-many-records", "Too Many Records", _ERROR, "data", _STAY,
        "The stream sent more records than max_rows allows.",
        "Narrow the query, or raise max_rows of the stream if the number is right.",
        "psql -h {host} -p {port} -U USER -d DATABASE -c 'select count(*) from TABLE'",
        _any("contract:max-rows")),
    FailureClass("encoding-error", "Encoding Error", _ERROR, "data", _STAY,
        "Some text is not in the character encoding it should be in.",
        "Correct the text at the source, or the encoding the connector declares.",
        "aiia connectors preview CONNECTOR",
        _any("sqlstate:22021 sqlstate:22P05 class:UnicodeError contract:encoding")),
    FailureClass("query-invalid", "Invalid Query", _ERROR, "configuration", _STAY,
        "The server does not accept the query of the stream.",
        "Run the query by hand at the source, correct it in the connector, then re-run.",
        "aiia test CONNECTOR",
        _any("sqlstate:42 query:invalid http:400 http:405 http:406 http:409 http:411 http:413 "
             "http:414 http:415 http:422 http:4xx")),
    FailureClass("config-invalid", "Invalid Configuration", _FAILED, "configuration", _STAY,
        "A connector file or a setting asks for something that cannot be done.",
        "Correct the lines that the check names.",
        "aiia connectors validate",
        _any("config:invalid class:ConfigInvalid class:UnknownConnector address:refused "
             "source:forbidden-path")),
    FailureClass("secret-missing", "Secret Missing", _FAILED, "configuration", _STAY,
        "A secret the connector refers to is not set for the process that needed it.",
        "Set the variable or file the message names where that process runs: the services of "
        "`aiia up`, or this shell.",
        "aiia connectors validate",
        _any("secret:missing class:SecretMissing")),
    FailureClass("destination-unreachable", "Destination Unreachable", _FAILED, "destination",
        _RETRY,
        "The destination does not answer, or ended the connection.",
        "Start the destination, and allow traffic from this worker to {place}.",
        "pg_isready -h {host} -p {port}",
        _any("destination:errno:ETIMEDOUT destination:errno:ECONNREFUSED "
             "destination:errno:ECONNRESET destination:errno:ECONNABORTED destination:errno:EPIPE "
             "destination:errno:EHOSTUNREACH destination:errno:ENETUNREACH "
             "destination:errno:EAI_NONAME destination:errno:EAI_AGAIN destination:sqlstate:08 "
             "destination:sqlstate:57P01 destination:sqlstate:57P02 destination:sqlstate:57P03 "
             "destination:sqlstate:57P05 destination:sqlstate:25P03 destination:login:timeout "
             "destination:login:refused destination:login:lost destination:login:host "
             "destination:login:name-server destination:dns:not-found "
             "destination:dns:try-again destination:timeout:connect "
             "destination:login:unavailable destination:class:ConnectionError "
             "destination:class:psycopg.errors.ConnectionTimeout destination:class:TimeoutError "
             "destination:class:socket.gaierror destination:connection:lost "
             "destination:unreachable")),
    FailureClass("destination-login", "Destination Login", _FAILED, "destination", _STAY,
        "The destination refused the login or has no such database.",
        "Correct user, password or database of the destination, then run the job again.",
        "psql -h {host} -p {port} -U USER -d DATABASE -c 'select 1'",
        _any("destination:sqlstate:28 destination:sqlstate:08004 destination:sqlstate:3D000 "
             "destination:login:credentials destination:login:no-database")),
    FailureClass("destination-permission", "Destination Permission", _FAILED, "destination", _STAY,
        "The user of the destination may not create or write the tables there.",
        "Grant that user create and write on the schema of the connector.",
        "psql -h {host} -p {port} -U USER -d DATABASE -c '\\dn+'",
        _any("destination:sqlstate:42501")),
    FailureClass("destination-disk-full", "Destination Disk Full", _FAILED, "destination", _STAY,
        "The destination cannot write: its disk is full or faulty. Nothing was committed.",
        "Free or add disk space on the server of the destination, then retry.",
        "ssh {host} df -h",
        _any("destination:sqlstate:53100 destination:sqlstate:58030")),
    FailureClass("destination-conflict", "Destination Conflict", _FAILED, "destination", _RETRY,
        "Another session or a newer job run holds the table of this stream.",
        "Let the other job run finish; if none is active, look for a session that holds locks.",
        "psql -h {host} -p {port} -U USER -c 'select * from pg_locks where not granted'",
        _any("destination:sqlstate:40 destination:sqlstate:55P03 destination:fenced "
             "destination:changed destination:locked")),
    FailureClass("file-locked", "File Locked", _FAILED, "destination", _RETRY,
        "Another process has the file of the destination open, and only one may write to it.",
        "Close the other program; readers open the file read-only, or a copy of it.",
        "lsof FILE",
        _any("file:locked destination:file:locked")),
    FailureClass("destination-rejected", "Destination Rejected", _ERROR, "destination", _STAY,
        "A constraint of the destination table refused a record. Nothing was committed.",
        "Correct the records, or drop the constraint that somebody added to the table.",
        "psql -h {host} -p {port} -U USER -d DATABASE -c '\\d TABLE'",
        _any("destination:sqlstate:23 destination:rejected")),
    FailureClass("target-read-only", "Target Read-Only", _FAILED, "destination", _STAY,
        "The server takes no writes: it is a standby, or its sessions are read-only.",
        "Point the destination at the primary server, or lift the read-only setting.",
        "psql -h {host} -p {port} -U USER -c 'select pg_is_in_recovery()'",
        _any("sqlstate:25006 errno:EROFS")),
    FailureClass("cancelled", "Cancelled", _CANCELLED, "user", _STAY,
        "A person stopped this job run; nothing of it was committed.",
        "Dispatch it again if the records are still needed.",
        "aiia jobs list",
        _any("cancelled job:cancelled class:KeyboardInterrupt "
             "class:dagster._core.errors.DagsterExecutionInterruptedError")),
    FailureClass("unclassified", "Unclassified Failure", _FAILED, "platform", _STAY,
        "The catalogue has no row for this failure yet.",
        "Read the traceback in the log; report it, so that the catalogue gets a row for it.",
        "aiia doctor",
        _any("")),
)
# fmt: on

CATALOGUE: dict[str, FailureClass] = {row.code: row for row in _ROWS}
