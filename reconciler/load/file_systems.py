"""Says how full the file systems of disks and NAS are, each once.

statvfs(2) of a NAS that is gone may hang forever, so a child asks, one mount after the other. A
mount that doesn't answer in time is left out and asked again after a pause. No other waits for it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from reconciler.children.answering import PAUSES, AnsweringChild, EndedError, SilentError
from reconciler.host import places
from state.wire.server_load import MOST_BYTES, FileSystem

MOUNTINFO = Path("/proc/self/mountinfo")
EACH = 30.0
"""Seconds after which all are asked again."""
PATIENCE = 10.0
MOST = 100
MOST_LEFT = 4
"""How many children may hang at once, each because of one mount."""
OURS = ("/run", places.KEPT, "/var/lib/docker", "/var/lib/containers", "/snap", "/dev")
"""Nothing below these folders is listed, except the disk of lxc-gpu's containers if it is mounted
there."""
_DISKS = frozenset(
    ("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "ntfs3", "reiserfs", "xfs", "zfs")
)
_NAS = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4"),
        *("orangefs", "panfs", "smb3", "wekafs", "fuse.ceph", "fuse.glusterfs", "fuse.juicefs"),
        *("fuse.mergerfs", "fuse.mfs", "fuse.quobyte", "fuse.sshfs"),
    )
)
"""Types by the kernel's names. All others are memory, views of something else, or images."""


@dataclass(frozen=True)
class MountPoint:
    """One line of /proc/self/mountinfo."""

    key: str
    """Equal for two mounts of the same file system."""
    root: str
    """The folder of the file system that is mounted."""
    path: str
    remote: bool


def mounts(mountinfo: str) -> tuple[MountPoint, ...]:
    """The mounts to ask, one of each file system, disks first. Pure."""
    best = dict[str, MountPoint]()
    for mount in _parsed(mountinfo.splitlines()):
        known = best.get(mount.key)
        if known is None or _rank(mount) < _rank(known):
            best[mount.key] = mount
    return tuple(sorted(best.values(), key=lambda each: (each.remote, each.path)))[:MOST]


def _rank(mount: MountPoint) -> tuple[bool, int, str]:
    """Sorts a mount of the whole file system before one of a part (a bind mount), then by path
    length."""
    return mount.root != "/", len(mount.path), mount.path


def _parsed(lines: Iterable[str]) -> Iterator[MountPoint]:
    for line in lines:
        fields, _, rest = line.partition(" - ")
        words, after = fields.split(" "), rest.split(" ")
        if len(words) < 6 or len(after) < 2 or after[0] not in _DISKS | _NAS:
            continue
        root, path, kind = _unescaped(words[3]), _unescaped(words[4]), after[0]
        if len(path) > 128 or not path.isprintable() or _is_ours(path):
            continue
        key = words[2]
        # each subvolume (btrfs) and dataset (zfs) has a device of its own
        if kind in ("btrfs", "zfs"):
            key = f"{kind} {after[1].partition('/')[0] if kind == 'zfs' else after[1]}"
        yield MountPoint(key, root, path, kind in _NAS)


def _is_ours(path: str) -> bool:
    if path == f"{places.KEPT}/containers":
        return False
    pure = PurePosixPath(path)
    return any(pure.is_relative_to(ours) for ours in OURS)


def _unescaped(word: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word)


@dataclass
class _Asked:
    due: float = 0.0
    failures: int = 0
    answer: Sequence[int] | None = None


@dataclass
class FileSystems:
    """How full the file systems are; a few are asked at each step."""

    mountinfo: Path = MOUNTINFO
    _child: AnsweringChild = field(
        default_factory=lambda: AnsweringChild(
            "lxc-gpu-disks", _room, PATIENCE, pauses=(0.0,), most_left=MOST_LEFT
        )
    )
    _asked: dict[MountPoint, _Asked] = field(default_factory=dict)
    _asking: MountPoint | None = None
    _listed: float = float("-inf")

    def step(self, seconds: float) -> tuple[FileSystem, ...]:
        """Ask the mounts that are due, for `seconds` at most; return all that answered lately."""
        until = time.monotonic() + seconds
        self._list()
        while self._next() and self._collected(until - time.monotonic()):
            pass
        return tuple(
            FileSystem(mount.path, *asked.answer)
            for mount, asked in self._asked.items()
            if asked.answer and asked.answer[0] > 0
        )

    def close(self) -> None:
        """End the child that asks."""
        self._child.close()

    def _list(self) -> None:
        if time.monotonic() - self._listed < EACH:
            return
        self._listed = time.monotonic()
        there = mounts(self.mountinfo.read_text("utf-8", "replace"))
        self._asked = {mount: self._asked.get(mount) or _Asked() for mount in there}

    def _next(self) -> bool:
        """Ask the next mount that is due. Whether an answer is to come."""
        if self._asking is not None:
            return True
        now = time.monotonic()
        for mount, asked in self._asked.items():
            if asked.due <= now:
                try:
                    if not self._child.ask(mount.path):
                        return False
                except (SilentError, EndedError):  # too many hang, or none can be started
                    self._failed(mount)
                    return False
                self._asking = mount
                return True
        return False

    def _collected(self, seconds: float) -> bool:
        """Take the answer; False: it isn't there yet."""
        mount = self._asking
        if mount is None:
            return False
        try:
            answer = self._child.answer(max(0.0, seconds))
        except (SilentError, EndedError):
            self._failed(mount)
            return True
        if answer is None:
            return False
        self._asking = None
        if mount in self._asked:
            self._asked[mount] = _Asked(time.monotonic() + EACH, 0, answer)
        return True

    def _failed(self, mount: MountPoint) -> None:
        self._asking = None
        if mount in self._asked:
            failures = self._asked[mount].failures
            pause = PAUSES[min(failures, len(PAUSES) - 1)]
            self._asked[mount] = _Asked(time.monotonic() + pause, failures + 1)


def _room(path: str) -> list[int]:
    """Bytes in all, and bytes that others than root can take; empty if we may not ask.

    Both are cut to what a load can hold: a NAS may say anything (some say 2^63).
    """
    try:
        found = os.statvfs(path)
    except OSError:
        return []
    return [min(each * found.f_frsize, MOST_BYTES) for each in (found.f_blocks, found.f_bavail)]
