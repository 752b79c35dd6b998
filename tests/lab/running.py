"""Runs `setup/lab` as a person does, and waits for what takes a moment."""

from __future__ import annotations

import os
import subprocess

from tests.lab import CHECKOUT

FOLDER = os.environ.get("LXC_GPU_LAB", ".lab")
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
RELEASE = os.environ.get("LXC_GPU_LAB_RELEASE", "")
NAME = "-".join(filter(None, (FOLDER.removeprefix(".lab").removeprefix("-"), RELEASE, WORKER)))
"""Which lab the tests use: each worker of pytest-xdist has its own, for each release one."""
DOMAIN_LAB = "-".join(filter(None, (NAME, "ad")))
"""Another one, which has an Active Directory."""


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
