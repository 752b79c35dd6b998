"""Brings files of a snapshot back into a container, whether or not it runs: `recover NAME PATH...`.

They are put into a new folder, so nothing is replaced and no confirmation is needed. The folder has
another name until all of them are there; the next call removes what a kill leaves under that name.

People may use the system meanwhile. So the work is done as the container's root, behind a fence
around the system, in a folder that only that root can enter or exchange: in a home, a user could
put a link in the way, and root would write elsewhere in the container.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import PurePosixPath

from reconciler.archives import copying
from reconciler.archives.extract import PackedSystem, extract_some
from reconciler.archives.id_map import IdMapOwner
from reconciler.children import hostile
from reconciler.children.hostile import HostileError
from reconciler.container import home_files
from reconciler.container.home_files import UID
from reconciler.container.undertaking import undertaking
from reconciler.disk import subvolumes
from reconciler.disk.removal import remove_tree
from reconciler.host.published import current_view, resident_of
from reconciler.mounts.tree import Tree
from reconciler.plan import Tell
from reconciler.snapshots import copies
from reconciler.snapshots.copies import FROZEN, Copy
from reconciler.snapshots.user_archives import Snapshot, damaged, no_such
from state import command, files
from state.errors import LxcGpuError
from state.view import View
from state.wire.messages import Progress

FOLDER = PurePosixPath("recovered")
"""The folder, below `/`, of everything that was brought back."""
UNFINISHED = FOLDER / ".unfinished"
"""Files are collected there until all have come."""
_LONGEST_REMOVAL = 3600
"""Seconds."""

Nearest = Mapping[PurePosixPath, PurePosixPath]
"""Missing paths, each with the deepest folder on its way that exists; all below `/`."""


@dataclass(frozen=True)
class Back:
    """What came back."""

    view: View
    folder: PurePosixPath
    """The folder; each file has the path below it that it had in the snapshot."""
    missing: Nearest


@dataclass(frozen=True)
class _There:
    """The container's system, in place."""

    view: View
    user: str
    tree: Tree
    owner: IdMapOwner


Bring = Callable[[_There, Sequence[PurePosixPath], Tell], Nearest]
"""Puts files into the unfinished folder. LxcGpuError if they can't come."""


def wanted(words: Sequence[str], user: str) -> tuple[PurePosixPath, ...]:
    """The paths that somebody typed, as paths below `/`; they begin at the home. Pure.

    A folder means everything in it. LxcGpuError for a word that can't be a path.
    """
    home, found = PurePosixPath("/") / home_files.folder(user).parent, list[PurePosixPath]()
    for word in words:
        path = home / (f"./{word[1:]}" if word == "~" or word.startswith("~/") else word)
        path = path.relative_to(path.anchor)
        if ".." in path.parts or not path.parts:
            raise LxcGpuError(
                "usage",
                f"`{word[:80]}` can't be a file to bring back: "
                + ("`..` leads elsewhere." if path.parts else "that is the whole system."),
                "Name files or folders as the container had them: /etc/fstab, thesis/data. "
                "`recover NAME` alone brings the whole system back.",
            )
        found.append(path)
    return tuple(p for p in dict.fromkeys(found) if not any(q in p.parents for q in found))


def bring_back(
    user: str, snapshot: Snapshot | Copy, paths: Sequence[PurePosixPath], bring: Bring, tell: Tell
) -> Back:
    """Have `bring` put the files into a new folder. Files that were found are kept.

    LxcGpuError if none was found, or if anything fails; then nothing is kept.
    """
    with undertaking(user, f"recover files from the snapshot {snapshot.name}"):
        view = current_view()
        resident = resident_of(view, user)
        tree = Tree.of(view, user, resident)
        there = _There(view, user, tree, IdMapOwner.of(view, user, resident))
        _begin(there)
        try:
            missing = bring(there, paths, tell)
            if set(missing) >= set(paths):
                raise not_there(snapshot.name, missing)
            tell(Progress("waiting until all of it is on the disk"))
            files.settle(tree.slot)
            name = _publish(there, snapshot.name)
        except BaseException:
            with suppress(LxcGpuError, OSError):  # else the next call removes it
                _remove_unfinished(there)
            raise
        return Back(view, "/" / FOLDER / name, missing)


def from_archive(descriptor: int, snapshot: Snapshot) -> Bring:
    """Files of an archive, which is read once, to its end."""

    def bring(there: _There, paths: Sequence[PurePosixPath], tell: Tell) -> Nearest:
        source = PackedSystem(descriptor, f"the snapshot {snapshot.name}", snapshot.packed)
        digest, absent = extract_some(source, there.tree, there.owner, tell, UNFINISHED, paths)
        if digest != snapshot.sha256:
            raise damaged(snapshot, digest)
        return {
            path: next(each for each in path.parents if each not in absent)
            for path in paths
            if path in absent
        }

    return bring


def from_copy(copy: Copy) -> Bring:
    """Files of a copy on the same disk, with which they share their blocks."""

    def bring(there: _There, paths: Sequence[PurePosixPath], tell: Tell) -> Nearest:
        view, user = there.view, there.user
        if copies.copy_of(view, user, copy.name) != copy:
            raise no_such(view, user, copy.name)
        # its own folder is closed to everybody but root
        frozen = there.tree.beside(FROZEN)
        remove_tree(frozen.slot)
        slot = copies.slot_of(view, user, copy.name)
        copies.copy(slot, frozen.slot, view.residents[user].uid, read_only=True)
        try:
            return _copy(there, frozen, paths, tell)
        finally:
            remove_tree(frozen.slot)

    return bring


def _copy(there: _There, frozen: Tree, paths: Sequence[PurePosixPath], tell: Tell) -> Nearest:
    with subvolumes.opened(frozen.top) as top:
        missing = nearest(top, paths)
    if found := [str(path) for path in paths if path not in missing]:
        target = there.tree.slot / UNFINISHED
        argv = ["env", f"--chdir={frozen.slot}", "cp", "--archive", "--parents", "--reflink=auto",
                "--", *found, str(target)]  # fmt: skip
        fenced = there.owner.fenced(there.tree.slot, argv, there.tree, frozen)
        copying.copy(fenced, there.tree.slot, "your files", tell)
    return missing


def nearest(top: int, paths: Collection[PurePosixPath]) -> dict[PurePosixPath, PurePosixPath]:
    """The paths that don't exist below `top`; no link is followed."""
    found = {}
    for path in paths:
        there = PurePosixPath()
        for each in (*reversed(path.parents[:-1]), path):
            try:
                with hostile.opened_folder(top, each.parent) as folder:
                    os.stat(each.name, dir_fd=folder, follow_symlinks=False)
            except OSError:
                found[path] = there
                break
            there = each
    return found


def not_there(name: str, missing: Nearest, come: PurePosixPath | None = None) -> LxcGpuError:
    """The error for files that aren't in a snapshot; it says what is, and where the others are."""
    lines = [f"{_shown(path)} (there is {_shown(near)})" for path, near in missing.items()]
    kept = "nothing was brought back" if come is None else f"the others are in {come}"
    return LxcGpuError(
        "not-in-snapshot",
        f"The snapshot {name} has no {', no '.join(lines)}; {kept}.",
        "Look at the name, or ask for that folder. Names begin in your home or with `/`; links on "
        "the way aren't followed; archives have nothing of /dev, /proc, /run, /sys and /tmp.",
    )


def _shown(path: PurePosixPath) -> str:
    return str(PurePosixPath("/") / path)


def _begin(there: _There) -> None:
    """Make the unfinished folder: empty, and closed to everybody but the container's root."""

    def work(root: int) -> bool:
        with suppress(FileExistsError):
            os.mkdir(FOLDER, 0o755, dir_fd=root)
        with _opened(root) as folder:
            try:
                os.mkdir(UNFINISHED.name, 0o700, dir_fd=folder)
            except FileExistsError:
                return False
            return True

    if not _as_root(there, work):
        _remove_unfinished(there)
        _as_root(there, work)


@contextmanager
def _opened(root: int) -> Iterator[int]:
    """The folder of everything brought back. LxcGpuError if others than root may write to it."""
    with hostile.opened_folder(root, FOLDER) as folder:
        status = os.fstat(folder)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise LxcGpuError("hostile", "others than root may write to it.")
        yield folder


def _publish(there: _There, wanted: str) -> str:
    """Give the folder to the user and rename it, in the place of nothing or of an empty folder."""
    _as_mapped(there, ["chown", "--no-dereference", f"{UID}:{UID}", "--", f"./{UNFINISHED}"])

    def work(root: int) -> str:
        with _opened(root) as folder:
            name = next(each for each in names(wanted) if _renamed(folder, each))
            os.fsync(folder)
            return name

    name: str = _as_root(there, work)
    return name


def _renamed(folder: int, name: str) -> bool:
    try:
        os.rename(UNFINISHED.name, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            return False
        raise
    return True


def names(wanted: str) -> Iterator[str]:
    """What the folder may be called."""
    return chain([wanted], (f"{wanted}-{number}" for number in count(2)))


def _as_root(there: _There, work: Callable[[int], object]) -> hostile.Json:
    try:
        return hostile.as_owner(there.tree, there.tree.first, work)
    except HostileError as error:
        raise LxcGpuError(
            "no-place",
            f"In your container, /{FOLDER} can't be used: {error.message}",
            "Nothing was brought back. It has to be a folder of root's that nobody else may write "
            f"to: `ssh -t {there.view.server}-manage shell`, and move what is there.",
            error.remedy,
            error.details,
        ) from error


def _remove_unfinished(there: _There) -> None:
    _as_mapped(
        there, ["rm", "--recursive", "--force", "--one-file-system", "--", f"./{UNFINISHED}"]
    )


def _as_mapped(there: _There, argv: Sequence[str]) -> None:
    """Act as the container's root, with its power over everybody's files."""
    fenced = there.owner.fenced(there.tree.slot, argv, there.tree)
    command.run(fenced, timeout=_LONGEST_REMOVAL)
