"""The store of spare systems: a folder among the containers, a slot for each system.

All are raw (`reconciler.mounts.tree`), with the same ids for everybody, so a rename is enough to
take one. Nothing is noted then: if two want the same spare, the second finds it gone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from reconciler.archives.id_map import IdMapOwner
from reconciler.children import hostile
from reconciler.disk import group_quota, project_quota, subvolumes
from reconciler.disk.free_space import free_space
from reconciler.disk.removal import delete, put_away, remove_tree
from reconciler.host import locks, places
from reconciler.mounts.tree import RAW, Tree, is_raw
from reconciler.plan import Tell
from reconciler.spares.notes import Spare, read_notes, stamp_now
from state import command
from state.errors import LxcGpuError
from state.view import View

TAKEN = "spare"
"""The lock that is held while a spare is renamed."""
NEW = ".new-"
"""The prefix of names of systems that are being made."""
COPYING = 3600.0
"""Seconds that a copy that shares its blocks may take; its time grows with the number of files."""
FREED = 2.0
"""Seconds until the space of a removed system is free: xfs frees it in the background."""
_FICLONE = 0x40049409


def store(view: View) -> Path:
    """The store's folder. The marker and listings of containers ignore names with a dot."""
    return Path(view.containers) / places.STORE


def names(view: View) -> frozenset[str]:
    """All names in the store, whatever they are; none without a store."""
    try:
        return frozenset(path.name for path in store(view).iterdir())
    except FileNotFoundError:
        return frozenset()


def tree_of(view: View, name: str) -> Tree:
    """A system in the store, in the ids that no user has."""
    return Tree(store(view) / name, view.spare_subid, view.subid_size)


def throw_away(view: View, name: str) -> None:
    """Remove a spare, or what a killed program left. One that was just taken isn't touched."""
    with locks.lock(TAKEN):
        trash = put_away(store(view) / name)
    if trash is not None:
        delete(trash)


def give_way(view: View, size: int) -> None:
    """Throw away as many spares as are needed for so many bytes, or none if all would be too few.

    The size may be anybody's claim. Bases go last: people's systems share their blocks, and a copy
    takes none. A spare that is being made is left to its maker.
    """
    missing = size - free_space(Path(view.containers)).size
    if missing <= 0 or size > within_reach(view):
        return
    for spare in sorted(_noted(view), key=lambda spare: (spare.base, -spare.size)):
        throw_away(view, spare.ident)
        missing -= spare.size
        if missing <= 0 and _has_room(view, size, FREED):
            return


def within_reach(view: View) -> int:
    """Bytes that would be free if all spares were thrown away."""
    return free_space(Path(view.containers)).size + sum(spare.size for spare in _noted(view))


def _noted(view: View) -> list[Spare]:
    there = names(view)
    return [spare for spare in read_notes().spares if spare.ident in there]


def put_in(view: View, tree: Tree, ident: str, base: str | None) -> None:
    """Give a complete system its name in the store.

    OSError if `base`, of which it is a copy, is gone: it may have been removed meanwhile.
    """
    with locks.lock(TAKEN):
        if base is not None and not _is_there(store(view) / base):
            raise FileNotFoundError(errno.ENOENT, "It gave way while it was copied", base)
        tree.slot.rename(store(view) / ident)


def _has_room(view: View, size: int, wait: float) -> bool:
    """Whether so many bytes are free, or will be within `wait` seconds."""
    end = time.monotonic() + wait
    while free_space(Path(view.containers)).size < size:
        if time.monotonic() >= end:
            return False
        time.sleep(0.02)
    return True


def take(view: View, template: str, tree: Tree, owner: IdMapOwner, tell: Tell) -> bool:
    """Put a spare of this template in the place of `tree`, the empty system of a new container.

    False if no spare was made of the archive as it is now; then `tree` stays empty.
    """
    stamp = stamp_now(template)
    if not view.spares or stamp is None or not tree.raw:
        return False
    known = [s for s in read_notes().spares if (s.template, s.stamp) == (template, stamp)]
    return any(
        (_copied if spare.base else _renamed)(view, spare, tree, owner, tell)
        for spare in sorted(known, key=lambda spare: spare.base)
    )


def _renamed(view: View, spare: Spare, tree: Tree, owner: IdMapOwner, tell: Tell) -> bool:
    """Take a spare by renaming it."""
    slot = store(view) / spare.ident
    with locks.lock(TAKEN), subvolumes.opened(tree.slot.parent) as around:
        if not _is_there(slot):
            return False
        project, _ = project_quota.project_of(around)
        if project and not _fits(around, project, spare.size):
            return False  # unpacking reports it when the disk is full
        if project:
            with subvolumes.opened(slot) as top:  # else the kernel refuses the rename (EXDEV)
                project_quota.assign(top, project, passed_on=True)
        (tree.slot / RAW).rmdir()
        tree.slot.rmdir()
        try:
            slot.rename(tree.slot)
        except OSError:
            make_empty(tree, owner.resident.uid)
            return False
    if project:

        def work(top: int, tell: Tell) -> None:
            project_quota.assign_tree(top, project, tell)

        hostile.as_owner_at_length(tree.slot, 0, work, tell)
    return True


def _fits(folder: int, project: int, size: int) -> bool:
    if not project_quota.enforced(folder):
        return True
    use = project_quota.use(folder, project)
    return not use.limit or use.used + size <= use.limit


def _copied(view: View, spare: Spare, tree: Tree, owner: IdMapOwner, tell: Tell) -> bool:
    """Take a copy of a base, which shares its blocks."""
    slot = store(view) / spare.ident
    if not _is_there(slot):
        return False
    with suppress(LxcGpuError, OSError):
        share(slot, tree, owner)
        if _is_there(slot):  # its removal begins with another name: nothing was removed meanwhile
            return True
    remove_tree(tree.slot)
    make_empty(tree, owner.resident.uid)
    return False


def make_empty(tree: Tree, uid: int = 0) -> None:
    """Make the slot, with an empty raw system in it: on btrfs a subvolume.

    The subvolume counts for the quota of `uid`; 0: for no quota.
    """
    with subvolumes.opened(tree.slot.parent) as around:
        group = group_quota.of(around, uid)
    tree.make(raw=True, folder=partial(subvolumes.make_folder, group=group))


def share(base: Path, tree: Tree, owner: IdMapOwner) -> None:
    """Fill the empty `tree` with a copy of the system in the slot `base`, which shares its blocks.

    LxcGpuError or OSError if the file system can't share blocks, or is full.
    """
    if subvolumes.is_on_btrfs(base):
        (tree.slot / RAW).rmdir()
        with subvolumes.opened(base / RAW) as source, subvolumes.opened(tree.slot) as parent:
            group = group_quota.of(parent, owner.resident.uid)
            subvolumes.snapshot(source, parent, RAW, read_only=False, group=group)
        return
    source_tree = replace(tree, slot=base)
    argv = ["cp", "--archive", "--reflink=always", "--no-target-directory", "--",
            str(base), str(tree.slot)]  # fmt: skip
    command.run(owner.fenced(tree.slot, argv, tree, source_tree), timeout=COPYING)
    tree.keep_top()


def shares_blocks(view: View) -> bool:
    """Whether copies on the containers' disk can share blocks, by trying it (ioctl_ficlone(2))."""
    flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
    try:
        one, other = (os.open(view.containers, flags, 0o600) for _ in range(2))
    except OSError:
        return False
    try:
        fcntl.ioctl(other, _FICLONE, one)  # the file is empty, so nothing is written
        return True
    except OSError:
        return False
    finally:
        os.close(one)
        os.close(other)


def _is_there(slot: Path) -> bool:
    try:
        return is_raw(slot)
    except (LxcGpuError, OSError):
        return False
