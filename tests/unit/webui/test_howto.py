"""The How-to: every page, with the laboratory's names in place of the examples'."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from webui.howto import EXAMPLE_URL, FIRST, chapters, page

PAGES = [FIRST, *(each.name for each in chapters())]
LAB = {"gpu17": "big-one", "gpu18": "gpu17", "lqchen": "dora"}


def address(name: str, heading: str) -> str:
    return f"/{name}#{heading}" if heading else f"/{name}"


def shown(name: str, **examples: str) -> str:
    found = page(name, examples or {"gpu17": "gpu17"}, address)
    assert found is not None
    return "".join(part.html for part in found.parts)


def text_of(tmp_path: Path, text: str, **examples: str) -> str:
    (tmp_path / "index.md").write_text(f"# Title\n\n{text}")
    found = page(FIRST, examples or {"x": "x"}, address, tmp_path)
    assert found is not None
    return "".join(part.html for part in found.parts)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_pages_and_headings_that_are_there(name: str) -> None:
    for target in re.findall(r'href="([^"]*)"', shown(name)):
        if target.startswith("https://"):
            continue
        other, _, heading = target.partition("#")
        assert other.removeprefix("/") in {"", *PAGES}, target
        there = shown(other.removeprefix("/") or name)
        assert not heading or f'id="{heading}"' in there, target


@pytest.mark.parametrize("name", PAGES)
def test_every_table_is_one(name: str) -> None:
    assert "| ---" not in shown(name)


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_left_of_the_examples_names(name: str) -> None:
    html = shown(name, gpu17="big-one", gpu18="other", lqchen="dora")
    assert re.findall(r"gpu1[78]|lqchen", re.sub(r'(id|href)="[^"]*"', "", html)) == []


def test_the_examples_give_one_address_of_the_web_page() -> None:
    """A page fills in its own: what begins otherwise would be left half done."""
    html = "".join(shown(name) for name in PAGES)
    assert set(re.findall(r"\w+://iam\.mylab\.com", html)) == {EXAMPLE_URL}


def test_all_pages_but_the_first_are_listed() -> None:
    files = {file.stem for file in (Path(__file__).parents[3] / "docs/researchers").glob("*.md")}
    assert files == set(PAGES)


def test_a_name_that_was_filled_in_is_no_example(tmp_path: Path) -> None:
    assert text_of(tmp_path, "`gpu17 gpu18`", **LAB) == "<p><code>big-one gpu17</code></p>\n"


def test_what_is_filled_in_stays_text(tmp_path: Path) -> None:
    html = text_of(tmp_path, "gpu17 `gpu17`\n\n```\n$ gpu17\n```\n", gpu17="<b>*x*</b>")
    assert "<b>" not in html
    assert html.count("&lt;b&gt;*x*&lt;/b&gt;") == 3


def test_commands_alone_are_to_be_copied_without_their_prompt(tmp_path: Path) -> None:
    html = text_of(tmp_path, "```\n$ ssh a\nPS> ssh b\na@b:~$ ssh c\n```\n")
    assert '<div class="command">' in html
    assert "<code>ssh a\nssh b\nssh c</code>" in html
    assert 'class="transcript"' in text_of(tmp_path, "```\n$ ssh a\nhello\n```\n")


def test_there_is_no_other_page() -> None:
    assert page("../design", {"x": "x"}, address) is None
    assert page("design", {"x": "x"}, address) is None
