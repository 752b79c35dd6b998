"""The code is in one style: ruff's rules and format, as pyproject.toml says."""

import sys
from pathlib import Path

import pytest

from state.command import run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("words", [("check",), ("format", "--check")])
def test_one_style(words: tuple[str, ...]) -> None:
    folders = ("state", "reconciler", "shells", "webui", "setup", "tests")
    ruff = Path(sys.executable).with_name("ruff")
    done = run([ruff, *words, "--no-cache", *folders], cwd=ROOT, check=False)
    assert done.ok, done.stdout + done.stderr
