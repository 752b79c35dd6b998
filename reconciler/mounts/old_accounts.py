"""Who on this server has a person's login, by any source of nsswitch.conf(5); who may be an owner."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.host import nss, places
from state.errors import LxcGpuError
from state.files import read_text
from state.view import View

LIKE_ROOT = frozenset(
    {"root", "sudo", "wheel", "admin", "docker", "lxd", "incus", "incus-admin", "libvirt", "disk",
     "shadow", "kmem", "staff"}
)  # fmt: skip
"""Groups whose members can become root on a server."""
SUBORDINATE = (Path("/etc/subuid"), Path("/etc/subgid"))


@dataclass(frozen=True)
class Account:
    """Of an account on this server what matters here."""

    name: str
    uid: int
    gid: int
    home: str
    groups: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Accounts:
    """What the server's sources of accounts say, of the people who were asked about."""

    by_name: Mapping[str, Account]
    ours: frozenset[str]
    """Names of lxc-gpu's accounts."""
    our_uids: frozenset[int]
    like_root: Mapping[int, str]
    """LIKE_ROOT, by number."""
    subordinate: Sequence[range]
    """The numbers that containers' files have."""

    def of(self, login: str) -> Account | None:
        """Whose name is the login, as it is spelled or else in small letters, as SSSD has it."""
        return self.by_name.get(login) or self.by_name.get(login.lower())


def ask(view: View, users: Collection[str]) -> Accounts:
    """What getent(1) says of these users' logins. LxcGpuError if it takes too long."""
    logins = {view.residents[user].login for user in users} - {""}
    found = _accounts(nss.entries("passwd", sorted(logins | {each.lower() for each in logins}), 7))
    groups = {f[0]: f for f in nss.entries("group", [places.USERS_GROUP, *sorted(LIKE_ROOT)], 4)}
    belongs = [line.split() for line in nss.lines("initgroups", sorted(found))]
    numbers = {f[0]: frozenset(map(int, filter(str.isdigit, f[1:]))) for f in belongs if f}
    own = groups.get(places.USERS_GROUP, ["", "", "", ""])[3]
    return Accounts(
        by_name={n: Account(n, a.uid, a.gid, a.home, numbers.get(n, frozenset()) | {a.gid})
                 for n, a in found.items()},
        ours=frozenset(filter(None, own.split(","))),
        our_uids=frozenset(resident.uid for resident in view.residents.values()),
        like_root={0: "root", **{int(f[2]): n for n, f in groups.items() if n in LIKE_ROOT}},
        subordinate=(*_subordinate(view), *_noted_ranges()),
    )  # fmt: skip


def _accounts(entries: Sequence[Sequence[str]]) -> Mapping[str, Account]:
    return {f[0]: Account(f[0], int(f[2]), int(f[3]), f[5]) for f in entries}


def _subordinate(view: View) -> Iterator[range]:
    for resident in view.residents.values():
        yield range(resident.subid, resident.subid + view.subid_size)


def _noted_ranges() -> Iterator[range]:
    """Those of subuid(5) and subgid(5), whoever has them."""
    for file in SUBORDINATE:
        for line in (read_text(file) or "").splitlines():
            _, _, numbers = line.partition(":")
            first, _, count = numbers.partition(":")
            if first.isdigit() and count.isdigit():
                yield range(int(first), int(first) + int(count))


def wrong_account(account: Account, accounts: Accounts, *, vouched: bool) -> LxcGpuError | None:
    """Why nobody in a container may be the owner of what is this account's. Pure.

    `vouched`: a sysadmin gave it to this one person.
    """
    name, uid, why = account.name, account.uid, ""
    if uid < nss.FIRST_ORDINARY or uid == nss.NOBODY:
        why = "it is an account of the system's"
    elif any(uid in ids or account.gid in ids for ids in accounts.subordinate):
        why = "files of containers have that number (/etc/subuid)"
    if why:
        return LxcGpuError(
            "old-home-account",
            f"The home of the account {name} (uid {uid}) is left alone: {why}.",
            "Sysadmin: if it is the person's all the same, give the account another number.",
        )
    strong = ", ".join(
        sorted(accounts.like_root[gid] for gid in account.groups & accounts.like_root.keys())
    )
    if strong and not vouched:
        return LxcGpuError(
            "old-home-root",
            f"The home of the account {name} is left alone: who is in {strong} can become root on "
            "this server, and so can whoever writes that person's start-up files.",
            f"Sysadmin: `gpasswd --delete {name} GROUP`; or, if it has to be, put the mount into "
            "that person's registration.",
        )
    return None
