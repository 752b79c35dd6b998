"""Makes folders that belong to a user, so that they never appear with another owner."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def make_owned_at(path: Path, uid: int, mode: int = 0o700) -> None:
    """Make the folder `path` as `make_owned` does; the folder around it exists."""
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        make_owned(parent, path.name, uid, mode)
    finally:
        os.close(parent)


def make_owned(parent: int, name: str, uid: int, mode: int = 0o700) -> None:
    """Make the folder `name` in the open folder `parent`, with the owner and group `uid`.

    It is made under another name and renamed; what a kill leaves is removed by the next call. Only
    root may be able to change `parent`. OSError if the folder can't be made.
    """
    new = f".{name}.lxc-gpu-new"
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(new, dir_fd=parent)
    os.mkdir(new, 0o700, dir_fd=parent)
    try:
        folder = os.open(
            new, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent
        )
        try:
            os.fchown(folder, uid, uid)
            os.fchmod(folder, mode)
        finally:
            os.close(folder)
        os.rename(new, name, src_dir_fd=parent, dst_dir_fd=parent)
    except OSError:
        with contextlib.suppress(OSError):
            os.rmdir(new, dir_fd=parent)
        raise
    os.fsync(parent)
