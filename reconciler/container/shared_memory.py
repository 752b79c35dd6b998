"""The size of /dev/shm: half of the memory that a container may take, as on any machine.

Killing programs doesn't free the memory of files in /dev/shm. The kernel's size is half of the
server's memory, which no container may take as a whole: filling /dev/shm could end it.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from reconciler.children import inside
from reconciler.host.journal import event
from state.errors import LxcGpuError

PATIENCE = 1.0
"""Seconds for all containers: what is mounted at that path is theirs, and may not answer."""
AT_ONCE = 64
"""Containers that are asked at the same time: each costs a process and a descriptor."""
_FSCONFIG, _FSPICK = 431, 433
_AT_FDCWD, _CLOEXEC_NO_FOLLOW = -100, 1 | 2
_SET_STRING, _RECONFIGURE = 1, 7
UNLIMITED = "45%"
"""Of the server's memory (tmpfs(5)), for a container without a limit: half of the MemoryMax= of
lxc-gpu@.service."""


def mount_entry(memory: int | None) -> str:
    """The mount for a container with a limit of `memory` bytes; None: without one."""
    return f"tmpfs dev/shm tmpfs nosuid,nodev,mode=1777,size={_size(memory)},create=dir 0 0"


def fit(memory: Mapping[str, int | None]) -> None:
    """Fit /dev/shm of users' running containers to their limits, all together within PATIENCE.

    One that holds more than that stays as it is until the next start; the journal says so.
    """
    users = sorted(memory)
    until = time.monotonic() + PATIENCE
    for some in (users[at : at + AT_ONCE] for at in range(0, len(users), AT_ONCE)):
        begun = dict[str, inside.Begun]()
        for user in some:
            with suppress(LxcGpuError):  # it has ended meanwhile
                begun[user] = inside.begun(user, _resizing(_size(memory[user])))
        for user, child in begun.items():
            left = max(0.02, until - time.monotonic())  # each is looked at once
            ended = child.wait(left, left_behind=left)
            if ended.status != 0:
                why = ended.said.strip() or "no answer"
                event("shared-memory", user=user, size=_size(memory[user]), why=why)


def _size(memory: int | None) -> str:
    return UNLIMITED if memory is None else str(memory // 2)


def _resizing(size: str) -> Callable[[int], None]:
    """Set the file system's size and nothing else, in the child, as the container's root.

    By fspick(2) and fsconfig(2), as mount(8) would also set the mount's flags. Only the kernel is
    asked: nothing of the container is opened or run.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    place, name, value = b"/dev/shm", b"size", size.encode()

    def act(_: int) -> None:
        there = libc.syscall(_FSPICK, _AT_FDCWD, place, _CLOEXEC_NO_FOLLOW)
        if (
            there < 0
            or libc.syscall(_FSCONFIG, there, _SET_STRING, name, value, 0) != 0
            or libc.syscall(_FSCONFIG, there, _RECONFIGURE, None, None, 0) != 0
        ):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), place.decode())
        os._exit(0)

    return act
