"""The commands with which a person verifies a remedy, by family of server."""

from collections.abc import Mapping

from aiia_pipelines.jobs._catalogue_row import ANY

Checks = Mapping[str, str]

TEST = "aiia test CONNECTOR"
PREVIEW = "aiia connectors preview CONNECTOR"
_NC = "nc -vz {host} {port}"
_HTTP = "curl -sS -o /dev/null -w '%{http_code}\\n' https://{host}:{port}/"
_LIST = "ls -l {place}"
_BUCKET = "aws s3 ls s3://BUCKET --endpoint-url https://{host}:{port}"
_SIGNED_IN = (
    "curl -sS -o /dev/null -w '%{http_code}\\n'"
    " -H 'Authorization: Bearer TOKEN' https://{host}:{port}/PATH"
)
_NO_SERVER = {"sqlite": _LIST, "duckdb": _LIST, "files": _LIST}

# The programs that come with each database; QUERY stands for what is asked.
_CLIENTS = {
    "postgresql": "psql -h {host} -p {port} -U USER -d DATABASE -c 'QUERY'",
    "mysql": "mariadb -h {host} -P {port} -u USER -p DATABASE -e 'QUERY'",
    "mssql": 'sqlcmd -S {host},{port} -U USER -d DATABASE -Q "QUERY"',
    "oracle": "echo 'QUERY;' | sqlplus -S USER@//{host}:{port}/SERVICE",
    "hana": 'hdbsql -n {host}:{port} -u USER "QUERY"',
    "sqlite": "sqlite3 -readonly {place} 'QUERY'",
    "duckdb": "duckdb -readonly {place} -c 'QUERY'",
}


def by_family(default: str, /, **commands: str) -> Checks:
    """Give the commands of some families, and one for all others."""
    return {ANY: default, **commands}


def asking(query: str = "", /, **queries: str) -> dict[str, str]:
    """Write the commands that ask a database; `query` is for families without a query of their own."""
    asked = {family: queries.get(family, query) for family in _CLIENTS}
    return {
        family: _CLIENTS[family].replace("QUERY", text) for family, text in asked.items() if text
    }


def everywhere(command: str) -> Checks:
    """Give one command for all families."""
    return {ANY: command}


def of_destination(checks: Checks) -> Checks:
    """Keep the families that destinations belong to."""
    kept = {family: checks[family] for family in _DESTINATIONS if family in checks}
    # A Connection Test asks the source, `aiia doctor` also the destinations.
    default = "aiia doctor" if checks[ANY].startswith("aiia ") else checks[ANY]
    return by_family(default, **kept)


_DESTINATIONS = ("postgresql", "duckdb", "s3", "files")
_BY_WEB = {"rest": _HTTP, "s3": _HTTP}
_LOGIN = asking("select 1", oracle="select 1 from dual", hana="select 1 from dummy")
_TRUST = "openssl s_client -connect {host}:{port} -servername {host}"
_DATES = " </dev/null | openssl x509 -noout -enddate"
_NAME = " -verify_hostname {host} -verify_return_error </dev/null"
_ENCRYPTED = 'sqlcmd -N -S {host},{port} -U USER -Q "select 1"'
_STARTED = {"postgresql": " -starttls postgres", "mysql": " -starttls mysql"}


def _tls(rest: str) -> Checks:
    started = {family: f"{_TRUST}{how}{rest}" for family, how in _STARTED.items()}
    return by_family(f"{_TRUST}{rest}", mssql=_ENCRYPTED, **started)


REACH_IN_TIME = by_family("nc -vz -w 5 {host} {port}", **_BY_WEB, **_NO_SERVER)
REACH = by_family(_NC, **_BY_WEB, **_NO_SERVER)
ROUTE = everywhere("ip route get {host}")
NAME = everywhere("getent hosts {host}")
PROXY = everywhere("env | grep -i _proxy; curl -sSv -o /dev/null https://{host}:{port}/")
TLS = _tls("")
TLS_DATES = _tls(_DATES)
TLS_NAME = _tls(_NAME)
TLS_PROTOCOL = _tls(" -tls1_2 </dev/null")
LOGIN = by_family(TEST, **_LOGIN, s3=_BUCKET, rest=_SIGNED_IN, files=_LIST)
GRANTS = by_family(
    TEST,
    **asking(
        postgresql="\\dp TABLE",
        mysql="show grants",
        mssql="select permission_name from fn_my_permissions(null, 'DATABASE')",
        oracle="select privilege from session_privs",
        hana="select privilege from effective_privileges where user_name = current_user",
    ),
    sqlite=_LIST,
    duckdb=_LIST,
    s3=_BUCKET,
    rest=_SIGNED_IN,
    files=_LIST,
)
SCHEMAS = {**GRANTS, **asking(postgresql="\\dn+")}
EXISTS = by_family(
    TEST,
    # Without naming the database: that it exists is the question.
    postgresql="psql -h {host} -p {port} -U USER -l",
    mysql="mariadb -h {host} -P {port} -u USER -p -e 'show databases'",
    mssql='sqlcmd -S {host},{port} -U USER -Q "select name from sys.databases"',
    hana='hdbsql -n {host}:{port} -u USER "select database_name from m_databases"',
    oracle="tnsping //{host}:{port}/SERVICE",
    sqlite=_LIST,
    duckdb=_LIST,
    s3=_BUCKET,
    rest=_SIGNED_IN,
    files=_LIST,
)
UP = by_family(
    _NC,
    postgresql="pg_isready -h {host} -p {port}",
    mysql="mariadb-admin -h {host} -P {port} -u USER -p ping",
    **{family: _LOGIN[family] for family in ("mssql", "oracle", "hana")},
    **_BY_WEB,
    **_NO_SERVER,
)
SESSIONS = by_family(
    TEST,
    **asking(
        postgresql="select usename, state, count(*) from pg_stat_activity group by 1, 2",
        mysql="show full processlist",
        mssql="select login_name, count(*) from sys.dm_exec_sessions group by login_name",
        oracle="select username, count(*) from v$session group by username",
        hana="select user_name, count(*) from m_connections group by user_name",
    ),
)
LOCKS = by_family(
    TEST,
    **asking(
        postgresql="select * from pg_locks where not granted",
        mysql="show engine innodb status",
        mssql="select * from sys.dm_tran_locks where request_status = 'WAIT'",
        oracle="select * from v$lock where request > 0",
        hana="select * from m_blocked_transactions",
    ),
    sqlite="lsof {place}",
    duckdb="lsof {place}",
)
TIME_LIMIT = by_family(
    TEST,
    **asking(
        postgresql="show statement_timeout",
        mysql='show variables like "max_%_time"',
        mssql="select name, value_in_use from sys.configurations where name like '%governor%'",
        oracle="select resource_name, limit from user_resource_limits",
        hana="select key, value from m_inifile_contents where key = 'statement_timeout'",
    ),
)
QUOTA = by_family(
    TEST,
    **asking(
        postgresql="select rolname, rolconnlimit from pg_roles where rolname = current_user",
        mysql="show create user current_user()",
        oracle="select resource_name, limit from user_resource_limits",
    ),
    rest="curl -sS -o /dev/null -D - https://{host}:{port}/",
)
TABLE = by_family(
    "aiia connectors schema CONNECTOR --diff",
    **asking(
        postgresql="\\d TABLE",
        mysql="describe TABLE",
        mssql="exec sp_columns TABLE",
        oracle="describe TABLE",
        hana="select column_name, data_type_name from table_columns where table_name = 'TABLE'",
        sqlite=".schema TABLE",
        duckdb="describe TABLE",
    ),
)
COUNT = by_family(PREVIEW, **asking("select count(*) from TABLE"))
DUPLICATES = by_family(
    PREVIEW, **asking("select KEY, count(*) from TABLE group by KEY having count(*) > 1")
)
DISK = by_family("ssh {host} df -h", **dict.fromkeys(_NO_SERVER, "df -h {place}"))
WRITABLE = by_family(
    "findmnt -T {place}",
    **asking(
        postgresql="show transaction_read_only",
        mysql="select @@read_only",
        mssql="select databasepropertyex('DATABASE', 'Updateability')",
        oracle="select open_mode from v$database",
    ),
)
FORMAT = by_family(
    PREVIEW,
    rest="curl -sS -D - -H 'Authorization: Bearer TOKEN' https://{host}:{port}/PATH | head -c 2000",
    files="file {place}",
)
PROTOCOL = by_family("nc -v {host} {port}", rest="curl -sSv https://{host}:{port}/", s3=_HTTP)
REDIRECTS = everywhere("curl -sSIL --max-redirs 10 https://{host}:{port}/PATH")
FILE_TIMES = by_family("ls -l --full-time {place}", s3=_BUCKET)
