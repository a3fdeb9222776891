"""Every exception class of every library in use is classified, or left unclassified for a reason."""

import warnings

import psycopg
import psycopg2.errors
import pydantic
import pydantic_core
import pytest
from deliberate import DELIBERATE, STATES, reasons
from listing import classes

from aiia_pipelines.jobs.catalogue import CATALOGUE
from aiia_pipelines.jobs.driver_classes import ADBC, BROAD, OF_DAGSTER, SURE
from aiia_pipelines.jobs.failures import classify

with warnings.catch_warnings():
    # Reading a deprecated name of a library is not using it.
    warnings.simplefilter("ignore")
    FOUND = classes()
REASONS = reasons()
SIGNALS = {signal for row in CATALOGUE.values() for signal in row.signals}
# psycopg2 gives SQLSTATE to the exceptions that it raises; a class alone has none.
_OF_PSYCOPG2: dict[type[BaseException], str] = {
    kind: state for state, kind in psycopg2._psycopg.sqlstate_errors.items()
}
_ALIASES = {"QueryCanceledError": "57014", "TransactionRollbackError": "40000"}


def _invalid() -> BaseException:
    with pytest.raises(pydantic.ValidationError) as caught:
        pydantic.TypeAdapter(int).validate_python("x")
    return caught.value


def made(kind: type[BaseException]) -> BaseException:
    """Make an exception of a class, whatever its constructor asks for."""
    if kind is pydantic.ValidationError:
        return _invalid()
    if issubclass(kind, BaseExceptionGroup):
        return kind("several", [ValueError()])
    if kind.__module__ == pydantic_core.PydanticCustomError.__module__:
        # These want words of their own, and no two of them the same.
        kind = type(kind.__name__, (Exception,), {"__module__": kind.__module__})
    exc = kind.__new__(kind)
    if kind.__module__.startswith("psycopg2."):
        exc.sqlstate = _OF_PSYCOPG2.get(kind) or _ALIASES[kind.__name__]  # type: ignore[attr-defined]
    return exc


def _is_unknown(exc: BaseException) -> bool:
    return classify(exc).code == "unclassified"


def is_deliberate(name: str, exc: BaseException) -> bool:
    return name in REASONS or getattr(exc, "sqlstate", None) in STATES


def test_every_class_is_classified_or_left_out_for_a_reason() -> None:
    """Say what a new class means in jobs/driver_classes.py, or why it says nothing in deliberate.py."""
    exceptions = {name: made(kind) for name, kind in FOUND.items()}
    unclassified = {name for name, exc in exceptions.items() if _is_unknown(exc)}
    left_out = {name for name, exc in exceptions.items() if is_deliberate(name, exc)}
    assert unclassified - left_out == set(), "new classes that nobody has looked at"
    assert left_out - unclassified == set(), "classes that have a row and need no reason"


def test_what_is_left_out_exists() -> None:
    assert set(REASONS) <= set(FOUND)


def test_no_class_has_two_reasons_or_a_reason_and_a_meaning() -> None:
    named = [
        f"{module}.{name}"
        for modules in DELIBERATE.values()
        for module, names in modules.items()
        for name in names.split()
    ]
    assert len(named) == len(set(named))
    assert not set(named) & {*SURE, *BROAD}


def test_every_class_with_a_meaning_exists_and_its_signal_is_claimed() -> None:
    assert {*SURE, *BROAD} <= set(FOUND)
    assert not set(SURE) & set(BROAD)
    for signal in {*SURE.values(), *BROAD.values(), *OF_DAGSTER.values(), *ADBC.values()}:
        assert signal in SIGNALS or signal[: len("sqlstate:XX")] in SIGNALS


def test_the_classes_are_found_in_every_library() -> None:
    assert len(FOUND) > 1000
    roots = {name.partition(".")[0] for name in FOUND}
    assert roots > {
        "psycopg", "psycopg2", "sqlalchemy", "pymysql", "sqlite3", "oracledb", "pymssql",
        "hdbcli", "adbc_driver_manager", "_duckdb", "httpx", "httpcore", "h11", "urllib3",
        "botocore", "boto3", "s3transfer", "pyarrow", "pandas", "pandera", "openpyxl",
        "python_calamine", "zipfile", "gzip", "zlib", "_lzma", "_csv", "json", "ssl", "socket",
        "builtins", "pydantic", "pydantic_core", "yaml", "dagster", "requests", "xml",
    }  # fmt: skip


def test_every_sqlstate_of_psycopg_leads_to_a_row_or_is_left_out() -> None:
    known = {
        kind.sqlstate
        for kind in vars(psycopg.errors).values()
        if isinstance(getattr(kind, "sqlstate", None), str)
    }
    assert len(known) > 250
    unclassified = set()
    for state in known:
        exc = psycopg.DatabaseError("x")
        exc.sqlstate = state
        if _is_unknown(exc):
            unclassified.add(state)
    assert unclassified == STATES
