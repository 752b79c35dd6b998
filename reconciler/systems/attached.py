"""What `lxc-start` gets of a raw system: a mount that shows it with its user's ids.

It is the only one that has a place. It is made afresh at each start, and taken away when the
container ends (setup/executables/ended), before an exchange, and before the system is removed: it
would go on showing the folder that it was made of, wherever that is by then.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from reconciler.host import places
from reconciler.mounts.locked_mount import unmount
from reconciler.mounts.tree import Tree
from state.errors import LxcGpuError


def attach(tree: Tree, user: str) -> Path:
    """The folder that the container starts from. LxcGpuError if it can't be had."""
    detach(user)
    if not tree.raw:
        return tree.slot
    places.SYSTEMS.mkdir(mode=0o711, exist_ok=True)
    place = places.SYSTEMS / user
    place.mkdir(mode=0o700, exist_ok=True)
    tree.note_range()
    tree.mount_at(place)
    shown, stored = place.stat(), tree.top.stat()
    if (shown.st_dev, shown.st_ino) != (stored.st_dev, stored.st_ino):
        raise LxcGpuError("system-mount", f"{place} shows another system than {tree.slot}.",
                          "Sysadmin: what is mounted there? `findmnt`")  # fmt: skip
    return place


def detach(user: str) -> None:
    """Take the mount away, if there is one; a container that runs keeps what it has."""
    place = places.SYSTEMS / user
    with suppress(OSError):  # EINVAL: nothing is mounted there (any more)
        while True:
            unmount(place)
