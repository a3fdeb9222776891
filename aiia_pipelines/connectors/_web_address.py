"""Which servers may be asked: the host that the connector file names, at an address that is no trap.

APIs and stores of one's own usually are on a private network, so this machine and private addresses are allowed
for the hosts that stand in the file; nothing that a server answers leads to another host. Link-local, metadata
and addresses of no single machine are refused whatever the file says.
"""

import ipaddress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from aiia_pipelines.connectors._reach import Reached, reach, resolve
from aiia_pipelines.connectors.base import SourceFault

# What machines in a cloud, and only they, find at fixed addresses: their own credentials.
_METADATA = {
    ipaddress.ip_address(text)
    for text in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SHARED = ipaddress.ip_network("100.64.0.0/10")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what must not change from one page to the next."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Origin":
        """Take the origin of an absolute URL.

        Raises:
            ValueError: It has none.
        """
        parts: SplitResult = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("no web address")
        try:
            # Names are asked for and shown to servers in ASCII.
            host = (
                parts.hostname
                if parts.hostname.isascii()
                else parts.hostname.encode("idna").decode()
            )
        except UnicodeError:
            raise ValueError("no host name") from None
        return cls(parts.scheme, host, parts.port or (443 if parts.scheme == "https" else 80))

    @property
    def place(self) -> str:
        """The `host:port` that has to be reachable."""
        return f"{self.host}:{self.port}"

    @property
    def authority(self) -> str:
        """What the header Host says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == (443 if self.scheme == "https" else 80)
        return host if usual else f"{host}:{self.port}"


def reach_allowed(origin: Origin, timeout: float, *, private: bool) -> Reached:
    """Find an address of a host that accepts connections and may be asked.

    The caller keeps to that address, so that no later answer of a name server leads elsewhere.

    Raises:
        SourceFault: The host cannot be reached, or has an address that may not be asked.
    """
    for address in resolve(origin.host, origin.port):
        _check(address, origin, private=private)
    reached = reach(origin.host, origin.port, timeout)
    _check(reached.address, origin, private=private)
    return reached


def _check(text: str, origin: Origin, *, private: bool) -> None:
    reason = _reason(_plain(ipaddress.ip_address(text.partition("%")[0])), private=private)
    if reason:
        raise SourceFault(
            f"{origin.host} may not be asked: its address {text} is {reason}.",
            "address:refused",
            "config:invalid",
            place=origin.place,
        )


def _plain(address: _Address) -> _Address:
    """Take the IPv4 address out of an IPv6 address that stands for one."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


def _reason(address: _Address, *, private: bool) -> str:
    if address in _METADATA:
        return "a metadata service"
    if address.is_link_local:
        return "link-local, where machines keep their metadata"
    if address.is_multicast or address.is_unspecified:
        return "no single machine"
    if address.version == 4 and address.is_reserved:
        return "reserved"
    if address.is_loopback or address.is_private or (address.version == 4 and address in _SHARED):
        return "" if private else "private, and allow_private is false"
    return ""
