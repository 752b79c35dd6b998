"""Takes, sends and removes snapshots of a user's container.

A snapshot is written beside, then its description appears, then the archive by a rename: a kill
leaves no more than files that the next snapshot of this server removes. Everything in the user's
folder is done by one child that is the user.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path

from reconciler.archives.id_map import mapped
from reconciler.archives.pack import InMap, Packed, be_considerate, pack
from reconciler.children import hostile
from reconciler.container.undertaking import undertaking
from reconciler.disk.room import room
from reconciler.host import in_words
from reconciler.host.published import current_view, resident_of
from reconciler.mounts.tree import Tree, cover
from reconciler.plan import Tell
from reconciler.snapshots import shelf as snapshots
from reconciler.snapshots.folder import ready_folder
from reconciler.snapshots.shelf import ARCHIVE, DESCRIPTION, Snapshot, folder_of
from state.errors import LxcGpuError
from state.view import View
from state.wire.messages import Progress

BEST_RATIO = 5
"""A disk with less room than a fifth of the container is refused as soon as that is counted: zstd
packs a system to a third, and data rarely better."""
SLOWEST_DISK = 3600
"""Seconds until everything that was written is on the disk."""


@dataclass(frozen=True)
class Taken:
    """What came of taking one."""

    view: View
    snapshot: Snapshot
    changed: int
    """How many files changed while they were packed."""
    example: str
    """One of them."""
    removed: tuple[str, ...]
    """Older ones that made room."""


def take(user: str, name: str, tell: Tell) -> Taken:
    """Take a snapshot; without a name it is named after server and time."""
    with _undertaken(user, f"snapshot {name}".rstrip()) as view:
        work = partial(_take, _Work(view, user, name))
        uid = view.residents[user].uid
        seen = partial(cover, [_tree(view, user)])
        done = hostile.as_owner_at_length(ready_folder(view, user), uid, work, tell, first=seen)
    snapshot, packed = Snapshot(**done["snapshot"]), Packed(**done["packed"])
    return Taken(view, snapshot, packed.changed, packed.example, tuple(done["removed"]))


def send(user: str, sink: int, tell: Tell) -> Packed:
    """Write the packed container to a descriptor of the user's; nothing is kept here."""

    def work(_: int, tell: Tell) -> object:
        be_considerate()
        return asdict(pack(here.tree, here.in_map, sink, tell))

    with _undertaken(user, "snapshot --to-stdout") as view:
        here = _Work(view, user, "")
        uid = view.residents[user].uid
        seen = partial(cover, [_tree(view, user)])
        return Packed(**hostile.as_owner_at_length(Path("/"), uid, work, tell, [sink], first=seen))


def remove(view: View, user: str, name: str) -> None:
    """Remove whatever stands there by that name."""
    uid = view.residents[user].uid
    hostile.as_owner(folder_of(view, user), uid, lambda folder: _remove(folder, name))


@contextlib.contextmanager
def _undertaken(user: str, what: str) -> Iterator[View]:
    """Be the only one at work on the container's files. Gives the view of that moment."""
    resident_of(current_view(), user)
    with undertaking(user, what):
        view = current_view()
        resident_of(view, user)
        yield view


def _tree(view: View, user: str) -> Tree:
    return Tree.of(view, user, view.residents[user])


@dataclass(frozen=True)
class _Work:
    """What the child has to know."""

    view: View
    user: str
    name: str

    @property
    def tree(self) -> Path:
        return _tree(self.view, self.user).slot

    @property
    def in_map(self) -> InMap:
        return partial(mapped, self.view.residents[self.user], self.view.subid_size)


def _take(here: _Work, folder: int, tell: Tell) -> object:
    """As the user: everything from cleaning up to making room."""
    be_considerate()
    server, begun = here.view.server, time.time()
    known = snapshots.look(folder).whole
    _clean(folder, server)
    name = _free_name(folder, here.name, server, begun)
    _room_in_number(known, here.view)
    beside = snapshots.partial(server, name)
    sink = _create(folder, beside)
    try:
        packed = pack(here.tree, here.in_map, sink, tell, partial(_room_on_disk, sink))
        tell(Progress("waiting for the disk"))
        hostile.still_at_it(SLOWEST_DISK)
        os.fsync(sink)
        sizes = (packed.packed, packed.unpacked)
        snapshot = Snapshot(name, server, begun, *sizes, packed.sha256, bool(here.name))
        _publish(folder, beside, snapshot)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=folder)
        raise
    removed = _make_room(folder, known, here.view.snapshots_kept)
    os.fsync(folder)
    return {"snapshot": asdict(snapshot), "packed": asdict(packed), "removed": removed}


def _clean(folder: int, server: str) -> None:
    """Remove what killed snapshots of this server left; what other servers write stays."""
    with os.scandir(folder) as entries:
        files = [entry.name for entry in entries if entry.name.startswith(f".{server}~")]
    for name in snapshots.look(folder).broken:
        said = snapshots.description(folder, name)
        if said is not None and said.server == server and not _exists(folder, name + ARCHIVE):
            files.append(name + DESCRIPTION)
    for file in files:
        with contextlib.suppress(OSError):
            os.unlink(file, dir_fd=folder)


def _free_name(folder: int, wanted: str, server: str, now: float) -> str:
    """The name for a new one; LxcGpuError if the `wanted` one is taken."""
    dated = f"{server[:36]}-{time.strftime('%Y-%m-%d-%H%M', time.localtime(now))}"
    names = [wanted] if wanted else (f"{dated}-{n}" if n > 1 else dated for n in count(1))
    for name in names:
        if not (_exists(folder, name + ARCHIVE) or _exists(folder, name + DESCRIPTION)):
            return name
    raise _taken(wanted)


def _taken(name: str) -> LxcGpuError:
    return LxcGpuError(
        "snapshot-exists",
        f"There is a snapshot `{name}` already; nothing was done.",
        f"Choose another name, or remove that one first: `snapshot --remove {name}`.",
    )


def _exists(folder: int, file: str) -> bool:
    try:
        os.stat(file, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _room_in_number(known: tuple[Snapshot, ...], view: View) -> None:
    """LxcGpuError if no older one could make room."""
    named = [each.name for each in known if each.own_name]
    if len(named) >= view.snapshots_kept:
        raise LxcGpuError(
            "snapshots-full",
            f"You keep {len(named)} snapshots with names of their own, and {view.snapshots_kept} "
            "may be kept: nothing was done.",
            f"Remove one, e.g. the oldest: "
            f"`ssh {view.server}-manage snapshot --remove {named[0]}`.",
        )


def _room_on_disk(sink: int, total: int) -> None:
    """LxcGpuError if `total` bytes can't fit, less what of them is packed already."""
    free = room(sink).size
    if free + os.fstat(sink).st_size < total // BEST_RATIO:
        raise LxcGpuError(
            "snapshot-disk-full",
            f"Your container holds {in_words.size(total)}, and on the disk of the snapshots "
            f"you may take {in_words.size(max(0, free))} more: nothing was kept.",
            "Remove a snapshot (`snapshot --list`, `snapshot --remove NAME`), tidy up the "
            "container, or ask your sysadmin.",
        )


def _create(folder: int, file: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(file, flags, 0o600, dir_fd=folder)


def _publish(folder: int, beside: str, snapshot: Snapshot) -> None:
    """The description, which reserves the name among servers; then the archive: now it counts."""
    described = f"{beside.removesuffix('.new')}{DESCRIPTION}.new"
    with os.fdopen(_create(folder, described), "w") as stream:
        stream.write(snapshots.describe(snapshot))
        stream.flush()
        os.fsync(stream.fileno())
    try:
        os.link(described, snapshot.name + DESCRIPTION, src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError as error:
        raise _taken(snapshot.name) from error  # by another server, meanwhile
    except OSError:  # a file system without hard links
        os.rename(described, snapshot.name + DESCRIPTION, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(described, dir_fd=folder)
    os.rename(beside, snapshot.name + ARCHIVE, src_dir_fd=folder, dst_dir_fd=folder)


def _make_room(folder: int, known: tuple[Snapshot, ...], keep: int) -> list[str]:
    """Remove the oldest without names of their own until, with the new one, `keep` are left."""
    unnamed = [each.name for each in known if not each.own_name]
    surplus = unnamed[: max(0, len(known) + 1 - keep)]
    for name in surplus:
        _remove(folder, name)
    return surplus


def _remove(folder: int, name: str) -> None:
    snapshots.check(folder)
    for file in (name + ARCHIVE, name + DESCRIPTION):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file, dir_fd=folder)
    os.fsync(folder)
