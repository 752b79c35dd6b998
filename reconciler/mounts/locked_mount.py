"""Mounts a folder a second time with flags that nobody in a container can take off.

A bind mount that LXC makes belongs to the container's user namespace, and root inside may remount
it, so `ro` could be taken off. The flags of a mount that was made outside, and that the container
has a copy of, are locked (mount_namespaces(7), restrictions on mount namespaces).

The mount never appears without its flags: open_tree(2), mount_setattr(2), then move_mount(2), from
Linux 5.12 on. Debian 12's C library has no functions for the first and the last.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
"""Numbers of the system calls, the same on every architecture (the kernel's scripts/syscall.tbl).
"""
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MS_PRIVATE = 1 << 18
_MNT_DETACH = 2
_MOUNT_ATTR_IDMAP = 1 << 20
FLAGS: Mapping[str, int] = {"ro": 1, "nosuid": 2, "nodev": 4}
"""MOUNT_ATTR_RDONLY and so on, of linux/mount.h."""


class _MountAttr(ctypes.Structure):
    """struct mount_attr of linux/mount.h."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount_locked(folder: int, place: Path, flags: Collection[str], ids: int | None = None) -> None:
    """Mount the folder that is open as `folder` also at `place`, with `flags` besides its own.

    `ids`: an open user namespace that maps the owners of files (`owner_map`).

    File systems that are mounted below it, now or later, don't come along. OSError if it can't be.
    """
    with detached(folder, flags, ids) as tree:
        _call(_MOVE_MOUNT, tree, b"", -100, bytes(place), _MOVE_MOUNT_F_EMPTY_PATH)


def try_locked(folder: int, flags: Collection[str], ids: int | None = None) -> None:
    """OSError if `mount_locked` would fail with that folder; nothing is mounted."""
    with detached(folder, flags, ids):
        pass


@contextmanager
def detached(folder: int, flags: Collection[str], ids: int | None) -> Iterator[int]:
    """A descriptor (O_PATH) of such a mount that is not attached anywhere."""
    tree = _call(_OPEN_TREE, folder, b"", _AT_EMPTY_PATH | _OPEN_TREE_CLONE | os.O_CLOEXEC)
    try:
        wanted = sum(FLAGS[flag] for flag in flags) | (0 if ids is None else _MOUNT_ATTR_IDMAP)
        attr = _MountAttr(wanted, 0, _MS_PRIVATE, ids or 0)
        size = ctypes.sizeof(attr)
        _call(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(attr), size)
        yield tree
    finally:
        os.close(tree)


def clone(path: Path) -> int:
    """A descriptor of a file or folder as a mount that is not attached anywhere."""
    return _call(_OPEN_TREE, -100, bytes(path), _OPEN_TREE_CLONE | os.O_CLOEXEC)


def attach(tree: int, place: Path) -> None:
    """Attach the mount that `clone` made at `place`."""
    _call(_MOVE_MOUNT, tree, b"", -100, bytes(place), _MOVE_MOUNT_F_EMPTY_PATH)


def unmount(place: Path) -> None:
    """Take the mount at `place` away, in use or not (umount2(2), MNT_DETACH)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(bytes(place), _MNT_DETACH) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(place))


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    answer = int(libc.syscall(ctypes.c_long(number), *words))
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer
