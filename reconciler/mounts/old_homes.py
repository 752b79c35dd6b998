"""Finds users' old homes on this server, and decides whose each is.

The owner has to be an account with the user's login, from a source of nsswitch.conf(5), that isn't
lxc-gpu's. The folder on the disk has to belong to it. If they disagree, it is left alone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reconciler.children import hostile
from reconciler.host import places
from reconciler.mounts import old_owners, sources
from reconciler.mounts.locked_mount import mount_locked, try_locked
from reconciler.mounts.old_accounts import LoginAccount, LoginAccounts, ask, wrong_account
from reconciler.mounts.owner_map import FileOwner, owner_map
from state.errors import LxcGpuError
from state.view import Mount, View

LOGIN_USER = 1000
"""The uid of the container's user inside."""


@dataclass(frozen=True)
class OldHome:
    """An old home of a user."""

    owner: FileOwner
    """Its owner on the disk."""
    folder: str
    """Its path below the source."""


@dataclass(frozen=True)
class OldHomeResult:
    """What one source has for one user: a home, nothing, or why it isn't shown."""

    home: OldHome | None = None
    problem: LxcGpuError | None = None
    right: bool = False
    """Whether it is mounted for the container as it should be."""


def look(view: View, users: Collection[str]) -> Mapping[str, Mapping[str, OldHomeResult]]:
    """The results by user and source, for all sources of mounts with the access `home`.

    Sources with a wrong owner or mode are left out; the kind `mount` reports them. LxcGpuError if
    the sources of accounts don't answer.
    """
    wanted = {user: homes_of(view, user) for user in users}
    good = {m.source for m in _each_source(wanted) if _is_good(m)}
    if not good:
        return {user: {} for user in users}
    accounts = ask(view, [user for user, of in wanted.items() if of])
    noted = old_owners.noted()
    found: dict[str, dict[str, OldHomeResult]] = {user: {} for user in users}
    for source in sorted(good):
        said = {
            user: _decided(view, user, mount, accounts, noted)
            for user, of in wanted.items()
            for mount in of
            if mount.source == source
        }
        for user, each in _on_the_disk(view, source, said).items():
            found[user][source] = each
    return found


def homes_of(view: View, user: str) -> tuple[Mount, ...]:
    """The mounts with the access `home` that the user's container is to have."""
    return tuple(m for m in view.mounts_of(user) if m.access == "home")


def _each_source(wanted: Mapping[str, Sequence[Mount]]) -> Iterator[Mount]:
    yield from {mount.source: mount for of in wanted.values() for mount in of}.values()


def _is_good(mount: Mount) -> bool:
    try:
        sources.examined(mount)
    except LxcGpuError:
        return False
    return True


def _decided(
    view: View, user: str, mount: Mount, accounts: LoginAccounts, noted: Mapping[str, int]
) -> OldHomeResult:
    """The result by the accounts alone, before the disk is looked at."""
    login = view.residents[user].login
    account = accounts.of(login)
    if account is None:
        return OldHomeResult(problem=_unknown(login, mount))
    if account.name in accounts.ours or account.uid in accounts.our_uids:
        return OldHomeResult()
    vouched = mount in view.residents[user].mounts
    if problem := wrong_account(account, accounts, vouched=vouched):
        return OldHomeResult(problem=problem)
    others = [each.source for each in homes_of(view, user) if each.source != mount.source]
    folder = below(mount.source, account.home)
    if folder is None and any(below(source, account.home) for source in others):
        return OldHomeResult()
    if folder is None:
        return OldHomeResult(problem=_elsewhere(account, mount))
    problem = old_owners.changed(user, account.name, account.uid, noted)
    if problem is None and account.local and not vouched:
        problem = _not_vouched(view.server, user, account, mount)
    return OldHomeResult(OldHome(FileOwner(account.uid, account.gid), folder), problem)


def below(source: str, home: str) -> str | None:
    """The path of a home below the source; None if it isn't below it. Pure."""
    path = PurePosixPath(home)
    if ".." in path.parts or not path.is_relative_to(source) or path == PurePosixPath(source):
        return None
    return str(path.relative_to(source))


def _unknown(login: str, mount: Mount) -> LxcGpuError:
    return LxcGpuError(
        "old-home-unknown",
        f"There is {mount.source}/{login}, but no account {login} on this server, so it is "
        "not known whose it is.",
        f"Sysadmin: `getent passwd {login}` has to name it, also while lxc-gpu's own account has "
        "another name. Then `restart`.",
    )


def _not_vouched(server: str, user: str, account: LoginAccount, mount: Mount) -> LxcGpuError:
    mounted = ", mounted: true" if mount.mounted else ""
    words = f"{{source: {mount.source}, target: {mount.target}, access: home{mounted}}}"
    return LxcGpuError(
        "old-home-local",
        f"{account.name} (uid {account.uid}) is an account of this server itself: no "
        f"directory says that the user {user} is the same person.",
        f"Sysadmin: if so, `mounts: [{words}]` in registrations/{server}/{user}.yaml. Then "
        "`restart`.",
    )


def _elsewhere(account: LoginAccount, mount: Mount) -> LxcGpuError:
    return LxcGpuError(
        "old-home-elsewhere",
        f"The home of the account {account.name} is {account.home!r}, which isn't in "
        f"{mount.source}.",
        f"Sysadmin: compare `getent passwd {account.name}`; a mount for each folder that holds "
        "homes, with `access: home`.",
    )


def _on_the_disk(
    view: View, source: str, said: Mapping[str, OldHomeResult]
) -> Mapping[str, OldHomeResult]:
    """Compare results with the folders on the disk; one child looks at all of one source."""
    mounted = sources.old_homes_mounted()
    ways = {user: way for user in said if (way := _way(view, user, said[user]))}
    points = [user for user in ways if source in mounted.get(user, {})]

    def work(root: int) -> object:
        hostile.still_at_it(sources.PATIENCE)
        seen = {user: _status(root, way) for user, way in ways.items()}
        there = {user: _numbers(sources.old_home_place(source, user).stat()) for user in points}
        return [seen, there]

    seen, there = hostile.as_owner(Path(source), 0, work)
    found = dict(said)
    for user in ways:
        each = _judged(f"{source}/{ways[user]}", said[user], seen[user])
        if each.home is not None and each.problem is None and user in there:
            flags = {*sources.FLAGS["home"], "idmapped"}
            inside = view.residents[user].subid + LOGIN_USER
            same = there[user] == [inside, *seen[user][1:]]
            right = same and mounted[user][source] >= flags
            each = OldHomeResult(each.home, right=right)
        found[user] = each
    return found


def _way(view: View, user: str, said: OldHomeResult) -> str:
    """The path to look at below the source; empty if nothing there could change the result."""
    if said.problem is not None and said.problem.code == "old-home-unknown":
        login = view.residents[user].login
        return login if PurePosixPath(login).name == login else ""
    return said.home.folder if said.home is not None else ""


def _status(root: int, way: str) -> object:
    """Owner, device and inode of a folder, following no link; empty: nothing is there.

    A text says why it is not a folder. A mapping names a folder above that others may write.
    """
    try:
        if above := _open_to_others(root, PurePosixPath(way)):
            return {"above": above}
        with hostile.opened_folder(root, PurePosixPath(way)) as folder:
            return _numbers(os.fstat(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        return str(error.strerror)


def _open_to_others(root: int, way: PurePosixPath) -> str:
    """The first folder on the way that others than root may write; empty if there is none."""
    for above in reversed(way.parents):
        with hostile.opened_folder(root, above) as folder:
            status = os.fstat(folder)
        if status.st_uid != 0 or status.st_mode & 0o022:
            return str(above)
    return ""


def _numbers(status: os.stat_result) -> list[int]:
    return [status.st_uid, status.st_dev, status.st_ino]


def _judged(path: str, said: OldHomeResult, seen: object) -> OldHomeResult:
    """The result, by the account and by what was seen on the disk."""
    if not seen:
        return OldHomeResult()
    if said.home is None:
        return said
    if isinstance(seen, dict):
        return OldHomeResult(problem=_open(path, said.home, seen["above"]))
    if not isinstance(seen, list) or seen[0] != said.home.owner.uid:
        return OldHomeResult(problem=_taken(path, said.home.owner, seen))
    return said


def _taken(path: str, owner: FileOwner, seen: object) -> LxcGpuError:
    whose = (
        f"a folder of uid {seen[0]}" if isinstance(seen, list) else f"not a plain folder ({seen})"
    )
    return LxcGpuError(
        "old-home-taken",
        f"{path} is {whose}, but should be the home of uid {owner.uid}: it is left alone.",
        f"Sysadmin: look at it; if it is theirs: `chown -h {owner.uid} {path}`.",
    )


def _open(path: str, home: OldHome, above: str) -> LxcGpuError:
    folder = PurePosixPath(path.removesuffix(home.folder)) / above
    return LxcGpuError(
        "old-home-open",
        f"{path} is left alone: others than root may change {folder}, and could put somebody "
        "else's home there.",
        f"Sysadmin: `chown root {folder}; chmod go-w {folder}`. Then `restart`.",
    )


def mount(source: str, home: OldHome, inside: int, place: Path) -> None:
    """Mount the home at `place`, where its owner's files belong to the uid `inside`.

    LxcGpuError if that fails. The folder is checked once more, by the same descriptor.
    """
    places.OLD_HOMES.mkdir(mode=0o711, exist_ok=True)
    place.mkdir(mode=0o755, exist_ok=True)

    def put(folder: int, ids: int) -> None:
        mount_locked(folder, place, sources.FLAGS["home"], ids)

    _with_map(source, home, inside, put)


def try_to_map(source: str, home: OldHome) -> None:
    """LxcGpuError if the home's owner can't be mapped; nothing is mounted."""
    _with_map(
        source, home, LOGIN_USER, lambda folder, ids: try_locked(folder, sources.FLAGS["home"], ids)
    )


def _with_map(source: str, home: OldHome, inside: int, act: Callable[[int, int], None]) -> None:
    """Call `act`, in a child, with descriptors of the home and of a map of its owner."""
    path = f"{source}/{home.folder}"

    def work(root: int) -> None:
        hostile.still_at_it(sources.PATIENCE)
        if above := _open_to_others(root, PurePosixPath(home.folder)):
            raise _open(path, home, above)
        with hostile.opened_folder(root, PurePosixPath(home.folder)) as folder:
            status = os.fstat(folder)
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != home.owner.uid:
                raise _taken(path, home.owner, _numbers(status))
            try:
                with owner_map(home.owner, FileOwner(inside, inside)) as ids:
                    act(folder, ids)
            except OSError as error:
                raise _cannot(path, error) from error

    hostile.as_owner(Path(source), 0, work)


def _cannot(path: str, error: OSError) -> LxcGpuError:
    return LxcGpuError(
        "old-home-mount",
        f"{path} can't be shown with its owner mapped: {error.strerror}. File systems that can are "
        "ext4, xfs, btrfs, and ZFS from 2.2 on; NFS, CIFS and FUSE can't.",
        f"Sysadmin: `findmnt --target {path}` says which it is. If it can't, take the mount out; "
        "people copy what they need by `rsync` from inside, as their old account.",
    )
