"""The store of spare systems: a folder among the containers, a slot for each system.

All are raw (`reconciler.mounts.tree`): the same ids for everybody, so a rename is all it takes.
Who takes one writes nothing here: of two who want the same one, the second finds it gone.
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
"""The lock around the moment in which one gets another name."""
NEW = ".new-"
"""How the names of systems begin that are being made."""
COPYING = 3600.0
"""Seconds that a copy that shares its blocks may take; it is as many as there are files."""
FREED = 2.0
"""Seconds that the room of what was removed takes to come back: xfs frees it in the background."""
_FICLONE = 0x40049409


def store(view: View) -> Path:
    """Where they are. Marker and listings of containers pass over names with a dot."""
    return Path(view.containers) / places.STORE


def names(view: View) -> frozenset[str]:
    """All that is in the store, whatever it is; no store: nothing."""
    try:
        return frozenset(path.name for path in store(view).iterdir())
    except FileNotFoundError:
        return frozenset()


def tree_of(view: View, name: str) -> Tree:
    """A system in the store, in the ids that are nobody's."""
    return Tree(store(view) / name, view.spare_subid, view.subid_size)


def throw_away(view: View, name: str) -> None:
    """Remove one, or what a killed program left. Whoever took it meanwhile keeps it."""
    with locks.lock(TAKEN):
        trash = put_away(store(view) / name)
    if trash is not None:
        delete(trash)


def give_way(view: View, size: int) -> None:
    """Throw some away if somebody needs so many bytes now: no more than it takes, or none at all.

    Who says how large something is may be anybody. Bases go last: their blocks are people's as
    well, and a copy takes none. What is being made is left to its maker.
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
    """Bytes that there would be at the most, if all of them gave way."""
    return free_space(Path(view.containers)).size + sum(spare.size for spare in _noted(view))


def _noted(view: View) -> list[Spare]:
    there = names(view)
    return [spare for spare in read_notes().spares if spare.ident in there]


def put_in(view: View, tree: Tree, ident: str, base: str | None) -> None:
    """Give a system that is whole its name in the store.

    OSError if the one that it is a copy of, `base`, is gone: its removal may have come between.
    """
    with locks.lock(TAKEN):
        if base is not None and not _is_there(store(view) / base):
            raise FileNotFoundError(errno.ENOENT, "It gave way while it was copied", base)
        tree.slot.rename(store(view) / ident)


def _has_room(view: View, size: int, wait: float) -> bool:
    """Whether there are so many bytes, or will be in `wait` seconds."""
    end = time.monotonic() + wait
    while free_space(Path(view.containers)).size < size:
        if time.monotonic() >= end:
            return False
        time.sleep(0.02)
    return True


def take(view: View, template: str, tree: Tree, owner: IdMapOwner, tell: Tell) -> bool:
    """Have a system of this template become `tree`, which is empty and a container's to be.

    False if none was made of the archive as it is now; then `tree` is as empty as before.
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
    """Take one away for good."""
    slot = store(view) / spare.ident
    with locks.lock(TAKEN), subvolumes.opened(tree.slot.parent) as around:
        if not _is_there(slot):
            return False
        project, _ = project_quota.project_of(around)
        if project and not _fits(around, project, spare.size):
            return False  # unpacking says so, at the point where it is too much
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
    """Take a copy that shares its blocks."""
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
    """Make the slot, with an empty raw system in it: on btrfs a subvolume, which counts for `uid`.

    0: for nobody's quota.
    """
    with subvolumes.opened(tree.slot.parent) as around:
        group = group_quota.of(around, uid)
    tree.make(raw=True, folder=partial(subvolumes.make_folder, group=group))


def share(base: Path, tree: Tree, owner: IdMapOwner) -> None:
    """Have the empty `tree` be a copy of the system in the slot `base`, with the same blocks.

    LxcGpuError or OSError if the file system doesn't do that, or if it is full.
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
    """Whether copies on the containers' disk can share blocks (ioctl_ficlone(2)): it is tried."""
    flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
    try:
        one, other = (os.open(view.containers, flags, 0o600) for _ in range(2))
    except OSError:
        return False
    try:
        fcntl.ioctl(other, _FICLONE, one)  # of nothing: nothing is written
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
