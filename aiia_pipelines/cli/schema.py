"""`aiia connectors schema`: the columns that were agreed, how they changed, and what the source has now."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from aiia_pipelines.cli.exits import Exit, Stop, leave
from aiia_pipelines.cli.main import Command
from aiia_pipelines.cli.output import Output, Shown, instant
from aiia_pipelines.cli.peek import asked, streams_of
from aiia_pipelines.cli.session import Session, opened, output, person, store
from aiia_pipelines.cli.times import shown

if TYPE_CHECKING:
    from aiia_pipelines.config.connector import Connector, Stream
    from aiia_pipelines.connectors.base import Source, SourceColumn
    from aiia_pipelines.jobs.contracts import LearnedColumn, Profile
    from aiia_pipelines.jobs.store import JobStore
    from aiia_pipelines.sync.drift import Settled


@dataclass(frozen=True)
class _Compared:
    """A stream: what was agreed, what the source has now, and how that differs."""

    stream: "Stream"
    learned: "list[LearnedColumn] | None"
    found: "Sequence[SourceColumn]"
    profiles: "dict[str, Profile]"
    settled: "Settled"


@click.command(cls=Command)
@click.argument("name")
@click.option("--stream", help="Only this stream.")
@click.option("--diff", is_flag=True, help="What the source has otherwise now; exit code 10.")
@click.option("--accept", is_flag=True, help="Take what the source has now for the contract.")
@click.option("--yes", is_flag=True, help="With --accept: do not ask.")
@click.option("--history", is_flag=True, help="Every schema that the streams had.")
def schema(name: str, stream: str | None, **asked_for: bool) -> None:
    """Show the columns that a sync expects, and what changed since they were learned."""
    from aiia_pipelines.config.folder import read_connector

    if sum(asked_for[option] for option in ("diff", "accept", "history")) > 1:
        raise click.UsageError("Use one of --diff, --accept and --history.")
    session, out = opened(), output()
    connector = read_connector(session.settings.connectors, name)
    streams = streams_of(connector, stream)
    with store(session) as jobs:
        if asked_for["history"]:
            _history(out, session, jobs, name, streams)
        elif asked_for["diff"]:
            found = _compare(connector, jobs, streams)
            _write(out, name, found)
            leave(Exit.ERROR if any(map(_differs, found)) else Exit.OK)
        elif asked_for["accept"]:
            leave(_accept(out, connector, jobs, streams, sure=asked_for["yes"]))
        else:
            _show(out, connector, jobs, streams)


# -- what is expected -----------------------------------------------------------------------


def _show(out: Output, connector: "Connector", jobs: "JobStore", streams: "list[Stream]") -> None:
    from aiia_pipelines.jobs import contracts

    known = {each.name: contracts.learned(jobs, connector.name, each.name) for each in streams}
    unknown = [each for each in streams if known[each.name] is None]
    now = _now(connector, unknown) if unknown else {}
    out.rows(
        [
            row
            for each in streams
            for row in _columns(each.name, known[each.name], now.get(each.name, ()))
        ],
        dict,
        Shown("Stream", lambda row: row["stream"]),
        Shown("Column", lambda row: row["column"]),
        Shown("Type", lambda row: row["type"] or "unknown"),
        Shown("Null", lambda row: "" if row["nullable"] else "not null"),
        Shown("Declared", lambda row: row["declared"] or ""),
        Shown("From", lambda row: "gone at the source" if row["absent"] else row["origin"]),
    )
    if unknown:
        names = ", ".join(each.name for each in unknown)
        out.say(f"Nothing is learned of {names} yet: these are the columns at the source.")


def _columns(
    stream: str, learned: "list[LearnedColumn] | None", now: "Sequence[SourceColumn]"
) -> Iterator[dict[str, Any]]:
    for known in learned or ():
        facts = {"type": known["type"], "nullable": known["nullable"], "declared": None}
        origin = {"origin": "learned", "absent": bool(known.get("absent"))}
        yield {"stream": stream, "column": known["name"], **facts, **origin}
    for column in now:
        yield {
            "stream": stream,
            "column": column.name,
            "type": str(column.type) if column.type else None,
            "nullable": column.nullable,
            "declared": column.declared,
            "origin": "source",
            "absent": False,
        }


def _now(connector: "Connector", streams: "list[Stream]") -> "dict[str, list[SourceColumn]]":
    return asked(connector, lambda source: {each.name: source.columns(each) for each in streams})


def _history(
    out: Output, session: Session, jobs: "JobStore", name: str, streams: "list[Stream]"
) -> None:
    from aiia_pipelines.jobs import contracts

    zone = session.settings.timezone
    found = [version for each in streams for version in contracts.versions(jobs, name, each.name)]
    out.rows(
        found,
        lambda version: asdict(version) | {"at": instant(version.at)},
        Shown("Stream", lambda version: version.stream),
        Shown("Version", lambda version: str(version.version), right=True),
        Shown("Columns", lambda version: str(len(version.columns)), right=True),
        Shown("By", lambda version: version.accepted_by or f"#{version.learned_by}"),
        Shown("At", lambda version: shown(version.at, zone)),
        Shown("Change", lambda version: version.change, yields=True),
    )


# -- what differs ---------------------------------------------------------------------------


def _compare(
    connector: "Connector", jobs: "JobStore", streams: "list[Stream]"
) -> "list[_Compared]":
    from aiia_pipelines.jobs import contracts
    from aiia_pipelines.sync.drift import settle
    from aiia_pipelines.sync.profiles import sampled

    known = {each.name: contracts.learned(jobs, connector.name, each.name) for each in streams}

    def compare(source: "Source", stream: "Stream") -> _Compared:
        found = source.columns(stream)
        profiles = sampled(source, stream, [column.name for column in found])
        learned = known[stream.name]
        settled = settle(
            stream, found, learned, drift=connector.drift, sample=lambda _names: profiles
        )
        return _Compared(stream, learned, found, profiles, settled)

    return asked(connector, lambda source: [compare(source, each) for each in streams])


def _differs(compared: _Compared) -> bool:
    return bool(compared.settled.refused or compared.settled.changes)


def _write(out: Output, name: str, found: Iterable[_Compared], **more: object) -> None:
    found = list(found)
    facts = {
        "connector": name,
        "differences": {
            each.stream.name: [*map(str, each.settled.refused), *each.settled.changes]
            for each in found
        },
        "details": {
            each.stream.name: [asdict(difference) for difference in each.settled.refused]
            for each in found
        },
        "taken_up": {each.stream.name: list(each.settled.changes) for each in found},
    }
    out.one(facts | more, lambda: (line for each in found for line in _lines(each)))


def _lines(compared: _Compared) -> Iterator[str]:
    name, settled = compared.stream.name, compared.settled
    new = "" if compared.learned is not None else "; nothing is learned yet"
    yield f"{name}:" if _differs(compared) else f"{name}: no difference{new}"
    yield from (f"  ✕ {difference}" for difference in settled.refused)
    yield from (f"  → {change}, by the next sync" for change in settled.changes)
    mappings = [difference.mapping for difference in settled.refused if difference.mapping]
    if mappings:
        yield f"  Under `columns:` of {name}, if that is right:"
        yield from (f"      {mapping}" for mapping in mappings)


# -- what is accepted -----------------------------------------------------------------------


def _accept(
    out: Output, connector: "Connector", jobs: "JobStore", streams: "list[Stream]", *, sure: bool
) -> Exit:
    from aiia_pipelines.jobs import contracts

    found = _compare(connector, jobs, streams)
    changes = {
        each.stream.name: contracts.change_of(each.learned, _now_learned(each)) for each in found
    }
    if any(changes.values()) and not _confirmed(out, connector.name, found, sure=sure):
        out.say("Nothing was changed.")
        return Exit.ERROR if any(map(_differs, found)) else Exit.OK
    for each in found:
        contracts.accept(
            jobs, connector.name, each.stream.name, _now_learned(each), by=f"{person()}@cli"
        )
    left = [_again(each) for each in found]
    _write(out, connector.name, left, accepted=changes)
    out.say(f"The columns of {', '.join(changes)} are now the contract of {connector.name}.")
    if any(each.settled.refused for each in left):
        out.say("What differs still is declared in the connector file: change it there.")
        return Exit.ERROR
    return Exit.OK


def _confirmed(out: Output, name: str, found: list[_Compared], *, sure: bool) -> bool:
    if sure or out.form() in {"json", "ndjson"}:
        return True
    if not out.asks():
        raise Stop(Exit.USAGE, f"To accept what the source of {name} has now, add --yes.")
    for line in (line for each in found for line in _lines(each)):
        click.echo(line, err=True)
    return click.confirm("Take what the source has now for the contract?", err=True)


def _now_learned(compared: _Compared) -> "list[LearnedColumn]":
    from aiia_pipelines.sync.contract import as_learned

    columns = as_learned(compared.found)
    for column in columns:
        if profile := compared.profiles.get(column["name"]):
            column["profile"] = profile
    return columns


def _again(compared: _Compared) -> _Compared:
    """Compare with what was just accepted: what is left is what the file says otherwise."""
    from aiia_pipelines.sync.drift import settle

    learned = _now_learned(compared)
    settled = settle(compared.stream, compared.found, learned)
    return _Compared(compared.stream, learned, compared.found, compared.profiles, settled)
