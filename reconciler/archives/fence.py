"""Runs a program that can write in one folder only: `fence.py FOLDER PROGRAM [WORD]...`.

It is started as root of a user's id map. tar(1) itself refuses to leave its folder; this is a
second wall, should an archive ever trick it: in a mount namespace of its own, everything else is
read-only (mount_setattr(2), Linux 5.12). It also limits memory, which nothing else does: a list may
grow with the archive, a header may have a gigabyte.
It runs by its path, so it imports the standard library only.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Sequence

MOST_MEMORY = 1 << 30
"""Bytes of memory of its own (RLIMIT_DATA, setrlimit(2)); zstd's largest window is an eighth."""
_CLONE_NEWNS = 0x00020000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_MOUNT_SETATTR = 442
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_RDONLY = 1


class _Attributes(ctypes.Structure):
    """`struct mount_attr` of mount_setattr(2)."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def main(argv: Sequence[str]) -> None:
    """Put up the fence and become the program. OSError if the fence can't be put up."""
    folder, *program = argv
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    place = os.fsencode(folder)
    _checked(libc.unshare(_CLONE_NEWNS))
    _checked(libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None))
    _checked(libc.mount(place, place, None, _MS_BIND, None))
    _set(libc, b"/", _AT_RECURSIVE, _Attributes(set=_RDONLY))
    _set(libc, place, 0, _Attributes(clear=_RDONLY))
    os.chdir(folder)
    os.execvp(program[0], program)  # noqa: S606


def _set(libc: ctypes.CDLL, path: bytes, flags: int, attributes: _Attributes) -> None:
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    where = (ctypes.c_long(_AT_FDCWD), path, ctypes.c_uint(flags))
    _checked(libc.syscall(ctypes.c_long(_MOUNT_SETATTR), *where, ctypes.byref(attributes), size))


def _checked(status: int) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main(sys.argv[1:])
