"""Fetches apt's lists of packages on this machine, before anything is taken from the archive.

A machine may be installed with the lists of some of its sources only, or with old ones.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

from laboratory.layout import CHECKOUT, RUNTIME
from laboratory.locks import locked
from laboratory.progress import ProgressLines
from state.command import run
from state.errors import LxcGpuError

GOOD_FOR = 3600
"""Seconds for which lists are fresh."""
PATIENCE = 900
"""Seconds that fetching them may take."""


def apt_environment() -> Mapping[str, str]:
    """The environment for programs that use apt: proxies, and APT_CONFIG if it is set here."""
    return {
        name: value
        for name, value in os.environ.items()
        if name == "APT_CONFIG" or name.lower().endswith("_proxy")
    }


def fetch(progress: ProgressLines) -> None:
    """Get fresh lists of all sources, and say which. LxcGpuError if there are none at all."""
    stamp = _stamp()
    waiting = "wait for the package lists, which are being fetched already"
    with locked(stamp.with_suffix(".lock"), lambda: progress.step(waiting)):
        if stamp.exists() and time.time() - stamp.stat().st_mtime < GOOD_FOR:
            return
        with progress.step("fetch the package lists"):
            done = run(
                [CHECKOUT / "setup/package-lists"],
                env=apt_environment(),
                timeout=PATIENCE,
                check=False,
            )
        if not done.ok:
            raise LxcGpuError("package-lists", done.stderr.strip())
        for line in (done.stderr + done.stdout).splitlines():
            progress.say(line)
        stamp.touch()


def _stamp() -> Path:
    """The file whose age is that of the lists; there is one for each folder with lists of apt."""
    words = ["apt-config", "shell", "folder", "Dir::State::Lists/d"]
    folder = run(words, env=apt_environment()).stdout
    return RUNTIME / f"package-lists-{hashlib.sha256(folder.encode()).hexdigest()[:8]}"
