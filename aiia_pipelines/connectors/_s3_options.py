"""What the connector file says of a bucket and of the files in it."""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from aiia_pipelines.connectors._tabular_options import FormatOptions, LimitOptions


class Options(LimitOptions):
    """The `source:` part of a connector file of kind s3."""

    kind: Literal["s3"] = Field(description="Data files in a bucket")
    bucket: str = Field(min_length=1, max_length=255, description="Name of the bucket")
    prefix: str = Field("", max_length=1000, description="Where the paths of the streams begin")
    endpoint_url: str | None = Field(None, description="Default: Amazon's; else https://host:port")
    region: str = Field(
        "us-east-1", min_length=1, max_length=100, description="Where the bucket is"
    )
    access_key_id: str | None = Field(None, description="Name of the key")
    secret_access_key: SecretStr | None = Field(None, description="A reference: ${env:S3_SECRET}")
    session_token: SecretStr | None = Field(None, description="Of a key that expires")
    login: Literal["keys", "ambient", "anonymous"] = Field(
        "keys", description="ambient: what the environment or the machine's role gives"
    )
    addressing: Literal["auto", "path", "virtual"] = Field(
        "auto", description="Whether the bucket stands in the path or in the host"
    )
    allow_private: bool = Field(
        default=True, description="Whether the endpoint may be on this machine or a private network"
    )
    ca_file: str | None = Field(
        None, description="Certificate authority to trust instead of the known"
    )
    connect_timeout: int = Field(20, ge=1, le=600, description="Seconds")
    read_timeout: int = Field(60, ge=1, le=3600, description="Seconds without a byte")
    max_objects: int = Field(100_000, ge=1, le=10_000_000, description="That one stream may match")

    @field_validator("endpoint_url")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        if url is None or "${" in url:
            return url
        parts = urlsplit(url)
        if (
            parts.scheme not in {"http", "https"}
            or not parts.hostname
            or parts.query
            or parts.path not in {"", "/"}
        ):
            raise ValueError("not an endpoint; write https://host:port")
        if "@" in parts.netloc:
            raise ValueError("a login must not stand in the URL")
        return url

    @model_validator(mode="after")
    def _login_is_complete(self) -> Self:
        keys = (self.access_key_id, self.secret_access_key)
        if self.login == "keys" and None in keys:
            raise ValueError(
                "needs access_key_id and secret_access_key, or login: ambient or login: anonymous"
            )
        if self.login != "keys" and any((*keys, self.session_token)):
            raise ValueError(f"login: {self.login} takes no keys")
        return self

    @property
    def endpoint(self) -> str:
        """The URL of the store, Amazon's for the region if no other is given."""
        return self.endpoint_url or f"https://s3.{self.region}.amazonaws.com"


class StreamOptions(FormatOptions):
    """The `options:` part of a stream of kind s3."""

    only_new: bool = Field(
        default=False, description="Only objects that are new or changed since the last sync"
    )
