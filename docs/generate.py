# ruff: noqa: INP001 - a script, not a package
"""Write the reference pages from the code; with `--check` only tell which of them are stale."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from aiia_pipelines.config.schema import json_schema
from aiia_pipelines.config.settings import Settings
from aiia_pipelines.connectors.base import kind_names
from aiia_pipelines.jobs import log
from aiia_pipelines.jobs.badge import BADGES
from aiia_pipelines.jobs.failures import CATALOGUE, FailureClass
from aiia_pipelines.jobs.log import Level, LogLine, render
from aiia_pipelines.jobs.state import (
    FINAL,
    LEGAL,
    STEPS,
    JobState,
    StepState,
    TaskState,
    family,
)

REFERENCE = Path(__file__).parent / "reference"
GENERATED = "<!-- Made by docs/generate.py (`make docs`); changes belong in the code. -->"
WIDTH = 100


def prose(text: str) -> str:
    """Make one paragraph of a text that is broken to fit the code."""
    return " ".join(text.split())


SETTINGS = {
    "AIIA_HOME": (".aiia", "Folder of this installation's data: embedded server, secrets, logs."),
    "AIIA_CONNECTORS": ("connectors", "Folder of the connector files."),
    "AIIA_PROJECT": ("the current folder", "Folder that has dagster.yaml and workspace.yaml."),
    "AIIA_DATABASE_URL": (
        "the embedded server",
        prose("""
            Database of Dagster's storage and of the job runs:
            `postgresql+psycopg2://user@host:5432/database`. A password in it is
            refused; libpq reads it from the file that PGPASSFILE names.
        """),
    ),
    "AIIA_TIMEZONE": ("UTC", "Time zone of the times people are shown, for example Europe/Berlin."),
    "AIIA_HOST": ("127.0.0.1", "Address that the web pages are served on."),
    "AIIA_PORT": ("3000", "Port that the web pages are served on."),
    "AIIA_POSTGRES_PORT": (
        "54329",
        "Port that the embedded server prefers; it takes another one when this one is in use.",
    ),
    "AIIA_DESTINATION_<NAME>": (
        "the embedded server, for `warehouse`",
        prose("""
            URL of the destination that connector files call by this name, in capitals:
            `AIIA_DESTINATION_WAREHOUSE`. Without password, as above.
        """),
    ),
    "PGPASSFILE": ("~/.pgpass", "libpq's password file; libpq ignores one that others may read."),
}


def page(title: str, *parts: str) -> str:
    """Put a page together."""
    return "\n\n".join([f"# {title}", GENERATED, *parts]) + "\n"


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Write a Markdown table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    return prose(str(value)).replace("|", "\\|")


def _code(text: str) -> str:
    return f"```\n{text.rstrip()}\n```"


def failures() -> str:
    """List the failure catalogue, one section a code."""
    index = table(
        ("code", "title", "badge", "origin", "retried"),
        (
            (f"[{row.code}](#{row.code})", row.title, row.badge, row.origin, _yes(row.transient))
            for row in CATALOGUE.values()
        ),
    )
    return page(
        "Failures",
        prose("""
            Every way in which a job run can go wrong. `aiia explain CODE` shows the
            same in a terminal. *Retried* tells whether the same run may succeed later
            without anybody's doing. A signal is what a driver, the network or the
            contract gave; an SQLSTATE of two letters stands for its class.
        """),
        index,
        *(_failure(code) for code in CATALOGUE),
    )


def _failure(code: str) -> str:
    row = CATALOGUE[code]
    signals = (
        ", ".join(f"`{signal}`" for signal in sorted(row.signals)) or "none; what no row claims"
    )
    return "\n\n".join(
        [
            f"## {code}",
            _summary(row),
            f"*Cause.* {row.cause}",
            f"*Remedy.* {row.remedy}",
            f"*Verify.*\n\n{_code(row.verify)}",
            f"*Signals.* {signals}.",
        ]
    )


def _summary(row: FailureClass) -> str:
    retry = "may be retried" if row.transient else "not retried"
    return f"**{row.title}**: badge {row.badge}, origin {row.origin}, {retry}."


def _yes(value: object) -> str:
    return "yes" if value else "no"


def badges() -> str:
    """List the badges with their look, meaning and action."""
    states = {
        badge: ", ".join(
            state for state in JobState if state is not JobState.UNKNOWN and family(state) is badge
        )
        for badge in BADGES
    }
    return page(
        "Badges",
        prose("""
            A job run is shown with one of six badges: color, icon and text together,
            never color alone.
        """),
        table(
            ("badge", "icon", "states it stands for", "meaning", "what to do"),
            (
                (badge, facts.icon, states[badge], facts.meaning, facts.action)
                for badge, facts in BADGES.items()
            ),
        ),
        "Colors are background and text; each pair has a contrast of 7:1 or more.",
        table(
            ("badge", "light", "dark"),
            (
                (
                    badge,
                    *(f"`{c.background}` `{c.foreground}`" for c in (facts.light, facts.dark)),
                )
                for badge, facts in BADGES.items()
            ),
        ),
        prose("""
            A state that is unknown keeps the badge of the last known one.
            [States](states.md) has the moves between states.
        """),
    )


def states() -> str:
    """List the states and the legal moves between them."""
    return page(
        "States",
        "## Job runs",
        table(
            ("state", "badge", "final", "may become"),
            (
                (state, family(state), _yes(state in FINAL), _listed(LEGAL[state]))
                for state in JobState
                if state is not JobState.UNKNOWN
            ),
        ),
        prose("""
            Unknown is what a reader is shown when a state cannot be known; it is never
            stored. Any other move is refused. An event that comes after a final state
            changes nothing.
        """),
        prose("""
            The state of a job run follows from its tasks: all succeeded, Completed;
            some, Partially Succeeded; none, Failed if one of them failed, else Error,
            else Cancelled.
        """),
        "## Tasks",
        f"A task is the part of a job run that deals with one stream: {', '.join(TaskState)}.",
        "## Steps",
        prose(f"""
            The steps of a sync, in this order: {
            ", ".join(f"`{step}`" for step in STEPS)
        }. Steps overlap in time.
        """),
        f"A step is {', '.join(StepState)}.",
    )


def _listed(found: Iterable[JobState]) -> str:
    return ", ".join(state for state in JobState if state in set(found)) or "nothing"


def log_page() -> str:
    """Describe the log with lines made by the code that makes them."""
    at = datetime(2026, 5, 24, 2, 0, 3, tzinfo=UTC)
    number, title = 14802, "SAP ERP DB"
    url, place = "postgresql://sap_read@10.140.2.14:5432/production", "10.140.2.14:5432"
    lines = [
        LogLine(at, Level.INFO, log.starting("sync", number, title)),
        LogLine(at.replace(second=4), Level.INFO, log.connecting(url)),
        LogLine(at.replace(second=25), Level.ERROR, log.connection_timeout(place, 20)),
        LogLine(at.replace(second=25), *log.closing(JobState.FAILED, 0)),
    ]
    closing = [
        (state, f"`{level.name}: {text}`")
        for state in JobState
        if state in FINAL
        for level, text in (log.closing(state, 336776),)
    ]
    return page(
        "Log",
        prose("""
            `[YYYY-MM-DD HH:MM:SS] LEVEL: message`, one event a line, in UTC unless
            `AIIA_TIMEZONE` names another zone. The lines of a traceback or report
            follow their event, indented by four spaces.
        """),
        _code("\n".join(map(render, lines))),
        f"Levels, from the least serious: {', '.join(level.name for level in Level)}.",
        "The last line of a job run:",
        table(("state", "line"), closing),
        prose(f"""
            The first ERROR line names cause and place. A piece of a line is at most
            {log.MAX_BYTES:,} bytes long. Control characters, line separators and
            characters that change the direction of text are written as `\\uXXXX`, so
            data cannot forge a line; secrets are written as `***`. The same line
            reaches the job run's log, Dagster's event log and the terminal.
        """),
    )


def settings() -> str:
    """List the variables that settings are read from."""
    known = set(Settings.load({}, Path("/")).environment())
    told = {name for name in SETTINGS if name.startswith("AIIA_") and "<" not in name}
    if known != told:
        raise SystemExit(f"settings.md and Settings differ in {', '.join(sorted(known ^ told))}")
    return page(
        "Settings",
        prose("""
            Settings are environment variables; a blank one counts as unset. Relative
            paths start at the current folder. `aiia env` prints those in force as shell
            exports.
        """),
        table(
            ("variable", "default", "what it sets"),
            ((f"`{name}`", default, text) for name, (default, text) in SETTINGS.items()),
        ),
        "Each option of the command line has a variable as well: see [the commands](cli.md).",
    )


def cli() -> str:
    """Copy the help of every command."""
    module = import_module("aiia_pipelines.cli.main")
    group = next(item for item in vars(module).values() if isinstance(item, click.Group))
    sections = [
        f"{'#' * min(depth + 1, 4)} {path}\n\n{_code(text)}"
        for path, depth, text in _commands(group, "aiia", None)
    ]
    return page("Commands", "What `--help` says, command by command.", *sections)


def _commands(
    command: click.Command, name: str, parent: click.Context | None
) -> Iterator[tuple[str, int, str]]:
    ctx = click.Context(
        command, parent, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH
    )
    path = ctx.command_path
    yield path, len(path.split()), command.get_help(ctx)
    if isinstance(command, click.Group):
        for child in command.list_commands(ctx):
            found = command.get_command(ctx, child)
            if found is not None and not found.hidden:
                yield from _commands(found, child, ctx)


def connector_file() -> str:
    """Describe the keys of connector files from their schema."""
    schema = json_schema()
    parts = {"Connector": schema, **schema["$defs"]}
    sections = [
        f"## {name}\n\n{part.get('description', '')}\n\n{_keys(part)}"
        for name, part in parts.items()
        if part.get("properties")
    ]
    kinds = [_kind(name) for name in kind_names()]
    return page(
        "Connector files",
        prose("""
            One YAML file is one connector.
            [connector.schema.json](connector.schema.json) is the same for editors: `#
            yaml-language-server: $schema=…` as the first line of a file makes them
            check and complete it. `aiia connectors validate` finds every mistake of
            every file.
        """),
        *sections,
        *kinds,
    )


def _kind(name: str) -> str:
    options = import_module(f"aiia_pipelines.connectors.{name}").Options.model_json_schema()
    return f"## source, kind {name}\n\n{options.get('description', '')}\n\n{_keys(options)}"


def _keys(part: Mapping[str, Any]) -> str:
    required = set(part.get("required", ()))
    return table(
        ("key", "value", "default", "note"),
        (
            (
                f"`{key}`",
                _type(facts),
                "required" if key in required else _default(facts),
                facts.get("description", ""),
            )
            for key, facts in part["properties"].items()
        ),
    )


def _type(facts: Mapping[str, Any]) -> str:
    if "anyOf" in facts:
        kinds = [_type(kind) for kind in facts["anyOf"] if kind.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "$ref" in facts:
        name = facts["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in facts or "enum" in facts:
        return ", ".join(f"`{value}`" for value in facts.get("enum", [facts.get("const")]))
    if facts.get("type") == "array":
        return f"list of {_type(facts.get('items', {}))}"
    if facts.get("type") == "object":
        inner = facts.get("additionalProperties")
        return f"map of names to {_type(inner)}" if isinstance(inner, dict) else "map"
    words = {
        "string": "text",
        "integer": "whole number",
        "number": "number",
        "boolean": "yes or no",
    }
    return words.get(str(facts.get("type")), "any value") + _bounds(facts)


def _bounds(facts: Mapping[str, Any]) -> str:
    low, high = facts.get("minimum"), facts.get("maximum")
    if low is not None and high is not None:
        return f", {low:,} to {high:,}"
    if low is not None:
        return f", {low:,} or more"
    if "pattern" in facts:
        return f" like `{facts['pattern']}`"
    return ""


def _default(facts: Mapping[str, Any]) -> str:
    default = facts.get("default")
    return "" if default is None else f"`{json.dumps(default)}`"


def schema_text() -> str:
    """Write the JSON Schema."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


PAGES = {
    "badges.md": badges,
    "cli.md": cli,
    "connector-file.md": connector_file,
    "connector.schema.json": schema_text,
    "failures.md": failures,
    "log.md": log_page,
    "settings.md": settings,
    "states.md": states,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` name the stale ones and end with 1."""
    for name in [name for name in os.environ if name.startswith("AIIA_")]:
        del os.environ[name]  # help texts may show values from the environment
    made = {name: make() for name, make in PAGES.items()}
    stale = [name for name, text in made.items() if _stored(name) != text]
    stray = [path.name for path in REFERENCE.iterdir() if path.name not in made]
    if "--check" in arguments:
        for name in [*stale, *stray]:
            sys.stderr.write(f"docs/reference/{name} is not what the code says; run `make docs`.\n")
        return 1 if stale or stray else 0
    for name in stale:
        (REFERENCE / name).write_text(made[name], encoding="utf-8")
    for name in stray:
        (REFERENCE / name).unlink()
    return 0


def _stored(name: str) -> str | None:
    try:
        return (REFERENCE / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
