"""Every number and code that the drivers know leads to a row, or is left out for a reason."""

import gzip
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore
import pytest
from botocore.exceptions import ClientError
from botocore.retries import standard
from deliberate_numbers import AWS, NOT_PYMYSQL, ORACLE, is_left_out_of_mysql
from pymysql import err
from pymysql.constants import CR, ER

from aiia_pipelines.connectors import _sql_far_faults as far
from aiia_pipelines.connectors import _sql_mysql_faults as mysql
from aiia_pipelines.connectors._s3_faults import refused
from aiia_pipelines.connectors.base import SourceFault
from aiia_pipelines.jobs.catalogue import CATALOGUE
from aiia_pipelines.jobs.failures import classify

SIGNALS = {signal for row in CATALOGUE.values() for signal in row.signals}
_DATA = Path(botocore.__file__).parent / "data"


def numbers(constants: Any) -> dict[str, int]:
    found = {name: value for name, value in vars(constants).items() if isinstance(value, int)}
    return {name: value for name, value in found.items() if not name.startswith(("_", "ERROR_F"))}


def code_of(number: int, words: str = "Odd") -> str:
    told = mysql.meaning(err.OperationalError(number, words), login=False)
    return classify(SourceFault(told.sentence, *told.signals)).code


def test_every_number_of_a_mysql_server_leads_to_a_row_or_is_left_out() -> None:
    found = numbers(ER)
    assert len(found) > 400
    unclassified = {name for name, number in found.items() if code_of(number) == "unclassified"}
    left_out = {name for name in found if is_left_out_of_mysql(name)}
    assert unclassified - left_out == set()


def test_every_number_that_pymysql_raises_itself_leads_to_a_row() -> None:
    found = set(numbers(CR).values())
    assert {n for n in found if code_of(n) == "unclassified"} <= NOT_PYMYSQL
    source = Path(err.__file__).parent.glob("*.py")
    raised = "".join(path.read_text() for path in source)
    named = {name for name, number in numbers(CR).items() if number in NOT_PYMYSQL}
    assert not [name for name in named if f"CR.{name}" in raised and name != "CR_UNKNOWN_ERROR"]


@pytest.mark.parametrize(
    ("number", "words", "code"),
    [
        (1045, "Access denied for user 'rd'@'::1' (using password: YES)", "invalid-credentials"),
        (1130, "Host '10.1.2.3' is not allowed to connect", "login-not-allowed"),
        (4151, "Access denied, this account is locked", "login-not-allowed"),
        (1820, "You must SET PASSWORD before executing this statement", "credentials-expired"),
        (
            1226,
            "User 'rd' has exceeded the 'max_user_connections' resource",
            "too-many-connections",
        ),
        (1226, "User 'rd' has exceeded the 'max_queries_per_hour' resource", "quota-exceeded"),
        (1317, "Query execution was interrupted", "query-cancelled"),
        (1969, "Query execution was interrupted (max_statement_time exceeded)", "query-timeout"),
        (1030, 'Got error 28 "No space left on device" from storage engine', "source-disk-full"),
        (1030, 'Got error 134 "Record was already deleted" from storage engine', "malformed-data"),
    ],
)
def test_one_number_may_mean_two_things(number: int, words: str, code: str) -> None:
    assert code_of(number, words) == code


@pytest.mark.parametrize("table", ["_ORACLE", "_MSSQL", "_HANA"])
def test_every_number_of_the_other_databases_leads_to_a_row(table: str) -> None:
    signals = set(vars(far)[table].values()) | {signal for _, signal in far._NETWORK}
    for signal in signals:
        assert classify(SourceFault("Odd.", signal)).code != "unclassified", signal


def test_every_number_of_oracles_driver_leads_to_a_row_or_is_a_mistake_of_ours() -> None:
    errors: Any = importlib.import_module("oracledb.errors")
    found = {
        f"DPY-{number}": name.removeprefix("ERR_")
        for name, number in vars(errors).items()
        if name.startswith("ERR_") and isinstance(number, int)
    }
    assert len(found) > 190
    unknown = {name for code, name in found.items() if code not in far._ORACLE}
    # What a connection broke with is said in words.
    assert {name for name in unknown if not ORACLE.match(name)} == {"CONNECTION_FAILED"}
    assert {code for code in far._ORACLE if code.startswith("DPY")} <= set(found)


def _retried(told: Any) -> Iterator[str]:
    if isinstance(told, dict):
        if "service_error_code" in told:
            yield told["service_error_code"]
        told = list(told.values())
    if isinstance(told, list):
        for part in told:
            yield from _retried(part)


def _modelled(service: str) -> Iterator[str]:
    path = max((_DATA / service).glob("*/service-2.json.gz"))
    for name, shape in json.loads(gzip.decompress(path.read_bytes()))["shapes"].items():
        if shape.get("exception"):
            yield shape.get("error", {}).get("code", name)


def aws_codes() -> set[str]:
    """Give every code that botocore knows of retries, throttling, logins and S3."""
    found = set(_retried(json.loads((_DATA / "_retry.json").read_text())))
    found |= {*standard.TransientRetryableChecker._TRANSIENT_ERROR_CODES}
    found |= {*standard.ThrottledRetryableChecker._THROTTLED_ERROR_CODES}
    for service in ("s3", "sts", "sso", "sso-oidc", "signin"):
        found |= {*_modelled(service)}
    return found


def test_every_code_of_aws_leads_to_a_row_or_is_left_out() -> None:
    codes = aws_codes()
    assert len(codes) > 60
    answers = {code: ClientError({"Error": {"Code": code}}, "GetObject") for code in codes}
    raw = {code for code, fault in answers.items() if classify(fault).code == "unclassified"}
    assert raw == AWS
    told = {code: refused(fault, "key", "s3:443") for code, fault in answers.items()}
    assert {code for code, fault in told.items() if classify(fault).code == "unclassified"} == AWS


@pytest.mark.parametrize(
    ("code", "row"),
    {
        "SlowDown": "rate-limited",
        "EC2ThrottledException": "rate-limited",
        "ExpiredToken": "credentials-expired",
        "InvalidClientTokenId": "invalid-credentials",
        "RequestTimeTooSkewed": "clock-skew",
        "BadDigest": "connection-lost",
        "PriorRequestNotComplete": "source-unavailable",
        "IDPCommunicationError": "source-unavailable",
        "ServiceQuotaExceededException": "quota-exceeded",
        "AccessDeniedException": "permission-denied",
        "RequestTimeoutException": "read-timeout",
    }.items(),
)
def test_a_code_of_aws_leads_to_the_row_that_means_it(code: str, row: str) -> None:
    assert classify(ClientError({"Error": {"Code": code}}, "GetObject")).code == row


def test_signals_of_the_catalogue_are_spelt_as_the_readers_write_them() -> None:
    kinds = {signal.removeprefix("destination:").partition(":")[0] for signal in SIGNALS}
    assert kinds <= {
        "address", "aws", "cancelled", "class", "config", "connect", "connection", "contract",
        "data", "dns", "errno", "exit", "file", "http", "job", "limit", "login", "memory",
        "pandera", "platform", "protocol", "proxy", "query", "read", "reconcile", "run", "secret",
        "source", "sqlstate", "timeout", "tls", "worker", "changed", "fenced", "locked",
        "rejected", "unreachable",
    }  # fmt: skip
