"""What a user's container uses of the server (memory, tasks, cpus, disk), and its mounts.

Sizes are bytes.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.archives.id_map import begun_at
from reconciler.host import places
from reconciler.kinds.containers import disk_quota
from reconciler.mounts import old_homes
from reconciler.mounts import sources as mounts
from reconciler.mounts.old_homes import OldHomeResult
from reconciler.mounts.tree import Tree
from reconciler.requests import mounting
from state import bus
from state.errors import LxcGpuError
from state.view import Mount, Resident, View

PATIENCE = 2.0
"""Seconds that counting what is on the disk may take: `status` is asked often."""
GRACE = 3.0
"""Further seconds, after which a disk that doesn't answer is given up."""
CHUNK = 1 << 16
"""Bytes that are read at a time."""
_LONGEST_NUMBER = 32
"""Bytes: more than a size and its tab take."""
_OF_DU = (0, 1)
"""Its exit statuses; 1: some of what there is can't be read. All others are timeout(1)'s, or ours.
"""


@dataclass(frozen=True)
class MountSeen:
    """A mount of the state, and whether the container has it."""

    mount: Mount
    there: bool
    why_not: str = ""


@dataclass(frozen=True)
class DiskUse:
    """How much of the disk the container's file system takes."""

    used: int
    at_least: bool = False
    """The time was over before everything was counted."""
    held: bool = False
    """The kernel counts all systems of the container together and enforces its limit."""


def memory_limit(user: str) -> int | None:
    """The memory limit of the container's unit in bytes; None: no limit."""
    limit: int = bus.properties(places.container_unit(user), {"MemoryMax": "Service"})["MemoryMax"]
    return None if limit == bus.NO_NUMBER else limit


def disk_use(view: View, user: str, resident: Resident) -> Callable[[], DiskUse]:
    """The disk use: as the kernel counts it where a quota enforces the limit, else by du(1).

    Counting begins at once. What is returned waits for its end.
    """
    quota = disk_quota.use_of(view, user)
    if quota is not None:
        held = DiskUse(quota.used, held=True)
        return lambda: held
    return counted_by_du(Tree.of(view, user, resident))


def counted_by_du(tree: Tree) -> Callable[[], DiskUse]:
    """The disk use by du(1), run as root of the container's id map, which can read everything.

    Counting begins at once. What is returned waits for its end. du prints a line for each folder,
    so that a partial sum is known when the time is over. Lines end with NUL, as names may hold any
    other character. Users choose how long and how many names are, so no name is kept in memory.
    """
    du = ["du", "--null", "--one-file-system", "--block-size=1", "--separate-dirs"]
    # timeout(1) inside of the id map: making the map takes a while on a busy server
    counting = begun_at(tree, ["timeout", f"{PATIENCE}", *du])

    def its_end() -> DiskUse:
        used, whole = counted(counting.output, PATIENCE + GRACE)
        ended = counting.wait(GRACE if whole else 0)
        return DiskUse(used, ended.status not in _OF_DU)

    return its_end


def counted(stream: int, patience: float) -> tuple[int, bool]:
    """The sum of what `du --null` prints, and whether du ended within `patience` seconds."""
    total, rest, deadline = 0, b"", time.monotonic() + patience
    while (left := deadline - time.monotonic()) > 0 and select.select([stream], [], [], left)[0]:
        chunk = os.read(stream, CHUNK)
        if not chunk:
            return total, True
        *lines, rest = (rest + chunk).split(b"\0")
        sizes = (line[:_LONGEST_NUMBER].split(b"\t", 1)[0] for line in lines)
        total += sum(int(size) for size in sizes if size.isdigit())
        rest = rest[:_LONGEST_NUMBER]
    return total, False


def mounts_seen(view: View, user: str) -> tuple[MountSeen, ...]:
    """The mounts that the state gives the user, as they are in the running container."""
    there = mounting.targets_seen(user)
    return tuple(_seen(view, user, mount, there) for mount in view.mounts_of(user))


def _seen(view: View, user: str, mount: Mount, there: frozenset[str]) -> MountSeen:
    if mount.target in there:
        return MountSeen(mount, True)
    try:
        mounts.examined(mount)
        if mount.access == "home":
            found = old_homes.look(view.only(user), [user])[user].get(mount.source, OldHomeResult())
            if found.problem is not None:
                raise found.problem
            if found.home is None:
                return MountSeen(mount, False, f"You had no home in {mount.source}.")
    except LxcGpuError as error:
        return MountSeen(mount, False, error.message)
    return MountSeen(mount, False, "It wasn't there at the start: `restart` shows it.")
