"""The entry of the command line."""

import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from aiia_pipelines.cli.exits import Exit, Told, tell
from aiia_pipelines.cli.output import FORMS, Output, to_json

_HERE = "aiia_pipelines.cli"


class Command(click.Command):
    """A command with the common options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's own arguments
        """Add the common options to the command's own."""
        super().__init__(*args, **kwargs)
        self.params.extend(_common())


class Group(click.Group):
    """A group whose commands are imported when one of them runs."""

    command_class = Command

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - click's own arguments
        lazy: dict[str, tuple[str, str]] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Take the table of commands: name → place, help."""
        super().__init__(*args, **kwargs)
        self.lazy = lazy or {}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """List all names, in the order of the tables."""
        return [*self.lazy, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        found: click.Command = getattr(import_module(module), attribute)
        return found

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._helps()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the commands without importing them."""
        found = [
            CompletionItem(name, help=said)
            for name, said in self._helps()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def _helps(self) -> list[tuple[str, str]]:
        own = [(name, command.get_short_help_str(100)) for name, command in self.commands.items()]
        return [(name, said) for name, (_, said) in self.lazy.items()] + own


Group.group_class = Group


class Root(Group):
    """The whole command; every fault becomes one sentence and an exit code here."""

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        **extra: Any,  # noqa: ANN401
    ) -> NoReturn:
        """Run and exit."""
        argv = list(sys.argv[1:] if args is None else args)
        output = Output()
        extra |= {"standalone_mode": False, "obj": output}
        try:
            code = super().main(argv, prog_name or "aiia", **extra)
        except BrokenPipeError:
            # The reader has seen enough; flushing at exit must not fail a second time.
            sys.stdout = None
            sys.exit(Exit.OK)
        except (Exception, KeyboardInterrupt) as fault:  # noqa: BLE001 - one of three places that catch all
            told = tell(fault)
            _complain(told, fault, output, as_json=(output.asked or _asked(argv)) == "json")
            sys.exit(told.exit_code)
        sys.exit(code if isinstance(code, int) else Exit.OK)


def _complain(told: Told, fault: BaseException, output: Output, *, as_json: bool) -> None:
    if output.verbose and not isinstance(fault, click.ClickException):
        click.echo("".join(traceback.format_exception(fault)), err=True)
    if as_json:
        click.echo(to_json(told.as_json(), indent=None), err=True)
        return
    click.echo(f"Error: {told.message}", err=True)
    for problem in getattr(fault, "problems", ())[1:]:
        click.echo(f"       {problem}", err=True)
    if told.remedy:
        click.echo(told.remedy, err=True)


def _asked(argv: Sequence[str]) -> str:
    """Find the form in arguments that click could not read."""
    words = " ".join(argv).replace("--output", "-o").replace("=", " ").split()
    return next((after for word, after in pairwise(words) if word == "-o"), "")


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(ctx: click.Context, _: click.Parameter, value: Any) -> None:  # noqa: ANN401
        if value:
            setattr(ctx.ensure_object(Output), name, value)

    return keep


def _common() -> list[click.Option]:
    flags = (
        ("-q", "--quiet", "Say nothing but data and errors."),
        ("-v", "--verbose", "Say more, and show tracebacks."),
    )
    return [
        click.Option(
            ["-o", "--output"],
            type=click.Choice(FORMS),
            envvar="AIIA_OUTPUT",
            expose_value=False,
            is_eager=True,
            callback=_keep("asked"),
            help="Form of the data: a table on a terminal, JSON otherwise.",
        ),
        *(
            click.Option(
                [short, long],
                is_flag=True,
                envvar=f"AIIA_{long[2:].upper()}",
                expose_value=False,
                is_eager=True,
                callback=_keep(long[2:]),
                help=said,
            )
            for short, long, said in flags
        ),
        click.Option(
            ["--no-input"],
            is_flag=True,
            envvar="AIIA_NO_INPUT",
            expose_value=False,
            is_eager=True,
            callback=_keep("no_input"),
            help="Never ask a question.",
        ),
    ]


_COMMANDS = {
    "up": (f"{_HERE}.up:up", "Start everything on this machine; Ctrl-C stops it."),
    "demo": (f"{_HERE}.demo:demo", "Run the main job on sample data, from nothing."),
    "sync": (f"{_HERE}.sync:sync", "Refresh the data of connectors."),
    "test": (f"{_HERE}.test:test", "Run a Connection Test, step by step."),
    "jobs": (f"{_HERE}.jobs:jobs", "List, show, follow, retry and cancel job runs."),
    "connectors": (f"{_HERE}.connectors:connectors", "List, check and make connectors."),
    "schedules": (f"{_HERE}.schedules:schedules", "Show when connectors run next."),
    "explain": (f"{_HERE}.explain:explain", "Explain a failure: cause, remedy, how to verify."),
    "doctor": (f"{_HERE}.doctor:doctor", "Find what is wrong with this installation."),
    "env": (f"{_HERE}.env:env", "Print the variables that Dagster's own commands need."),
    "migrate": (f"{_HERE}.migrate:migrate", "Bring the job-run store to this version."),
    "completion": (f"{_HERE}.about:completion", "Print the completion script of a shell."),
    "version": (f"{_HERE}.about:version", "Print the version."),
}

root = Root(
    "aiia",
    lazy=_COMMANDS,
    params=_common(),
    help="Data refresh jobs: pull records from your systems, and prove that all arrived.",
    context_settings={"auto_envvar_prefix": "AIIA", "help_option_names": ["-h", "--help"]},
)


def main() -> NoReturn:
    """Run the command line and exit."""
    root.main()
