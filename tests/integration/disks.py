"""Disks of their own for tests: a file system in a file, mounted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAKE = {"btrfs": ["mkfs.btrfs", "-q"], "ext4": ["mkfs.ext4", "-q"], "xfs": ["mkfs.xfs", "-q"]}


@contextmanager
def disk(kind: str, at: Path, size: str = "512M") -> Iterator[Path]:
    """An empty file system of that kind, mounted at `at`, whose image stands beside."""
    image = at.with_name(f"{at.name}.img")
    subprocess.run(["truncate", "-s", size, image], check=True)
    subprocess.run([*MAKE[kind], image], check=True, capture_output=True)
    at.mkdir()
    subprocess.run(["mount", "-o", "loop", image, at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)
        image.unlink()
