"""Host accounts of the registered users: made in one batch, disabled, never deleted.

Ours are the accounts in the group `lxc-gpu-users`. An account or a group of a user's name which
isn't ours, or an account of the system's in that group, is a conflict: reported, never touched.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.host import places
from reconciler.kinds.accounts import subids
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
PREFIX = " Or give every account of ours a name of its own: `account_prefix: gpu-` in fleet.yaml."
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
    name: str = ""
    """The account's, which may be another one than its user's (`View.account_of`)."""


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
            name: Account(int(uid), full_name, shell, name in ours, name not in expired, name=name)
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


def sysusers_lines(accounts: Iterable[Account]) -> str:
    """What sysusers.d(5) needs to make these accounts, in one run of systemd-sysusers."""
    lines: list[str] = []
    for account in accounts:
        name = account.name
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
            name: Account(
                resident.uid,
                resident.full_name,
                str(places.LOGIN_SHELL),
                name=view.account_of(name),
            )
            for name, resident in view.residents.items()
        }

    def observe(self, view: View, names: Collection[str]) -> Observed[Account]:
        """The residents' accounts of these names, and others of ours that are still enabled."""
        files = AccountFiles(*(read_text(file) or "" for file in (PASSWD, SHADOW, GROUP)))
        found: dict[str, Account] = {}
        conflicts: dict[str, LxcGpuError] = {}
        accounts = files.accounts()
        theirs = _under_another_name(view, accounts)
        missing: dict[str, Missing] = {}
        for name in view.residents.keys() & frozenset(names):
            wanted = view.account_of(name)
            account = accounts[wanted] if wanted in accounts else theirs.get(name)
            if account is not None and not account.ours:
                conflicts[name] = _conflict(wanted)
            elif account is not None:
                found[name] = _with_home(account)
            if wanted not in accounts:
                before = account.name if account else ""
                missing[name] = Missing(wanted, view.residents[name].uid, before)
        known = {*map(view.account_of, view.residents), *(each.name for each in theirs.values())}
        for other in accounts.keys() - known:
            left, whose = accounts[other], view.user_of(other)
            if left.ours and left.enabled:
                if left.uid < FIRST_ORDINARY:
                    conflicts[whose] = _system_account(other, left.uid)
                else:
                    found[whose] = left
        return Observed(found, conflicts | _in_the_way(missing))

    def apply(
        self, view: View, changes: Sequence[Change[Account]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Make the missing accounts in one batch; change or disable the others one by one."""
        failed: dict[str, LxcGpuError] = {}
        for change in changes:  # first who leaves, and whatever else may not wait
            try:
                if change.before is not None:
                    _modify(change.before, change.after)
            except LxcGpuError as error:
                failed[change.name] = error
        new = [c.after for c in changes if c.before is None and c.after is not None]
        if new:
            command.run(["systemd-sysusers", "-"], stdin=sysusers_lines(new))
        for change in changes:
            try:
                if change.after is not None and change.name not in failed:
                    _make_home(change.after.name, change.after.uid)
            except LxcGpuError as error:
                failed[change.name] = error
            except OSError as error:
                failed[change.name] = _no_home(view.account_of(change.name), error)
        return failed

    def describe(self, change: Change[Account]) -> str:
        """E.g. `make the account lqchen (uid 20031)`."""
        if change.after is None:
            return f"disable the account {change.before.name if change.before else change.name}"
        if change.before is None:
            return f"make the account {change.after.name} (uid {change.after.uid})"
        before, after = vars(change.before), vars(change.after)
        fields = ", ".join(f"{f} {before[f]} -> {after[f]}" for f in after if before[f] != after[f])
        return f"change the account {before['name']}: {fields}"


def _under_another_name(view: View, accounts: Mapping[str, Account]) -> dict[str, Account]:
    """The accounts of residents that have another name than they should, by user.

    They are ours and have the resident's uid: another prefix was in force when they were made.
    """
    wanted = {view.account_of(name): name for name in view.residents}
    others = {a.uid: a for a in accounts.values() if a.ours and a.name not in wanted}
    without = {user: view.residents[user].uid for a, user in wanted.items() if a not in accounts}
    return {user: others[uid] for user, uid in without.items() if uid in others}


@dataclass(frozen=True)
class Missing:
    """An account that is to be made, or to be had by giving another one its name."""

    name: str
    uid: int
    instead_of: str
    """The account of ours that becomes it; empty if there is none."""


def _in_the_way(missing: Mapping[str, Missing]) -> dict[str, LxcGpuError]:
    """Why accounts can't be made: what any source of nsswitch.conf(5) has of their names or uids.

    All at once, and with patience: a directory behind it may hang.
    """
    keys = [key for each in missing.values() for key in (each.name, str(each.uid))]
    try:
        accounts, groups = (_entries(database, keys) for database in ("passwd", "group"))
    except CommandError as error:
        return dict.fromkeys(missing, _silent(error))
    found = {user: _taken(each, accounts, groups) for user, each in missing.items()}
    return {name: conflict for name, conflict in found.items() if conflict is not None}


def _taken(
    missing: Missing, accounts: Mapping[str, int], groups: Mapping[str, int]
) -> LxcGpuError | None:
    name, uid, own = missing.name, missing.uid, (missing.name, missing.instead_of)
    if name in accounts:
        return _elsewhere(name, accounts[name])
    for of in (accounts, groups):
        others = (other for other, number in of.items() if number == uid and other not in own)
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
        OUT_OF_THE_SOURCE.format(name=name) + PREFIX,
    )


def _conflict(name: str) -> LxcGpuError:
    return LxcGpuError(
        "account-conflict",
        f"There is already an account {name} on this server that isn't lxc-gpu's.",
        f"Rename or remove it, or, if it is this person's, hand it over: "
        f"`usermod --append --groups {places.USERS_GROUP} {name}`.{PREFIX}",
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


def _with_home(account: Account) -> Account:
    try:
        home = os.lstat(places.HOMES / account.name)
    except FileNotFoundError:
        ready = False
    else:
        ready = stat.S_ISDIR(home.st_mode) and (
            home.st_uid == account.uid and stat.S_IMODE(home.st_mode) == HOME_MODE
        )
    return replace(account, home_ready=ready)


def _modify(before: Account, after: Account | None) -> None:
    if after is None:
        command.run(["usermod", "--expiredate", str(EXPIRED), before.name])
        return
    if before.uid != after.uid:
        raise LxcGpuError(
            "uid-changed",
            f"The account {before.name} has uid {before.uid}, the state says {after.uid}.",
            "A uid doesn't change by itself: restore users/*.yaml, or move the person's files "
            f"and run `usermod --uid {after.uid} {before.name}` by hand.",
        )
    if before.name != after.name:
        _rename(before.name, after.name, before.uid)
    words: list[str] = []
    if before.full_name != after.full_name:
        words += ["--comment", after.full_name]
    if before.shell != after.shell:
        words += ["--shell", after.shell]
    if not before.enabled:
        words += ["--expiredate", ""]
    if words:
        command.run(["usermod", *words, after.name])


def _rename(old: str, new: str, uid: int) -> None:
    """Give the account another name, and with it its group, subordinate ids and home.

    The account itself comes last, so what a kill interrupts is found again. usermod(8) refuses
    while programs of the account run, and its container is one. To them a name is nothing: the
    uid stays. So usermod is run where it sees none (pid_namespaces(7)).
    """
    subids.hand_over(old, new)
    where = Path(pwd.getpwnam(old).pw_dir)
    homes = ["--home", str(places.HOMES / new)] if where == places.HOMES / old else []
    if homes and own_home(old, uid) and not own_home(new, uid):
        try:
            where.rename(places.HOMES / new)
        except OSError as error:
            raise _no_home(new, error) from error
    if any(fields[0] == old for fields in _fields(read_text(GROUP) or "", 4)):
        command.run(["groupmod", "--new-name", new, old])
    alone = ["unshare", "--pid", "--fork", "--mount-proc"]
    command.run([*alone, "usermod", "--login", new, *homes, old])


def _no_home(account: str, error: OSError) -> LxcGpuError:
    return LxcGpuError("home", f"The home of {account} can't be prepared: {error.strerror}.")


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
