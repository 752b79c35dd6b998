"""The mount by which `lxc-start` sees a raw system with its user's ids.

No other such mount has a path. It is made anew at each start, and removed when the container ends
(setup/executables/ended), before an exchange, and before the system is removed: it would go on
showing the folder that it was made of, wherever that is by then.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from reconciler.host import places
from reconciler.mounts.locked_mount import unmount
from reconciler.mounts.tree import Tree
from state.errors import LxcGpuError


def attach(tree: Tree, user: str) -> Tree:
    """The system, and where the container starts from. LxcGpuError if it can't be mounted."""
    detach(user)
    if not tree.raw:
        return tree
    places.SYSTEMS.mkdir(mode=0o711, exist_ok=True)
    place = places.SYSTEMS / user
    place.mkdir(mode=0o700, exist_ok=True)
    tree.note_range()
    tree.mount_at(place)
    shown, stored = place.stat(), tree.top.stat()
    if (shown.st_dev, shown.st_ino) != (stored.st_dev, stored.st_ino):
        raise LxcGpuError("system-mount", f"{place} shows another system than {tree.slot}.",
                          "Sysadmin: what is mounted there? `findmnt`")  # fmt: skip
    return replace(tree, shown_at=place)


def detach(user: str) -> None:
    """Remove the mount, if there is one; a running container keeps its own."""
    place = places.SYSTEMS / user
    with suppress(OSError):  # EINVAL: nothing is mounted there (any more)
        while True:
            unmount(place)
