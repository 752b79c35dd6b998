"""The pages of the documentation: links lead somewhere, lines are short."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
SHORT = ("sysadmins", "researchers", "reference")
"""The folders whose lines are short."""


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """The lines that nobody has to copy: those outside of code blocks."""
    fenced = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


def anchors(page: Path) -> set[str]:
    """What a link may name behind `#`, as GitHub makes it of headings."""
    titles = [match[1] for _, line in prose(page) if (match := re.match(r"#+ (.*)", line))]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", "\n".join(line for _, line in prose(page)))
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if re.match(r"https?:", target) or (not anchor and there.exists()):
            continue
        if not there.is_file() or anchor not in anchors(there):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("folder", SHORT)
def test_lines_are_short(folder: str) -> None:
    pages = sorted((ROOT / "docs" / folder).glob("*.md"))
    assert pages
    long = [
        f"{page.relative_to(ROOT)}:{number}"
        for page in pages
        for number, line in prose(page)
        if len(line) >= 100
    ]
    assert long == []
