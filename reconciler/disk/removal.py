"""Removes whole file systems: renamed first, so that a half-removed one is never used."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from reconciler.disk import subvolumes
from reconciler.host.journal import event
from state import command
from state.errors import LxcGpuError

TRASH = ".trash-"
"""The prefix of names of systems that are being removed."""
PATIENCE = 86400.0
"""Seconds that a removal may take."""


def remove_tree(tree: Path) -> None:
    """Remove a file system, if it exists."""
    if (trash := put_away(tree)) is not None:
        delete(trash)


def put_away(tree: Path) -> Path | None:
    """Rename a file system that is to be removed, so that a half-removed one is never used.

    None if it isn't there, or no longer.
    """
    try:
        return tree.rename(tree.with_name(f"{TRASH}{os.urandom(4).hex()}"))
    except FileNotFoundError:
        return None


def delete(trash: Path) -> None:
    """Delete what was put away.

    Subvolumes are deleted first, as wholes: rm(1) can't remove read-only ones. rm follows no
    links, whatever happens below meanwhile, and goes down as deep as folders are nested.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        subvolumes.delete(trash)
    if not os.path.lexists(trash):
        return
    rm = ["rm", "--recursive", "--force", "--one-file-system", "--", str(trash)]
    command.run(rm, timeout=PATIENCE)


def delete_trash(folder: Path) -> None:
    """Delete what killed programs had put away in a folder, if the folder exists.

    What can't be deleted stops nobody's work; the journal says so.
    """
    for trash in folder.glob(f"{TRASH}*"):
        try:
            delete(trash)
        except (LxcGpuError, OSError) as error:
            event("not-removed", what=trash, why=str(error))
