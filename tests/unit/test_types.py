"""Types hold everywhere: mypy --strict, as pyproject.toml says."""

import sys
from pathlib import Path

from state.command import run

ROOT = Path(__file__).parents[2]


def test_types_hold() -> None:
    """The packages, what setup's scripts are made of, and the tests."""
    done = run([sys.executable, "-m", "mypy"], cwd=ROOT, check=False, timeout=600)
    assert done.ok, done.stdout + done.stderr
