"""The scripts of setup start modules that do something."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).resolve().parents[3] / "setup"
STARTED = {
    file.name: found[1]
    for file in sorted(SETUP.iterdir())
    if file.is_file() and (found := re.search(r'-m ([a-z_.]+) "\$@"', file.read_text()))
}


def test_the_scripts_are_found() -> None:
    assert {"bench", "demo", "gpu-server", "lab", "lock", "web-server"} <= STARTED.keys()


@pytest.mark.parametrize("script", STARTED)
def test_a_script_explains_itself(script: str) -> None:
    path = {**os.environ, "PYTHONPATH": f"{SETUP}:{SETUP.parent}"}
    words = [sys.executable, "-P", "-m", STARTED[script], "--help"]
    done = subprocess.run(words, env=path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"usage: setup/{script}" in done.stdout.lower()
