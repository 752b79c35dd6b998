"""Free space on a disk that many people share. A reserve of it is left to the others."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from reconciler.host import in_words
from state import command
from state.errors import LxcGpuError

RESERVE = 0.05
"""The share of a disk that is left to the others, of its bytes and of its inodes."""
MOST_RESERVED = 10 << 30
"""Bytes; on a large disk the reserve is no more than that."""


@dataclass(frozen=True)
class FreeSpace:
    """What one person may still take of a disk."""

    size: int
    """Bytes; negative once the reserve is touched."""
    files: int
    """Inodes."""


def free_space(folder: Path | int) -> FreeSpace:
    """The free space on the disk that `folder`, or a descriptor, is on (statvfs(3)).

    Many file systems don't count inodes; pipes and sockets have no space and no reserve.
    """
    there = os.statvfs(folder)
    reserved = min(RESERVE * there.f_blocks * there.f_frsize, MOST_RESERVED)
    files = there.f_favail - RESERVE * there.f_files if there.f_files else 1 << 62
    return FreeSpace(int(there.f_bavail * there.f_frsize - reserved), int(files))


def require_space(folder: Path, size: int, what: str) -> None:
    """LxcGpuError if `what`, which needs `size` bytes, would touch the reserve."""
    free = free_space(folder).size
    if size > free:
        raise LxcGpuError(
            "disk-full",
            f"{what} needs {in_words.size(size)}, and on the disk of {folder} you may take "
            f"{in_words.size(max(0, free))} more.",
            "Nothing was changed. Delete what you no longer need (a previous system: `recover "
            "--forget`), or ask your sysadmin for more space.",
        )


def used(folder: Path, *others: Path) -> int:
    """Bytes on the disk below `folder`, as du(1) counts them, without following links.

    `others` are further file systems below it, which du leaves out: subvolumes of btrfs.
    """
    argv = ["du", "--total", "--summarize", "--block-size=1", "--one-file-system", "--"]
    shown = command.run([*argv, folder, *others], check=False, timeout=600).stdout.splitlines()
    total = shown[-1].split("\t")[0] if shown else ""
    return int(total) if total.isdigit() else 0
