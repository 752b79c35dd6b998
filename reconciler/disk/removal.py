"""Removes whole file systems: renamed first, so that a half-removed one is never used."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from reconciler.disk import subvolumes
from reconciler.host.journal import event
from state import command
from state.errors import LxcGpuError

TRASH = ".trash-"
"""How the names of systems begin that are being removed."""


def remove_tree(tree: Path) -> None:
    """Remove a file system, if it is there."""
    if (trash := put_away(tree)) is not None:
        delete(trash)


def put_away(tree: Path) -> Path | None:
    """Rename a file system that is to be removed, so that a half-removed one is never used.

    None if it isn't there, or no longer.
    """
    try:
        return tree.rename(tree.with_name(f"{TRASH}{secrets.token_hex(4)}"))
    except FileNotFoundError:
        return None


def delete(trash: Path) -> None:
    """Delete what was put away.

    Subvolumes go first, as wholes: rm(1) can't remove those that are read-only. It follows no
    links, whatever happens below meanwhile, and goes down as deep as folders are nested.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        subvolumes.delete(trash)
    if not os.path.lexists(trash):
        return
    command.run(["rm", "--recursive", "--force", "--one-file-system", "--", trash], timeout=86400)


def delete_trash(folder: Path) -> None:
    """Delete what in a folder was put away by programs that were killed; no folder: nothing.

    What can't be deleted keeps nobody from work; the journal says so.
    """
    for trash in folder.glob(f"{TRASH}*"):
        try:
            delete(trash)
        except (LxcGpuError, OSError) as error:
            event("not-removed", what=trash, why=str(error))
