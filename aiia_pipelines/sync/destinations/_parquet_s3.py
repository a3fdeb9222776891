"""Parquet files in an S3 bucket; credentials come from where boto3 looks for them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from aiia_pipelines.sync.destinations._parquet_store import Stored
from aiia_pipelines.sync.faults import DestinationFault

_FORM = "s3://bucket/prefix?endpoint_url=https://host&region=name"
_OPTIONS = {"endpoint_url", "region"}
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_PASSING = {"SlowDown", "RequestTimeout", "ConditionalRequestConflict"}
_MISSING = {"NoSuchKey", "404"}
_LOGIN = (
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
)  # fmt: skip
_SIGNALS = {
    "AccessDenied": "sqlstate:42501",
    "AllAccessDisabled": "sqlstate:42501",
    "NoSuchBucket": "login:no-database",
    "QuotaExceeded": "sqlstate:53100",
    "InsufficientStorage": "sqlstate:53100",
} | dict.fromkeys(_LOGIN, "login:credentials")
_SERVER_FAULT = 500


class S3Store:
    """A bucket from a prefix on."""

    def __init__(self, url: str) -> None:
        """Read the URL; nothing is connected yet."""
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if not parts.netloc or "@" in parts.netloc or options.keys() - _OPTIONS:
            raise DestinationFault(
                f"The URL of an S3 destination must have the form {_FORM}, without credentials:"
                " those come from AWS_ACCESS_KEY_ID, a profile or the role of the machine.",
                "config:invalid",
            )
        self._bucket = parts.netloc
        self._prefix = unquote(parts.path).strip("/")
        self._endpoint = options.get("endpoint_url") or None
        self._region = options.get("region") or None
        self._client: Any = None

    def describe(self) -> str:
        """Name bucket and prefix."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def connect(self, *, writes: bool) -> None:  # noqa: ARG002 - only writing shows whether one may
        """Ask for the bucket, which also shows whether the credentials are right."""
        with self._translated():
            # A session of its own: boto3's shared one would keep credentials that were renewed since.
            self._client = boto3.Session().client(
                "s3",
                endpoint_url=self._endpoint,
                region_name=self._region,
                config=Config(
                    connect_timeout=20,
                    read_timeout=60,
                    retries={"mode": "standard", "total_max_attempts": 5},
                ),
            )
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._key(""), MaxKeys=1)

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def names(self, folder: str) -> list[Stored]:
        """List what lies in a folder."""
        start = self._key(f"{folder}/")
        cut = len(self._key(""))
        with self._translated():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=start, Delimiter="/"
            )
            return [
                Stored(entry["Key"][cut:], entry["LastModified"].timestamp())
                for page in pages
                for entry in page.get("Contents", ())
            ]

    def read(self, name: str) -> bytes | None:
        """Give the content of an object."""
        with self._translated():
            try:
                found = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
            except ClientError as fault:
                if fault.response["Error"]["Code"] in _MISSING:
                    return None
                raise
            content: bytes = found["Body"].read()
            return content

    def put_new(self, name: str, content: bytes) -> bool:
        """Make an object unless there is one; a lost answer is told from a lost race by the content."""
        with self._translated():
            try:
                self._client.put_object(
                    Bucket=self._bucket, Key=self._key(name), Body=content, IfNoneMatch="*"
                )
            except ClientError as fault:
                if fault.response["Error"]["Code"] not in _TAKEN:
                    raise
                found = self.read(name)
                if found is None:
                    raise  # an earlier request of ours may still be on its way
                return found == content
        return True

    def publish(self, path: Path, name: str) -> None:
        """Upload a file, in parts if it is large."""
        with self._translated():
            self._client.upload_file(str(path), self._bucket, self._key(name))

    def local(self, name: str, scratch: Path) -> Path:
        """Download an object once for an attempt."""
        path = scratch / name.replace("/", "-")
        if not path.exists():
            with self._translated():
                self._client.download_file(self._bucket, self._key(name), str(path))
        return path

    def remove(self, name: str) -> None:
        """Remove an object."""
        with self._translated():
            self._client.delete_object(Bucket=self._bucket, Key=self._key(name))

    def scratch(self) -> Path:
        """Give a folder among the temporary files of this machine."""
        return Path(tempfile.gettempdir())

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what boto3 raises into a DestinationFault."""
        place = self._endpoint or f"s3://{self._bucket}"
        place = urlsplit(place).netloc
        try:
            yield
        except (ClientError, S3UploadFailedError) as fault:
            inner = fault if isinstance(fault, ClientError) else fault.__context__
            response = inner.response if isinstance(inner, ClientError) else {}
            code = str(response.get("Error", {}).get("Code", ""))
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", _SERVER_FAULT)
            known = _SIGNALS.get(code)
            if known is None and (status >= _SERVER_FAULT or code in _PASSING):
                known = "destination:unreachable"
            raise DestinationFault(
                f"The destination {self.describe()} refused: {code or type(inner).__name__}.",
                known or f"aws:{code}",
                place=place,
            ) from fault
        except BotoCoreError as fault:
            login = isinstance(fault, NoCredentialsError)
            signal = "login:credentials" if login else "destination:unreachable"
            said = "boto3 finds no credentials" if login else type(fault).__name__
            raise DestinationFault(
                f"The destination {self.describe()} cannot be reached: {said}.", signal, place=place
            ) from fault
