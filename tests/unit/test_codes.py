"""Every error code that people may meet, and every event of a journal, stands in the docs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.host import journal
from webui.events import Code

ROOT = Path(__file__).parents[2]
GUIDES = "".join(
    page.read_text()
    for folder in ("sysadmins", "researchers", "reference")
    for page in sorted((ROOT / "docs" / folder).glob("*.md"))
)
EVENTS = (ROOT / "docs/reference/events.md").read_text()
FOLDERS = ("state", "reconciler", "shells", "webui", "setup/installation")
SAY_CODES = (
    "LxcGpuError",
    "UnreachableError",
    "PasteError",
    "DamagedError",
    "Problem",
    "GpuProblem",
    "Refusal",
    "AccountRefusal",
)


def codes(file: Path, say_them: tuple[str, ...] = SAY_CODES) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            first = node.args[0] if node.args else None
            if name in say_them and isinstance(first, ast.Constant):
                yield str(first.value)


def events_of(section: str) -> set[str]:
    """Those that a section of the reference lists."""
    text = EVENTS.partition(f"## {section}\n")[2].partition("\n## ")[0]
    items = re.findall(r"^- ((?:`[a-z-]+`,? ?)+)", text, re.MULTILINE)
    return {code for item in items for code in re.findall(r"[a-z-]+", item)}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_code_stands_in_the_docs(folder: str) -> None:
    found = {code: file for file in (ROOT / folder).rglob("*.py") for code in codes(file)}
    assert len(found) >= 3
    missing = {code: str(file) for code, file in found.items() if f"`{code}`" not in GUIDES}
    assert missing == {}


def test_every_event_stands_in_the_reference() -> None:
    lines = re.findall(r"^\| ([a-z, -]+) \|", journal.__doc__ or "", re.MULTILINE)
    listed = {code for line in lines for code in line.split(", ")} - {"code", "---"}
    written = {
        code
        for folder in ("reconciler", "shells")
        for file in (ROOT / folder).rglob("*.py")
        for code in codes(file, ("event",))
    }
    programs = (ROOT / "setup/executables").iterdir()
    written |= {
        code for file in programs for code in re.findall("event=([a-z-]+)", file.read_text())
    }
    assert len(written) > 20
    assert written - listed == set()
    assert events_of("On a GPU server") == listed
    assert events_of("On the web machine") == {str(code) for code in Code}
