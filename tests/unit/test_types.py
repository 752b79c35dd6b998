"""Types hold everywhere: mypy --strict, as pyproject.toml says."""

import sys
from pathlib import Path

from state.command import run

ROOT = Path(__file__).parents[2]


def test_types_hold() -> None:
    done = run([sys.executable, "-m", "mypy"], cwd=ROOT, check=False, timeout=300)
    assert done.ok, done.stdout
