"""Every error code that people may meet stands in a guide."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDES = "".join(
    (ROOT / "docs" / f"guide-{who}.md").read_text() for who in ("sysadmins", "researchers")
)
FOLDERS = ("state", "reconciler", "shells", "webui", "setup/installation")
SAY_CODES = ("LxcGpuError", "UnreachableError", "PasteError", "DamagedError", "Problem", "Refusal")


def codes(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            first = node.args[0] if node.args else None
            if name in SAY_CODES and isinstance(first, ast.Constant):
                yield str(first.value)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_code_stands_in_a_guide(folder: str) -> None:
    found = {code: file for file in (ROOT / folder).rglob("*.py") for code in codes(file)}
    assert len(found) >= 3
    missing = {code: str(file) for code, file in found.items() if f"`{code}`" not in GUIDES}
    assert missing == {}
