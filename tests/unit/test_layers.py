"""Imports only ever point one way: state <- reconciler <- shells, and the web page by itself."""

import sys
from pathlib import Path

from state.command import run

ROOT = Path(__file__).parents[2]


def test_imports_point_one_way() -> None:
    words = [Path(sys.executable).with_name("lint-imports"), "--config", "pyproject.toml"]
    done = run([*words, "--no-cache"], cwd=ROOT, check=False, env={"PYTHONPATH": str(ROOT)})
    assert done.ok, done.stdout
