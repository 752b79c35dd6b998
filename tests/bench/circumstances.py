"""Under which circumstances this run measures: the checkout's revision, the time, the machine."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

from laboratory.layout import CHECKOUT

from state.command import run
from tests.bench.results import Circumstances


def circumstances() -> Circumstances:
    """Those of now and here."""
    return Circumstances(
        revision=_revision(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu=cpu_model(Path("/proc/cpuinfo").read_text()) or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
    )


def cpu_model(cpuinfo: str) -> str:
    """The first processor's model, by the text of /proc/cpuinfo; empty if it names none."""
    found = re.search(r"^model name\s*: (.*)$", cpuinfo, re.M)
    return found[1].strip() if found else ""


def _revision() -> str:
    """The checkout's, with a `+` if files differ from it; `unknown` without Git."""
    git = ["git", "-c", "safe.directory=*", "-C", str(CHECKOUT)]
    head = run([*git, "rev-parse", "HEAD"], check=False)
    if not head.ok:
        return "unknown"
    changed = run([*git, "status", "--porcelain"], check=False).stdout.strip()
    return head.stdout.strip() + ("+" if changed else "")
