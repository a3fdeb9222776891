"""What a firewall team has to know to let a worker through to a source."""

import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.connectors._reach import outbound, resolve
from aiia_pipelines.jobs.families import family_of
from aiia_pipelines.sync.aside import Aside

_ADDRESS = re.compile(r"\[?(?P<host>[^/]+?)\]?:(?P<port>[0-9]+)")
_SPOKEN = {
    "postgresql": "PostgreSQL",
    "mysql": "MySQL",
    "mssql": "SQL Server",
    "oracle": "Oracle Net",
    "hana": "SAP HANA SQL",
}
_PATIENCE = 2.0  # seconds for a name server that answered a moment ago


@dataclass(frozen=True, slots=True)
class FirewallRequest:
    """One connection that is to be allowed."""

    source_ip: str
    source_host: str
    destination: str
    addresses: tuple[str, ...]
    port: int
    protocol: str
    purpose: str
    at: datetime
    observed: str

    @property
    def text(self) -> str:
        """The request as a block of text to paste."""
        listed = ", ".join(self.addresses) or "no address known to this worker"
        known = self.destination if self.addresses == (self.destination,) else ""
        rows = (
            (
                "Source",
                f"{self.source_ip or 'unknown'} ({self.source_host}; {self._translation()})",
            ),
            ("Destination", known or f"{self.destination} ({listed})"),
            ("Port", str(self.port)),
            ("Protocol", self.protocol),
            ("Direction", "outbound from the source"),
            ("Purpose", self.purpose),
            ("Time", f"{self.at:%Y-%m-%d %H:%M:%S} UTC"),
            ("Observed", self.observed),
        )
        return "\n".join(f"{name + ':':<13}{text}" for name, text in rows)

    def _translation(self) -> str:
        """Say that this machine cannot see what a gateway makes of its address."""
        if not self.source_ip:
            return "this worker has no route to anywhere"
        if self.source_ip in self.addresses or ip_address(self.source_ip).is_loopback:
            return "the same machine"
        return "its address before any translation (NAT) on the way"

    def facts(self) -> dict[str, Any]:
        """Return the record; its keys are stable."""
        return {
            "source_ip": self.source_ip,
            "source_host": self.source_host,
            "destination": self.destination,
            "addresses": list(self.addresses),
            "port": self.port,
            "protocol": self.protocol,
            "purpose": self.purpose,
            "at": self.at,
            "observed": self.observed,
            "text": self.text,
        }


def request_for(
    connector: Connector, place: str, at: datetime, observed: str, *, resolves: bool
) -> FirewallRequest | None:
    """Put a request together; None for a place that is no `host:port`.

    Without `resolves` the name server is not asked again: it has just failed.
    """
    found = _ADDRESS.fullmatch(place)
    if found is None:
        return None
    host, port = found["host"], int(found["port"])
    addresses = _addresses(host, port) if resolves else ()
    return FirewallRequest(
        source_ip=outbound(addresses),
        source_host=socket.gethostname(),
        destination=host,
        addresses=tuple(addresses),
        port=port,
        protocol=_protocol(connector),
        purpose=f"aiia_pipelines reads the connector {connector.name} ({connector.title})",
        at=at,
        observed=observed,
    )


def _protocol(connector: Connector) -> str:
    source = connector.source
    family = family_of(source)
    if family in {"rest", "s3"}:
        url = str(source.get("endpoint_url") or source.get("url") or "")
        return "TCP (HTTP)" if url.startswith("http:") else "TCP (HTTPS)"
    return f"TCP ({_SPOKEN[family]})" if family in _SPOKEN else "TCP"


def _addresses(host: str, port: int) -> Sequence[str]:
    aside = Aside("resolve")
    answer = aside.do(lambda: resolve(host, port), time.monotonic() + _PATIENCE)
    aside.end()
    return answer.result() if answer.done() and answer.exception() is None else ()
