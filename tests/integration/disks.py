"""Disks of their own for tests: a file system in a file, mounted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAKE = {"btrfs": ["mkfs.btrfs", "-q"], "ext4": ["mkfs.ext4", "-q"], "xfs": ["mkfs.xfs", "-q"]}


def image(kind: str, file: Path, size: str) -> Path:
    """An empty file system of that kind, in a file."""
    subprocess.run(["truncate", "-s", size, file], check=True)
    subprocess.run([*MAKE[kind], file], check=True, capture_output=True)
    return file


@contextmanager
def disk(kind: str, at: Path, size: str = "512M") -> Iterator[Path]:
    """The same, mounted at `at`; its image stands beside."""
    file = image(kind, at.with_name(f"{at.name}.img"), size)
    at.mkdir()
    subprocess.run(["mount", "-o", "loop", file, at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)
        file.unlink()
