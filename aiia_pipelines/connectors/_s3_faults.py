"""What goes wrong at an S3 store, in sentences and signals."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from aiia_pipelines.connectors._reach import timed_out
from aiia_pipelines.connectors.base import SourceFault

Seconds = tuple[float, float]
_CREDENTIALS = ("Invalid credentials", "login:credentials")
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
                "InvalidAccessKeyId SignatureDoesNotMatch ExpiredToken InvalidToken TokenRefreshRequired"
                " InvalidSecurity NotSignedUp AuthorizationHeaderMalformed ExpiredTokenException"
                " UnrecognizedClientException 401"
            ),
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
    if "html" in str(told.get("HTTPHeaders", {}).get("content-type", "")):
        # A web page with status 200 is passed on by botocore as a failure of the store.
        sentence = f"Protocol error. {place} answered with a web page; it is no S3 store."
        return SourceFault(sentence, "protocol:error", place=place)
    sentence, known = _MEANING.get(code, ("The store refuses", ""))
    status = told.get("HTTPStatusCode", 0)
    if not known and code not in _MEANING and isinstance(status, int) and status >= 500:
        known = "source:unavailable"
    signals = (f"aws:{code}", *((known,) if known else ()))
    return SourceFault(f"{sentence}. {what}: {code}.", *signals, place=place)


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
        (RecursionError, ResponseParserError),
        "Protocol error. What answers at {place} is no S3 store, or redirects for ever.",
        "protocol:error",
    ),
)


def _network(fault: BaseException, what: str, place: str, seconds: Seconds) -> SourceFault:
    if isinstance(fault, boto.ConnectTimeoutError):
        return timed_out(place, seconds[0])
    if isinstance(fault, boto.ReadTimeoutError):
        told = f"Read timeout. {place} sent nothing for {seconds[1]:g} seconds. {what}."
        return Lost(told, "read:timeout", place=place)
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
