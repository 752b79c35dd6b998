"""Types hold everywhere: mypy --strict, as pyproject.toml says."""

import sys
from pathlib import Path

import pytest

from state.command import run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("place", [(), ("setup/installation", "setup/laboratory")])
def test_types_hold(place: tuple[str, ...]) -> None:
    """The packages, and what setup's scripts are made of."""
    argv = [sys.executable, "-m", "mypy", *place]
    done = run(argv, cwd=ROOT, env={"MYPYPATH": f"{ROOT}:{ROOT}/setup"}, check=False, timeout=300)
    assert done.ok, done.stdout
