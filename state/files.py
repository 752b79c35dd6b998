"""The one way to write a file: replaced as a whole, durable. Standard library only.

For folders that nobody but ourselves can write to; below a container's file system, see
`reconciler.children.hostile`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def write_file(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Replace `path` as a whole: readers see the old content or the new, also after power loss."""
    raw = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    _replace(path, raw, mode)
    sync_folder(path.parent)


def write_files(folder: Path, contents: Mapping[str, str], mode: int = 0o644) -> None:
    """Replace many files of one folder and make them durable together. The caller holds its
    lock.

    Half-written files that killed programs left there are removed.
    """
    for leftover in folder.glob(".*.new"):
        leftover.unlink(missing_ok=True)
    for name, text in contents.items():
        _replace(folder / name, text.encode("utf-8", "surrogateescape"), mode)
    sync_folder(folder)


def _replace(path: Path, raw: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.new")
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


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in `folder` survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle(folder: Path) -> None:
    """Have everything on the file system of `folder` survive a power loss (syncfs(2))."""
    import ctypes  # rarely needed

    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if libc.syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(descriptor)


def exchange(one: Path, other: Path) -> None:
    """Have two files, links or folders change places in one step (renameat2(2), RENAME_EXCHANGE).

    OSError if that can't be done. For a power loss, the caller keeps the folders around them.
    """
    import ctypes  # rarely needed

    libc = ctypes.CDLL(None, use_errno=True)
    here, change_places = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if libc.renameat2(here, os.fsencode(one), here, os.fsencode(other), change_places) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(one))


def read_text(path: Path) -> str | None:
    """The text in `path`, None if there is no such file. What can't be read raises OSError."""
    try:
        with path.open("rb", buffering=0) as file:  # half the time of Path.read_text
            text = file.read().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
