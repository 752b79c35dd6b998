"""The executables start modules that exist."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXECUTABLES = Path(__file__).resolve().parents[3] / "setup" / "executables"
STARTERS = [f for f in sorted(EXECUTABLES.iterdir()) if "python" in f.read_text().split("\n")[0]]


@pytest.mark.parametrize("file", STARTERS, ids=lambda file: file.name)
def test_starts_a_module_that_exists(file: Path) -> None:
    text = file.read_text()
    module = re.search(r"^ *from (\S+) import main$", text, re.MULTILINE)
    assert module, text
    assert callable(importlib.import_module(module[1]).main)
    assert f"Starts {module[1]}" in text


@pytest.mark.parametrize("where", ["", "def main():\n    "])
def test_without_packages_the_command_says_what_to_run(tmp_path: Path, where: str) -> None:
    """An upgrade of Debian brings another Python, whose packages the set-up hasn't installed."""
    (tmp_path / "executables").mkdir()
    (tmp_path / "shells").mkdir()
    (tmp_path / "shells/cli.py").write_text(f"{where}import click_of_another_python\n")
    command = tmp_path / "executables/lxc-gpu"
    command.write_text((EXECUTABLES / "lxc-gpu").read_text())
    done = subprocess.run(
        [sys.executable, "-I", command, "doctor"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "click_of_another_python is missing" in done.stderr
    assert "setup/gpu-server" in done.stderr
    assert "Traceback" not in done.stderr


def test_each_can_be_run() -> None:
    assert all(file.stat().st_mode & 0o111 for file in EXECUTABLES.iterdir())
