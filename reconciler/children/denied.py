"""Requests to the kernel that are denied in containers, besides those that LXC denies.

They are about subvolumes of btrfs: the owner of a folder may make one. A snapshot of the system
wouldn't contain it, it could leave its quota or fill another one's, and it would be in the way when
the system is removed. Its owner may also make it read-only, so that no key could be taken out of
it. The kernel answers as a file system that has none (ENOTTY); systemd then makes folders, Docker
takes overlay2. Containers start with it (`reconciler.container.seccomp`); what is put into one that
runs takes it on here. Sources: seccomp(2), linux/filter.h, linux/seccomp.h, linux/audit.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence

IOCTLS = {
    "BTRFS_IOC_SNAP_CREATE": 0x50009401,
    "BTRFS_IOC_SUBVOL_CREATE": 0x5000940E,
    "BTRFS_IOC_SNAP_DESTROY": 0x5000940F,
    "BTRFS_IOC_SNAP_CREATE_V2": 0x50009417,
    "BTRFS_IOC_SUBVOL_CREATE_V2": 0x50009418,
    "BTRFS_IOC_SUBVOL_SETFLAGS": 0x4008941A,
    "BTRFS_IOC_SNAP_DESTROY_V2": 0x5000943F,
}
"""Requests of ioctl(2), as linux/btrfs.h has them; of older ones, the argument is as large."""
ANSWER = errno.ENOTTY
_X32 = 0x40000000
_WAYS = (
    (0xC000003E, ~_X32 & 0xFFFFFFFF, (16, 514)),  # x86-64; x32 is the same with a bit more
    (0x40000003, 0xFFFFFFFF, (54,)),  # i386
    (0xC00000B7, 0xFFFFFFFF, (29,)),  # aarch64
    (0x40000028, 0xFFFFFFFF, (54,)),  # arm
)
"""Ways into the kernel: AUDIT_ARCH_..., what counts of a call's number, and ioctl's numbers."""
_LOAD, _EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _REQUEST = 0, 4, 24
"""Places in struct seccomp_data; of the second argument its low half: the kernel reads no more."""
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PR_SET_SECCOMP, _FILTER = 22, 2

Instruction = tuple[int, int, int, int]
"""What to do, how many to pass over if true and if not, and the operand."""


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def program() -> tuple[Instruction, ...]:
    """The filter, for bpf(2)'s older machine. Pure."""
    numbers = list(IOCTLS.values())
    asked = [
        (_LOAD, 0, 0, _REQUEST),
        *((_EQUAL, len(numbers) - at, 0, number) for at, number in enumerate(numbers)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | ANSWER),
    ]
    ways: list[Instruction] = [(_RETURN, 0, 0, _ALLOW)]
    for architecture, counts, calls in reversed(_WAYS):
        after = len(ways)
        ways = [
            (_EQUAL, 0, len(calls) + 3, architecture),
            (_LOAD, 0, 0, _NUMBER),
            (_AND, 0, 0, counts),
            *((_EQUAL, len(calls) - at + after, 0, call) for at, call in enumerate(calls)),
            (_RETURN, 0, 0, _ALLOW),
            *ways,
        ]
    return ((_LOAD, 0, 0, _ARCHITECTURE), *ways, *asked)


def take_on(libc: ctypes.CDLL, filter_: Sequence[Instruction]) -> None:
    """Have the kernel refuse it to this process, and to all that it will start. OSError if not.

    A process with all capabilities in its user namespace needs no PR_SET_NO_NEW_PRIVS for that,
    which would break sudo.
    """
    raw = b"".join(struct.pack("=HBBI", *each) for each in filter_)
    whole = _Program(len(filter_), raw)
    if libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(whole), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "seccomp")
