"""Runs `setup/lab` as a person does."""

from __future__ import annotations

import os
import subprocess

from tests.lab import CHECKOUT

FOLDER = os.environ.get("LXC_GPU_LAB", ".lab")
NAME = FOLDER.removeprefix(".lab").removeprefix("-")
"""Which lab the tests use."""


def setup_lab(
    *words: str, name: str = NAME, timeout: float = 900
) -> subprocess.CompletedProcess[str]:
    """Run `setup/lab` in this checkout."""
    option = ["--name", name] if name else []
    return subprocess.run(
        [str(CHECKOUT / "setup/lab"), *option, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
