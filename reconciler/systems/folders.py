"""The folders of a container's systems: one is made beside, one is removed, whatever is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.disk.removal import TRASH, delete, delete_trash, put_away, remove_tree
from reconciler.host import marker
from reconciler.host.journal import event
from reconciler.host.places import rootfs
from reconciler.mounts.tree import Tree
from reconciler.snapshots import copies
from reconciler.spares.store import make_empty
from reconciler.systems.attached import detach
from reconciler.systems.fitness import fitness
from state.view import Resident, View

NEXT = "rootfs.new"
"""The name of a system that is being made, beside the one that it will replace."""


@contextmanager
def beside(view: View, user: str, resident: Resident) -> Iterator[Tree]:
    """An empty system beside the container's own, for another one. Removed on errors."""
    tree = Tree.of(view, user, resident).beside(NEXT)
    make_around(view, user)
    clear(tree.slot.parent)
    if why_not := fitness(view).why_not:
        event("system-shifted", user=user, why=why_not)
        tree.make(raw=False)
    else:
        make_empty(tree, resident.uid)
    try:
        yield tree
    except BaseException:
        remove_tree(tree.slot)
        raise


def make_around(view: View, user: str) -> None:
    """Make the folder in which a container's systems stand, if it isn't there.

    LxcGpuError if the folder around is not this server's own.
    """
    marker.require(view)
    folder = rootfs(view, user).parent
    folder.mkdir(mode=0o711, exist_ok=True)
    folder.chmod(0o711)


def clear(folder: Path) -> None:
    """Remove what killed programs left in a container's folder: half a system, half-removed ones.

    The caller is the only one at work there.
    """
    for name in (NEXT, copies.FROZEN):
        remove_tree(folder / name)
    delete_trash(folder)
    copies.clear(folder / copies.FOLDER)


def remove_container(folder: Path) -> None:
    """Remove a container's folder, with all systems in it.

    It goes last, and by then nothing in it has a system's name: what a kill leaves is found again,
    and not taken for a system.
    """
    detach(folder.name)
    for tree in folder.iterdir():
        if not tree.name.startswith(TRASH):
            put_away(tree)
    delete(folder)
