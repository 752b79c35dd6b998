"""The one way to write a file as root, and the locks around what several rounds share."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from reconciler import places

ACCOUNTS = "accounts"
"""The global lock: around passwd, subordinate ids and iptables, for milliseconds."""
PUBLISH = "publish"
"""Held while a new revision is fetched and published."""


def write_file(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Replace `path` as a whole: readers see the old content or the new, also after power loss.

    Only for folders that nobody but root can write to; below a container's file system, see
    `reconciler.hostile`.
    """
    raw = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    _replace(path, raw, mode)
    keep_folder(path.parent)


def write_files(folder: Path, contents: Mapping[str, str], mode: int = 0o644) -> None:
    """The same for many files of one folder, whose lock is held: only once is it made durable.

    What killed programs left half-written there is removed.
    """
    for leftover in folder.glob(".*.new"):
        leftover.unlink(missing_ok=True)
    for name, text in contents.items():
        _replace(folder / name, text.encode("utf-8", "surrogateescape"), mode)
    keep_folder(folder)


def _replace(path: Path, raw: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)  # a killed process of the same number left it
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def keep_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in `folder` survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_text(path: Path) -> str | None:
    """The text in `path`, None if there is no such file. What can't be read raises OSError."""
    try:
        return path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None


@contextmanager
def lock(name: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock `name` on this server. Gives False, without it, if taken and not `wait`.

    Locks end with their holder, however it ends. Order: a user's lock, then ACCOUNTS.
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


def user_lock(user: str) -> str:
    """The name of the lock around work on one user's container."""
    return f"user-{user}"
