"""The folders of a container's systems: making and removing them, safe against kills."""

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
from reconciler.systems.raw_support import raw_support
from state.view import Resident, View

NEXT = "rootfs.new"
"""The name of a system that is being made, next to the one that it will replace."""


@contextmanager
def beside(view: View, user: str, resident: Resident) -> Iterator[Tree]:
    """An empty system next to the container's own, to be filled. It is removed after errors."""
    tree = Tree.of(view, user, resident).beside(NEXT)
    make_around(view, user)
    clear(tree.slot.parent)
    if why_not := raw_support(view).why_not:
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
    """Make the folder of a container's systems, if it is missing.

    LxcGpuError if the folder of all containers is not this server's own.
    """
    marker.require(view)
    folder = rootfs(view, user).parent
    folder.mkdir(mode=0o711, exist_ok=True)
    folder.chmod(0o711)


def clear(folder: Path) -> None:
    """Remove what killed programs left in a container's folder: half-made and half-removed systems.

    The caller has excluded all other work there.
    """
    for name in (NEXT, copies.FROZEN):
        remove_tree(folder / name)
    delete_trash(folder)
    copies.clear(folder / copies.FOLDER)


def remove_container(folder: Path) -> None:
    """Remove a container's folder, with all systems in it.

    The folder goes last, and the systems in it are renamed first: what a kill leaves is found
    again, and not taken for a system.
    """
    detach(folder.name)
    for tree in folder.iterdir():
        if not tree.name.startswith(TRASH):
            put_away(tree)
    delete(folder)
