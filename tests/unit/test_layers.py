"""Imports only ever point one way: between packages, and between the rooms of each."""

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest

from state.command import run

ROOT = Path(__file__).parents[2]


def test_imports_point_one_way() -> None:
    words: list[str | Path] = [Path(sys.executable).with_name("lint-imports"), "pyproject.toml"]
    done = run(
        [*words, "--no-cache"], cwd=ROOT, check=False, env={"PYTHONPATH": f"{ROOT}:{ROOT}/setup"}
    )
    assert done.ok, done.stdout


ROOMS = [
    folder.relative_to(ROOT)
    for package in (
        "state",
        "reconciler",
        "shells",
        "webui",
        "setup/laboratory",
        "setup/publishing",
    )
    for folder in (ROOT / package, *sorted((ROOT / package).rglob("*/")))
    if any(folder.glob("*.py"))
]
MOST_MODULES = 16
"""Of one room: more than a newcomer can take in at a look."""


@pytest.mark.parametrize("room", ROOMS, ids=str)
def test_a_room_says_what_it_is_for_and_is_not_crowded(room: Path) -> None:
    modules = [file for file in (ROOT / room).glob("*.py") if not file.name.startswith("__")]
    assert len(modules) <= MOST_MODULES
    assert ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text()))


def test_the_code_map_names_what_is_there() -> None:
    text = (ROOT / "docs/code-map.md").read_text()
    named = set(
        re.findall(r"`((?:state|reconciler|shells|webui|setup|tests)/[a-z0-9_/.-]+)`", text)
    )
    assert len(named) > 50
    assert {path for path in named if not (ROOT / path).exists()} == set()
    rooms = {room.name for room in ROOMS if len(room.parts) == 2 and room.parts[0] != "setup"}
    assert {room for room in rooms if f"`{room}/`" not in text} == set()


def test_scripts_in_texts_import_what_exists() -> None:
    """Tests hand Python to the lab's machines as text, where a type checker sees nothing."""
    imported = re.compile(
        r"^ *from ((?:state|reconciler|shells|webui)[\w.]*) import ([\w, ]+)$", re.M
    )
    texts = [
        node.value
        for folder in ("tests", "setup")
        for file in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    found = [
        (module, name.split(" as ")[0])
        for text in texts
        for module, names in imported.findall(text)
        for name in names.split(", ")
    ]
    assert len(found) > 10
    gone = {pair for pair in found if not _can_import(*pair)}
    assert gone == set()


def _can_import(module: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), name) or bool(
            importlib.import_module(f"{module}.{name}")
        )
    except ImportError:
        return False
