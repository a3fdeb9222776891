"""Every `aiia` command that the documentation shows exists, with the options it shows."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from aiia_pipelines.cli.main import root

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def shown_commands(page: Path) -> Iterator[list[str]]:
    text = page.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        found = re.match(r"\s*(?:\$ )?(aiia [a-z].*)", line)
        if found:
            yield shlex.split(found[1], comments=True)


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    command: click.Command = root
    rest = words[1:]
    context = click.Context(root)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        assert found is not None, f"there is no command {' '.join(words)}"
        command, rest = found, rest[1:]
    return command, rest


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    for words in shown_commands(page):
        command, rest = resolve(words)
        known = {option for parameter in command.params for option in parameter.opts}
        known |= {option for parameter in command.params for option in parameter.secondary_opts}
        used = {word.partition("=")[0] for word in rest if re.fullmatch(r"--?[a-z][a-z-]*.*", word)}
        assert used <= known, words


def test_the_pages_show_commands() -> None:
    assert sum(1 for page in PAGES for _ in shown_commands(page)) > 15


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.name
)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
