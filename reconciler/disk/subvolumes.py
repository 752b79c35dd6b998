"""Subvolumes of btrfs: whole trees that are made, copied and removed in a moment.

Everything goes by descriptors and by the file system's own numbers: no path below a tree is ever
looked up, so no link leads anywhere. A subvolume's number is never given again. For root only.
Sources: linux/btrfs.h, linux/btrfs_tree.h, fs/btrfs/export.h, open_by_handle_at(2).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_MAGIC = 0x9123683E  # BTRFS_SUPER_MAGIC, of statfs(2)
_CREATE, _SNAPSHOT = 0x50009418, 0x50009417  # BTRFS_IOC_SUBVOL_CREATE_V2, BTRFS_IOC_SNAP_CREATE_V2
_DESTROY, _DESTROY_BY_NUMBER = 0x5000940F, 0x5000943F  # ..._SNAP_DESTROY, ..._V2 (Linux 5.7)
_INO_LOOKUP, _TREE_SEARCH, _INFO = 0xD0009412, 0xD0009411, 0x81F8943C
_READ_ONLY, _GROUPS_PASSED_ON, _BY_NUMBER = 1 << 1, 1 << 2, 1 << 4
_ARGUMENTS = struct.Struct("=qQQQQ16x")
"""The beginning of struct btrfs_ioctl_vol_args_v2: descriptor, transaction, flags, the size of the
quota groups and their address. The name follows, or the number of a subvolume."""
_LARGEST, _LONGEST_NAME = 4096, 255
_GROUPS = struct.Struct("=4Q40x")
"""struct btrfs_qgroup_inherit: flags, how many groups, two counts of copies, a limit."""
_KEY = struct.Struct("=7Q4I32x")
"""struct btrfs_ioctl_search_key: tree, and from and to of objects, offsets, transactions, types."""
_ITEM = struct.Struct("=3Q2I")
"""struct btrfs_ioctl_search_header: transaction, object, offset, type, length."""
_REFERENCE = struct.Struct("=QQH")
"""struct btrfs_root_ref: the folder around, a sequence, the length of the name that follows."""
_HANDLE = struct.Struct("=IiQQI")
"""struct file_handle with btrfs's struct btrfs_fid: its size and type, inode, subvolume, and a
generation, of which 0 means any."""
_BY_INODE = 0x4D  # FILEID_BTRFS_WITHOUT_PARENT
_TREE_OF_ROOTS, _ROOT_REF, _INODE_REF = 1, 156, 12
_MOST = (1 << 64) - 1
TOP = 256
"""The inode of a subvolume's outermost folder (BTRFS_FIRST_FREE_OBJECTID)."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def on_btrfs(folder: int) -> bool:
    """Whether the file system that the descriptor is on is btrfs."""
    libc = ctypes.CDLL(None, use_errno=True)
    said = ctypes.create_string_buffer(256)  # struct statfs has 120 bytes
    if libc.fstatfs(ctypes.c_int(folder), said) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(struct.unpack_from("=q", said)[0]) == _MAGIC


def is_on_btrfs(path: Path) -> bool:
    """Whether a folder that only root can exchange is on btrfs."""
    with opened(path) as folder:
        return on_btrfs(folder)


def is_subvolume(folder: int) -> bool:
    """Whether the descriptor is of a subvolume's outermost folder."""
    return os.fstat(folder).st_ino == TOP and on_btrfs(folder)


def number(folder: int) -> int:
    """The number of the subvolume that the folder is in. OSError (ENOTTY) if that isn't btrfs."""
    return int(struct.unpack_from("=Q", _asked(folder, _INO_LOOKUP, struct.pack("=QQ", 0, TOP)))[0])


def make(parent: int, name: str, *, group: int | None = None) -> None:
    """Make an empty subvolume of root's. FileExistsError if the name is taken.

    What is written in it counts for the quota group `group`, too (`reconciler.disk.group_quota`).
    """
    _create(_CREATE, parent, name, 0, 0, group)


def make_folder(path: Path, *, group: int | None = None) -> None:
    """Make a folder of root's; a subvolume if the file system has them."""
    with opened(path.parent) as parent:
        if on_btrfs(parent):
            make(parent, path.name, group=group)
        else:
            os.mkdir(path.name, dir_fd=parent)


def snapshot(
    source: int, parent: int, name: str, *, read_only: bool, group: int | None = None
) -> None:
    """Copy the subvolume `source`, as it is at this moment, to `name` in the folder `parent`.

    Blocks are shared. Subvolumes in it are not copied: an empty folder stands for each.
    """
    _create(_SNAPSHOT, parent, name, source, _READ_ONLY if read_only else 0, group)


def changed_since(folder: int, copied: int) -> bool:
    """Whether a subvolume was written to after it was made, as far as the disk knows.

    What was written in the last half minute may not have reached it (transactions, btrfs(5)).
    """
    return _ages(folder)[0] > _ages(copied)[1]


def _ages(folder: int) -> tuple[int, int]:
    """The transactions of a subvolume's last change and of its creation."""
    said = bytearray(504)  # struct btrfs_ioctl_get_subvol_info_args
    fcntl.ioctl(folder, _INFO, said)
    return struct.unpack_from("=Q", said, 280)[0], struct.unpack_from("=Q", said, 352)[0]


def delete(path: Path) -> None:
    """Remove the subvolume at `path`, or every one below the folder there, whoever made them.

    Of a subvolume nothing is left; a folder, and what else is in it, stays. The subvolume at the
    path is removed last, so that after a kill the rest can be removed by another call. btrfs frees
    the space in the background. `path` is in a folder of root's; if it isn't on btrfs, nothing is
    done.
    """
    with opened(path) as folder:
        if not on_btrfs(folder):
            return
        gone = set[Nested]()
        while below := [each for each in nested(folder) if each not in gone]:  # some may be new
            for each in below:
                _remove(folder, each)
            gone.update(below)
        if not is_subvolume(folder):
            return
    with opened(path.parent) as parent:
        _asked(parent, _DESTROY, struct.pack("=q", 0) + os.fsencode(path.name))


@dataclass(frozen=True)
class Nested:
    """A subvolume inside of another one."""

    number: int
    outer: int
    """The outer subvolume."""
    place: int
    """The inode, in the outer subvolume, of the folder around it."""
    name: bytes


def nested(folder: int) -> tuple[Nested, ...]:
    """All subvolumes below the folder, the deepest first, without opening any."""
    tree, top = number(folder), os.fstat(folder).st_ino
    outer = [
        each
        for each in _children(folder, tree)
        if top == TOP or _is_below(folder, tree, each.place, top)
    ]
    found = list[Nested]()
    while outer:
        found += outer
        outer = [inner for each in outer for inner in _children(folder, each.number)]
    return tuple(reversed(found))


def _children(folder: int, tree: int) -> Iterator[Nested]:
    """The subvolumes directly inside of a subvolume."""
    for child, said in search(folder, _TREE_OF_ROOTS, tree, _ROOT_REF):
        place, _, length = _REFERENCE.unpack_from(said)
        yield Nested(child, tree, place, said[_REFERENCE.size : _REFERENCE.size + length])


def _is_below(folder: int, tree: int, place: int, top: int) -> bool:
    """Whether the inode `place` of a subvolume is `top` or below it, however deep."""
    seen = set[int]()
    while place not in (top, TOP) and place not in seen:  # a rename may come between
        seen.add(place)
        place = next((up for up, _ in search(folder, tree, place, _INODE_REF)), TOP)
    return place == top


def search(folder: int, tree: int, thing: int, kind: int) -> Iterator[tuple[int, bytes]]:
    """All items of one object and one kind in a tree of the file system: offset, content."""
    begin = 0
    while True:
        key = _KEY.pack(tree, thing, thing, begin, _MOST, 0, _MOST, kind, kind, 1 << 12, 0)
        said = _asked(folder, _TREE_SEARCH, key)
        count, at = _KEY.unpack_from(said)[9], _KEY.size
        if not count:
            return
        for _ in range(count):
            _, _, begin, _, length = _ITEM.unpack_from(said, at)
            at += _ITEM.size
            yield begin, said[at : at + length]
            at += length
        begin += 1


def _create(what: int, parent: int, name: str, source: int, flags: int, group: int | None) -> None:
    raw = os.fsencode(name)
    if not raw or len(raw) > _LONGEST_NAME or b"/" in raw or b"\0" in raw or raw in (b".", b".."):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
    groups = b"" if group is None else _GROUPS.pack(0, 1, 0, 0) + struct.pack("=Q", group)
    buffer = ctypes.create_string_buffer(groups, len(groups))
    place = ctypes.addressof(buffer) if groups else 0
    flags |= _GROUPS_PASSED_ON if groups else 0
    _asked(parent, what, _ARGUMENTS.pack(source, 0, flags, len(groups), place) + raw)


def _remove(folder: int, one: Nested) -> None:
    """Remove a subvolume that contains none; it may be gone already."""
    arguments = _ARGUMENTS.pack(0, 0, _BY_NUMBER, 0, 0) + struct.pack("=Q", one.number)
    with suppress(FileNotFoundError):
        try:
            _asked(folder, _DESTROY_BY_NUMBER, arguments)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            with _around(folder, one) as around:
                _asked(around, _DESTROY, struct.pack("=q", 0) + one.name)


@contextmanager
def _around(folder: int, one: Nested) -> Iterator[int]:
    """The folder around a subvolume, opened by its number, as its path may be longer than PATH_MAX.

    Removal by number fails there, because the kernel makes a path for it.
    """
    handle = _HANDLE.pack(_HANDLE.size - 8, _BY_INODE, one.place, one.outer, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    around = libc.open_by_handle_at(ctypes.c_int(folder), handle, ctypes.c_int(_FOLDER))
    if around < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        yield around
    finally:
        os.close(around)


def _asked(folder: int, what: int, arguments: bytes) -> bytes:
    """The kernel's answer; all of these structures have the same size."""
    said = bytearray(arguments.ljust(_LARGEST, b"\0"))
    fcntl.ioctl(folder, what, said)
    return bytes(said)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of the folder at a path that nobody but root can change; no link is followed."""
    descriptor = os.open(path, _FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
