"""What the encryption library did not like, in words and signals."""

import ssl
from collections.abc import Iterator

from aiia_pipelines.jobs.signals import VERIFIED

_NO_COMMON_WAY = {
    "HTTP_REQUEST", "INAPPROPRIATE_FALLBACK", "NO_PROTOCOLS_AVAILABLE", "NO_SHARED_CIPHER",
    "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "SSLV3_ALERT_HANDSHAKE_FAILURE",
    "TLSV1_ALERT_PROTOCOL_VERSION", "UNKNOWN_PROTOCOL", "UNSUPPORTED_PROTOCOL",
    "VERSION_TOO_LOW", "WRONG_SSL_VERSION", "WRONG_VERSION_NUMBER",
}  # fmt: skip


def told(fault: BaseException, place: str) -> tuple[str, str] | None:
    """Give sentence and signal of the TLS error that a fault came from; None when it came from none."""
    for error in _chain(fault):
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return None
        if isinstance(error, ssl.SSLError):
            return _told(error, place)
        if type(error).__name__ == "CertificateError":
            # Web clients compare names themselves.
            words = str(error).rstrip(".")
            return f"TLS failure. {place} cannot be trusted: {words}.", "tls:name"
    return None


def _told(error: ssl.SSLError, place: str) -> tuple[str, str]:
    reason = str(error.reason or "broken off")
    if reason in _NO_COMMON_WAY:
        words = reason.replace("_", " ").lower()
        return (
            f"TLS failure. {place} speaks no TLS that this worker takes: {words}.",
            "tls:protocol",
        )
    words = getattr(error, "verify_message", "") or reason.replace("_", " ").lower()
    signal = VERIFIED.get(getattr(error, "verify_code", 0), "tls:failure")
    return f"TLS failure. {place} cannot be trusted: {words.rstrip('.')}.", signal


def _chain(fault: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [fault]
    while waiting:
        current = waiting.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [item for item in current.args if isinstance(item, BaseException)]
        waiting += [current.__cause__, current.__context__]
