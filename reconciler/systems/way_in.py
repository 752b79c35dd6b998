"""Owners and modes on the path to our keys in a container's home, which sshd checks first.

What sshd finds wrong (StrictModes in sshd_config(5)) goes to its own log only, and people read
"Permission denied". So the path is checked and mended here: its owners and modes are ours to
maintain, as the keys are.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reconciler.archives.id_map import IdMapOwner
from reconciler.children import hostile
from reconciler.children.hostile import HostileError
from reconciler.container import home_files
from reconciler.container.home_files import UID
from reconciler.mounts import sources as mounts
from reconciler.mounts.tree import Tree
from state import command
from state.errors import LxcGpuError
from state.view import Resident, View

SSHD = PurePosixPath("usr/sbin/sshd")
KEYS = "authorized_keys"
_OUTER = 0o055
"""Permissions for everybody on `/` and `/home`: sshd reads the keys as the user, and so do we."""
_HOME = 2
_ONLY_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class PathPart:
    """One folder on the path to the keys, or the file itself."""

    depth: int
    """How far below the container's root: 0 is `/`, 1 `/home`, 2 the home, 3 `.ssh`, 4 the keys."""
    uid: int
    """Its owner, as the container sees it."""
    mode: int
    """The mode, with the file type (inode(7))."""


@dataclass(frozen=True)
class Mending:
    """A change of mode or owner of one part."""

    depth: int
    mode: int
    owner: bool
    """Whether it has to be given to the user."""


def mendings(steps: Sequence[PathPart]) -> tuple[Mending, ...]:
    """The changes that sshd needs; links and the like are never changed. Pure."""
    return tuple(mending for step in steps for mending in _mending(step))


def _mending(step: PathPart) -> tuple[Mending, ...]:
    mode = stat.S_IMODE(step.mode)
    if step.depth < _HOME:
        wanted, owner = mode | (0o500 if step.uid == UID else _OUTER), False
    elif stat.S_ISDIR(step.mode):
        wanted, owner = (mode | 0o700) & ~0o022, step.uid != UID
    elif stat.S_ISREG(step.mode):
        wanted, owner = (mode | 0o600) & ~0o022, step.uid != UID
    else:
        return ()
    return (Mending(step.depth, wanted, owner),) if owner or wanted != mode else ()


def mend(
    view: View,
    user: str,
    resident: Resident,
    tree: Tree,
    works: Callable[[], None] = lambda: None,
) -> tuple[str, ...]:
    """Mend the path in a system. Returns what was done, or couldn't be, in words.

    `works` is called before anything is changed: to look takes a moment, to mend takes programs.
    """
    way = _Way(IdMapOwner.of(view, user, resident), tree, home_files.folder(user))
    return _mend(way, works)


def mend_mounted(
    view: View, user: str, resident: Resident, works: Callable[[], None] = lambda: None
) -> tuple[str, ...]:
    """Mend the path in a mount that covers the home, if its source is there."""
    home = home_files.mounted_home(view, user)
    if home is None or not mounts.usable([home[0]]):
        return ()
    return _mend(_Way(IdMapOwner.of(view, user, resident), home[1], home[2]), works)


def seen(root: int, names: Sequence[str]) -> list[tuple[int, int]]:
    """Owner and mode of `root`, and of what is below it by these names, one in the other.

    As far as this process gets. No link is followed, and no file is opened.
    """
    found, at = [os.fstat(root)], os.dup(root)
    with suppress(OSError):
        for name in names:
            following = os.open(name, _ONLY_LOOK, dir_fd=at)
            os.close(at)
            at = following
            found.append(os.fstat(at))
    os.close(at)
    return [(status.st_uid, status.st_mode) for status in found]


def seen_inside(user: str) -> list[tuple[int, int]]:
    """Owner and mode of each part of the path to the keys, for a process in the container."""
    return seen(os.open("/", _ONLY_LOOK), (*home_files.folder(user).parts, KEYS))


def is_clear(parts: Sequence[tuple[int, int]]) -> bool:
    """Whether nothing on the path, as it is seen inside, keeps sshd from the keys. Pure."""
    found = [PathPart(depth, *part) for depth, part in enumerate(parts)]
    return bool(found) and not mendings(found)


def has_sshd(tree: Tree) -> bool:
    """Whether a system has an sshd where Debian puts it; True if that can't be read."""
    with suppress(HostileError):
        return bool(
            hostile.as_owner(tree, tree.first, lambda top: hostile.is_file_inside(top, SSHD))
        )
    return True


def unmended(view: View, user: str, resident: Resident) -> tuple[str, ...]:
    """What would be mended in the system in place, in words; nothing is changed."""
    way = _Way(
        IdMapOwner.of(view, user, resident), Tree.of(view, user, resident), home_files.folder(user)
    )
    steps = way.steps()
    return tuple(way.words(steps, mending) for mending in mendings(steps))


@dataclass(frozen=True)
class _Way:
    """The path below one folder: the container's root, or a mount over a part of it."""

    owner: IdMapOwner
    root: Path | Tree
    keys: PurePosixPath
    """The folder of the keys, below `root`."""

    @property
    def first(self) -> int:
        """The depth of `root`."""
        return len(home_files.folder(self.owner.user).parts) - len(self.keys.parts)

    def below(self) -> list[PurePosixPath]:
        """All parts of the path, below `root`."""
        parts = (*self.keys.parts, KEYS)
        return [PurePosixPath(*parts[:number]) for number in range(len(parts) + 1)]

    def steps(self) -> list[PathPart]:
        """The parts as the user sees them; no link is followed, and no file is opened."""

        def work(top: int) -> list[tuple[int, int]]:
            return seen(top, [path.name for path in self.below()[1:]])

        subid = self.owner.resident.subid
        try:
            found = hostile.as_owner(self.root, subid + UID, work)
        except HostileError:  # even the outermost folder is closed or missing
            found = []
            with suppress(OSError):
                found = [self._outermost()]
        return [
            PathPart(self.first + number, uid - subid, mode)
            for number, (uid, mode) in enumerate(found)
        ]

    def _outermost(self) -> tuple[int, int]:
        """Owner and mode of `root`, as somebody else than the user sees them."""
        if isinstance(self.root, Path):
            status = self.root.lstat()
            return status.st_uid, status.st_mode
        status = self.root.top.lstat()
        return status.st_uid + (self.root.first if self.root.raw else 0), status.st_mode

    def words(self, steps: Sequence[PathPart], mending: Mending) -> str:
        """The part that is mended, as it is now, in words."""
        was = next(step for step in steps if step.depth == mending.depth)
        parts = ("/", *home_files.folder(self.owner.user).parts, KEYS)[: mending.depth + 1]
        mode = stat.S_IMODE(was.mode)
        return f"{PurePosixPath(*parts)} (owner {was.uid}, mode {mode:04o})"

    def mend(self, mending: Mending) -> None:
        """Mend one part. LxcGpuError if that can't be done, as on a NAS."""
        place = Path(str(self.root)) / self.below()[mending.depth - self.first]
        if mending.owner:
            self._run("chown", "--no-dereference", f"{UID}:{UID}", "--", str(place))
        self._run("chmod", f"{mending.mode:o}", "--", str(place))

    def _run(self, *argv: str) -> None:
        """Run `argv` as root of the container's ids, able to write below `root` only."""
        trees = () if isinstance(self.root, Path) else (self.root,)
        command.run(self.owner.fenced(Path(str(self.root)), argv, *trees))


def _mend(way: _Way, works: Callable[[], None]) -> tuple[str, ...]:
    """Mend until nothing is left: a closed folder hides what lies behind it."""
    notes = list[str]()
    for _ in way.below():
        steps = way.steps()
        todo = mendings(steps)
        for mending in todo:
            words = way.words(steps, mending)
            works()
            try:
                way.mend(mending)
            except LxcGpuError as error:
                return (*notes, f"{words} keeps sshd from your keys. {error.message}")
            notes.append(f"{words} kept sshd from your keys: mended.")
        if not todo:
            break
    return tuple(notes)
