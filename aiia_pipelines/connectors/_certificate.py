"""What a certificate says of itself: Python reads that only of one that it was asked to trust."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

_COMMON_NAME, _ORGANIZATION = b"\x55\x04\x03", b"\x55\x04\x0a"
_ALTERNATIVE_NAMES = b"\x55\x1d\x11"
_UTC_TIME, _UTF_16, _EXTENSIONS, _VERSION = 0x17, 0x1E, 0xA3, 0xA0
_OCTETS, _DNS_NAME = 0x04, 0x82
_CENTURY = 50  # two digits of a year below it are of this one


@dataclass(frozen=True, slots=True)
class Certificate:
    """Whom a certificate is for, who gave it, and until when it is good."""

    subject: str
    issuer: str
    until: datetime
    names: tuple[str, ...] = ()

    @classmethod
    def read(cls, der: bytes) -> "Certificate":
        """Read a certificate in the form in which servers send it."""
        (_, whole), *_ = _parts(der)
        (_, facts), *_ = _parts(whole)
        fields = [part for part in _parts(facts) if part[0] != _VERSION]
        _, _, (_, issuer), (_, validity), (_, subject), *rest = fields
        _, (tag, until) = _parts(validity)
        names = [name for tag, part in rest if tag == _EXTENSIONS for name in _names(part)]
        return cls(_name(subject), _name(issuer), _moment(tag, until), tuple(names))


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Take a sequence of DER apart: tag and content of each element."""
    at = 0
    while at < len(data):
        tag, length, start = data[at], data[at + 1], at + 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(data[at + 2 : start], "big")
        at = start + length
        yield tag, data[start:at]


def _name(data: bytes) -> str:
    found: dict[bytes, str] = {}
    for _, attributes in _parts(data):
        for _, attribute in _parts(attributes):
            (_, kind), (tag, text) = _parts(attribute)
            found.setdefault(
                kind, text.decode("utf-16-be" if tag == _UTF_16 else "utf-8", "replace")
            )
    told = [("CN", found.get(_COMMON_NAME)), ("O", found.get(_ORGANIZATION))]
    return ", ".join(f"{key}={text}" for key, text in told if text) or "no name"


def _moment(tag: int, data: bytes) -> datetime:
    digits = data.decode("ascii").rstrip("Z")
    if tag == _UTC_TIME:
        digits = f"{'20' if int(digits[:2]) < _CENTURY else '19'}{digits}"
    return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def _names(extensions: bytes) -> Iterator[str]:
    (_, listed), *_ = _parts(extensions)
    for _, extension in _parts(listed):
        (_, kind), *rest = _parts(extension)
        if kind != _ALTERNATIVE_NAMES:
            continue
        (_, whole), *_ = _parts(next(data for tag, data in rest if tag == _OCTETS))
        yield from (
            name.decode("ascii", "replace") for tag, name in _parts(whole) if tag == _DNS_NAME
        )
