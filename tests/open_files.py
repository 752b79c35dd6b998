"""What this process has open, as the kernel sees it (proc(5))."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_OPEN = Path("/proc/self/fd")


def open_files() -> Counter[tuple[int, int]]:
    """The device and inode of each file that is open, and by how many descriptors."""
    found: Counter[tuple[int, int]] = Counter()
    for descriptor in list(_OPEN.iterdir()):
        with suppress(OSError):  # the one by which they were listed
            status = descriptor.stat()
            found[status.st_dev, status.st_ino] += 1
    return found


def open_below(folder: Path) -> set[Path]:
    """The files below `folder` that are open."""
    found = set()
    for descriptor in list(_OPEN.iterdir()):
        with suppress(OSError):
            found.add(descriptor.readlink())
    return {path for path in found if path.is_relative_to(folder)}


@contextmanager
def none_left_open() -> Iterator[None]:
    """AssertionError if anything is open at the end that wasn't before.

    What was open before may have been closed meanwhile: by a thread of an earlier test, say.
    """
    before = open_files()
    yield
    assert not open_files() - before, "a descriptor was left open"
