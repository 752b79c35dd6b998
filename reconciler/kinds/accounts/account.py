"""Host accounts of the registered users: made in one batch, disabled, never deleted.

Ours are the accounts in the group `lxc-gpu-users`. An account or a group of a user's name which
isn't ours, or an account of the system's in that group, is a conflict: reported, never touched.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reconciler.host import places
from reconciler.plan import Change, Lock, Observed, Tell
from state import command
from state.command import CommandError
from state.errors import LxcGpuError, Remedy
from state.files import read_text
from state.view import View

PASSWD, SHADOW, GROUP = Path("/etc/passwd"), Path("/etc/shadow"), Path("/etc/group")
HOME_MODE = 0o711
"""The container's root, an id of nobody on the host, has to pass through the home."""
FIRST_ORDINARY = 1000
"""Accounts below this uid are the system's (login.defs(5), UID_MIN): root above all."""
PATIENCE = 5.0
"""Seconds that the sources of accounts may take to answer."""
EXPIRED = 1
"""The day, since 1970, on which a disabled account expired (shadow(5): 0 is ambiguous)."""
OUT_OF_THE_SOURCE = (
    "Leave {name} out of that source on this server: with SSSD, `filter_users = root, {name}` and "
    "`filter_groups = root, {name}` in the section [nss] of sssd.conf, then "
    "`systemctl restart sssd`."
)
"""What to do about a name that another source of accounts has: usermod(8) can't change it."""


@dataclass(frozen=True)
class Account:
    """One account on the host."""

    uid: int
    full_name: str
    shell: str
    ours: bool = True
    enabled: bool = True
    home_ready: bool = True
    """The home is there, the user's own, with HOME_MODE."""


@dataclass(frozen=True)
class AccountFiles:
    """What passwd(5), shadow(5) and group(5) say."""

    passwd: str
    shadow: str
    group: str

    def accounts(self) -> dict[str, Account]:
        """Every account in the files; `home_ready` is not known from them and left true."""
        ours = self.members(places.USERS_GROUP)
        expired = {f[0] for f in _fields(self.shadow, 9) if f[7] == str(EXPIRED)}
        return {
            name: Account(int(uid), full_name, shell, name in ours, name not in expired)
            for name, _, uid, _, full_name, _, shell in _fields(self.passwd, 7)
        }

    def members(self, group: str) -> frozenset[str]:
        """The supplementary members of `group`."""
        for name, _, _, members in _fields(self.group, 4):
            if name == group:
                return frozenset(members.split(","))
        return frozenset()


def _fields(text: str, count: int) -> list[list[str]]:
    lines = (line.split(":") for line in text.splitlines())
    return [fields for fields in lines if len(fields) == count]


def sysusers_lines(accounts: Mapping[str, Account]) -> str:
    """What sysusers.d(5) needs to make these accounts, in one run of systemd-sysusers."""
    lines: list[str] = []
    for name, account in accounts.items():
        gecos = account.full_name.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
        home = places.HOMES / name
        lines.append(f'u {name} {account.uid}:{account.uid} "{gecos}" {home} {account.shell}')
        lines.append(f"g {name} {account.uid}")
        lines.append(f"m {name} {places.USERS_GROUP}")
    return "\n".join(sorted(lines)) + "\n"  # groups before users, users before members


class AccountKind:
    """Accounts of registered users."""

    name = "account"
    lock = Lock.GLOBAL
    per_user = True

    def desired(self, view: View) -> Mapping[str, Account]:
        """One enabled account for each resident."""
        return {
            name: Account(resident.uid, resident.full_name, str(places.LOGIN_SHELL))
            for name, resident in view.residents.items()
        }

    def observe(self, view: View, names: Collection[str]) -> Observed[Account]:
        """The residents' accounts of these names, and others of ours that are still enabled."""
        files = AccountFiles(*(read_text(file) or "" for file in (PASSWD, SHADOW, GROUP)))
        found: dict[str, Account] = {}
        conflicts: dict[str, LxcGpuError] = {}
        accounts = files.accounts()
        missing: dict[str, int] = {}
        for name in view.residents.keys() & frozenset(names):
            account = accounts.get(name)
            if account is None:
                missing[name] = view.residents[name].uid
            elif not account.ours:
                conflicts[name] = _conflict(name)
            else:
                found[name] = _with_home(name, account)
        for name, account in accounts.items():
            if account.ours and account.enabled and name not in view.residents:
                if account.uid < FIRST_ORDINARY:
                    conflicts[name] = _system_account(name, account.uid)
                else:
                    found[name] = account
        return Observed(found, conflicts | _in_the_way(missing))

    def apply(
        self, view: View, changes: Sequence[Change[Account]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Make the missing accounts in one batch; change or disable the others one by one."""
        failed: dict[str, LxcGpuError] = {}
        for change in changes:  # first who leaves, and whatever else may not wait
            try:
                if change.before is not None:
                    _modify(change)
            except LxcGpuError as error:
                failed[change.name] = error
        new = {c.name: c.after for c in changes if c.before is None and c.after is not None}
        if new:
            command.run(["systemd-sysusers", "-"], stdin=sysusers_lines(new))
        for change in changes:
            try:
                if change.after is not None and change.name not in failed:
                    _make_home(change.name, change.after.uid)
            except LxcGpuError as error:
                failed[change.name] = error
            except OSError as error:
                failed[change.name] = LxcGpuError(
                    "home", f"The home of {change.name} can't be prepared: {error.strerror}."
                )
        return failed

    def describe(self, change: Change[Account]) -> str:
        """E.g. `make the account lqchen (uid 20031)`."""
        if change.after is None:
            return f"disable the account {change.name}"
        if change.before is None:
            return f"make the account {change.name} (uid {change.after.uid})"
        before, after = vars(change.before), vars(change.after)
        fields = ", ".join(f"{f} {before[f]} -> {after[f]}" for f in after if before[f] != after[f])
        return f"change the account {change.name}: {fields}"


def _in_the_way(uids: Mapping[str, int]) -> dict[str, LxcGpuError]:
    """Why accounts can't be made: what any source of nsswitch.conf(5) has of their names or uids.

    All at once, and with patience: a directory behind it may hang.
    """
    keys = [*uids, *map(str, uids.values())]
    try:
        accounts, groups = (_entries(database, keys) for database in ("passwd", "group"))
    except CommandError as error:
        return dict.fromkeys(uids, _silent(error))
    found = {n: _taken(n, uid, accounts, groups) for n, uid in uids.items()}
    return {name: conflict for name, conflict in found.items() if conflict is not None}


def _taken(
    name: str, uid: int, accounts: Mapping[str, int], groups: Mapping[str, int]
) -> LxcGpuError | None:
    if name in accounts:
        return _elsewhere(name, accounts[name])
    for of in (accounts, groups):
        others = (other for other, number in of.items() if number == uid and other != name)
        if owner := next(others, ""):
            return _uid_conflict(name, uid, owner)
    if groups.get(name, uid) != uid:  # sysusers would put the user into that group
        return _group_conflict(name, groups[name])
    return _home_conflict(name, uid)


def _entries(database: str, keys: Sequence[str]) -> dict[str, int]:
    """The numbers of the accounts or groups with these names or numbers, by getent(1)."""
    if not keys:
        return {}
    said = command.run(["getent", database, *keys], check=False, timeout=PATIENCE).stdout
    lines = (line.split(":") for line in said.splitlines())
    return {fields[0]: int(fields[2]) for fields in lines if fields[2:3] and fields[2].isdigit()}


def _silent(error: CommandError) -> LxcGpuError:
    return LxcGpuError(
        "accounts-silent",
        "This server's sources of accounts (LDAP, SSSD, ...: nsswitch.conf) don't answer: whether "
        "a name or a uid is taken isn't known, and no account is made.",
        "Sysadmin: `getent passwd nobody` should answer at once; the next round goes on.",
        Remedy.WAIT,
        error.details,
    )


def _elsewhere(name: str, uid: int) -> LxcGpuError:
    return LxcGpuError(
        "account-elsewhere",
        f"Another source of accounts (LDAP, SSSD, ...: nsswitch.conf) has an account {name}, uid "
        f"{uid}, on this server.",
        OUT_OF_THE_SOURCE.format(name=name),
    )


def _conflict(name: str) -> LxcGpuError:
    return LxcGpuError(
        "account-conflict",
        f"There is already an account {name} on this server that isn't lxc-gpu's.",
        f"Rename or remove it, or, if it is this person's, hand it over: "
        f"`usermod --append --groups {places.USERS_GROUP} {name}`.",
    )


def _system_account(name: str, uid: int) -> LxcGpuError:
    return LxcGpuError(
        "account-conflict",
        f"{name} (uid {uid}) is in the group {places.USERS_GROUP}, but is an account of the "
        "system's: it is not disabled.",
        f"Take it out: `gpasswd --delete {name} {places.USERS_GROUP}`.",
    )


def _uid_conflict(name: str, uid: int, owner: str) -> LxcGpuError:
    return LxcGpuError(
        "uid-conflict",
        f"{name} should get the uid {uid}, which {owner} has on this server.",
        f"Give {owner} another number (`usermod --uid`, `groupmod --gid`), or widen or move "
        "`uids:` in fleet.yaml so that it meets no numbers of the server's own.",
    )


def _group_conflict(name: str, gid: int) -> LxcGpuError:
    return LxcGpuError(
        "group-conflict",
        f"There is already a group {name} (gid {gid}) on this server that isn't lxc-gpu's.",
        "Rename it: `groupmod --new-name`; a user's own group has the user's name.",
    )


def own_home(name: str, uid: int) -> bool:
    """Whether the user's home is there, a folder of theirs."""
    try:
        home = (places.HOMES / name).lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(home.st_mode) and home.st_uid == uid


def _home_conflict(name: str, uid: int) -> LxcGpuError | None:
    """What is in the way of the user's home; None if there is none yet, or it is theirs."""
    home = places.HOMES / name
    if own_home(name, uid) or not os.path.lexists(home):
        return None
    there, typed = home.lstat(), f"`mv {home} {home}.other`"
    whose = "no folder"
    if stat.S_ISDIR(there.st_mode):
        whose = f"a folder of uid {there.st_uid}, not of uid {uid}"
        typed = f"if it is theirs, `chown -hR {uid}:{uid} {home}`; if not, {typed}"
    return LxcGpuError(
        "home-taken",
        f"{home}, where the home of {name} belongs, is {whose}: it is left alone.",
        f"Sysadmin: look at it; {typed}.",
    )


def _with_home(name: str, account: Account) -> Account:
    try:
        home = os.lstat(places.HOMES / name)
    except FileNotFoundError:
        ready = False
    else:
        ready = stat.S_ISDIR(home.st_mode) and (
            home.st_uid == account.uid and stat.S_IMODE(home.st_mode) == HOME_MODE
        )
    return Account(
        account.uid, account.full_name, account.shell, account.ours, account.enabled, ready
    )


def _modify(change: Change[Account]) -> None:
    before, after = change.before, change.after
    if after is None:
        command.run(["usermod", "--expiredate", str(EXPIRED), change.name])
        return
    assert before is not None  # noqa: S101
    if before.uid != after.uid:
        raise LxcGpuError(
            "uid-changed",
            f"The account {change.name} has uid {before.uid}, the state says {after.uid}.",
            "A uid doesn't change by itself: restore users/*.yaml, or move the person's files "
            f"and run `usermod --uid {after.uid} {change.name}` by hand.",
        )
    words: list[str] = []
    if before.full_name != after.full_name:
        words += ["--comment", after.full_name]
    if before.shell != after.shell:
        words += ["--shell", after.shell]
    if not before.enabled:
        words += ["--expiredate", ""]
    if words:
        command.run(["usermod", *words, change.name])


def _make_home(name: str, uid: int) -> None:
    """A home with HOME_MODE; one that is the user's keeps what is in it, another's is left alone.

    Made beside and renamed, so that it is never there with another owner.
    """
    if (taken := _home_conflict(name, uid)) is not None:
        raise taken
    home = places.HOMES / name
    if not os.path.lexists(home):
        beside = home.with_name(f".{name}.lxc-gpu-new")
        with suppress(FileNotFoundError):
            beside.rmdir()  # what a killed one left
        beside.mkdir(mode=0o700)
        os.chown(beside, uid, uid)
        beside.rename(home)
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchown(descriptor, uid, uid)
        os.fchmod(descriptor, HOME_MODE)
    finally:
        os.close(descriptor)
