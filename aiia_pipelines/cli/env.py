"""`aiia env`: what Dagster's own commands have to know."""

import os
import shlex
from urllib.parse import urlsplit

import click

from aiia_pipelines.cli.main import Command
from aiia_pipelines.cli.session import output, prepared

_DESTINATION = "AIIA_DESTINATION_"


@click.command(cls=Command)
def env() -> None:
    """Print the variables as exports: `eval "$(aiia env)"`."""
    out = output()
    settings = prepared()
    found = {"DAGSTER_HOME": str(settings.project), **settings.environment()}
    if os.environ.get("PGPASSFILE"):
        found["PGPASSFILE"] = os.environ["PGPASSFILE"]
    for name in sorted(name for name in os.environ if name.startswith(_DESTINATION)):
        if _has_password(os.environ[name]):
            out.say(f"# {name} is not printed: it holds a password.")
        else:
            found[name] = os.environ[name]
    if settings.database_url is None:
        out.say("# The database was never started. Start it with `aiia up`, then ask again.")
    elif not _running():
        out.say("# The database is not running. Start it with `aiia up`.")
    if out.form("plain") == "plain":
        out.lines(f"export {name}={_quoted(value)}" for name, value in found.items())
    else:
        out.one(found, lambda: [f"{name}={value}" for name, value in found.items()])


def _running() -> bool:
    from aiia_pipelines.cli.exits import Stop
    from aiia_pipelines.cli.session import opened

    try:
        opened()
    except Stop:
        return False
    return True


def _quoted(value: str) -> str:
    quoted = shlex.quote(value)
    return quoted if quoted.startswith("'") else f"'{quoted}'"


def _has_password(url: str) -> bool:
    try:
        found = urlsplit(url)
    except ValueError:
        return True
    return bool(found.password) or "password" in found.query.lower()
