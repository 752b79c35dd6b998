"""Locks between the runs of this program on one machine."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, waiting: Callable[[], AbstractContextManager[object]]) -> Iterator[None]:
    """Hold the lock at `path`. While another process has it, wait inside `waiting()`.

    The kernel lets go of it when its owner dies, however that happens.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with waiting():
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
