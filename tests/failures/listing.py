"""Every exception class of the libraries in use, found by looking into their modules."""

import importlib
import inspect
from collections.abc import Iterator

# Where the exceptions that can reach a run are defined, or offered to callers.
MODULES = (
    # databases
    "psycopg", "psycopg.errors", "psycopg2", "psycopg2.errors", "sqlalchemy.exc", "pymysql.err",
    "sqlite3", "oracledb", "oracledb.exceptions", "pymssql", "pymssql.exceptions",
    "pymssql._mssql", "hdbcli.dbapi", "adbc_driver_manager", "duckdb", "_duckdb",
    # the web and object stores
    "httpx", "httpcore", "h11", "urllib3.exceptions", "requests.exceptions", "http.client",
    "botocore.exceptions", "botocore.parsers", "botocore.eventstream", "boto3.exceptions",
    "s3transfer.exceptions", "ssl", "socket",
    # files and data
    "pyarrow.lib", "pandas.errors", "pandera.errors", "openpyxl.utils.exceptions",
    "python_calamine", "zipfile", "gzip", "zlib", "lzma", "bz2", "csv", "json", "decimal",
    # this side
    "builtins", "concurrent.futures", "subprocess", "pydantic", "pydantic_core", "pydantic.errors",
    "yaml", "dagster", "dagster._core.errors", "dagster_shared.check", "alembic.util.exc",
)  # fmt: skip


def classes() -> dict[str, type[BaseException]]:
    """Give every exception class by its full name; warnings are never raised here."""
    found = {f"{kind.__module__}.{kind.__name__}": kind for kind in _all()}
    return {name: kind for name, kind in sorted(found.items()) if not issubclass(kind, Warning)}


def _all() -> Iterator[type[BaseException]]:
    for name in MODULES:
        module = importlib.import_module(name)
        for word in dir(module):
            kind = getattr(module, word)
            if inspect.isclass(kind) and issubclass(kind, BaseException):
                yield kind
