# ruff: noqa: INP001 - a part of the script generate.py
"""Parts of Markdown that the generated pages are made of."""

from collections.abc import Iterable

NOTICE = "<!-- Made by docs/generate.py (`make docs`): change the code or docs/words.toml. -->"


def page(title: str, *parts: str) -> str:
    """Put a page together."""
    return "\n\n".join([f"# {title}", NOTICE, *(part.strip() for part in parts)]) + "\n"


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Write a table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def block(text: str) -> str:
    """Write text as it stands."""
    return f"```\n{text.rstrip()}\n```"


def listed(values: Iterable[str]) -> str:
    """Write values one after the other."""
    return ", ".join(f"`{value}`" for value in values)


def yes(value: object) -> str:
    """Write yes or no."""
    return "yes" if value else "no"
