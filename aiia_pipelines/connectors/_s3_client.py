"""One stoppable client of an S3 store."""

import logging
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import botocore.session
from botocore import UNSIGNED
from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from botocore.config import Config
from botocore.httpsession import get_cert_path

from aiia_pipelines.connectors import _s3_faults as faults
from aiia_pipelines.connectors._reach import Reached, resolve
from aiia_pipelines.connectors._s3_options import Options
from aiia_pipelines.connectors._sockets import OpenSockets
from aiia_pipelines.connectors._tls import Peer, look
from aiia_pipelines.connectors._web_address import Origin, reach_allowed
from aiia_pipelines.connectors.base import SourceFault
from aiia_pipelines.jobs.redaction import REDACTOR

_ATTEMPTS = 4


class Client:
    """Connections to one store; one thread asks, any thread may cancel."""

    def __init__(self, options: Options) -> None:
        """Keep the options; nothing is opened yet."""
        self.options = options
        self.stopped = threading.Event()
        self.attempts = _ATTEMPTS
        self._sockets = OpenSockets()
        self._boto: Any = None

    @property
    def origin(self) -> Origin:
        """The server that is asked."""
        return Origin.of(self.options.endpoint)

    @property
    def place(self) -> str:
        """The `host:port` of the store."""
        return self.origin.place

    @property
    def api(self) -> Any:  # noqa: ANN401 - botocore has no types
        """The calls of S3."""
        if self._boto is None:
            raise AssertionError("open() comes first")
        return self._boto

    def resolve(self) -> list[str]:
        """Look up the addresses of the store."""
        return resolve(self.origin.host, self.origin.port)

    def reach(self) -> Reached:
        """Find an address of the store that may be asked."""
        options = self.options
        return reach_allowed(self.origin, options.connect_timeout, private=options.allow_private)

    def look(self) -> str:
        """Agree on encryption and tell about the certificate, trusting whom the calls trust.

        Raises:
            SourceFault: Both sides do not agree, or the certificate is not to be trusted.
        """
        origin, seconds = self.origin, self.options.connect_timeout
        self._check_authority()
        trusted = get_cert_path(self.options.ca_file or os.environ.get("AWS_CA_BUNDLE") or True)
        context = ssl.create_default_context(cafile=trusted)
        address = self.reach().address
        return look(
            Peer(host=origin.host, address=address, port=origin.port, seconds=seconds), context
        )

    def _check_authority(self) -> None:
        file = self.options.ca_file
        if file is None:
            return
        try:
            ssl.create_default_context(cafile=file)
        except OSError as fault:
            raise SourceFault(
                f"The ca_file {file} cannot be read as a certificate.", "config:invalid"
            ) from fault

    def open(self) -> None:
        """Prepare the calls."""
        for name in ("boto3", "botocore", "urllib3", "s3transfer"):
            # At DEBUG they write signatures and session tokens.
            logging.getLogger(name).setLevel(logging.WARNING)
        options = self.options
        session = botocore.session.Session()
        secrets: dict[str, str | None] = {}
        if options.login != "ambient":
            # What some other program keeps on this machine must not change what a file says.
            session.set_config_variable("config_file", os.devnull)
            session.set_config_variable("credentials_file", os.devnull)
            secrets = _secrets(options)
        self._check_authority()
        with self.translated(f"Bucket {options.bucket}"):
            self._boto = session.create_client(
                "s3",
                endpoint_url=options.endpoint_url,
                region_name=options.region,
                verify=options.ca_file,
                config=self._config(),
                **secrets,
            )
        self._watch_connections()

    def _config(self) -> Config:
        options = self.options
        return Config(
            connect_timeout=options.connect_timeout,
            read_timeout=options.read_timeout,
            retries={"mode": "standard", "total_max_attempts": self.attempts},
            signature_version=UNSIGNED if options.login == "anonymous" else "s3v4",
            s3={"addressing_style": options.addressing},
            ignore_configured_endpoint_urls=options.login != "ambient",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_supported",
            tcp_keepalive=True,
            user_agent_extra="aiia-pipelines",
        )

    def _watch_connections(self) -> None:
        """Keep hold of each connection, so that another thread can end it; botocore gives no handle."""
        keep = self._keep

        class Plain(AWSHTTPConnection):  # type: ignore[misc]  # botocore has no types
            def connect(self) -> None:
                super().connect()
                keep(self.sock)

        class Secure(AWSHTTPSConnection):  # type: ignore[misc]  # botocore has no types
            def connect(self) -> None:
                super().connect()
                keep(self.sock)

        class PlainPool(AWSHTTPConnectionPool):  # type: ignore[misc]  # botocore has no types
            ConnectionCls = Plain

        class SecurePool(AWSHTTPSConnectionPool):  # type: ignore[misc]  # botocore has no types
            ConnectionCls = Secure

        manager = self._boto._endpoint.http_session._manager  # noqa: SLF001
        manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

    def _keep(self, opened: socket.socket) -> None:
        self._sockets.keep(opened)
        if self.stopped.is_set():
            self._sockets.end()

    def translated(self, what: str) -> AbstractContextManager[None]:
        """Turn what botocore raises into a SourceFault."""
        seconds = (self.options.connect_timeout, self.options.read_timeout)
        return faults.translated(what, self.place, seconds)

    def stop_if_asked(self) -> None:
        """End the work when somebody cancelled it.

        Raises:
            SourceFault: Somebody did.
        """
        if self.stopped.is_set():
            raise SourceFault(
                f"The read of {self.place} was stopped.", "cancelled", place=self.place
            )

    def ask(self, what: str, call: str, **arguments: Any) -> Any:  # noqa: ANN401 - botocore has no types
        """Make one call.

        Raises:
            SourceFault: The store refuses or cannot be reached.
        """
        self.stop_if_asked()
        try:
            with self.translated(what):
                found = getattr(self.api, call)(Bucket=self.options.bucket, **arguments)
            if call == "list_objects_v2":
                faults.refuse_pages(found, self.place)
        except SourceFault:
            self.stop_if_asked()
            raise
        return found

    def listed(self, prefix: str) -> Iterator[dict[str, Any]]:
        """List the objects whose keys begin so, a thousand at a time."""
        token: dict[str, str] = {}
        seen: set[str] = set()
        while True:
            what = f"Bucket {self.options.bucket}"
            page = self.ask(what, "list_objects_v2", Prefix=prefix, **token)
            yield from page.get("Contents", ())
            following = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or not following:
                return
            if following in seen:
                raise SourceFault(
                    f"Protocol error. {self.place} lists the same objects again and again.",
                    "protocol:error",
                    place=self.place,
                )
            seen.add(following)
            token = {"ContinuationToken": following}

    def cancel(self) -> None:
        """End waiting and every connection; may be called from another thread."""
        self.stopped.set()
        self._sockets.end()

    def close(self) -> None:
        """Close all connections; may be called twice."""
        client, self._boto = self._boto, None
        if client is not None:
            client.close()
        self._sockets.forget()


def _secrets(options: Options) -> dict[str, str | None]:
    """Take the keys out of their envelope, and keep them out of every log."""
    found: dict[str, str | None] = {"aws_access_key_id": options.access_key_id}
    for name in ("secret_access_key", "session_token"):
        value = getattr(options, name)
        text = value.get_secret_value() if value is not None else None
        if text:
            REDACTOR.add(text)
        found[f"aws_{name}"] = text
    return found
