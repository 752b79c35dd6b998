"""What a user's container takes of the server: memory, tasks, cpus, disk; and which mounts it has.

Sizes are bytes.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from dataclasses import dataclass

from reconciler.archives.id_map import in_id_map
from reconciler.host import places
from reconciler.kinds.containers import disk_quota
from reconciler.mounts import old_homes
from reconciler.mounts import sources as mounts
from reconciler.mounts.old_homes import OldHomeResult
from reconciler.mounts.tree import Tree
from reconciler.requests import mounting
from state import command
from state.errors import LxcGpuError
from state.view import Mount, Resident, View

PATIENCE = 2.0
"""Seconds that counting what is on the disk may take: `status` is asked often."""
GRACE = 3.0
"""Seconds more until who counts is left to a disk that doesn't answer."""
CHUNK = 1 << 16
"""Bytes that are read at a time."""
_LONGEST_NUMBER = 32
"""Bytes: more than a size and its tab have."""
_LATE = 124
"""What timeout(1) ends with."""


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
    """There was no time to count everything."""
    held: bool = False
    """The kernel counts, all systems of the container together, and holds it to its limit."""


def memory_limit(user: str) -> int | None:
    """What the container may take of the memory, by its unit; None: as much as there is."""
    argv = ["systemctl", "show", "--property=MemoryMax", "--value", places.container_unit(user)]
    shown = command.run(argv).stdout.strip()
    return int(shown) if shown.isdigit() else None


def disk_use(view: View, user: str, resident: Resident) -> DiskUse:
    """What the kernel counts, if a quota holds the container to its limit; else what du(1) does."""
    quota = disk_quota.use_of(view, user)
    if quota is not None:
        return DiskUse(quota.used, held=True)
    return _counted_by_du(view, user, resident)


def _counted_by_du(view: View, user: str, resident: Resident) -> DiskUse:
    """What du(1) counts, as root of the container's id map, which reads everything in it.

    A folder a line, so that what was counted when the time is over is known; by NUL, for names may
    hold anything. They are as long and as many as the user likes, so none of them is kept here.
    """
    tree = Tree.of(view, user, resident)
    du = ["du", "--null", "--one-file-system", "--block-size=1", "--separate-dirs", "--",
          str(tree.slot)]  # fmt: skip
    # within the id map: its making takes a while on a busy server, and is no counting
    limited = ["timeout", f"{PATIENCE}", *du]
    argv = in_id_map(view.account_of(user), resident, view.subid_size, limited, tree)
    with command.started(argv, stderr=subprocess.DEVNULL, family=True) as counting:
        assert counting.stdout is not None  # noqa: S101
        used, whole = counted(counting.stdout.fileno(), PATIENCE + GRACE)
        return DiskUse(used, not whole or counting.wait() == _LATE)


def counted(stream: int, patience: float) -> tuple[int, bool]:
    """The sum of what `du --null` prints, and whether it came to its end in so many seconds."""
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
    """The mounts that the state gives the user, as they are in the container that runs."""
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
                return MountSeen(mount, False, f"You have had no home in {mount.source}.")
    except LxcGpuError as error:
        return MountSeen(mount, False, error.message)
    return MountSeen(mount, False, "It wasn't there at the start: `restart` shows it.")
