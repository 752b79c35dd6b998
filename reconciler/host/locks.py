"""Locks around what several rounds and the root helper share on a server."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from reconciler.host import places

GLOBAL = "accounts"
"""The global lock, held for milliseconds at a time. It guards passwd, subordinate ids, iptables,
forwards, the reservation book, the waits, and whatever else a kind with `Lock.GLOBAL` changes. Its
file keeps an old name: sysadmins type it with flock(1)."""
PUBLISH = "publish"
"""Held while a new revision is fetched and published."""
STATUS = "status"
"""Held for a moment around the server's status, which rounds that run at once add to."""
NOTICES = "notices"
"""Held for a moment around the file of notices."""
SHELLS_OF_ONE = 4
"""Shells that one user may have open at once, so that other requests can still be served."""


@contextmanager
def lock(name: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock `name` on this server. Yields False, without it, if it is taken and not `wait`.

    Locks end with their holder, however it ends. Take them in this order: a tree's lock, a user's
    lock, GLOBAL, NOTICES.
    """
    places.LOCKS.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(
        places.LOCKS / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


@contextmanager
def one_of(name: str, count: int) -> Iterator[bool]:
    """Hold one of so many locks of this name. Yields False, without one, if all are taken."""
    for number in range(count):
        with lock(f"{name}-{number}", wait=False) as held:
            if held:
                os.utime(places.LOCKS / f"{name}-{number}")
                yield True
                return
    yield False


def any_held(name: str, count: int) -> bool:
    """Whether somebody holds one of so many locks of this name (`one_of`)."""
    for number in range(count):
        with suppress(FileNotFoundError):
            descriptor = os.open(
                places.LOCKS / f"{name}-{number}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(descriptor)
    return False


def last_taken(name: str, count: int) -> int:
    """When one of so many locks was last taken, in nanoseconds since the epoch; 0: not since the
    boot."""
    times = [0]
    for number in range(count):
        with suppress(FileNotFoundError):
            times.append((places.LOCKS / f"{name}-{number}").stat().st_mtime_ns)
    return max(times)


def user_lock(user: str) -> str:
    """The name of the lock around work on one user's container."""
    return f"user-{user}"


def shell_place(user: str) -> str:
    """The name of the locks that the user's shells hold (`one_of`, SHELLS_OF_ONE)."""
    return f"shell-{user}"


def tree_lock(user: str) -> str:
    """The name of the lock around a container's whole file system.

    It is held while the file system is packed, replaced or removed, however long that takes. The
    user's lock stays free meanwhile, so that starts, rounds and revocations don't wait for a
    snapshot.
    """
    return f"tree-{user}"
