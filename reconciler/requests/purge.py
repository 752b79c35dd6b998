"""Deletes what a disabled user left on this server: by hand only, after listing it."""

from __future__ import annotations

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

from reconciler.container.undertaking import busy
from reconciler.disk.free_space import used
from reconciler.host import journal, locks, marker, places
from reconciler.host.places import rootfs
from reconciler.host.published import published_view
from reconciler.host.slices import slice_of
from reconciler.kinds.accounts.account_files import GROUP, PASSWD, SHADOW, Account, AccountFiles
from reconciler.kinds.accounts.homes import own_home
from reconciler.kinds.accounts.subids import SUBGID, SUBUID, replace_lines
from reconciler.mounts.tree import RAW
from reconciler.network import forwards
from reconciler.network.forwards import Forward
from reconciler.requests import reserving
from reconciler.requests.forwarding import forget
from reconciler.requests.unit import power_of
from reconciler.reservations import waiting
from reconciler.snapshots.copies import copies_of
from reconciler.systems.folders import remove_container
from state import command, files
from state.errors import LxcGpuError
from state.model.manage_account import OTHER
from state.view import View


@dataclass(frozen=True)
class Remains:
    """What is left of a user on this server."""

    user: str
    account: str
    """The name of the account; empty if there is none."""
    folders: tuple[tuple[Path, int], ...]
    """The home and the container, with their sizes in bytes; snapshots aren't counted."""
    snapshots: int
    """How many snapshots (copies on btrfs) are in the container's folder and go with it."""
    host_key: bool
    forwards: tuple[Forward, ...]
    """The ports that are kept for this user."""
    noted: bool
    """Whether there is a note that a container was made here."""

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to delete."""
        kept = self.host_key or self.forwards or self.noted
        return not (self.account or self.folders or kept)


def remains(view: View, user: str) -> Remains:
    """What there is of `user`. LxcGpuError if it isn't ours to delete."""
    if user in view.residents:
        raise LxcGpuError(
            "still-registered",
            f"{user} is still registered on {view.server}, so nothing is deleted.",
            f"First `lxc-gpu user disable {user}`, or `lxc-gpu registration remove "
            f"{view.server} {user}`.",
        )
    marker.check(view)  # what is on a disk that isn't mounted would be said not to be there
    account = _account(view, user)
    if account is not None and account.enabled:
        raise LxcGpuError(
            "not-disabled",
            f"The account {account.name} is not disabled yet.",
            "Run `lxc-gpu reconcile`.",
        )
    if power_of(user).running:
        raise LxcGpuError(
            "still-running",
            f"The container of {user} still runs.",
            f"Run `systemctl stop {places.container_unit(user)}`.",
        )
    found = [rootfs(view, user).parent]
    if account is not None and own_home(account.name, account.uid):
        found.append(places.HOMES / account.name)
    folders = tuple((folder, _size(folder)) for folder in found if folder.is_dir())
    host_key, kept = (places.HOST_KEYS / user).exists(), forwards.read().of.get(user, ())
    name, copies = account.name if account else "", len(copies_of(view, user))
    return Remains(user, name, folders, copies, host_key, kept, marker.was_made(user))


def _size(folder: Path) -> int:
    """The size of a home or of a container's folder, whose systems may be subvolumes."""
    device = folder.lstat().st_dev
    slots = [each for each in folder.iterdir() if not each.is_symlink()]
    systems = [slot / RAW for slot in slots if os.path.lexists(slot / RAW)]
    return used(folder, *(each for each in systems if each.lstat().st_dev != device))


def _account(view: View, user: str) -> Account | None:
    """The former user's account; it has no prefix if the user left before accounts had one.

    LxcGpuError if the account isn't ours.
    """
    accounts = AccountFiles(*(files.read_text(f) or "" for f in (PASSWD, SHADOW, GROUP))).accounts()
    account, plain = accounts.get(view.account_of(user)), accounts.get(user)
    if account is None and plain is not None and plain.ours and _is_no_other_users(view, user):
        return plain
    if account is not None and not account.ours:
        raise LxcGpuError(
            "account-conflict", f"The account {account.name} isn't lxc-gpu's.", "It is left alone."
        )
    return account


def _is_no_other_users(view: View, account: str) -> bool:
    """Whether the account can't belong to another user, whose name is what follows the prefix."""
    return view.user_of(account) in (account, f"{OTHER}{account}")


def archive(view: View, user: str, target: Path) -> None:
    """Pack the container's file system into `target` (tar, zstd), with the owners as on the host.

    tar follows no links, and the container is stopped. Only root can read the archive.
    """
    root = rootfs(view, user)
    argv = ["tar", "--create", "--zstd", "--file=-", "--numeric-owner", "--xattrs", "--acls",
            "--one-file-system", f"--directory={root.parent}", root.name]  # fmt: skip
    if (root / RAW).is_dir() and (root / RAW).stat().st_dev != root.stat().st_dev:
        argv.append(f"{root.name}/{RAW}")  # a subvolume is a file system of its own, for tar
    beside = target.with_name(f"{target.name}.new")
    with beside.open("xb") as stream:
        beside.chmod(0o600)
        with command.started(argv, stdout=stream) as child:
            said = b"" if child.stderr is None else child.stderr.read()
            if child.wait() != 0:
                beside.unlink()
                raise LxcGpuError(
                    "archive", f"{target} could not be written.", "Nothing was deleted.",
                    details=said.decode("utf-8", "replace"),
                )  # fmt: skip
        os.fsync(stream.fileno())  # what it was made of is deleted next
    beside.rename(target)
    files.sync_folder(target.parent)


def purge(view: View, left: Remains) -> None:
    """Delete all of it. The user's numbers stay taken in the state repository forever."""
    user = left.user
    with locks.lock(locks.tree_lock(user), wait=False) as free, locks.lock(locks.user_lock(user)):
        if not free:
            raise busy(user)
        left = remains(published_view() or view, user)  # the person may have come back meanwhile
        if rootfs(view, user).parent.is_dir():
            remove_container(rootfs(view, user).parent)
        with locks.lock(locks.GLOBAL):
            forget(user)
            reserving.forget(user)
            waiting.forget(user)
            if left.account:
                _remove_account(left.account)
            account = left.account or view.account_of(user)
            for file in (SUBUID, SUBGID):
                files.write_file(file, replace_lines(files.read_text(file) or "", {account: ()}))
        for folder in (places.HOST_KEYS, places.UNDERTAKINGS, places.RUNNING, places.MADE,
                       places.CHOSEN, places.DOWN, places.STOPPED_IDLE):  # fmt: skip
            (folder / user).unlink(missing_ok=True)
    journal.event("purged", user=user, bytes=sum(size for _, size in left.folders))


def _remove_account(name: str) -> None:
    account = pwd.getpwnam(name)
    home = Path(account.pw_dir)
    if home == places.HOMES / name and own_home(name, account.pw_uid):
        shutil.rmtree(home)  # before the account: what a kill leaves is found again
    # logind keeps a user's manager for a while after the last session (logind.conf(5))
    command.run(["systemctl", "stop", slice_of(account.pw_uid)], check=False)
    command.run(["userdel", name])
