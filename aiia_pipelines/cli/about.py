"""`aiia version` and `aiia completion`."""

import platform

import click
from click.shell_completion import get_completion_class

from aiia_pipelines.cli.main import Command, root
from aiia_pipelines.cli.session import output

_SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Command)
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as version_of

    out = output()
    facts = {"aiia_pipelines": version_of("aiia-pipelines"), "python": platform.python_version()}
    if out.form("plain") == "plain":
        out.lines([f"aiia {facts['aiia_pipelines']} (Python {facts['python']})"])
    else:
        out.one(facts, lambda: [f"{name} {number}" for name, number in facts.items()])


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    For bash: `eval "$(aiia completion bash)"` in ~/.bashrc.
    """
    found = get_completion_class(shell)
    if found is None:
        raise AssertionError(f"click completes {shell}")
    output().lines([found(root, {}, "aiia", "_AIIA_COMPLETE").source()])
