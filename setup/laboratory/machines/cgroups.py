"""Ends what still runs in a control group of the lab, which holds no other programs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from state.errors import LxcGpuError, Remedy

CGROUPS = Path("/sys/fs/cgroup")
PATIENCE = 10
"""Seconds that killed programs may take to be gone."""


def end_all(path: str) -> None:
    """Kill everything in the control group `path` of every hierarchy, and remove the group."""
    deadline = time.monotonic() + PATIENCE
    while groups := list(_groups(path)):
        for group in groups:
            _kill_below(group)
        for group in groups:
            _remove(group)
        if time.monotonic() > deadline:
            raise LxcGpuError(
                "lab-cgroup",
                f"What runs in the control group {path} does not end.",
                hint="Try again in a while; a program may hang in the kernel.",
                remedy=Remedy.WAIT,
            )
        if any(group.exists() for group in groups):
            time.sleep(0.05)


def make(path: str) -> Path:
    """Make the control group `path`. Writing a pid into the returned file moves it there."""
    for top in (CGROUPS, CGROUPS / "unified", CGROUPS / "systemd"):
        if (top / "cgroup.procs").exists():
            (top / path).mkdir(parents=True, exist_ok=True)
            return top / path / "cgroup.procs"
    raise LxcGpuError("lab-cgroup", f"There are no control groups at {CGROUPS}.")


def members(path: str) -> set[int]:
    """The processes in the control group `path` and below it."""
    return {number for group in _groups(path) for number in _members_below(group)}


def _groups(path: str) -> Iterator[Path]:
    """The folders of the group: one in the unified hierarchy, or one in each hierarchy of v1."""
    for top in (CGROUPS, *CGROUPS.glob("*/")):
        if (top / "cgroup.procs").exists() and (top / path).is_dir():
            yield top / path


def _members_below(group: Path) -> Iterator[int]:
    for folder, _, files in os.walk(group):
        if "cgroup.procs" in files:
            with suppress(OSError):
                yield from map(int, Path(folder, "cgroup.procs").read_text().split())


def _kill_below(group: Path) -> None:
    for number in _members_below(group):
        # 0 is a member that this pid namespace doesn't see, never a pid to kill
        if number > 1:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


def _remove(group: Path) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
