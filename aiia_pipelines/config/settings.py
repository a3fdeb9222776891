"""The settings of an installation, read from `AIIA_*` variables."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from aiia_pipelines.config.clock import is_timezone
from aiia_pipelines.config.faults import ConfigInvalid

_HIGHEST_PORT = 65535
_LONGEST_KEPT = 36_500  # days


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where an installation keeps its things and how it is reached."""

    home: Path
    connectors: Path
    project: Path
    database_url: str | None = None
    timezone: str = "UTC"
    host: str = "127.0.0.1"
    port: int = 3000
    postgres_port: int = 54329
    # After how many days maintenance removes them; 0 keeps them for ever.
    keep_events_days: int = 30
    keep_logs_days: int = 180
    keep_runs_days: int = 548

    @classmethod
    def load(cls, environ: Mapping[str, str], cwd: Path) -> Self:
        """Read the settings; relative paths start at `cwd`, blank variables count as unset.

        Raises:
            ConfigInvalid: a variable holds a value that cannot be used.
        """
        given = {name: value.strip() for name, value in environ.items() if value.strip()}

        def path(name: str, default: str) -> Path:
            text = given.get(name, default)
            if text == "~" or text.startswith("~/"):
                text = given.get("HOME", "~") + text[1:]
            if "\0" in text:
                raise ConfigInvalid(f"{name} is no path; set it to a folder")
            return cwd / text

        def checked(name: str, default: str, check: Callable[[str, str], str]) -> str:
            return check(name, given.get(name, default))

        return cls(
            home=path("AIIA_HOME", ".aiia"),
            connectors=path("AIIA_CONNECTORS", "connectors"),
            project=path("AIIA_PROJECT", "."),
            database_url=checked("AIIA_DATABASE_URL", "", _database_url) or None,
            timezone=checked("AIIA_TIMEZONE", "UTC", _timezone),
            host=checked("AIIA_HOST", "127.0.0.1", _host),
            port=_port("AIIA_PORT", given.get("AIIA_PORT", "3000")),
            postgres_port=_port("AIIA_POSTGRES_PORT", given.get("AIIA_POSTGRES_PORT", "54329")),
            keep_events_days=_days(
                "AIIA_KEEP_EVENTS_DAYS", given.get("AIIA_KEEP_EVENTS_DAYS", "30")
            ),
            keep_logs_days=_days("AIIA_KEEP_LOGS_DAYS", given.get("AIIA_KEEP_LOGS_DAYS", "180")),
            keep_runs_days=_days("AIIA_KEEP_RUNS_DAYS", given.get("AIIA_KEEP_RUNS_DAYS", "548")),
        )

    def environment(self) -> dict[str, str]:
        """Return the variables from which a child process loads equal settings."""
        return {
            "AIIA_HOME": str(self.home),
            # Where dagster.yaml has Dagster put what steps print; YAML cannot append to a variable.
            "AIIA_ARTIFACTS": str(self.home / "artifacts"),
            "AIIA_CONNECTORS": str(self.connectors),
            "AIIA_PROJECT": str(self.project),
            # Blank, not absent: it also overrules a variable the child would inherit.
            "AIIA_DATABASE_URL": self.database_url or "",
            "AIIA_TIMEZONE": self.timezone,
            "AIIA_HOST": self.host,
            "AIIA_PORT": str(self.port),
            "AIIA_POSTGRES_PORT": str(self.postgres_port),
            "AIIA_KEEP_EVENTS_DAYS": str(self.keep_events_days),
            "AIIA_KEEP_LOGS_DAYS": str(self.keep_logs_days),
            "AIIA_KEEP_RUNS_DAYS": str(self.keep_runs_days),
        }


def destination_url(name: str, environ: Mapping[str, str]) -> str | None:
    """Return the URL set for a destination by `AIIA_DESTINATION_<NAME>`, if any."""
    return environ.get(f"AIIA_DESTINATION_{name.upper()}", "").strip() or None


def destination_urls(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the URLs of all destinations that are set, by the name that connector files use."""
    prefix = "AIIA_DESTINATION_"
    names = (key.removeprefix(prefix).lower() for key in environ if key.startswith(prefix))
    return {name: url for name in names if (url := destination_url(name, environ))}


def _port(name: str, text: str) -> int:
    """Read a TCP port."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    if not 1 <= number <= _HIGHEST_PORT:
        raise ConfigInvalid(f"{name} must be a port number from 1 to {_HIGHEST_PORT}")
    return number


def _days(name: str, text: str) -> int:
    """Read a number of days; 0 stands for ever."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else -1
    if not 0 <= number <= _LONGEST_KEPT:
        raise ConfigInvalid(f"{name} must be a number of days from 0, for ever, to {_LONGEST_KEPT}")
    return number


def _timezone(name: str, text: str) -> str:
    """Read the name of a time zone."""
    if not is_timezone(text):
        raise ConfigInvalid(f"{name} must be a known time zone, for example UTC or Europe/Berlin")
    return text


def _host(name: str, text: str) -> str:
    """Read a host name or address."""
    if any(sign.isspace() or sign in "/@" for sign in text):
        raise ConfigInvalid(f"{name} must be a host name or an address, for example 127.0.0.1")
    return text


def _database_url(name: str, text: str) -> str:
    """Read the URL of the metadata database, always told with its driver."""
    if not text:
        return ""
    try:
        url = urlsplit(text)
        options = {key.lower(): value for key, value in parse_qsl(url.query)}
        host = url.hostname or options.get("host")
        complete = bool(host and url.path.strip("/")) and url.port != 0
    except ValueError:
        raise ConfigInvalid(f"{name} is no URL; write {_DATABASE_FORM}") from None
    if url.scheme not in {"postgresql", "postgresql+psycopg2"} or not complete:
        raise ConfigInvalid(f"{name} must name a PostgreSQL database: {_DATABASE_FORM}")
    if url.password or any("password" in key for key in options):
        raise ConfigInvalid(
            f"{name} must not hold a password; write it to a file of libpq's form "
            "and name that file in PGPASSFILE"
        )
    return "postgresql+psycopg2" + text[len(url.scheme) :]


_DATABASE_FORM = "postgresql+psycopg2://user@host:5432/database"
