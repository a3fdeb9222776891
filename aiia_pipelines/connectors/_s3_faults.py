"""What goes wrong at an S3 store, in sentences and signals."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from aiia_pipelines.connectors import _tls_faults as tls
from aiia_pipelines.connectors._reach import timed_out
from aiia_pipelines.connectors.base import SourceFault

Seconds = tuple[float, float]
_CREDENTIALS = ("Invalid credentials", "login:credentials")
_EXPIRED = ("Credentials expired", "login:expired")
_QUOTA = ("Quota exceeded", "source:quota")
_FORBIDDEN = ("Permission denied", "")
_MISSING = ("Not found", "source:not-found")
_BUSY = ("Rate limited: the store wants fewer requests", "source:unavailable")
_DOWN = ("The store is unavailable", "source:unavailable")
_SKEWED = ("The clock of this worker is wrong: the store refuses requests of another time", "")
_SLOW = ("Read timeout: the store gave up waiting", "read:timeout")
_ELSEWHERE = (
    "Protocol error: the store refers to another place; check endpoint_url and region",
    "protocol:error",
)
_REFUSED = (
    "The store does not accept the request; check bucket, prefix and region",
    "config:invalid",
)
_ARCHIVED = ("The object is archived; restore it first", "")

_MEANING: Mapping[str, tuple[str, str]] = {
    code: meaning
    for meaning, codes in (
        (
            _CREDENTIALS,
            (
                "InvalidAccessKeyId SignatureDoesNotMatch InvalidToken InvalidSecurity NotSignedUp"
                " AuthorizationHeaderMalformed UnrecognizedClientException 401"
            ),
        ),
        (_EXPIRED, "ExpiredToken ExpiredTokenException TokenRefreshRequired"),
        (
            _QUOTA,
            "QuotaExceeded ServiceQuotaExceeded ServiceQuotaExceededException LimitExceededException",
        ),
        (_FORBIDDEN, "AccessDenied AllAccessDisabled AccountProblem KMS.DisabledException 403"),
        (_MISSING, "NoSuchBucket NoSuchKey NoSuchVersion 404"),
        (
            _BUSY,
            (
                "SlowDown Throttling ThrottlingException TooManyRequests RequestLimitExceeded"
                " BandwidthLimitExceeded 429"
            ),
        ),
        (_DOWN, "InternalError ServiceUnavailable OperationAborted 500 502 503 504"),
        (_SKEWED, "RequestTimeTooSkewed"),
        (_SLOW, "RequestTimeout RequestTimeoutException"),
        (
            _ELSEWHERE,
            (
                "PermanentRedirect TemporaryRedirect 301 302 307 308 MethodNotAllowed NotImplemented 405 501"
                " IllegalLocationConstraintException"
            ),
        ),
        (_REFUSED, "InvalidBucketName InvalidArgument InvalidRequest 400"),
        (_ARCHIVED, "InvalidObjectState"),
    )
    for code in codes.split()
}
CHANGED = {"PreconditionFailed", "412", "InvalidRange", "416"}


class Lost(SourceFault):
    """The connection broke in the middle of an object: the rest may be asked for again."""


def code_of(fault: boto.ClientError) -> str:
    """Give the word, or the status, with which a store refused."""
    return str(fault.response.get("Error", {}).get("Code", "")) or "unknown"


def refused(fault: boto.ClientError, what: str, place: str) -> SourceFault:
    """Say what the refusal of a store means; its own words may hold parts of the request."""
    code = code_of(fault)
    told = fault.response.get("ResponseMetadata", {})
    if _is_page(told):
        return _page(place)
    sentence, known = _MEANING.get(code, ("The store refuses", ""))
    status = told.get("HTTPStatusCode", 0)
    if not known and code not in _MEANING and isinstance(status, int) and status >= 500:
        known = "source:unavailable"
    signals = (f"aws:{code}", *((known,) if known else ()))
    return SourceFault(f"{sentence}. {what}: {code}.", *signals, place=place)


def refuse_pages(found: Mapping[str, Any], place: str) -> None:
    """Refuse a list of objects that is none: botocore reads a web page as a list without entries.

    Raises:
        SourceFault: It is a web page.
    """
    if _is_page(found.get("ResponseMetadata", {})):
        raise _page(place)


def _is_page(told: Mapping[str, Any]) -> bool:
    return "html" in str(told.get("HTTPHeaders", {}).get("content-type", ""))


def _page(place: str) -> SourceFault:
    sentence = f"Unexpected content type. {place} answered with a web page; it is no S3 store."
    return SourceFault(sentence, "protocol:content-type", "protocol:error", place=place)


def changed(key: str, place: str) -> SourceFault:
    """Say that an object is another one than when it was listed."""
    return SourceFault(
        f"{key} was overwritten or removed while it was read; sync again.",
        "source:changed",
        "source:unavailable",
        place=place,
    )


def lost(what: str, place: str) -> Lost:
    """Say that a connection broke."""
    return Lost(
        f"Connection lost. {place} ended it before the answer was complete. {what}.",
        "connection:lost",
        place=place,
    )


# What the network did: the more special classes come first.
_NETWORK: tuple[tuple[tuple[type[Exception], ...], str, str], ...] = (
    ((boto.SSLError,), "TLS failure. {place} cannot be trusted, or broke off.", "tls:failure"),
    (
        (boto.EndpointConnectionError,),
        "Connection refused. Nothing answers at {place}.",
        "errno:ECONNREFUSED",
    ),
    (
        (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError),
        "Invalid credentials. There are none for {place} here.",
        "login:credentials",
    ),
    (
        (boto.ParamValidationError, boto.InvalidRegionError, ValueError),
        "The name of the bucket, key or region is not valid. {what}.",
        "config:invalid",
    ),
    (
        (RecursionError,),
        "Redirect loop. {place} redirects again and again. {what}.",
        "http:redirect-loop",
    ),
    (
        (ResponseParserError,),
        "Protocol error. What answers at {place} is no S3 store.",
        "protocol:error",
    ),
)


def _network(fault: BaseException, what: str, place: str, seconds: Seconds) -> SourceFault:
    if isinstance(fault, boto.ConnectTimeoutError):
        return timed_out(place, seconds[0])
    if isinstance(fault, boto.ReadTimeoutError):
        told = f"Read timeout. {place} sent nothing for {seconds[1]:g} seconds. {what}."
        return Lost(told, "read:timeout", place=place)
    if isinstance(fault, boto.SSLError) and (told_tls := tls.told(fault, place)) is not None:
        return SourceFault(told_tls[0], told_tls[1], "tls:failure", place=place)
    for classes, sentence, signal in _NETWORK:
        if isinstance(fault, classes):
            return SourceFault(sentence.format(place=place, what=what), signal, place=place)
    return lost(what, place)


@contextmanager
def translated(what: str, place: str, seconds: Seconds) -> Iterator[None]:
    """Turn what botocore raises into a SourceFault; `seconds` are those to connect and to read."""
    try:
        yield
    except boto.ClientError as fault:
        raise refused(fault, what, place) from fault
    except (
        boto.BotoCoreError,
        ResponseParserError,
        RecursionError,
        HTTPError,
        OSError,
        ValueError,
    ) as fault:
        raise _network(fault, what, place, seconds) from fault
