# ruff: noqa: INP001 - a script, not a package
"""Write the reference pages from the code; with `--check` only tell which of them are stale."""

import json
import os
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from failure_pages import failure_pages
from writing import block, listed, page, table, yes

from aiia_pipelines.config.schema import json_schema
from aiia_pipelines.config.settings import Settings
from aiia_pipelines.config.types import PLAIN_TYPES
from aiia_pipelines.connectors.base import kind_names
from aiia_pipelines.jobs import log
from aiia_pipelines.jobs.badge import BADGES
from aiia_pipelines.jobs.log import Level, LogLine
from aiia_pipelines.jobs.state import FINAL, LEGAL, STEPS, JobState, StepState, TaskState, family

HERE = Path(__file__).parent
REFERENCE = HERE / "reference"
WIDTH = 100

WORDS = tomllib.loads((HERE / "words.toml").read_text(encoding="utf-8"))
INTRO, OUTRO, KEYS = WORDS["intro"], WORDS["outro"], WORDS["keys"]
STATES = [state for state in JobState if state is not JobState.UNKNOWN]


def _same(what: str, told: Iterable[str], known: Iterable[str]) -> None:
    if different := set(told) ^ set(known):
        raise SystemExit(f"docs/words.toml and the code differ in {what}: {sorted(different)}")


# -- badges, states, log --------------------------------------------------------------------


def badges() -> str:
    """List the badges with their look, meaning and action."""
    meanings = (
        (badge, facts.icon, _states_of(badge), facts.meaning, facts.action)
        for badge, facts in BADGES.items()
    )
    colors = (
        (badge, *(listed((c.background, c.foreground)) for c in (facts.light, facts.dark)))
        for badge, facts in BADGES.items()
    )
    return page(
        "Badges",
        INTRO["badges"],
        table(("badge", "icon", "states", "meaning", "what to do"), meanings),
        OUTRO["colors"],
        table(("badge", "light", "dark"), colors),
        OUTRO["badges"],
    )


def _states_of(badge: str) -> str:
    return ", ".join(state for state in STATES if family(state) == badge)


def states() -> str:
    """List the states and the legal moves between them."""
    moves = (
        (state, family(state), yes(state in FINAL), _followers(state) or "nothing")
        for state in STATES
    )
    return page(
        "States",
        "## Job runs",
        table(("state", "badge", "final", "may become"), moves),
        OUTRO["moves"],
        "## Tasks",
        f"A task deals with one stream. It is one of {', '.join(TaskState)}.",
        OUTRO["tasks"],
        "## Steps",
        f"The steps of a sync are {listed(STEPS)}, in this order; they overlap in time.",
        f"A step is one of {', '.join(StepState)}.",
    )


def _followers(state: JobState) -> str:
    return ", ".join(other for other in STATES if other in LEGAL[state])


def log_page() -> str:
    """Describe the log with lines made by the code that makes them."""
    closing = ((state, log.closing(state, 336_776)) for state in STATES if state in FINAL)
    lines = ((state, f"`{level.name}: {text}`") for state, (level, text) in closing)
    return page(
        "Log",
        INTRO["log"],
        block("\n".join(map(log.render, _sample()))),
        f"Levels, from the least serious: {', '.join(level.name for level in Level)}.",
        "The last line of a job run:",
        table(("state", "line"), lines),
        f"A line, and each line of its detail, has at most {log.MAX_BYTES:,} bytes.",
        OUTRO["log"],
    )


def _sample() -> Iterator[LogLine]:
    at = datetime(2026, 5, 24, 2, 0, 3, tzinfo=UTC)
    url = "postgresql://sap_read@10.140.2.14:5432/production"
    yield LogLine(at, Level.INFO, log.starting("sync", 14802, "SAP ERP DB"))
    yield LogLine(at.replace(second=4), Level.INFO, log.connecting(url))
    timeout = log.connection_timeout("10.140.2.14:5432", 20)
    yield LogLine(at.replace(second=25), Level.ERROR, timeout)
    yield LogLine(at.replace(second=25), *log.closing(JobState.FAILED, 0))


# -- settings and commands ------------------------------------------------------------------


def settings() -> str:
    """List the variables that settings are read from."""
    told = WORDS["settings"]
    _same("settings", told, Settings.load({}, Path("/")).environment())
    rows = {**told, **WORDS["more_settings"]}
    return page(
        "Settings",
        INTRO["settings"],
        table(
            ("variable", "default", "what it sets"),
            ((f"`{name}`", default, text) for name, (default, text) in rows.items()),
        ),
    )


def cli() -> str:
    """Copy the help of every command."""
    module = import_module("aiia_pipelines.cli.main")
    group = next(item for item in vars(module).values() if isinstance(item, click.Group))
    exits = import_module("aiia_pipelines.cli.exits").Exit
    _same("exit codes", WORDS["exits"], exits.__members__)
    return page(
        "Commands",
        INTRO["cli"],
        *_commands(group, "aiia", None),
        "## Exit codes",
        INTRO["exits"],
        # An error under `-o json` links to these headings.
        *(f"### exit {int(code)}\n\n{WORDS['exits'][code.name]}" for code in exits),
    )


def _commands(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    options = {"terminal_width": WIDTH, "max_content_width": WIDTH, **command.context_settings}
    ctx = click.Context(command, parent, info_name=name, **options)
    yield f"## {ctx.command_path}\n\n{block(command.get_help(ctx))}"
    if isinstance(command, click.Group):
        for child in command.list_commands(ctx):
            found = command.get_command(ctx, child)
            if found is not None and not found.hidden:
                yield from _commands(found, child, ctx)


# -- connector files ------------------------------------------------------------------------


def connector_file() -> str:
    """Describe the keys of connector files from their schema."""
    schema = json_schema()
    parts = {"Connector": schema, **schema["$defs"]}
    for kind in kind_names():
        parts |= _parts_of(kind)
    parts = {name: part for name, part in parts.items() if part.get("properties")}
    if gone := sorted(set(KEYS) - set(parts)):
        raise SystemExit(f"docs/words.toml has words for parts that are gone: {gone}")
    order = [*KEYS, *(name for name in parts if name not in KEYS)]
    types = [*PLAIN_TYPES, "decimal(precision,scale)", "list<type>"]
    return page(
        "Connector files",
        INTRO["connector-file"],
        *(f"## {name}\n\n{_keys(name, parts)}" for name in sorted(order, key=_place)),
        "## Types",
        INTRO["types"],
        f"{listed(types)}.",
    )


def _place(name: str) -> int:
    """Put what all connectors have first, then each kind with what it takes."""
    kinds = kind_names()
    kind = name.rpartition("-")[2]
    if kind in kinds:
        return 2 * kinds.index(kind) + 1
    return 0 if name in json_schema()["$defs"] or name == "Connector" else 2 * len(kinds)


def _parts_of(kind: str) -> dict[str, dict[str, Any]]:
    """Give the parts of a file that only this kind has."""
    module = import_module(f"aiia_pipelines.connectors.{kind}")
    found = {f"source-{kind}": module.Options.model_json_schema()}
    if options := getattr(module, "StreamOptions", None):
        found[f"options-{kind}"] = options.model_json_schema()
    return found | {n: p for part in found.values() for n, p in part.get("$defs", {}).items()}


def _keys(name: str, parts: Mapping[str, Mapping[str, Any]]) -> str:
    part, words = parts[name], KEYS.get(name, {})
    if gone := sorted(set(words) - set(part["properties"])):
        raise SystemExit(f"docs/words.toml has words for keys of {name} that are gone: {gone}")
    for other in parts:
        if other == name:
            break
        if parts[other]["properties"] == part["properties"]:
            return f"The same as [{other}](#{other.lower()})."
    required = part.get("required", ())
    rows = (
        (
            f"`{key}`",
            _type(facts),
            _default(facts, required=key in required),
            words.get(key) or _described(name, key, facts),
        )
        for key, facts in part["properties"].items()
    )
    return table(("key", "value", "default", "what it says"), rows)


def _described(name: str, key: str, facts: Mapping[str, Any]) -> str:
    text = facts.get("description")
    if not text:
        raise SystemExit(f"{key} of {name} has no description, neither here nor in docs/words.toml")
    return f"{text.rstrip('.')}."


def _default(facts: Mapping[str, Any], *, required: bool) -> str:
    default = facts.get("default")
    if required:
        return "required"
    return "" if default is None else f"`{json.dumps(default)}`"


_TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true, false"}


def _type(facts: Mapping[str, Any]) -> str:
    if several := facts.get("anyOf") or facts.get("oneOf"):
        kinds = [_type(kind) for kind in several if kind.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "$ref" in facts:
        name = facts["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in facts or "enum" in facts:
        return listed(facts.get("enum", [facts.get("const")]))
    kind, inner = facts.get("type"), facts.get("items") or facts.get("additionalProperties")
    if kind in ("array", "object"):
        words = "list" if kind == "array" else "map"
        return f"{words} of {_type(inner)}" if isinstance(inner, dict) else words
    if isinstance(kind, list):
        return " or ".join(_TYPES[name] for name in kind)
    return _TYPES.get(str(kind), "any value") + _bounds(facts)


def _bounds(facts: Mapping[str, Any]) -> str:
    low, high = facts.get("minimum"), facts.get("maximum")
    if low is not None:
        return f", {low:,} to {high:,}" if high is not None else f", {low:,} or more"
    return f" like `{facts['pattern']}`" if "pattern" in facts else ""


def schema_text() -> str:
    """Write the JSON Schema."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


# -- files ----------------------------------------------------------------------------------

PAGES = {
    "badges.md": badges,
    "cli.md": cli,
    "connector-file.md": connector_file,
    "connector.schema.json": schema_text,
    "log.md": log_page,
    "settings.md": settings,
    "states.md": states,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` name the stale ones and end with 1."""
    for name in [name for name in os.environ if name.startswith("AIIA_")]:
        del os.environ[name]  # help texts may show values of the environment
    made = {name: make() for name, make in PAGES.items()}
    made |= failure_pages(INTRO, WORDS["categories"])
    paths = [path for path in REFERENCE.rglob("*") if path.is_file()]
    found = {str(path.relative_to(REFERENCE)): path.read_text(encoding="utf-8") for path in paths}
    stale = sorted(name for name in made.keys() | found.keys() if made.get(name) != found.get(name))
    if "--check" in arguments:
        for name in stale:
            sys.stderr.write(f"docs/reference/{name} is not what the code says; run `make docs`.\n")
        return 1 if stale else 0
    for name in stale:
        if name in made:
            (REFERENCE / name).parent.mkdir(exist_ok=True)
            (REFERENCE / name).write_text(made[name], encoding="utf-8")
        else:
            (REFERENCE / name).unlink()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
