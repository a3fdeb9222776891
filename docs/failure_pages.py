# ruff: noqa: INP001 - a part of the script generate.py
"""The pages of the failure catalogue: one a code, and an index by category."""

import re
from collections.abc import Iterator, Mapping
from html import escape

from writing import block, listed, page, table

from aiia_pipelines.jobs.catalogue import CATALOGUE, Category, FailureClass, texts_of
from aiia_pipelines.jobs.families import FAMILIES, checks_by_family

FOLDER = "failures"
_HOLDER = re.compile(r"\{(?:host|port|place)\}")
_ARABIC_CODE = re.compile(r"`([^`]+)`|(\{(?:host|port|place)\})")
_RETRIED = {0: "only by hand", 1: "by itself, once"}
_ARABIC = '<div dir="rtl" lang="ar">'


def failure_pages(words: Mapping[str, str], categories: Mapping[Category, str]) -> dict[str, str]:
    """Write all pages: their names below docs/reference, and their texts."""
    if different := {row.category for row in CATALOGUE.values()} ^ set(categories):
        raise SystemExit(f"docs/words.toml and the code differ in categories: {sorted(different)}")
    moved = page("Failures", f"See [the failures]({FOLDER}/README.md), one page each.")
    pages = {"failures.md": moved, f"{FOLDER}/README.md": _index(words["failures"], categories)}
    return pages | {f"{FOLDER}/{row.code}.md": _page(row) for row in CATALOGUE.values()}


def _index(intro: str, categories: Mapping[Category, str]) -> str:
    parts = [intro]
    for category, about in categories.items():
        rows = (row for row in CATALOGUE.values() if row.category == category)
        told = (
            (
                f"[{row.code}]({row.code}.md)",
                row.title,
                row.badge,
                row.origin,
                row.most_retries or "no",
            )
            for row in rows
        )
        heads = ("code", "title", "badge", "origin", "retries")
        parts += [f"## {category}", about, table(heads, told)]
    return page("Failures", *parts)


def _page(row: FailureClass) -> str:
    retried = _RETRIED.get(row.most_retries, f"by itself, up to {row.most_retries} times")
    facts = (
        ("code", f"`{row.code}`"),
        ("category", f"[{row.category}](README.md#{row.category})"),
        ("badge", f"[{row.badge}](../badges.md)"),
        ("origin", row.origin),
        ("retried", retried),
    )
    return page(
        row.title,
        table(("", ""), facts),
        f"## Cause\n\n{_marked(row.cause)}",
        f"## What to do\n\n{_marked(row.remedy)}",
        "## How to verify",
        *_checks(row),
        "## Signals",
        f"{listed(sorted(row.signals)) or 'None: what no other failure claims'}.",
        "## بالعربية",
        *_arabic(row),
    )


def _marked(text: str) -> str:
    return _HOLDER.sub(lambda found: f"`{found[0]}`", text)


def _checks(row: FailureClass) -> Iterator[str]:
    yield block(row.verify)
    others = checks_by_family(row)
    if others:
        yield "At a server of one of these families:"
    for command, families in others.items():
        yield f"{', '.join(FAMILIES[family] for family in families)}:\n\n{block(command)}"


def _arabic(row: FailureClass) -> Iterator[str]:
    texts = texts_of(row, "ar")
    yield _ARABIC
    yield f"**{_isolated(texts.title)}**"
    yield f"السبب: {_isolated(texts.cause)}"
    yield f"ما العمل: {_isolated(texts.remedy)}"
    yield "</div>"


def _isolated(text: str) -> str:
    """Keep commands and placeholders left to right among Arabic words."""
    return _ARABIC_CODE.sub(
        lambda found: f'<code dir="ltr">{escape(found[1] or found[2])}</code>', text
    )
