"""The How-to pages: docs/researchers as HTML, with the laboratory's own names in the examples.

The pages are ours, so they are trusted. What is filled in is not: it goes into text only, which the
renderer escapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "researchers"
"""Beside the packages, in a checkout as in a release."""
FIRST = "index"
"""The page that lists the others."""
EXAMPLE_URL = "https://iam.mylab.com"
"""The web page's address in the examples."""
_MARK = re.compile(r"<!-- lab: ([a-z]+) -->\s*")
"""Where a page has something of the laboratory's shown, such as its templates."""
_PROMPT = re.compile(r"(?:[\w@:~/.-]*[$#]|PS>) ")
_COPIED = ("text", "code_inline", "fence", "code_block")

Address = Callable[[str, str], str]
"""From a page's name and a heading's id (or nothing) to where both are on the web."""


@dataclass(frozen=True)
class Part:
    """A piece of a page: text of ours, or the name of what the laboratory has."""

    html: str = ""
    lab: str = ""


@dataclass(frozen=True)
class Page:
    """One page, ready to be shown."""

    title: str
    parts: tuple[Part, ...]
    headings: tuple[tuple[str, str], ...]
    """Ids and texts, of the second level."""


@dataclass(frozen=True)
class Chapter:
    """A page as the first one lists it."""

    name: str
    title: str


def chapters(folder: Path = FOLDER) -> tuple[Chapter, ...]:
    """All pages but the first, in its order."""
    found = re.findall(r"^\d+\. \[([^\]]+)\]\((\w+)\.md\)", _text(folder, FIRST), re.MULTILINE)
    return tuple(Chapter(name, title) for title, name in found)


def page(
    name: str, examples: Mapping[str, str], address: Address, folder: Path = FOLDER
) -> Page | None:
    """The page of that name, or None. `examples` says what stands for an example's word here."""
    if name != FIRST and name not in {each.name for each in chapters(folder)}:
        return None
    tokens = _without_pictures(_MARKDOWN.parse(_text(folder, name)))
    headings = _with_ids(tokens)
    _fill(tokens, _filler(examples), address)
    title = _heading_text(tokens[1])
    shown = tuple(
        (ident, _heading_text(inline)) for level, ident, inline in headings if level == "h2"
    )
    return Page(title, tuple(_parts(tokens[3:])), shown)


def slug(title: str) -> str:
    """A heading's id, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _text(folder: Path, name: str) -> str:
    return (folder / f"{name}.md").read_text("utf-8")


def _heading_text(inline: Token) -> str:
    """A heading's text, without its marks."""
    return "".join(child.content for child in inline.children or ())


def _without_pictures(tokens: Sequence[Token]) -> list[Token]:
    """Pictures show the web page, which is open already."""
    left: list[Token] = []
    for token in tokens:
        left.append(token)
        if token.type == "paragraph_close" and [c.type for c in left[-2].children or ()] == [
            "image"
        ]:
            del left[-3:]
    return left


def _with_ids(tokens: Sequence[Token]) -> list[tuple[str, str, Token]]:
    """Give headings their ids: before examples are filled in, so that links lead there."""
    found = []
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", slug(_heading_text(inline)))
            found.append((opening.tag, slug(_heading_text(inline)), inline))
    return found


def _filler(examples: Mapping[str, str]) -> Callable[[str], str]:
    """In one go, so that what was filled in is no example of another one."""
    words = "|".join(re.escape(word) for word in sorted(examples, key=len, reverse=True))
    wanted = re.compile(rf"(?<!\w)(?:{words})(?!\w)")
    return lambda text: wanted.sub(lambda found: examples[found[0]], text)


def _fill(tokens: Sequence[Token], filled: Callable[[str], str], address: Address) -> None:
    for token in tokens:
        if token.type in _COPIED:
            token.content = filled(token.content)
        link = re.fullmatch(r"(?:(\w+)\.md)?(?:#(.*))?", str(token.attrGet("href") or "-"))
        if link and link[1]:
            token.attrSet("href", address(link[1], link[2] or ""))
        _fill(token.children or (), filled, address)


def _parts(tokens: Sequence[Token]) -> list[Part]:
    parts, begin = [], 0
    for place, token in enumerate(tokens):
        if token.type == "html_block" and (mark := _MARK.fullmatch(token.content)):
            parts += [Part(_html(tokens[begin:place])), Part(lab=mark[1])]
            begin = place + 1
    return [*parts, Part(_html(tokens[begin:]))]


def _html(tokens: Sequence[Token]) -> Markup:
    return Markup(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))  # noqa: S704


def _block(content: str) -> str:
    """What is typed alone is a box to copy from; with answers, a transcript."""
    lines = content.splitlines()
    if all(_PROMPT.match(line) for line in lines):
        typed = "\n".join(_PROMPT.sub("", line, count=1) for line in lines)
        return f'<div class="command"><pre tabindex="0"><code>{escape(typed)}</code></pre></div>\n'
    marked = (f"<b>{escape(x)}</b>" if _PROMPT.match(x) else escape(x) for x in lines)
    shown = "\n".join(marked)
    return f'<pre class="transcript" tabindex="0"><code>{shown}</code></pre>\n'


def _markdown() -> MarkdownIt:
    made = MarkdownIt("commonmark").enable("table")
    rules: Mapping[str, Callable[..., str]] = {
        "fence": lambda _, tokens, place, *__: _block(tokens[place].content),
        "html_block": lambda *_: "",
        "table_open": lambda *_: '<div class="scroll">\n<table>\n',
        "table_close": lambda *_: "</table>\n</div>\n",
    }
    for name, rule in rules.items():
        made.add_render_rule(name, rule)
    return made


_MARKDOWN = _markdown()
