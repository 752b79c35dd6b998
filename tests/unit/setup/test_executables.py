"""The executables start modules that exist."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
EXECUTABLES = ROOT / "setup" / "executables"
STARTERS = [f for f in sorted(EXECUTABLES.iterdir()) if "python" in f.read_text().split("\n")[0]]


@pytest.mark.parametrize("file", STARTERS, ids=lambda file: file.name)
def test_starts_a_module_that_exists(file: Path) -> None:
    text = file.read_text()
    module = re.search(r"^ *from (\S+) import main$", text, re.MULTILINE)
    assert module, text
    assert callable(importlib.import_module(module[1]).main)
    assert f"Starts {module[1]}" in text


@pytest.mark.parametrize(
    ("command", "missing"), [(["doctor"], "click"), (["check", "--hook"], "pydantic")]
)
@pytest.mark.parametrize("start", ["executable", "entry point of pip"])
def test_without_packages_the_command_says_what_to_run(
    tmp_path: Path, start: str, command: list[str], missing: str
) -> None:
    """An upgrade of Debian brings another Python, whose packages the set-up hasn't installed."""
    for room in ("shells", "state"):
        (tmp_path / room).symlink_to(ROOT / room)
    program = tmp_path / "executables/lxc-gpu"
    program.parent.mkdir()
    if start == "executable":
        program.write_text((EXECUTABLES / "lxc-gpu").read_text())
    else:
        entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
        module, name = entry["lxc-gpu"].split(":")
        path = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        program.write_text(f"{path}from {module} import {name}\nsys.exit({name}())\n")
    done = subprocess.run(
        [sys.executable, "-IS", program, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"The Python package {missing} is missing in " in done.stderr
    assert "setup/gpu-server" in done.stderr
    assert f"`{sys.executable} -m pip check`" in done.stderr
    assert "Traceback" not in done.stderr


def test_each_can_be_run() -> None:
    assert all(file.stat().st_mode & 0o111 for file in EXECUTABLES.iterdir())
