"""Which systems a container has: the one in place, and the previous one, if it is kept."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.host.places import rootfs
from state.view import View

PREVIOUS = "rootfs.before"
"""The name of the previous system, beside the one in place."""


@dataclass(frozen=True)
class Systems:
    """Which systems there are. A different value as soon as one of them is a different one."""

    current: tuple[int, int]
    """Device and inode."""
    previous: tuple[int, int] | None
    since: float | None
    """When the previous one was put aside, in seconds since the epoch."""


def systems_of(view: View, user: str) -> Systems:
    """Which systems the user has on this server."""
    root = rootfs(view, user)
    current = root.stat()
    try:
        previous = root.with_name(PREVIOUS).lstat()
    except FileNotFoundError:
        return Systems((current.st_dev, current.st_ino), None, None)
    # being renamed was the last that happened to the folder itself: nothing runs from it
    there = (previous.st_dev, previous.st_ino)
    return Systems((current.st_dev, current.st_ino), there, previous.st_ctime)
