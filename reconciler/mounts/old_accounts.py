"""Finds the accounts with people's logins on this server, and whether they may own an old home."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.host import nss, places
from reconciler.mounts import like_root
from state.errors import LxcGpuError, os_error
from state.files import read_text
from state.view import View

LOCAL = nss.LOCAL | {"systemd"}
"""Sources whose accounts were made on this server itself, under any name."""
SUBORDINATE = (Path("/etc/subuid"), Path("/etc/subgid"))


@dataclass(frozen=True)
class LoginAccount:
    """An account on this server that has a person's login."""

    name: str
    uid: int
    gid: int
    home: str
    like_root: tuple[str, ...] = ()
    """The groups by which it can become root, and `sudoers` if sudo's files name it."""
    local: bool = False
    """Whether the server itself has an account of that name or uid, so that no directory says whose
    it is."""


@dataclass(frozen=True)
class LoginAccounts:
    """What the server's sources of accounts say about the users who were asked about."""

    by_name: Mapping[str, LoginAccount]
    ours: frozenset[str]
    """Names of lxc-gpu's accounts."""
    our_uids: frozenset[int]
    subordinate: Sequence[range]
    """The ids that containers' files have."""

    def of(self, login: str) -> LoginAccount | None:
        """The account whose name is the login as spelled, or in lower case as SSSD has it."""
        return self.by_name.get(login) or self.by_name.get(login.lower())


def ask(view: View, users: Collection[str]) -> LoginAccounts:
    """Ask about these users' logins. LxcGpuError if the sources don't answer."""
    logins = {view.residents[user].login for user in users} - {""}
    keys = sorted(logins | {each.lower() for each in logins})
    found = _marked(_accounts(nss.entries("passwd", keys, 7)))
    ours = [f[3] for f in nss.entries("group", [places.USERS_GROUP], 4)]
    return LoginAccounts(
        by_name=_with_powers(found),
        ours=frozenset(name for names in ours for name in names.split(",") if name),
        our_uids=frozenset(resident.uid for resident in view.residents.values()),
        subordinate=(*_subordinate(view), *_noted_ranges()),
    )


def _marked(found: Mapping[str, LoginAccount]) -> Mapping[str, LoginAccount]:
    """The accounts with `local` filled in."""
    keys = [word for account in found.values() for word in (account.name, str(account.uid))]
    sources = {"files", *nss.sources("passwd")} & LOCAL
    local = [f for source in sorted(sources) for f in nss.entries("passwd", keys, 7, source)]
    known = {word for fields in local for word in (fields[0], fields[2])}
    return {
        name: replace(account, local=bool({name, str(account.uid)} & known))
        for name, account in found.items()
    }


def _with_powers(found: Mapping[str, LoginAccount]) -> Mapping[str, LoginAccount]:
    """The accounts with `like_root` filled in."""
    if not found:
        return {}
    try:
        sudoers = like_root.in_sudoers()
    except OSError as error:
        raise os_error(error) from error
    groups = like_root.GROUPS | {n[1:] for n in sudoers if n.startswith("%") and n[1:2] not in "#:"}
    strong = [f for f in nss.entries("group", sorted(groups), 4) if f[2].isdigit()]
    strong += [
        [f"gid {n[2:]}", "", n[2:], ""] for n in sudoers if n[:2] == "%#" and n[2:].isdigit()
    ]
    belongs = _belongs(sorted(found))
    return {
        name: replace(account, like_root=_powers(account, strong, belongs[name], sudoers))
        for name, account in found.items()
    }


def _powers(
    account: LoginAccount,
    strong: Sequence[Sequence[str]],
    belongs: Collection[int],
    sudoers: Collection[str],
) -> tuple[str, ...]:
    groups = [
        fields[0]
        for fields in strong
        if int(fields[2]) in {*belongs, account.gid} or account.name in fields[3].split(",")
    ]
    return (*sorted(groups), *(["sudoers"] if _is_named(account, sudoers) else []))


def _belongs(names: Sequence[str]) -> Mapping[str, frozenset[int]]:
    """The group ids of each account. LxcGpuError if the answer lacks one."""
    found: dict[str, frozenset[int]] = {}
    for line in nss.lines("initgroups", names):
        for name in names:  # a name may contain blanks; only numbers follow it
            if f"{line} ".startswith(f"{name} "):
                numbers = line[len(name) :].split()
                if all(map(str.isdigit, numbers)):
                    found[name] = frozenset(map(int, numbers))
    if missing := [name for name in names if name not in found]:
        raise nss.silent(f"getent initgroups {missing[0]}")
    return found


def _is_named(account: LoginAccount, sudoers: Collection[str]) -> bool:
    """Whether sudo's files name the account, with or without a domain, or everybody."""
    named = {*map(_without_domain, sudoers)}
    return bool(named & {_without_domain(account.name), f"#{account.uid}", "all"})


def _without_domain(name: str) -> str:
    return name.partition("@")[0].rpartition("\\")[2].lower()


def _accounts(entries: Sequence[Sequence[str]]) -> Mapping[str, LoginAccount]:
    return {f[0]: LoginAccount(f[0], int(f[2]), int(f[3]), f[5]) for f in entries}


def _subordinate(view: View) -> Iterator[range]:
    for resident in view.residents.values():
        yield range(resident.subid, resident.subid + view.subid_size)


def _noted_ranges() -> Iterator[range]:
    """All ranges in subuid(5) and subgid(5)."""
    for file in SUBORDINATE:
        for line in (read_text(file) or "").splitlines():
            _, _, numbers = line.partition(":")
            first, _, count = numbers.partition(":")
            if first.isdigit() and count.isdigit():
                yield range(int(first), int(first) + int(count))


def wrong_account(
    account: LoginAccount, accounts: LoginAccounts, *, vouched: bool
) -> LxcGpuError | None:
    """Why a container's user may not have the home of this account; None if nothing speaks against
    it. Pure.

    `vouched`: a sysadmin gave it to this user by name.
    """
    name, uid, why = account.name, account.uid, ""
    if uid < nss.FIRST_ORDINARY or uid == nss.NOBODY:
        why = "it is a system account"
    elif any(uid in ids or account.gid in ids for ids in accounts.subordinate):
        why = "files of containers have that uid or gid (/etc/subuid)"
    if why:
        return LxcGpuError(
            "old-home-account",
            f"The home of the account {name} (uid {uid}) is left alone: {why}.",
            "Sysadmin: if it is the person's all the same, give the account other ids.",
        )
    if account.like_root and not vouched:
        groups = [group for group in account.like_root if group != "sudoers"]
        typed = [f"`gpasswd --delete {name} {group}`" for group in groups]
        if len(groups) < len(account.like_root):
            typed.append("take it out of /etc/sudoers and /etc/sudoers.d")
        return LxcGpuError(
            "old-home-root",
            f"The home of the account {name} is left alone: it can become root on this server "
            f"(by {', '.join(account.like_root)}), and so can anybody who writes its start-up "
            "files.",
            f"Sysadmin: {' and '.join(typed)}; or, if you accept that, put the mount into that "
            "person's registration.",
        )
    return None
