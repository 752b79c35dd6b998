"""Users' own folders in the sources of mounts: SOURCE/USER, which only that user reads and writes.

They belong to the uid that the container's user has on the host, the same on every server, so that
owners on a NAS agree. They are never removed, and never taken from somebody else.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from reconciler.children import hostile
from reconciler.container.home_files import UID
from reconciler.disk.owned_folder import make_owned
from reconciler.mounts import sources as mounts
from reconciler.plan import Change, Lock, Observed, Tell
from state.errors import LxcGpuError
from state.view import View

MODE = 0o700


class UserFolder(NamedTuple):
    """One user's folder in one source."""

    owner: int
    """User and group."""
    mode: int = MODE


Folders = Mapping[str, UserFolder]
"""By source."""


class UserFolderKind:
    """Users' own folders in the sources of mounts."""

    name = "user_folder"
    lock = Lock.USER
    per_user = True

    def desired(self, view: View) -> Mapping[str, Folders]:
        """A folder for each resident and each mount with the access `own`."""
        wanted = {
            name: {
                mount.source: UserFolder(resident.subid + UID)
                for mount in view.mounts_of(name)
                if mount.access == "own"
            }
            for name, resident in view.residents.items()
        }
        return {name: folders for name, folders in wanted.items() if folders}

    def observe(self, view: View, names: Collection[str]) -> Observed[Folders]:
        """The folders. Nothing is known while a source is away: the kind `mount` reports it."""
        wanted = {n: f for n, f in self.desired(view).items() if n in names}
        sources = {source for folders in wanted.values() for source in folders}
        usable = mounts.usable(sources)
        there = {s: _read(s, [n for n, f in wanted.items() if s in f]) for s in usable}
        found: dict[str, Folders] = {}
        for name, folders in wanted.items():
            known = {s: f for s, f in folders.items() if s not in usable}
            known |= {s: there[s][name] for s in folders if s in usable and name in there[s]}
            found[name] = known
        return Observed(found)

    def apply(
        self, view: View, changes: Sequence[Change[Folders]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Make missing folders and put modes right. The owner is never changed."""
        failed: dict[str, LxcGpuError] = {}
        for change in changes:
            for source, folder in (change.after or {}).items():
                before = (change.before or {}).get(source)
                if before == folder:
                    continue
                try:
                    _put_right(source, change.name, folder, before)
                except LxcGpuError as error:
                    failed[change.name] = error
        return failed

    def make_one(self, view: View, user: str, source: str) -> None:
        """Make one user's folder in one source, for a start. LxcGpuError if that can't be done."""
        folder = self.desired(view)[user][source]
        before = _read(source, [user]).get(user)
        if before != folder:
            _put_right(source, user, folder, before)

    def describe(self, change: Change[Folders]) -> str:
        """E.g. `give lqchen the folder /srv/scratch/lqchen`."""
        before, after = change.before or {}, change.after or {}
        differing = [f"{s}/{change.name}" for s in after if before.get(s) != after[s]]
        return f"give {change.name} the folder {', '.join(differing)}"


def _read(source: str, names: Sequence[str]) -> Mapping[str, UserFolder]:
    """The folders of these users in one source; anything but a folder has no owner."""

    def work(folder: int) -> object:
        found = {}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                plain = stat.S_ISDIR(status.st_mode) and status.st_uid == status.st_gid
                found[name] = [status.st_uid if plain else -1, stat.S_IMODE(status.st_mode)]
        return found

    found = hostile.as_owner(mounts.place(source), 0, work)
    return {name: UserFolder(*values) for name, values in found.items()}


def _put_right(source: str, user: str, folder: UserFolder, before: UserFolder | None) -> None:
    place, path = mounts.place(source), f"{source}/{user}"
    if before is None:
        try:
            hostile.as_owner(
                place, 0, lambda source: make_owned(source, user, folder.owner, folder.mode)
            )
        except LxcGpuError as error:
            ids = f"-o {folder.owner} -g {folder.owner}"
            raise LxcGpuError(
                "own-folder",
                f"{path} can't be made: {error.message}",
                f"Sysadmin: where the NAS doesn't let this server's root in, type on the NAS, in "
                f"the folder that is {source} here: `install -d {ids} -m 0700 {user}`",
            ) from error
    elif before.owner != folder.owner:
        raise LxcGpuError(
            "own-folder-taken",
            f"{path} is not {user}'s folder (owner and group {folder.owner}): it is left alone.",
            f"Sysadmin: look at it; if it is theirs, `chown -hR {folder.owner}:{folder.owner} "
            f"{path}`; if not, move it away.",
        )
    else:
        hostile.as_owner(place / user, folder.owner, lambda own: os.fchmod(own, folder.mode))
