"""The mounts that a container starts with; a note for each one that has to be left out.

The container's owner can put a link or a file at a target. So each target is made and checked with
the ids of the folder around it, and no link is followed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import PurePosixPath

from reconciler.children import hostile
from reconciler.container.home_files import UID
from reconciler.container.running import inits
from reconciler.host import locks
from reconciler.host.journal import event
from reconciler.kinds.containers.mount import MountKind
from reconciler.kinds.containers.old_home import OldHomeKind
from reconciler.kinds.containers.user_folder import UserFolderKind
from reconciler.mounts import sources as mounts
from reconciler.mounts.bind import Bind
from reconciler.mounts.tree import Tree
from reconciler.plan import diff
from state.errors import LxcGpuError
from state.view import Mount, Resident, View


def binds(view: View, user: str, resident: Resident) -> tuple[list[Bind], list[str]]:
    """What to mount, outer folders first; notes on what is left out.

    The caller holds the user's lock.
    """
    wanted = view.mounts_of(user)
    problems, nothing = _make_ready(view, user, wanted) if wanted else ({}, frozenset())
    given: list[Mount] = []
    notes: list[str] = []
    for mount in wanted:
        if mount.source in nothing:
            continue
        try:
            if mount.source in problems:
                raise problems[mount.source]
            _make_target(view, user, resident, mount, given)
        except LxcGpuError as error:
            notes.append(f"{mount.target} is left out. {error.message} {error.hint}".rstrip())
            event("mount-left-out", user=user, target=mount.target, code=error.code,
                  why=error.message)  # fmt: skip
        else:
            given.append(mount)
    return [Bind(mounts.bind_source(m, user), m.target, ("optional",)) for m in given], notes


def _make_ready(
    view: View, user: str, wanted: Sequence[Mount]
) -> tuple[Mapping[str, LxcGpuError], frozenset[str]]:
    """Mount the sources and make the user's folders. Returns what failed, by source.

    Also returns the sources in which the user had no home.
    """
    sources = {mount.source for mount in wanted}
    kind, alone = MountKind(), view.only(user)
    observed = kind.observe(alone, sources)
    if any(change.name in sources for change in diff(kind.desired(alone), observed)):
        with locks.lock(locks.GLOBAL):  # a round may be doing the same
            observed = kind.observe(alone, sources)
            changes = [c for c in diff(kind.desired(alone), observed) if c.name in sources]
            failed = kind.apply(alone, changes, lambda _: None)
    else:
        failed = {}
    problems = {**observed.unreadable, **failed}
    own = {mount.source for mount in wanted if mount.access == "own"} - problems.keys()
    folders = UserFolderKind()
    for source in own:
        try:
            folders.make_one(alone, user, source)
        except LxcGpuError as error:
            problems[source] = error
    homes = {mount.source for mount in wanted if mount.access == "home"} - problems.keys()
    nothing = set[str]()
    for source in homes:
        try:
            if not OldHomeKind().make_one(view, user, source):
                nothing.add(source)
        except LxcGpuError as error:
            problems[source] = error
    return problems, frozenset(nothing)


def _make_target(
    view: View, user: str, resident: Resident, mount: Mount, given: Sequence[Mount]
) -> None:
    """Have a folder at the mount's target, in whatever is mounted around it."""
    target = PurePosixPath(mount.target)
    base: hostile.Folder = Tree.of(view, user, resident)
    around = PurePosixPath("/")
    people = [resident.subid, resident.subid + UID]  # a home may be closed to root's uid
    make: int | None = 0o755
    for outer in given:
        if target.is_relative_to(outer.target):
            base, around = mounts.bind_source(outer, user), PurePosixPath(outer.target)
            people = [resident.subid + UID]
            make = None if outer.access in ("read-only", "home") else 0o755
    way = target.relative_to(around)

    def work(folder: int) -> None:
        with hostile.opened_folder(folder, way, make=make):
            pass

    for owner in people:
        try:
            hostile.as_owner(base, owner, work)
        except LxcGpuError as error:
            problem = error
        else:
            return
    hint = "Put a plain folder there, then `restart`: a link or a file is not followed."
    if make is None:
        hint = "Sysadmin: it has to be in what is mounted around it."
    text = f"In your container, {mount.target} can't be used as a folder: {problem.message}"
    raise LxcGpuError("mount-target", text, hint) from problem


def targets_seen(user: str) -> frozenset[str]:
    """Every mount point in the user's container, as it is now; empty if it doesn't run."""
    for init in inits([user]).values():
        with suppress(OSError):  # it has ended
            return frozenset(mounts.mount_points_inside(str(init)))
    return frozenset()
