"""Project quotas of ext4 and xfs: limits on everything below a folder.

Every file has the number of a project; a folder passes it on to what is made in it. The kernel
keeps the sums and refuses what exceeds a limit. Only the server's own users may change a number:
the kernel refuses that in a user namespace, and so in a container (linux fs/ioctl.c,
fileattr_set_prepare). Sources: quotactl(2), ioctl_xfs_fsgetxattr(2), linux/fs.h, linux/quota.h,
linux/dqblk_xfs.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import stat
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.children import hostile
from reconciler.plan import Tell
from state.errors import LxcGpuError, Remedy
from state.wire.messages import Progress

BLOCK = 1024
"""Bytes of the blocks in which limits are kept (QIF_DQBLKSIZE)."""
PATIENCE = 120.0
"""Seconds that a round spends on one tree. The next one goes on, and passes fast what was done."""
DEEPEST = 2048
"""Nested folders: no path that programs can name (PATH_MAX) has more."""
_QUOTACTL_FD = 443  # Linux 5.14, the same on x86-64 and arm64
_GET_QUOTA, _SET_QUOTA, _GET_STATE = 0x800007, 0x800008, 0x5808
_PROJECTS = 2
_ENFORCED = 1 << 5  # FS_QUOTA_PDQ_ENFD
_ACCOUNTS_ENFORCED = 1 << 1 | 1 << 3  # FS_QUOTA_UDQ_ENFD, FS_QUOTA_GDQ_ENFD
_QUOTA = struct.Struct("=8QI4x")
"""struct if_dqblk: hard and soft blocks, bytes used, the same of inodes, two times, what is set."""
_SPACE_LIMITS = 1
_ATTRIBUTES = struct.Struct("=5I8x")
"""struct fsxattr: flags, a size, a count, the project, a size."""
_GET_ATTRIBUTES, _SET_ATTRIBUTES = 0x801C581F, 0x401C5820
_PASSED_ON = 0x200  # FS_XFLAG_PROJINHERIT
_NONE_HERE = frozenset({errno.ENOSYS, errno.ESRCH, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY})
"""Errors of the kernel without project quotas, or while they are off."""
_GONE = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENODEV})
"""Errors for a name that meanwhile is gone, or is a link, a socket or a device."""
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_BUSY_EVERY = 1.0


@dataclass(frozen=True)
class QuotaUse:
    """What the files of a project take, in bytes."""

    used: int
    limit: int
    """0: none."""


def enforced(folder: int) -> bool:
    """Whether the file system that the descriptor is on enforces projects' limits.

    ext4 mounted without `prjquota` may count without enforcing anything: then no.
    """
    return bool(_state(folder) & _ENFORCED)


def holds_accounts(folder: int) -> bool:
    """Whether the file system that the descriptor is on enforces users' or groups' limits."""
    return bool(_state(folder) & _ACCOUNTS_ENFORCED)


def _state(folder: int) -> int:
    """Flags of the quotas that are on; 0 without any."""
    state = bytearray(256)
    state[0] = 1  # qs_version
    try:
        _quotactl(folder, _GET_STATE, 0, state)
    except OSError as error:
        if error.errno in _NONE_HERE:
            return 0
        raise
    return int(struct.unpack_from("=H", state, 2)[0])


def use(folder: int, project: int) -> QuotaUse:
    """A project's use of the file system that the descriptor is on, and its limit."""
    quota = bytearray(_QUOTA.size)
    try:
        _quotactl(folder, _GET_QUOTA, project, quota)
    except OSError as error:
        if error.errno == errno.ENOENT:  # xfs, of a project that has no file yet
            return QuotaUse(0, 0)
        raise
    return unpacked(quota)


def unpacked(quota: bytes | bytearray) -> QuotaUse:
    """The use and the limit in the kernel's struct. Pure."""
    blocks, _, used, *_ = _QUOTA.unpack(quota)
    return QuotaUse(used, blocks * BLOCK)


def packed(limit: int) -> bytearray:
    """The kernel's struct that sets a limit in bytes and nothing else; 0: no limit. Pure."""
    return bytearray(_QUOTA.pack(limit // BLOCK, 0, 0, 0, 0, 0, 0, 0, _SPACE_LIMITS))


def set_limit(folder: int, project: int, limit: int) -> None:
    """Limit a project to so many bytes; 0: no limit. Nothing is deleted."""
    _quotactl(folder, _SET_QUOTA, project, packed(limit))


def project_of(descriptor: int) -> tuple[int, bool]:
    """The project of a file or folder, and whether new files in it get the same one.

    It is 0 if none was given, or on a file system without projects.
    """
    try:
        said = fcntl.ioctl(descriptor, _GET_ATTRIBUTES, bytes(_ATTRIBUTES.size))
    except OSError as error:
        if error.errno in _NONE_HERE:
            return 0, False
        raise
    flags, _, _, project, _ = _ATTRIBUTES.unpack(said)
    return project, bool(flags & _PASSED_ON)


def assign(descriptor: int, project: int, *, passed_on: bool) -> None:
    """Give a file or folder to a project, unless it belongs to it already."""
    said = fcntl.ioctl(descriptor, _GET_ATTRIBUTES, bytes(_ATTRIBUTES.size))
    flags, size, count, before, other = _ATTRIBUTES.unpack(said)
    wanted = flags | _PASSED_ON if passed_on else flags
    if (wanted, project) != (flags, before):
        fields = _ATTRIBUTES.pack(wanted, size, count, project, other)
        fcntl.ioctl(descriptor, _SET_ATTRIBUTES, fields)


def _quotactl(folder: int, command: int, project: int, fields: bytearray) -> None:
    """Call quotactl_fd: quotactl(2) for the file system that the descriptor is on. OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = (ctypes.c_char * len(fields)).from_buffer(fields)
    which = ctypes.c_uint(command << 8 | _PROJECTS)
    if libc.syscall(_QUOTACTL_FD, ctypes.c_int(folder), which, ctypes.c_uint(project), buffer) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "project quota")


@dataclass
class _Walk:
    """A walk, as root, through a tree that somebody else may be changing.

    A folder gets the project before it is read: what comes into it later gets the project, too, or
    is refused by the kernel (EXDEV), so nothing is missed. Links, pipes and sockets can't be
    opened; they stay as they are, and take next to no space.
    """

    project: int
    device: int
    tell: Tell
    end: float
    done: int = 0
    told: float = 0.0
    problem: LxcGpuError | None = None

    def through(self, top: int) -> None:
        """Assign the folder and everything below it. No link is followed."""
        assign(top, self.project, passed_on=True)
        folders: list[tuple[int, Iterator[os.DirEntry[str]]]] = [(top, os.scandir(top))]
        while folders:
            folder, entries = folders[-1]
            entry = next(entries, None)
            if entry is None:
                folders.pop()
                if folder != top:
                    os.close(folder)
                continue
            if not (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)):
                continue
            below = self.one(folder, entry.name)
            if below is not None and len(folders) < DEEPEST:
                folders.append((below, os.scandir(below)))
            elif below is not None:
                os.close(below)
                self.problem = self.problem or _too_deep()

    def one(self, folder: int, name: str) -> int | None:
        """Assign one name in an open folder. Returns its descriptor if it is a folder."""
        self._still_at_it()
        try:
            descriptor = os.open(name, _OPEN, dir_fd=folder)
        except OSError as error:
            if error.errno not in _GONE:
                self.problem = self.problem or _refused(error)
            return None
        status = os.fstat(descriptor)
        is_folder, is_file = stat.S_ISDIR(status.st_mode), stat.S_ISREG(status.st_mode)
        if (is_folder or is_file) and status.st_dev == self.device:
            try:
                assign(descriptor, self.project, passed_on=is_folder)
            except OSError as error:
                self.problem = self.problem or _refused(error)
            if is_folder:
                return descriptor
        os.close(descriptor)
        return None

    def _still_at_it(self) -> None:
        self.done += 1
        now = time.monotonic()
        if now < self.told + _BUSY_EVERY:
            return
        if now > self.end:
            raise _too_long(self.done)
        self.told = now
        hostile.still_at_it(hostile.PATIENCE)
        self.tell(Progress(f"counting what is in the container: {self.done:,} files"))


def assign_tree(folder: int, project: int, tell: Tell) -> None:
    """Give a project to a folder and to everything below it that can have one.

    Called in a child that is root and ends afterwards: the folder becomes its root folder for
    good, as a second wall around what is renamed or linked below meanwhile. LxcGpuError if not
    everything got the project.
    """
    os.fchdir(folder)
    os.chroot(".")
    most = 2 * DEEPEST + 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    walk = _Walk(project, os.fstat(folder).st_dev, tell, time.monotonic() + PATIENCE,
                 told=time.monotonic())  # fmt: skip
    walk.through(folder)
    if walk.problem is not None:
        raise walk.problem


def _too_long(done: int) -> LxcGpuError:
    return LxcGpuError(
        "quota-counting",
        f"After {PATIENCE:.0f} s and {done:,} files, not all of the container is counted yet.",
        "The limit holds for what is new; the next round will try again.",
        Remedy.WAIT,
    )


def _too_deep() -> LxcGpuError:
    return LxcGpuError(
        "quota-too-deep",
        f"In the container, more than {DEEPEST} folders are nested: what is further down "
        "is not counted.",
        "The limit holds for what is new. Ask its owner to remove them.",
    )


def _refused(error: OSError) -> LxcGpuError:
    return LxcGpuError(
        "quota-refused",
        f"Something in the container can't be counted: {error.strerror}.",
        "The limit holds for what is new; the next round tries again.",
        Remedy.RETRY,
        repr(error),
    )
