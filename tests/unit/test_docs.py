"""The documentation: its site is built strictly, links lead somewhere, lines are short."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

import pytest

from state.command import run

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
SHORT = ("sysadmins", "researchers", "reference")
"""The folders whose lines are short."""
LOADED = r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"[^\"]+|<link\b[^>]*\bhref=\"[^\"]+"
"""What a browser fetches without being asked."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    strict: list[str | Path] = [
        "--fail-on-warning",
        "--keep-going",
        "--doctree-dir",
        folder / "doctrees",
    ]
    words: list[str | Path] = [
        sys.executable,
        "-P",
        "-m",
        "sphinx",
        "-q",
        *strict,
        ROOT / "docs",
        folder / "html",
    ]
    done = run(words, check=False, timeout=300)
    assert done.ok, done.stderr
    return folder / "html"


def test_every_page_is_in_the_site(site: Path) -> None:
    """Sphinx names dead links, headings that aren't there, and pages that no list has."""
    pages = {page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")}
    built = {page.relative_to(site).with_suffix(".md") for page in site.rglob("*.html")}
    assert pages <= built


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert [found for found in re.findall(LOADED, page.read_text()) if "//" in found] == []
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text()), sheet


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """The lines outside of code blocks, with their numbers."""
    fenced = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_pages_outside_of_the_site_lead_somewhere(name: str) -> None:
    text = "\n".join(line for _, line in prose(ROOT / name))
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if ":" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target.partition("#")[0]).exists()] == []


@pytest.mark.parametrize("folder", SHORT)
def test_lines_are_short(folder: str) -> None:
    long = [
        f"{page.relative_to(ROOT)}:{number}"
        for page in (ROOT / "docs" / folder).glob("*.md")
        for number, line in prose(page)
        if len(line) >= 100
    ]
    assert long == []


def test_decisions_have_dates_the_newest_first() -> None:
    """Each heading of docs/decisions.md is a day."""
    text = (ROOT / "docs/decisions.md").read_text()
    days = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert days == sorted((str(date.fromisoformat(day)) for day in days), reverse=True)


TEST = re.compile(
    r"(?:(?:tests/)?(?P<file>(?:unit|integration|browser|lab|vm)/[\w/]*test_\w+\.py))?"
    r"(?:(?:^|::)(?P<names>(?:Test|test_)\w+(?:::\w+)*))?"
)
"""`lab/test_recover.py`, `lab/test_kinds.py::TestWords`, `test_every_kind_has_drifts`."""


def test_tests_that_pages_name_are_there() -> None:
    texts = {str(path.relative_to(TESTS)): path.read_text() for path in TESTS.rglob("test_*.py")}
    pages = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]
    quoted = {word for page in pages for word in re.findall(r"`([^`\s]+)`", page.read_text())}
    named = [test for test in map(TEST.fullmatch, quoted) if test]
    assert len(named) > 100
    assert [test[0] for test in named if not is_there(test, texts)] == []


def is_there(test: re.Match[str], texts: Mapping[str, str]) -> bool:
    """Whether a file has all the names; without a file, whether any has."""
    names = test["names"].split("::") if test["names"] else []
    files = [test["file"]] if test["file"] else texts
    return any(
        all(re.search(rf"^ *(def|class) {name}\b", texts[file], re.M) for name in names)
        for file in files
        if file in texts
    )
