"""Copies of a container on its own disk, if that is btrfs: made in a moment, whatever their size.

`snapshots/NAME` in a container's folder is a slot like `rootfs` (`reconciler.mounts.tree`); its
system is a read-only subvolume, with a description next to it. Like every raw system, they belong
to root, in a folder that nobody else can enter: they contain set-uid programs of real root's.
Blocks that they share with the container take no space; so they aren't a backup.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Protocol, TypeVar

from reconciler.disk import group_quota, subvolumes
from reconciler.disk.removal import delete_trash, remove_tree
from reconciler.host.places import rootfs
from reconciler.mounts.tree import CLOSED, RAW, Tree
from state import files
from state.errors import LxcGpuError
from state.view import View

FOLDER = "snapshots"
"""The name of the folder of a container's copies, next to its systems."""
FROZEN = "rootfs.frozen"
"""The name of a copy that exists while it is packed."""
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,59}", re.ASCII)
"""The names that snapshots of any kind may have."""
_ABOUT, _NEW = "snapshot.json", ".new"


class Kept(Protocol):
    """A snapshot of any kind."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def own_name(self) -> bool:
        """Whether its user named it: then it isn't removed to make room."""


OfAKind = TypeVar("OfAKind", bound=Kept)


@dataclass(frozen=True)
class Copy:
    """A snapshot on the container's own disk."""

    name: str
    server: str
    taken: float
    """In seconds since the epoch."""
    own_name: bool


def possible(tree: Tree) -> bool:
    """Whether the system can be copied in a moment."""
    if not tree.raw:
        return False
    with subvolumes.opened(tree.top) as top:
        return subvolumes.is_subvolume(top)


def copy(source: Path, slot: Path, uid: int, *, read_only: bool) -> None:
    """Copy the raw system in the slot `source` to the new slot `slot`.

    It counts for the quota of the user with that uid. The slot's group, which may say whose
    system it is, is copied as well.
    """
    slot.mkdir(mode=CLOSED)
    os.chown(slot, 0, source.lstat().st_gid)
    with subvolumes.opened(source / RAW) as system, subvolumes.opened(slot) as around:
        group = group_quota.of(around, uid)
        subvolumes.snapshot(system, around, RAW, read_only=read_only, group=group)


def copies_of(view: View, user: str) -> tuple[Copy, ...]:
    """The user's copies on this server, the newest last."""
    folder = _folder(view, user)
    found = [_read(slot) for slot in folder.iterdir()] if folder.is_dir() else []
    whole = [each for each in found if each is not None]
    return tuple(sorted(whole, key=lambda each: (each.taken, each.name)))


def copy_of(view: View, user: str, name: str) -> Copy | None:
    """The copy of that name."""
    return next((each for each in copies_of(view, user) if each.name == name), None)


def slot_of(view: View, user: str, name: str) -> Path:
    """The path of the copy of that name."""
    return _folder(view, user) / name


def take(
    view: View, user: str, tree: Tree, wanted: str, others: Collection[str]
) -> tuple[Copy, tuple[str, ...]]:
    """Copy the system; without a wanted name the copy is named after server and time.

    `others`: names that archives have. Returns the copy, and the names of older ones removed for
    it. What a kill leaves is removed by the next call.
    """
    folder, now = _folder(view, user), time.time()
    folder.mkdir(mode=CLOSED, exist_ok=True)
    folder.chmod(CLOSED)
    known = copies_of(view, user)
    room_in_number(known, view)
    for name in names(wanted, view.server, now):
        if name not in others and not (folder / name).exists():
            break
    else:
        raise is_taken(wanted)
    clear(folder)
    beside = folder / _NEW
    copy(tree.slot, beside, view.residents[user].uid, read_only=True)
    taken = Copy(name, view.server, now, bool(wanted))
    files.write_file(beside / _ABOUT, f"{json.dumps(asdict(taken))}\n", 0o600)
    beside.rename(folder / name)
    files.sync_folder(folder)
    removed = surplus(known, view.snapshots_kept)
    for each in removed:
        remove(view, user, each)
    return taken, removed


def due(view: View, user: str, tree: Tree, now: float) -> bool:
    """Whether the server's own copy is due.

    Not if the system wasn't written to since the last copy: it would only displace an older one.
    """
    hours = view.snapshots_every
    if hours is None or not possible(tree):
        return False
    known = copies_of(view, user)
    if not known:
        return True
    if now < known[-1].taken + hours * 3600:
        return False
    last = slot_of(view, user, known[-1].name) / RAW
    with subvolumes.opened(tree.top) as system, subvolumes.opened(last) as copied:
        return subvolumes.changed_since(system, copied)


def clear(folder: Path) -> None:
    """Remove what killed programs left in a folder of copies: half-made and half-removed ones.

    The caller has excluded all other work on the container's files.
    """
    remove_tree(folder / _NEW)
    delete_trash(folder)


def remove(view: View, user: str, name: str) -> None:
    """Remove the copy of that name. Its space is freed in the background."""
    remove_tree(slot_of(view, user, name))


def names(wanted: str, server: str, now: float) -> Iterator[str]:
    """The name of a new copy: the wanted one, or else server and time."""
    if wanted:
        yield wanted
        return
    dated = f"{server[:36]}-{time.strftime('%Y-%m-%d-%H%M', time.localtime(now))}"
    yield dated
    yield from (f"{dated}-{number}" for number in count(2))


def is_taken(name: str) -> LxcGpuError:
    """The error for a name that is taken."""
    return LxcGpuError(
        "snapshot-exists",
        f"There is a snapshot `{name}` already; nothing was done.",
        f"Choose another name, or remove that one first: `snapshot --remove {name}`.",
    )


def room_in_number(known: Sequence[Kept], view: View) -> None:
    """LxcGpuError if no older snapshot may be removed for a new one."""
    named = [each.name for each in known if each.own_name]
    if len(named) >= view.snapshots_kept:
        raise LxcGpuError(
            "snapshots-full",
            f"You keep {len(named)} snapshots with names of their own, and {view.snapshots_kept} "
            "may be kept: nothing was done.",
            f"Remove one, e.g. the oldest: "
            f"`ssh {view.server}-manage snapshot --remove {named[0]}`.",
        )


def surplus(known: Sequence[OfAKind], keep: int) -> tuple[str, ...]:
    """The oldest copies, without names of their own, to be removed so that `keep` are left."""
    unnamed = [each.name for each in known if not each.own_name]
    return tuple(unnamed[: max(0, len(known) + 1 - keep)])


def _folder(view: View, user: str) -> Path:
    return rootfs(view, user).with_name(FOLDER)


def _read(slot: Path) -> Copy | None:
    """The copy in that folder; None if it isn't complete, or was copied there by hand."""
    text = None
    if NAME.fullmatch(slot.name) and slot.is_dir():
        text = files.read_text(slot / _ABOUT)
    if text is None:
        return None
    with suppress(ValueError, TypeError, FileNotFoundError, NotADirectoryError):
        said = {**json.loads(text), "name": slot.name}
        with subvolumes.opened(slot / RAW) as system:
            return Copy(**said) if subvolumes.is_subvolume(system) else None
    return None
