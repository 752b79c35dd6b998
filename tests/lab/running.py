"""Runs `setup/lab` as a person does, and waits for what takes a moment."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable

from tests.lab import CHECKOUT

FOLDER = os.environ.get("LXC_GPU_LAB", ".lab")
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
NAME = "-".join(filter(None, (FOLDER.removeprefix(".lab").removeprefix("-"), WORKER)))
"""Which lab the tests use: each worker of pytest-xdist has its own."""


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


def eventually(held: Callable[[], object], seconds: float = 15) -> None:
    """Wait until something holds; AssertionError if it doesn't within some seconds."""
    deadline = time.monotonic() + seconds
    while not held():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.05)
