"""Takes, sends and removes snapshots of a user's container.

A snapshot is written under another name; then its description appears, then the archive is renamed.
A kill leaves nothing but files that the next snapshot of this server removes. All work in the
user's folder is done by one child that runs as the user.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from reconciler.archives.id_map import mapped
from reconciler.archives.pack import InMap, Packed, be_considerate, pack
from reconciler.children import hostile
from reconciler.container.undertaking import busy, undertaking
from reconciler.disk.free_space import free_space
from reconciler.disk.removal import remove_tree
from reconciler.host import in_words, journal, locks
from reconciler.host.published import current_view, resident_of
from reconciler.mounts.tree import Tree, cover
from reconciler.plan import Tell
from reconciler.snapshots import copies
from reconciler.snapshots import user_archives as snapshots
from reconciler.snapshots.copies import FROZEN, Copy, room_in_number, surplus
from reconciler.snapshots.folder import ready_folder
from reconciler.snapshots.user_archives import ARCHIVE, DESCRIPTION, Snapshot, folder_of
from state.errors import LxcGpuError, os_error
from state.view import Resident, View
from state.wire.messages import Progress

BEST_RATIO = 5
"""A disk with less free space than a fifth of the container is refused early: zstd packs a system
to a third, and data rarely better."""
SLOWEST_DISK = 3600
"""Seconds that writing everything to the disk may take."""


@dataclass(frozen=True)
class Copied:
    """The result of copying on the container's own disk."""

    view: View
    copy: Copy
    removed: tuple[str, ...]
    """Older ones that made room."""


@dataclass(frozen=True)
class Taken:
    """The result of taking an archive."""

    view: View
    snapshot: Snapshot
    changed: int
    """How many files changed while they were packed."""
    example: str
    """One of them."""
    removed: tuple[str, ...]
    """Older ones that made room."""


def copy(user: str, name: str, tell: Tell) -> Copied | None:
    """Take a snapshot on the container's own disk; None if the disk can't copy in a moment."""
    view = current_view()
    if not copies.possible(Tree.of(view, user, resident_of(view, user))):
        return None
    with _undertaken(user, f"snapshot {name}".rstrip()) as (view, tree):
        tell(Progress("copying the container"))
        return Copied(view, *copies.take(view, user, tree, name, _archives(view, user)))


def _archives(view: View, user: str) -> frozenset[str]:
    """Names of archives, complete or not; none if they can't be read: a NAS may be away."""
    try:
        there = snapshots.archives_of(view, user)
    except (LxcGpuError, OSError):
        return frozenset()
    begun = (name for _, name, _ in there.begun)
    return frozenset((*(each.name for each in there.whole), *there.broken, *begun))


def take_due(view: View) -> Iterator[tuple[str, LxcGpuError | None]]:
    """Take the server's own snapshots that are due. Returns errors, by user.

    Users whose files are being worked on, or who can't have one more, are left for the next time.
    """
    for user, resident in view.residents.items():
        try:
            if _is_due(view, user, resident):
                _copy_unasked(user)
                yield user, None
        except OSError as error:
            yield user, os_error(error)
        except LxcGpuError as error:
            if error.code not in ("busy", "snapshots-full"):
                yield user, error


def _is_due(view: View, user: str, resident: Resident) -> bool:
    try:
        return copies.due(view, user, Tree.of(view, user, resident), time.time())
    except FileNotFoundError:  # no container was made yet
        return False


def _copy_unasked(user: str) -> None:
    """Copy, but leave the user's own work in `status`. LxcGpuError while there is such work."""
    with locks.lock(locks.tree_lock(user), wait=False) as free:
        if not free:
            raise busy(user)
        view, tree = _cleaned(user)
        taken, _ = copies.take(view, user, tree, "", _archives(view, user))
    journal.event("snapshot-taken", user=user, name=taken.name)


def take(user: str, name: str, tell: Tell) -> Taken:
    """Take a snapshot that is an archive; without a name it is named after server and time."""
    with _undertaken(user, f"snapshot {name}".rstrip()) as (view, there):
        uid, folder = view.residents[user].uid, ready_folder(view, user)
        others = frozenset(each.name for each in copies.copies_of(view, user))
        with _still(there, uid) as tree:
            work = partial(_take, _Work(view, user, tree, name, others))
            seen = partial(cover, [tree])
            done = hostile.as_owner_at_length(folder, uid, work, tell, first=seen)
    snapshot, packed = Snapshot(**done["snapshot"]), Packed(**done["packed"])
    return Taken(view, snapshot, packed.changed, packed.example, tuple(done["removed"]))


def send(user: str, sink: int, tell: Tell) -> Packed:
    """Write the packed container to a descriptor of the user's; nothing is kept here."""

    def work(_: int, tell: Tell) -> object:
        be_considerate()
        return asdict(pack(here.tree.slot, here.in_map, sink, tell))

    with _undertaken(user, "snapshot --to-stdout") as (view, there):
        uid, away = view.residents[user].uid, Path("/")
        with _still(there, uid) as tree:
            here, seen = _Work(view, user, tree, ""), partial(cover, [tree])
            done = hostile.as_owner_at_length(away, uid, work, tell, [sink], first=seen)
    return Packed(**done)


def remove(view: View, user: str, name: str) -> None:
    """Remove the archive of that name, complete or not."""
    uid = view.residents[user].uid
    hostile.as_owner(folder_of(view, user), uid, lambda folder: _remove(folder, name))


def remove_copy(user: str, copy: Copy) -> None:
    """Remove a copy on the container's own disk."""
    with _undertaken(user, f"snapshot --remove {copy.name}") as (view, _):
        if copies.copy_of(view, user, copy.name) == copy:
            copies.remove(view, user, copy.name)


@contextlib.contextmanager
def _undertaken(user: str, what: str) -> Iterator[tuple[View, Tree]]:
    """Exclude other work on the container's files. Gives the view of that moment."""
    resident_of(current_view(), user)
    with undertaking(user, what):
        yield _cleaned(user)


def _cleaned(user: str) -> tuple[View, Tree]:
    """The current view and the system, after removing what a killed program left next to it."""
    view = current_view()
    tree = Tree.of(view, user, resident_of(view, user))
    remove_tree(tree.beside(FROZEN).slot)
    return view, tree


@contextlib.contextmanager
def _still(tree: Tree, uid: int) -> Iterator[Tree]:
    """The system to pack: a copy that nobody writes to, if the disk can copy in a moment."""
    if not copies.possible(tree):
        yield tree
        return
    frozen = tree.beside(FROZEN)
    copies.copy(tree.slot, frozen.slot, uid, read_only=True)
    try:
        yield frozen
    finally:
        remove_tree(frozen.slot)


@dataclass(frozen=True)
class _Work:
    """What the child needs to know."""

    view: View
    user: str
    tree: Tree
    name: str
    others: frozenset[str] = frozenset()
    """Names of copies on the container's disk."""

    @property
    def in_map(self) -> InMap:
        return partial(mapped, self.view.residents[self.user], self.view.subid_size)


def _take(here: _Work, folder: int, tell: Tell) -> object:
    """Everything that the child does as the user: clean up, pack, publish, remove old ones."""
    be_considerate()
    server, begun = here.view.server, time.time()
    known = snapshots.look(folder).whole
    _clean(folder, server)
    name = _free_name(folder, here, begun)
    room_in_number(known, here.view)
    beside = snapshots.partial(server, name)
    sink = _create(folder, beside)
    try:
        packed = pack(here.tree.slot, here.in_map, sink, tell, partial(_room_on_disk, sink))
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
    removed = surplus(known, here.view.snapshots_kept)
    for each in removed:
        _remove(folder, each)
    os.fsync(folder)
    return {"snapshot": asdict(snapshot), "packed": asdict(packed), "removed": removed}


def _clean(folder: int, server: str) -> None:
    """Remove what killed snapshots of this server left; other servers' files stay."""
    with os.scandir(folder) as entries:
        files = [entry.name for entry in entries if entry.name.startswith(f".{server}~")]
    for name in snapshots.look(folder).broken:
        said = snapshots.description(folder, name)
        if said is not None and said.server == server and not _exists(folder, name + ARCHIVE):
            files.append(name + DESCRIPTION)
    for file in files:
        with contextlib.suppress(OSError):
            os.unlink(file, dir_fd=folder)


def _free_name(folder: int, here: _Work, now: float) -> str:
    """The name for a new snapshot. LxcGpuError if the wanted one is taken."""
    for name in copies.names(here.name, here.view.server, now):
        files = (name + ARCHIVE, name + DESCRIPTION)
        if name not in here.others and not any(_exists(folder, file) for file in files):
            return name
    raise copies.is_taken(here.name)


def _exists(folder: int, file: str) -> bool:
    try:
        os.stat(file, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _room_on_disk(sink: int, total: int) -> None:
    """LxcGpuError if `total` bytes, less those packed already, can't fit."""
    free = free_space(sink).size
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
    """Publish the description, which reserves the name among servers, then the archive."""
    described = f"{beside.removesuffix('.new')}{DESCRIPTION}.new"
    with os.fdopen(_create(folder, described), "w") as stream:
        stream.write(snapshots.describe(snapshot))
        stream.flush()
        os.fsync(stream.fileno())
    try:
        os.link(described, snapshot.name + DESCRIPTION, src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError as error:
        raise copies.is_taken(snapshot.name) from error  # another server took it meanwhile
    except OSError:  # a file system without hard links
        os.rename(described, snapshot.name + DESCRIPTION, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(described, dir_fd=folder)
    os.rename(beside, snapshot.name + ARCHIVE, src_dir_fd=folder, dst_dir_fd=folder)


def _remove(folder: int, name: str) -> None:
    snapshots.check(folder)
    for file in (name + ARCHIVE, name + DESCRIPTION):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file, dir_fd=folder)
    os.fsync(folder)
