"""The executables start modules that exist."""

import importlib
import re
from pathlib import Path

import pytest

EXECUTABLES = Path(__file__).resolve().parents[3] / "setup" / "executables"
STARTERS = [f for f in sorted(EXECUTABLES.iterdir()) if "python" in f.read_text().split("\n")[0]]


@pytest.mark.parametrize("file", STARTERS, ids=lambda file: file.name)
def test_starts_a_module_that_exists(file):
    text = file.read_text()
    module = re.search(r"^from (\S+) import main$", text, re.MULTILINE)
    assert module, text
    assert callable(importlib.import_module(module[1]).main)
    assert f"Starts {module[1]}" in text


def test_each_can_be_run():
    assert all(file.stat().st_mode & 0o111 for file in EXECUTABLES.iterdir())
