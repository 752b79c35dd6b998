"""Quota groups of btrfs' simple quotas (Linux 6.7): limits on several subvolumes together.

A block counts for the subvolume that it was written in, as long as anything has it: a copy costs
nothing until it differs. A user's subvolumes are members of a group, which has the limit. Only the
server's root may change any of it. A sysadmin turns them on (`btrfs quota enable --simple`).
Sources: btrfs-quota(5), linux/btrfs.h, linux/btrfs_tree.h.
"""

from __future__ import annotations

import fcntl
import struct
from collections.abc import Iterable
from contextlib import suppress

from reconciler.disk.project_quota import BLOCK, QuotaUse
from reconciler.disk.subvolumes import on_btrfs, search

_CREATE, _ASSIGN, _LIMIT = 0x4010942A, 0x40189429, 0x8030942B
_QUOTA_TREE, _STATUS, _INFO, _MAXIMUM, _MEMBERS = 8, 240, 242, 244, 246
_ON, _SIMPLE = 1 << 0, 1 << 3
_MOST_REFERRED = 1 << 0  # BTRFS_QGROUP_LIMIT_MAX_RFER
_NO_LIMIT = (1 << 64) - 1
_LEVEL = 1 << 48
"""Groups of the first level above subvolumes, which are their own groups."""


def enforced(folder: int) -> bool:
    """Whether the descriptor is on a btrfs whose simple quotas are on."""
    if not on_btrfs(folder):
        return False
    with suppress(FileNotFoundError):  # no quotas at all
        for _, said in search(folder, _QUOTA_TREE, 0, _STATUS):
            flags: int = struct.unpack_from("=3Q", said)[2]
            return flags & (_ON | _SIMPLE) == _ON | _SIMPLE
    return False


def group_of(uid: int) -> int:
    """The number of a user's group, `1/UID` for btrfs(8)."""
    return _LEVEL | uid


def known(folder: int, group: int) -> bool:
    """Whether there is such a group."""
    return any(each == group for each, _ in search(folder, _QUOTA_TREE, 0, _INFO))


def use(folder: int, group: int) -> QuotaUse:
    """A group's use, as of the last transaction (30 seconds ago at most), and its limit."""
    used = _second(folder, _INFO, group) or 0
    limit = _second(folder, _MAXIMUM, group)
    return QuotaUse(used, 0 if limit in (None, _NO_LIMIT) else limit // BLOCK * BLOCK)


def _second(folder: int, kind: int, group: int) -> int | None:
    """The second number of both structures: bytes referred to, and their limit."""
    for which, said in search(folder, _QUOTA_TREE, 0, kind):
        if which == group:
            first, second = struct.unpack_from("=2Q", said)
            return second if kind == _INFO or first & _MOST_REFERRED else _NO_LIMIT
    return None


def set_limit(folder: int, group: int, limit: int) -> None:
    """Limit a group, which is made if need be, to so many bytes; 0: no limit."""
    with suppress(FileExistsError):
        fcntl.ioctl(folder, _CREATE, struct.pack("=2Q", 1, group))
    fields = struct.pack("=6Q", group, _MOST_REFERRED, limit or _NO_LIMIT, 0, 0, 0)
    fcntl.ioctl(folder, _LIMIT, fields)


def outside(folder: int, group: int, subvolumes: Iterable[int]) -> list[int]:
    """Those of the subvolumes that don't count for the group."""
    members = {which for which, _ in search(folder, _QUOTA_TREE, group, _MEMBERS)}
    return [each for each in subvolumes if each not in members]


def admit(folder: int, group: int, subvolumes: Iterable[int]) -> None:
    """Have these subvolumes count for the group, with what is in them already."""
    for each in subvolumes:
        with suppress(FileExistsError):
            fcntl.ioctl(folder, _ASSIGN, struct.pack("=3Q", 1, each, group))


def strange(folder: int, group: int, subvolumes: Iterable[int]) -> list[tuple[int, int]]:
    """Those of the subvolumes that also count for other groups, with these groups."""
    return [
        (each, other)
        for each in subvolumes
        for other, _ in search(folder, _QUOTA_TREE, each, _MEMBERS)
        if other != group
    ]


def dismiss(folder: int, memberships: Iterable[tuple[int, int]]) -> None:
    """Have these subvolumes no longer count for these groups."""
    for each, group in memberships:
        with suppress(FileNotFoundError):
            fcntl.ioctl(folder, _ASSIGN, struct.pack("=3Q", 0, each, group))


def of(folder: int, uid: int) -> int | None:
    """The group that a user's new subvolumes count for; None if there is none."""
    if not enforced(folder) or not known(folder, group_of(uid)):
        return None
    return group_of(uid)
