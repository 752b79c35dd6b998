"""The executables start modules that exist, and each is installed on some machine."""

import importlib
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "setup"))
from installation import gpu_server, web_server

EXECUTABLES = Path(__file__).resolve().parents[3] / "setup" / "executables"
STARTERS = [f for f in sorted(EXECUTABLES.iterdir()) if "python" in f.read_text().split("\n")[0]]


@pytest.mark.parametrize("file", STARTERS, ids=lambda file: file.name)
def test_starts_a_module_that_exists(file):
    text = file.read_text()
    module = re.search(r"^from (\S+) import main$", text, re.MULTILINE)
    assert module, text
    assert callable(importlib.import_module(module[1]).main)
    assert f"Starts {module[1]}" in text


def test_each_is_installed():
    installed = {*gpu_server.EXECUTABLES, *web_server.EXECUTABLES, "lxc-gpu"}
    assert {file.name for file in EXECUTABLES.iterdir()} == installed
    assert all(file.stat().st_mode & 0o111 for file in EXECUTABLES.iterdir())
