"""Every failure has its page, made from the catalogue."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aiia_pipelines.jobs.catalogue import CATALOGUE

DOCS = Path(__file__).parents[2] / "docs"


def generate(docs: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(docs / "generate.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_failure_links_a_page_that_exists() -> None:
    for row in CATALOGUE.values():
        assert (DOCS.parent / row.docs).is_file()
    codes = {path.stem for path in (DOCS / "reference" / "failures").glob("*.md")}
    assert codes == {*CATALOGUE, "README"}


def test_a_page_holds_what_the_catalogue_says() -> None:
    for row in CATALOGUE.values():
        page = (DOCS.parent / row.docs).read_text(encoding="utf-8")
        assert page.startswith(f"# {row.title}\n")
        assert page.count('<div dir="rtl" lang="ar">') == page.count("</div>") == 1
        assert row.cause in page
        for command in row.checks.values():
            assert f"```\n{command}\n```" in page
        for signal in row.signals:
            assert f"`{signal}`" in page
    index = (DOCS / "reference" / "failures" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[([a-z-]+)\]\(\1\.md\)", index, re.MULTILINE) == [*CATALOGUE]


@pytest.mark.slow
def test_the_pages_of_codes_that_are_gone_are_told_and_removed(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(DOCS, docs)
    assert generate(docs).returncode == 0
    assert generate(docs, "--check").returncode == 0
    gone, changed = (docs / "reference" / "failures" / f"{n}.md" for n in ("gone", "cancelled"))
    gone.write_text("# Gone\n", encoding="utf-8")
    changed.write_text("# Changed\n", encoding="utf-8")
    stale = generate(docs, "--check")
    assert stale.returncode == 1
    assert [line.split()[0] for line in stale.stderr.splitlines()] == [
        "docs/reference/failures/cancelled.md",
        "docs/reference/failures/gone.md",
    ]
    generate(docs)
    assert not gone.exists()
    assert "# Cancelled" in changed.read_text(encoding="utf-8")
