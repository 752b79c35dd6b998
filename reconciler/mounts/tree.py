"""Finds and opens stored systems of containers, raw or shifted into their users' ids.

A container's folder holds *slots*: `rootfs`, `rootfs.new`, `rootfs.before`, on btrfs
`rootfs.frozen` and `snapshots/NAME`; spares have theirs in `.spares`. A shifted system is its slot:
it belongs to the first id of a range, and the root inside can give it only to ids of that range. A
raw one has the ids that the container sees (0, 1000, ...). It is the folder `system` in a slot that
is root's and that nobody else can enter, because it contains set-uid programs of the real root. So
the place of a system tells its form, and its owner can't change that.

A raw system is used through a mount that shifts its owners (mount_setattr(2), MOUNT_ATTR_IDMAP): by
a descriptor of a detached mount, or of the one that is at `Tree.shown_at` (`Tree.opened_for`), or,
for programs, by a mount over the slot in a mount namespace of their own (`cover`).
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.host.places import rootfs
from reconciler.mounts.locked_mount import detached, mount_locked
from reconciler.mounts.owner_map import FileOwner, owner_map
from state.errors import LxcGpuError
from state.view import Resident, View

RAW = "system"
"""The name of a raw system in its slot."""
LEAST = 100_000
"""Subordinate ids begin here (`state.model.documents`). Lower ones are the server's own accounts.
"""
CLOSED = 0o700
_CLONE_NEWNS, _MS_REC, _MS_SLAVE = 0x20000, 0x4000, 1 << 19
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Tree:
    """The system in a slot, and the range of subordinate ids of its container."""

    slot: Path
    first: int
    size: int
    shown_at: Path | None = None
    """Where a raw system is mounted with shifted owners already: to mount it takes a process."""

    @classmethod
    def of(cls, view: View, user: str, resident: Resident) -> Tree:
        """The system in place of a user's container."""
        return cls(rootfs(view, user), resident.subid, view.subid_size)

    def __str__(self) -> str:
        return str(self.slot)

    def beside(self, name: str) -> Tree:
        """The system in another slot of the same container."""
        return replace(self, slot=self.slot.with_name(name), shown_at=None)

    @property
    def raw(self) -> bool:
        """Whether it is stored raw. OSError if there is none."""
        return is_raw(self.slot)

    @property
    def top(self) -> Path:
        """The container's `/`, as root sees it."""
        return self.slot / RAW if self.raw else self.slot

    @property
    def stored_for(self) -> int:
        """The first id of the range that the slot is noted for; 0: it fits any range.

        For a shifted system that is the slot's owner. For a raw one it is the slot's group, which
        its first start sets.
        """
        status = self.slot.lstat()
        return status.st_gid if self.raw else status.st_uid

    def note_range(self) -> None:
        """Note in the slot of a raw system which range it runs with. LxcGpuError if it is noted for
        another."""
        if self.stored_for == 0:
            os.chown(self.slot, 0, self.first)
        elif self.stored_for != self.first:
            raise LxcGpuError(
                "subid-changed",
                f"The system in {self.slot} ran with ids from {self.stored_for} on, and the state "
                f"says {self.first}.",
                "Sysadmin: subordinate ids don't change: restore `subid` in the user's file. If "
                f"the system was copied here from another container: `chgrp 0 {self.slot}`.",
            )

    def make(self, *, raw: bool, folder: Callable[[Path], object] = Path.mkdir) -> None:
        """Make the slot with an empty system in it. `folder` makes the folder of a raw one."""
        self.slot.mkdir(mode=CLOSED)
        if raw:
            folder(self.slot / RAW)
        else:
            os.chown(self.slot, self.first, self.first)
        self.keep_top()

    def keep_top(self) -> None:
        """Give `/` the right owner and mode, whatever was unpacked there."""
        owner = 0 if self.raw else self.first
        os.chown(self.top, owner, owner, follow_symlinks=False)
        self.top.chmod(0o755)

    def opened_for(self, owner: int) -> int:
        """A descriptor (O_PATH) of `/` for a child that becomes `owner`, with shifted ids.

        LxcGpuError if there is no system, or if `owner` is not an id of the container: root could
        otherwise read and write the server's own files.
        """
        if not (LEAST <= self.first <= owner < self.first + self.size):
            raise LxcGpuError(
                "not-an-owner",
                f"The uid {owner} may not work in {self.slot}: its container's ids are "
                f"{self.first} to {self.first + self.size - 1}.",
                "Sysadmin: compare `subid` in the user's file with `ls -ldn` of that folder.",
            )
        try:
            if (mounted := self._mounted()) is not None:
                return mounted
            if not self.raw:
                return os.open(self.slot, _FOLDER)
            with self._shown() as (folder, ids), detached(folder, (), ids) as tree:
                return os.dup(tree)
        except FileNotFoundError as error:
            raise LxcGpuError("no-folder", f"There is no {self.slot}.") from error
        except OSError as error:
            raise self._cannot(error) from error

    def _mounted(self) -> int | None:
        """A descriptor of `shown_at`, if the system still is there: the end of its container takes
        the mount away, also while other work is under way."""
        if self.shown_at is None:
            return None
        stored = (self.slot / RAW).lstat()
        folder = os.open(self.shown_at, _FOLDER)
        if os.path.samestat(os.fstat(folder), stored):
            return folder
        os.close(folder)
        return None

    def mount_at(self, place: Path) -> None:
        """Mount a raw system at `place` with shifted owners. LxcGpuError if that fails."""
        try:
            with self._shown() as (folder, ids):
                mount_locked(folder, place, (), ids)
        except OSError as error:
            raise self._cannot(error) from error

    def _cannot(self, error: OSError) -> LxcGpuError:
        return LxcGpuError(
            "system-mount",
            f"The system in {self.slot} can't be shown with the ids of its container: "
            f"{error.strerror}.",
            f"Sysadmin: `findmnt --target {self.slot}`; `dmesg` may say more. A raw system needs "
            "Linux 5.19 or later, and ext4, xfs, btrfs, or ZFS from 2.2 on.",
            details=repr(error),
        )

    @contextmanager
    def _shown(self) -> Iterator[tuple[int, int]]:
        """Descriptors of a raw system, and of the map of its owners."""
        folder = os.open(self.slot / RAW, _FOLDER)
        try:
            with owner_map(FileOwner(0, 0), FileOwner(self.first, self.first), self.size) as ids:
                yield folder, ids
        finally:
            os.close(folder)


def is_raw(slot: Path) -> bool:
    """Whether the system in a slot is stored raw. OSError if there is none.

    LxcGpuError for a folder of root's that others can enter, or that holds no system. No container
    can make one, but a copy that lost its owners looks like that.
    """
    status = slot.lstat()
    if status.st_uid != 0:
        return False
    closed = stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) == CLOSED
    if closed and stat.S_ISDIR((slot / RAW).lstat().st_mode):
        return True
    raise LxcGpuError(
        "system-of-root",
        f"{slot} belongs to root, but isn't a closed folder (mode 0700) with a system in it: "
        "it is left alone.",
        f"Sysadmin: `ls -ldn {slot} {slot}/*`. With the folder {RAW} in it: `chmod 0700 {slot}`. A "
        "copy that lost its owners: copy it again, by `cp --archive` or `tar --numeric-owner`.",
    )


def cover(trees: Iterable[Tree]) -> None:
    """Let this process alone see the systems in raw slots, shifted, at the slots' own paths.

    Mounts that the server makes later still appear. Don't call it in a process with threads.
    """
    raw = [tree for tree in trees if tree.raw]
    if not raw:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) or libc.mount(None, b"/", None, _MS_REC | _MS_SLAVE, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    for tree in raw:
        tree.mount_at(tree.slot)
