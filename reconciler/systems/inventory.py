"""The systems of a container: the one in place, and the previous one, if it is kept."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.host.places import rootfs
from state.view import View

PREVIOUS = "rootfs.before"
"""The name of the previous system, next to the one in place."""


@dataclass(frozen=True)
class Systems:
    """The systems that there are. The value changes when one of them is replaced."""

    current: tuple[int, int]
    """Device and inode."""
    previous: tuple[int, int] | None
    since: float | None
    """When the previous one was replaced, in seconds since the epoch."""


def systems_of(view: View, user: str) -> Systems:
    """The systems that the user has on this server."""
    root = rootfs(view, user)
    current = root.stat()
    try:
        previous = root.with_name(PREVIOUS).lstat()
    except FileNotFoundError:
        return Systems((current.st_dev, current.st_ino), None, None)
    # the renaming was the last change of the folder itself, as nothing runs from it
    there = (previous.st_dev, previous.st_ino)
    return Systems((current.st_dev, current.st_ino), there, previous.st_ctime)
