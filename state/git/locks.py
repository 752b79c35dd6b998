"""Lock files of a Git that was killed: nobody holds them, and they stop everybody.

A file that Git is about to replace has NAME.lock beside it for moments (gitrepository-layout(5),
api-lockfile). In a clone, who is `alone` knows that none is in use. To the state repository many
push at once, by Git's own means: there, it is told by the clock and by who is at work.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

LOCK_FILES = ("*.lock", "refs/**/*.lock", "objects/*.lock", "objects/info/**/*.lock")
"""Where Git keeps its lock files in a bare repository."""
OLD = 60.0
"""Seconds; Git holds one for moments."""


def abandoned(repository: Path, now: float | None = None) -> tuple[Path, ...]:
    """The lock files that no Git holds: a minute old, from before all who work there came."""
    now = time.time() if now is None else now
    old = [
        (path, path.lstat().st_mtime) for pattern in LOCK_FILES for path in repository.glob(pattern)
    ]
    if all(now - since < OLD for _, since in old):
        return ()
    begun = min(_came(repository.resolve()), default=now)
    return tuple(sorted(path for path, since in old if now - since >= OLD and since < begun - 1))


def remove_abandoned(repository: Path) -> tuple[Path, ...]:
    """Remove those; which they were. Two who do so don't take a lock that a Git just made."""
    folder = os.open(repository, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        found = abandoned(repository)
        for path in found:
            path.unlink(missing_ok=True)
        return found
    finally:
        os.close(folder)


def _came(folder: Path) -> Iterator[float]:
    """When each Git began that works in `folder` (proc(5): cwd, comm, starttime)."""
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    for program in Path("/proc").glob("[0-9]*"):
        try:
            place = (program / "cwd").readlink()
            name, _, rest = (program / "stat").read_text("utf-8", "replace").rpartition(")")
        except OSError:  # it ended, or is somebody else's
            continue
        words = rest.split()
        if "(git" in name and (place == folder or folder in place.parents):
            yield boot + int(words[19]) / os.sysconf("SC_CLK_TCK")
