"""How much of the disk a container may take, where its file system has quotas for trees.

With project quotas (ext4, xfs), the folder around a container's systems belongs to the project that
has the user's uid as its number, and so does everything in it: the system, the previous one, one
that is being made. With simple quotas (btrfs), these and snapshots are subvolumes in the group of
that number. Without either, nothing is wanted and nothing is done: `lxc-gpu doctor` says so.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from reconciler.children import hostile
from reconciler.disk import group_quota, project_quota, subvolumes
from reconciler.disk.project_quota import BLOCK, QuotaUse
from reconciler.host import in_words, marker
from reconciler.host.places import rootfs
from reconciler.plan import Change, Lock, Observed, Tell
from reconciler.systems.folders import make_around
from state.errors import LxcGpuError, os_error
from state.view import View

COUNTED = "trusted.lxc-gpu.project"
"""An xattr(7) of a container's folder: the project for which everything below it was counted."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class DiskQuota(NamedTuple):
    """What a container may take of the disk."""

    limit: int
    """Bytes."""
    whole: bool = True
    """Whether everything is counted, including what is older than the limit."""


class DiskQuotaKind:
    """Limits of containers' disk use."""

    name = "disk_quota"
    lock = Lock.USER
    per_user = True

    def desired(self, view: View) -> Mapping[str, DiskQuota]:
        """The quota of each resident who has a limit, if the file system can enforce it."""
        there = [name for name in view.residents if not _is_gone(view, name)]
        limits = {name: view.limits_of(name).disk for name in there}
        wanted = {n: DiskQuota(of // BLOCK * BLOCK) for n, of in limits.items() if of is not None}
        return wanted if wanted and available(view) else {}

    def observe(self, view: View, names: Collection[str]) -> Observed[DiskQuota]:
        """The limits that residents have."""
        if not available(view):
            return Observed({})
        found = {name: _read(view, name) for name in view.residents}
        return Observed({name: quota for name, quota in found.items() if quota is not None})

    def apply(
        self, view: View, changes: Sequence[Change[DiskQuota]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Set the limit first, so that it holds for what is new; then count what exists."""
        failed: dict[str, LxcGpuError] = {}
        for change in changes:
            try:
                _put_right(view, change.name, change.after, tell)
            except LxcGpuError as error:
                failed[change.name] = error
            except OSError as error:
                failed[change.name] = os_error(error)
        return failed

    def describe(self, change: Change[DiskQuota]) -> str:
        """E.g. `let lqchen's container take 50.0 GiB of the disk`."""
        if change.after is None:
            return f"let {change.name}'s container take as much of the disk as there is"
        if change.before is not None and change.before._replace(whole=True) == change.after:
            return f"count what is in {change.name}'s container"
        return f"let {change.name}'s container take {in_words.size(change.after.limit)} of the disk"


def available(view: View) -> bool:
    """Whether the containers' file system is there and enforces limits."""
    try:
        if not marker.check(view):
            return False
    except LxcGpuError:  # the kind `containers_folder` says so
        return False
    with _opened(Path(view.containers)) as descriptor:
        return project_quota.enforced(descriptor) or group_quota.enforced(descriptor)


def use_of(view: View, user: str) -> QuotaUse | None:
    """What all systems of a user's container take together; None if no limit is enforced."""
    with suppress(FileNotFoundError), _opened(rootfs(view, user).parent) as folder:
        if group_quota.enforced(folder):
            use = group_quota.use(folder, group_quota.group_of(view.residents[user].uid))
            return use if use.limit and subvolumes.nested(folder) else None
        if _is_whole(folder, view.residents[user].uid) and project_quota.enforced(folder):
            use = project_quota.use(folder, view.residents[user].uid)
            return use if use.limit else None
    return None


def _read(view: View, user: str) -> DiskQuota | None:
    project = view.residents[user].uid
    with suppress(FileNotFoundError), _opened(rootfs(view, user).parent) as folder:
        if group_quota.enforced(folder):
            limit = group_quota.use(folder, group_quota.group_of(project)).limit
            strange = _strange(folder, project)
            whole = not strange and not _outside(folder, project)
            return DiskQuota(limit, whole) if limit or strange else None
        if project_quota.project_of(folder)[0] == project:
            limit = project_quota.use(folder, project).limit
            return DiskQuota(limit, _is_whole(folder, project)) if limit else None
    return None


def _outside(folder: int, uid: int) -> list[int]:
    """The container's subvolumes that don't count for its user's group yet."""
    numbers = [each.number for each in subvolumes.nested(folder)]
    return group_quota.outside(folder, group_quota.group_of(uid), numbers)


def _strange(folder: int, uid: int) -> list[tuple[int, int]]:
    """The subvolumes that count for another user's group."""
    numbers = [each.number for each in subvolumes.nested(folder)]
    return group_quota.strange(folder, group_quota.group_of(uid), numbers)


def _is_gone(view: View, user: str) -> bool:
    """Whether the container was made and is gone: nothing may be made where it may come back."""
    return marker.was_made(user) and not rootfs(view, user).is_dir()


def _is_whole(folder: int, project: int) -> bool:
    if project_quota.project_of(folder) != (project, True):
        return False
    try:
        return os.getxattr(folder, COUNTED) == str(project).encode()
    except OSError:  # ENODATA: not yet
        return False


def _put_right(view: View, user: str, wanted: DiskQuota | None, tell: Tell) -> None:
    project, path = view.residents[user].uid, rootfs(view, user).parent
    make_around(view, user)
    with _opened(path) as folder:
        if group_quota.enforced(folder):
            group = group_quota.group_of(project)
            group_quota.set_limit(folder, group, wanted.limit if wanted else 0)
            group_quota.admit(folder, group, _outside(folder, project))
            group_quota.dismiss(folder, _strange(folder, project))
            return
        other, _ = project_quota.project_of(folder)
        if other not in (0, project):
            raise LxcGpuError(
                "quota-project",
                f"{path} already belongs to the project {other}, which is not lxc-gpu's.",
                f"Nothing was changed. Sysadmin: if nobody needs that, "
                f"`chattr -R -p 0 {path}`, and `chattr -P` for the folder around.",
            )
        project_quota.set_limit(folder, project, wanted.limit if wanted else 0)
        if wanted is None or _is_whole(folder, project):
            return
        with suppress(OSError):  # copied from a folder that was counted
            os.removexattr(folder, COUNTED)

    def work(folder: int, tell: Tell) -> None:
        project_quota.assign_tree(folder, project, tell)
        os.setxattr(folder, COUNTED, str(project).encode())

    hostile.as_owner_at_length(path, 0, work, tell)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, _FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
