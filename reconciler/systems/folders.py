"""The folders of a container's systems: one is made beside, one is removed, whatever is killed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.lxc_config import rootfs
from state import command
from state.view import Resident, View

NEXT = "rootfs.new"
"""The name of a system that is being made, beside the one that it will replace."""
TRASH = ".trash-"
"""How the names of systems begin that are being removed."""


@contextmanager
def beside(view: View, user: str, resident: Resident) -> Iterator[Path]:
    """An empty folder beside the container's file system, for another one. Removed on errors."""
    root = rootfs(view, user)
    make_around(root)
    clear(root.parent)
    folder = root.with_name(NEXT)
    folder.mkdir(mode=0o755)
    os.chown(folder, resident.subid, resident.subid)
    try:
        yield folder
    except BaseException:
        remove_tree(folder)
        raise


def make_around(root: Path) -> None:
    """Make the folder in which a container's systems stand, if it isn't there."""
    root.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    root.parent.chmod(0o711)


def clear(folder: Path) -> None:
    """Remove what killed programs left in a container's folder: half a system, half-removed ones.

    The caller is the only one at work there.
    """
    remove_tree(folder / NEXT)
    for trash in folder.glob(f"{TRASH}*"):
        delete(trash)


def remove_tree(tree: Path) -> None:
    """Remove a file system, if it is there."""
    if (trash := put_away(tree)) is not None:
        delete(trash)


def remove_container(folder: Path) -> None:
    """Remove a container's folder, with all systems in it.

    It goes last, and by then nothing in it has a system's name: what a kill leaves is found again,
    and not taken for a system.
    """
    for tree in folder.iterdir():
        if not tree.name.startswith(TRASH):
            put_away(tree)
    delete(folder)


def put_away(tree: Path) -> Path | None:
    """Rename a file system that is to be removed, so that a half-removed one is never used."""
    if not os.path.lexists(tree):
        return None
    return tree.rename(tree.with_name(f"{TRASH}{secrets.token_hex(4)}"))


def delete(trash: Path) -> None:
    """Delete what was put away.

    rm(1) follows no links, whatever happens below meanwhile, and goes down as deep as folders are
    nested.
    """
    command.run(["rm", "--recursive", "--force", "--one-file-system", "--", trash], timeout=86400)
