"""Makes user namespaces that map the owners of files in a mount, from the disk to what is seen.

They are for mount_setattr(2), MOUNT_ATTR_IDMAP. In such a mount, files of any other owner belong to
`nobody`: the kernel lets nobody write them, whatever their modes are. Users who aren't mapped can't
make files there (EOVERFLOW).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

CLONE_NEWUSER = 0x10000000
"""<linux/sched.h>."""


@dataclass(frozen=True)
class FileOwner:
    """A uid and a gid."""

    uid: int
    gid: int


@contextmanager
def owner_map(on_disk: FileOwner, seen_as: FileOwner, count: int = 1) -> Iterator[int]:
    """A descriptor of such a namespace (user_namespaces(7)). OSError if it can't be made.

    `count`: how many ids are mapped, from these on.
    """
    hears, says = os.pipe2(os.O_CLOEXEC)
    waits, ends = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.close(hears)
        os.close(ends)
        _be_a_namespace(says, waits)
    os.close(says)
    os.close(waits)
    try:
        refused = int(os.read(hears, 16) or b"1")
        if refused:
            raise OSError(refused, f"no user namespace: {os.strerror(refused)}")
        of = Path(f"/proc/{child}")
        (of / "uid_map").write_text(f"{on_disk.uid} {seen_as.uid} {count}\n")
        (of / "gid_map").write_text(f"{on_disk.gid} {seen_as.gid} {count}\n")
        namespace = os.open(of / "ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(hears)
        os.close(ends)
        os.waitpid(child, 0)
    try:
        yield namespace
    finally:
        os.close(namespace)


def _be_a_namespace(says: int, waits: int) -> NoReturn:
    """In the child: keep the namespace until the other end of the pipe is closed."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        refused = ctypes.get_errno() if libc.unshare(CLONE_NEWUSER) != 0 else 0
        os.write(says, str(refused).encode())
        os.read(waits, 1)
    finally:
        os._exit(0)
