"""`aiia connectors new`: a connector file that is right when it is written."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiia_pipelines.cli.exits import Exit, Stop, exit_of
from aiia_pipelines.cli.main import Command
from aiia_pipelines.cli.output import Output
from aiia_pipelines.cli.session import output, prepared

if TYPE_CHECKING:
    from aiia_pipelines.config.connector import Connector
    from aiia_pipelines.config.settings import Settings
    from aiia_pipelines.sync.probe import Probed


@click.command(cls=Command)
@click.argument("kind", type=click.Choice(["sql"]))
@click.option("--name", help="Small letters, digits and _; also the file's name.")
@click.option("--title", help="What people call the source.")
@click.option("--url", help="dialect://user@host:port/database, without a password.")
@click.option("--password-ref", help="${env:NAME} or ${file:/path}; empty for none.")
@click.option("--table", "tables", multiple=True, help="For example public.orders; repeatable.")
@click.option("--schedule", default="", help="Five cron fields; by hand when not given.")
@click.option("--test/--no-test", "tests", default=True, help="Connect before writing.")
@click.option("--untested", is_flag=True, help="Write the file although its test failed.")
def new(
    kind: str, *, tables: tuple[str, ...], tests: bool, untested: bool, **given: str | None
) -> None:
    """Write a connector file, once it was checked and its Connection Test passed."""
    import yaml

    settings, out = prepared(), output()
    answers = _answers(out, given, tables)
    document = _document(kind, answers)
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    path = settings.connectors / f"{answers['name']}.yaml"
    connector = _checked(settings, path, text)
    tested = _tested(connector, settings, out) if tests else None
    if tested is not None and tested.failure is not None and not untested:
        _agreed(tested, out)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Never over a file that came in the meantime.
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    out.one(
        {
            "connector": connector.name,
            "file": str(path),
            "test": tested.state.value if tested is not None else None,
        },
        lambda: [f"✓ {path} is written. Refresh it with `aiia sync {connector.name}`."],
    )


def _answers(out: Output, given: dict[str, str | None], tables: tuple[str, ...]) -> dict[str, Any]:
    missing = [name for name in ("name", "title", "url") if not given[name]]
    missing += [] if tables else ["table"]
    if missing and not out.asks():
        options = ", ".join(f"--{name}" for name in missing)
        raise click.UsageError(f"Nobody can be asked here: give {options}.")
    answers: dict[str, Any] = {
        name: given[name] or click.prompt(question, err=True)
        for name, question in (
            ("name", "Name (small letters, digits, _)"),
            ("title", "Title"),
            ("url", "URL without password (dialect://user@host:port/database)"),
        )
    }
    reference = given["password_ref"]
    if reference is None and out.asks():
        question = "Reference to the password, as in ${env:NAME}; empty for none"
        reference = click.prompt(question, default="", show_default=False, err=True)
    tables = tables or tuple(click.prompt("Tables, separated by commas", err=True).split(","))
    return answers | {
        "password": reference or "",
        "tables": [table.strip() for table in tables if table.strip()],
        "schedule": given["schedule"] or "",
    }


def _document(kind: str, answers: dict[str, Any]) -> dict[str, Any]:
    source = {"kind": kind, "url": answers["url"]}
    if answers["password"]:
        source["password"] = answers["password"]
    document = {"name": answers["name"], "title": answers["title"], "source": source}
    if answers["schedule"]:
        document["schedule"] = answers["schedule"]
    streams = [
        {"name": table.rpartition(".")[2].lower(), "table": table} for table in answers["tables"]
    ]
    return document | {"streams": streams}


def _checked(settings: "Settings", path: Path, text: str) -> "Connector":
    from aiia_pipelines.config.faults import ConfigInvalid
    from aiia_pipelines.config.folder import read_folder

    name = path.stem
    taken = read_folder(settings.connectors)
    if path.exists() or name in taken.names:
        file = taken.files.get(name, path)
        raise Stop(
            Exit.USAGE,
            f"There is already a connector '{name}': {file}.",
            code="connector-exists",
            remedy="Choose another --name, or change that file.",
        )
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft.yaml"
        draft.write_text(text, encoding="utf-8")
        drafted = read_folder(draft.parent)
    if drafted.problems:
        raise ConfigInvalid.of(drafted.problems)
    return drafted.connectors[name]


def _tested(connector: "Connector", settings: "Settings", out: Output) -> "Probed":
    from aiia_pipelines.sync.probe import Probed, Watch, run_stages
    from aiia_pipelines.sync.probe_wording import line_of, lines_of

    tested = Probed(connector.name, connector.title)
    out.say(f"Connection test ({connector.title})")
    watch = Watch(ended=lambda stage: out.say(line_of(stage)))
    run_stages(connector, settings.home, tested, watch)
    for line in lines_of(tested):
        out.say(line)
    return tested


def _agreed(tested: "Probed", out: Output) -> None:
    """Let a person decide whether to keep a file whose test failed.

    Raises:
        Stop: Nobody wants it, or nobody can be asked.
    """
    failure = tested.failure
    question = "The Connection Test failed. Write the file all the same?"
    if failure is None or (out.asks() and click.confirm(question, default=False, err=True)):
        return
    raise Stop(
        exit_of([tested.state]),
        f"Nothing was written: {failure.headline}",
        code=failure.code,
        remedy=f"{failure.remedy()} Or write the file all the same with --untested.",
    )
